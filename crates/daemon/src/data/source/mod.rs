//! The source end of a set: capture's ring, the tree beneath, and a link to each target, around one
//! [`Source`](stead_replication::Source).

mod begin;
mod bypass;
mod commands;
mod drivers;
mod freeze;
mod joint;
mod lag;
mod level;
mod link;
mod memory;
mod paths;
mod pump;
mod queue;
mod rate;
mod reads;
mod relayed;
mod ring;
mod settings;
mod start;
mod synced;
mod targets;
mod view;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use stead_capture::CaptureError;
use stead_model::status::ConnectionStatus;
use stead_model::{NodeName, RulesSpec, SetName};
use stead_replication::source::TargetId;

use super::not_here;
use super::relay::Relay;
use crate::peer::Dialer;
use crate::seam::{BrakeAnswer, Command, CommandId, Context, Failure, SetLease, SourceSpec, Stop, TargetLink};
use crate::threads::lock;

use begin::Begin;
use drivers::Drivers;
use link::Link;
use pump::Event;
use rate::Limit;
use targets::Targets;

/// A running source of a set.
pub(super) struct SourceSession {
    set: SetName,
    drivers: Drivers,
    events: Sender<Event>,
    /// Its end ends the threads that wait for something else than an event.
    running: Sender<Infallible>,
    status: Arc<Mutex<Vec<ConnectionStatus>>>,
    targets: Targets,
    links: BTreeMap<TargetId, Linked>,
    wiring: LinkWiring,
    rules: RulesSpec,
    begin: Begin,
    /// The directories beneath the capture.
    roots: Vec<OwnedFd>,
    /// Where it is mounted.
    mounts: Vec<PathBuf>,
    /// Ends when the pump has.
    pumping: Receiver<Infallible>,
}

/// The link to a target, which ends with the value.
struct Linked {
    node: NodeName,
    route: Option<SocketAddr>,
    limit: Arc<Limit>,
    _alive: Sender<Infallible>,
}

/// What every link needs.
struct LinkWiring {
    set: SetName,
    dialer: Dialer,
    events: Sender<Event>,
}

/// How long the end of the pump is waited for, where the machine goes down.
const PUMP_ENDS: Duration = Duration::from_secs(2);

impl SourceSession {
    /// Attaches capture, or finds the one that is attached, and starts the threads.
    /// `relay`: the replica that the set hands on.
    pub(super) fn start(
        spec: SourceSpec,
        relay: Option<&Arc<Relay>>,
        context: &Context,
    ) -> Result<SourceSession, Failure> {
        start::start(spec, relay, context)
    }

    /// Ends the sessions; detaches capture where the set is no longer protected.
    pub(super) fn stop(&mut self, how: Stop) -> Result<(), Failure> {
        if how != Stop::Daemon {
            self.drivers.detach(how == Stop::UnprotectOpen).map_err(|e| busy(&self.set, &e))?;
        }
        let _ = self.events.try_send(Event::Stop);
        let (nobody, _) = crossbeam_channel::bounded(0);
        self.running = nobody;
        self.links.clear();
        if how == Stop::Daemon && is_going_down() {
            self.end_cleanly();
        }
        Ok(())
    }

    /// Nothing that a target has will be missing here after the boot.
    fn end_cleanly(&self) {
        let ended = matches!(self.pumping.recv_timeout(PUMP_ENDS), Err(RecvTimeoutError::Disconnected));
        let synced = ended && synced::sync(&self.roots).is_ok();
        if !synced || self.begin.ended().is_err() {
            tracing::warn!(set = %self.set, "the source is not ended cleanly: its targets compare more after the boot");
        }
    }

    /// Makes what is mounted read-only, or writable again: all of it, or nothing.
    pub(super) fn freeze(&self, frozen: bool) -> Result<(), Failure> {
        for (at, mount) in self.mounts.iter().enumerate() {
            if let Err(e) = freeze::freeze(mount, frozen) {
                for frozen in self.mounts[..at].iter().filter(|_| frozen) {
                    let _ = freeze::freeze(frozen, false);
                }
                return Err(self.not_frozen(mount, &e));
            }
        }
        Ok(())
    }

    /// Past that lease nothing is changed from now on.
    pub(super) fn lease(&mut self, lease: Option<&SetLease>) -> Result<(), Failure> {
        self.drivers.lease(lease).map_err(|e| {
            let remedy =
                "Writes past the lease are not held back until it is started anew, as by a restart of the machine";
            Failure::new(format!("the capture of set {} does not follow the lease", self.set), e.to_string(), remedy)
        })
    }

