//! The loop: one owner of everything, one place where causes become actions.

mod alerts;
mod api;
mod backup;
mod deliveries;
mod drift;
mod forks;
mod groups;
mod live;
mod ops;
mod pace;
mod peers;
mod plan;
mod pulse;
mod relays;
mod replace;
mod replaced;
mod rotate;
mod sets;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stead_api::Failure;
use stead_model::plan::Plan;
use stead_model::{NodeName, SetName};
use tracing::{info, warn};

use crate::event::Event;
use crate::failover::Order;
use crate::forks::Forks;
use crate::job::JobDone;
use crate::life::Life;
use crate::metrics::{Metrics, Snapshot};
use crate::peer::messages::Meant;
use crate::peer::{Book, Dialer, Keyring};
use crate::seam::{DataEvent, DataPlane};
use crate::state::StateDir;
use crate::state::invites::Invites;
use crate::state::peers::Peers;
use crate::state::replaced::Replaced;
use crate::state::rotation::Rotation;
pub(crate) use drift::Drifted;
pub(crate) use groups::make::Grouped;
pub(crate) use groups::{Groups, Resettled, StoodIn};
use live::Untold;
use ops::Op;
pub(crate) use plan::Applying;
pub(crate) use pulse::Pulse;
use stead_model::status::Status;
use stead_resource::notify::Teller;

/// How often waiting clients are told how it stands.
const TICK: Duration = Duration::from_millis(200);
/// How often a set that could not be started is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// This node: its state, its plan, its sessions, and who waits for what.
pub(crate) struct Node {
    pub(crate) state: StateDir,
    pub(crate) name: NodeName,
    pub(crate) keys: Keyring,
    /// A change of this node's key that is not over.
    pub(crate) rotation: Option<Rotation>,
    /// When peers that do not know the new certificate are told again; none while they are being told.
    pub(crate) tell_at: Option<Instant>,
    /// Where it listens; an unspecified address stands for all.
    pub(crate) listens: Vec<SocketAddr>,
    pub(crate) peers: Peers,
    pub(crate) book: Book,
    pub(crate) invites: Invites,
    pub(crate) plan: Plan,
    pub(crate) dialer: Dialer,
    pub(crate) plane: Box<dyn DataPlane>,
    pub(crate) events: SyncSender<Event>,
    pub(crate) ops: Vec<Op>,
    pub(crate) commands: u64,
    /// Sets that are being protected.
    pub(crate) reserved: BTreeSet<SetName>,
    /// Sets of the plan that could not be started, and why.
    pub(crate) unstarted: BTreeMap<SetName, Failure>,
    pub(crate) retry_at: Instant,
    /// Targets that do not know yet how their set is run.
    pub(crate) untold: Untold,
    /// The change that was told last, and of each set the one that was heard last.
    pub(crate) meant: Meant,
    pub(crate) heard: BTreeMap<SetName, Meant>,
    /// What happens by the clock.
    pub(crate) pulse: Pulse,
    /// What is taken over as one.
    pub(crate) groups: Groups,
    /// What this node alone had when others stood in for it.
    pub(crate) forks: Forks,
    /// Who is in whose place.
    pub(crate) replaced: Replaced,
    pub(crate) tell_replaced_at: Instant,
    pub(crate) life: Life,
    /// Who tells receivers of alerts.
    pub(crate) teller: Arc<Teller>,
    pub(crate) metrics: Metrics,
    /// The sessions of the sets are started.
    pub(crate) is_running: bool,
}