    fn not_frozen(&self, mount: &Path, error: &io::Error) -> Failure {
        let why = match error.kind() {
            io::ErrorKind::ResourceBusy => format!("somebody has a file open for writing in {}", mount.display()),
            _ => format!("{}: {error}", mount.display()),
        };
        let remedy = format!("Stop what works there: fuser -vm {}", mount.display());
        Failure::new(format!("set {} cannot be handed over", self.set), why, remedy)
    }

    /// Goes on as the spec now says.
    pub(super) fn reconfigure(&mut self, spec: SourceSpec) -> Result<(), Failure> {
        let roots = (spec.rules != self.rules).then(|| start::root_configs(&spec, &self.drivers)).transpose()?;
        self.link_up(&spec.targets)?;
        self.rules.clone_from(&spec.rules);
        self.tell(Event::Reconfigure { links: spec.targets, roots })
    }

    /// The operator's answer to a brake that halted the connection to `target`, or any.
    pub(super) fn answer_brake(
        &self,
        target: Option<&NodeName>,
        id: CommandId,
        answer: BrakeAnswer,
    ) -> Result<(), Failure> {
        let unknown = |node: &NodeName| {
            Failure::new(format!("set {} was not changed", self.set), format!("{node} is none of its targets"), "")
        };
        let targets = match target {
            Some(node) => vec![self.targets.id(node).ok_or_else(|| unknown(node))?],
            None => self.targets.ids(),
        };
        self.tell(Event::Brake { id, targets, answer })
    }

    /// A link for each of these targets, and for no other.
    fn link_up(&mut self, links: &[TargetLink]) -> Result<(), Failure> {
        self.targets.take(links);
        let routes: BTreeMap<_, _> =
            self.targets.links().map(|(id, link)| (id, (link.node.clone(), link.route))).collect();
        // A number that became free may be another target's by now.
        let leads_there =
            |linked: &Linked, (node, route): &(NodeName, _)| linked.node == *node && linked.route == *route;
        self.links.retain(|id, linked| routes.get(id).is_some_and(|to| leads_there(linked, to)));
        for (target, (node, route)) in routes {
            if !self.links.contains_key(&target) {
                let linked = self.wiring.link(target, node, route)?;
                self.links.insert(target, linked);
            }
        }
        Ok(())
    }

    /// Hands a command to the session, which answers it.
    pub(super) fn command(&self, id: CommandId, command: Command) -> Result<(), Failure> {
        self.tell(Event::Command(id, command))
    }

    fn tell(&self, event: Event) -> Result<(), Failure> {
        self.events.try_send(event).map_err(|e| match e {
            TrySendError::Full(_) => Failure::new(
                format!("set {} is too busy for another command", self.set),
                "many wait to be looked at already",
                "Try again in a moment",
            ),
            TrySendError::Disconnected(_) => not_here(&self.set),
        })
    }

    /// Nobody waits for that command any more.
    pub(super) fn forget(&self, id: CommandId) {
        let _ = self.events.try_send(Event::Forget(id));
    }

    /// How fast the link to that target may send from now on.
    pub(super) fn limit(&self, target: &NodeName, rate: Option<u64>) {
        if let Some(linked) = self.targets.id(target).and_then(|id| self.links.get(&id)) {
            linked.limit.set(rate);
        }
    }

    /// The connections of the set.
    pub(super) fn status(&self) -> Vec<ConnectionStatus> {
        lock(&self.status).clone()
    }
}

impl LinkWiring {
    fn link(&self, target: TargetId, node: NodeName, route: Option<SocketAddr>) -> Result<Linked, Failure> {
        let (alive, stopped) = crossbeam_channel::bounded(0);
        let limit = Arc::<Limit>::default();
        let (set, dialer, events) = (self.set.clone(), self.dialer.clone(), self.events.clone());
        Link { target, node: node.clone(), route, set, dialer, limit: limit.clone(), events, stopped }.spawn()?;
        Ok(Linked { node, route, limit, _alive: alive })
    }
}

fn busy(set: &SetName, error: &CaptureError) -> Failure {
    Failure::new(format!("set {set} cannot be unprotected"), error.to_string(), "Stop what works in it, then try again")
}

/// Does systemd end everything? Without it the answer is no, and the next start compares what it need not have.
fn is_going_down() -> bool {
    let asked = Process::new("systemctl").arg("is-system-running").output();
    asked.is_ok_and(|output| output.stdout.starts_with(b"stopping"))
}