impl Node {
    /// Acts on events until the daemon is to end.
    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        self.orient_groups();
        self.start_all();
        self.is_running = true;
        self.run_groups();
        self.keep_watchdog();
        crate::notify::ready();
        info!("{} is ready: {} sets, {} peers", self.name, self.plan.sets.len(), self.peers.list().len());
        loop {
            let event = self.select(events);
            if event.is_some_and(|event| self.apply(event).is_break()) {
                break;
            }
            self.tick();
        }
        crate::notify::stopping();
        self.groups.failover.give(Order::Stop);
        self.stop_all();
        self.end_watchdog();
        self.pulse.alerts.finish();
    }

    fn select(&self, events: &Receiver<Event>) -> Option<Event> {
        let now = Instant::now();
        let left = |at: Instant| at.saturating_duration_since(now);
        let retry = (!self.unstarted.is_empty()).then(|| left(self.retry_at));
        let tell = self.rotation.as_ref().and(self.tell_at).map(left);
        let tick = (!self.ops.is_empty()).then_some(TICK);
        let pulse = self.is_looked_after().then(|| self.pulse.wait());
        let Some(wait) = [tick, retry, tell, pulse, self.life.wait()].into_iter().flatten().min() else {
            return Some(events.recv().unwrap_or(Event::Stop));
        };
        match events.recv_timeout(wait) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Stop),
        }
    }

    /// Is there anything to be looked at by the clock?
    fn is_looked_after(&self) -> bool {
        let Plan { sets, groups, alerts, metrics, .. } = &self.plan;
        !(sets.is_empty() && groups.is_empty() && alerts.receivers().are_none()) || metrics.listen.is_some()
    }

    fn apply(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Api(request, responder) => return self.on_request(request, responder),
            Event::Peer(ask) => self.on_ask(ask),
            Event::DataAsk { set, source, reply } => {
                let _ = reply.send(self.may_send(&set, &source));
            }
            Event::DataStream { set, source, stream } => match self.may_send(&set, &source) {
                Ok(()) => self.plane.incoming(&set, &source, *stream),
                Err(why) => warn!("{source} came too late with set {set}: {why}"),
            },
            Event::Data(event) => self.on_data(event),
            Event::Group(event) => self.on_group(event),
            Event::Scrape(reply) => _ = reply.try_send(self.snapshot()),
            Event::Job(done) => self.on_job(*done),
            Event::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn on_data(&mut self, event: DataEvent) {
        match event {
            DataEvent::CommandDone { id, result } => {
                let done = result.as_ref().map(|_| ()).map_err(Clone::clone);
                if !self.handed_over(id, &done) && !self.compared(id, &result) {
                    self.command_done(id, result);
                }
            }
            DataEvent::StateChanged(_) => self.tell_fitness(),
            DataEvent::Ended(set, failure) => self.session_ended(&set, failure),
            DataEvent::EpochSeen(set, epoch) => warn!("set {set}: a higher epoch was met: {}", epoch.number),
        }
    }

    fn on_job(&mut self, done: JobDone) {
        match done {
            JobDone::Joined { peer, responder } => self.joined(peer, &responder),
            JobDone::Forgotten { node, force, told, responder } => self.removed(&node, force, told, &responder),
            JobDone::KeyTold { told, responder } => self.key_told(told, responder),
            JobDone::Replaced { replacement, result, responder } => self.replaced(*replacement, result, &responder),
            JobDone::Protected { set, result, responder, then } => self.protected(&set, result, responder, then),
            JobDone::ReplicaMade { ask, from, result, reply } => {
                let _ = reply.send(self.keep_replica(*ask, &from, result));
            }
            JobDone::Examined { applying, over, result, responder } => {
                self.examined(applying, over, result, responder);
            }
            JobDone::Changing { steps, wanted, applying, untold, responder } => {
                self.changing(*steps, &wanted, applying, untold, responder);
            }
            JobDone::Told(change) => self.change_told(*change),
            JobDone::Named { set, responder } => self.unprotect_open(&set, responder),
            JobDone::AlertTold => self.alert_told(),
            JobDone::DriftLooked { found } => self.drift_looked(found),
            JobDone::Delivered { receiver, result } => self.delivered(&receiver, result),
            JobDone::Exchanged { peer, told } => self.exchanged(&peer, told),
            JobDone::Compared { options, result, responder } => self.compared_all(options, result, responder),
            JobDone::WentBack { group, responder } => self.went_back(group, responder),
            JobDone::Resettled { sets, result, responder } => self.resettled(&sets, result, responder),
            JobDone::ReplacedTold(told) => self.replaced_told(&told),
            JobDone::Grouped { result, responder, then } => self.grouped(result, responder, then),
            JobDone::Ungrouped { responder, then } => self.ungrouped(responder, then),
            JobDone::Checked { group, at, failed } => self.checked(&group, at, failed),
            JobDone::StoodIn(done) => self.stood_in(*done),
            JobDone::ForkPoint { key, told } => self.fork_told(&key, told),
            JobDone::Kept { key, result } => self.fork_kept(&key, result),
            JobDone::Released { sets, responder, rest } => {
                self.reserved.retain(|set| !sets.contains(set));
                self.protect(rest, responder);
            }
        }
    }

    fn tick(&mut self) {
        self.life.tick();
        if !self.unstarted.is_empty() && Instant::now() >= self.retry_at {
            self.retry_unstarted();
        }
        self.tick_pulse();
        if self.rotation.is_some() && self.tell_at.is_some_and(|at| Instant::now() >= at) {
            self.go_on_rotating();
        }
        self.metrics.listen(self.plan.metrics.listen);
        self.tick_groups();
        self.tick_forks();
        self.tick_ops();
    }
}

impl Node {
    /// What is measured, as it is now.
    fn snapshot(&self) -> Snapshot {
        let deliveries = &self.pulse.alerts.kept.deliveries;
        let backlog = |name: String| {
            let (waiting, held_back) = deliveries.backlog(&name);
            (name, waiting as u64, held_back)
        };
        Snapshot {
            status: self.local_status(),
            alerts: self.pulse.alerts.list().iter().map(|alert| alert.wrong).collect(),
            receivers: self.plan.alerts.receivers().policies().into_keys().map(backlog).collect(),
        }
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
