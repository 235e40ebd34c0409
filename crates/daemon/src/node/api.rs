//! Requests of the operator.

use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stead_api::{Answer, Failure, NodeInfo, Request};
use stead_model::SetName;

use super::ops::Op;
use super::{Node, unix_seconds};
use crate::api_server::Responder;
use crate::check;
use crate::gather::{self, Gathering};
use crate::job::{self, JobDone};
use crate::peer::messages::{Ask, JoinAsk, Tell};
use crate::peer::{Target, ask, ask_address};
use crate::seam::Command;
use crate::state::invites::Line;
use crate::state::peers::Peer;

const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(4);

impl Node {
    pub(super) fn on_request(&mut self, request: Request, responder: Responder) -> ControlFlow<()> {
        match request {
            Request::Invite => responder.end(self.invite()),
            Request::Join { line } => self.join(&line, responder),
            Request::Nodes => self.nodes(responder),
            Request::Protect(options) => self.protect(vec![options], responder),
            Request::Unprotect { set, force } => self.unprotect(&set, force, responder),
            Request::Wait { set, timeout_ms } => {
                let what = format!("what was written to {set} is not applied everywhere");
                self.command(&set, Command::Wait, timeout_ms.map(Duration::from_millis), what, responder);
            }
            Request::Status { watch } => self.status(watch, responder),
            Request::Mirror { set } => {
                let what = format!("set {set} was not mirrored");
                self.command(&set, Command::Mirror, None, what, responder);
            }
            Request::Verify { set, repair } => {
                let what = format!("set {set} was not verified");
                self.command(&set, Command::Verify { repair }, None, what, responder);
            }
            Request::Pause { set, on } => self.pause(&set, on.as_ref(), true, responder),
            Request::Resume { set, on } => self.pause(&set, on.as_ref(), false, responder),
            Request::Limit { set, on, to } => responder.end(self.limit(&set, on.as_ref(), to)),
            Request::AnswerBrake { set, on, accept } => self.answer_brake(&set, on.as_ref(), accept, responder),
            Request::LastVerify { set } => responder.end(self.last_verify(&set)),
            Request::Alerts => responder.done(Answer::Alerts(self.pulse.alerts.list().to_vec())),
            Request::PlanShow => responder.done(Answer::Plan(self.plan.to_toml())),
            Request::PlanCheck => self.plan_check(responder),
            Request::PlanApply { text } => self.plan_apply(&text, responder),
            Request::Shutdown => {
                responder.done(Answer::Done);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn invite(&mut self) -> Result<Answer, Failure> {
        let address = self.addresses.iter().find(|a| !a.ip().is_loopback()).or(self.addresses.first()).copied();
        let address = address.ok_or_else(|| {
            let remedy = "Start the daemon with --listen IP:PORT, an address that the other node reaches";
            Failure::new("no invitation was made", "this node listens on no address", remedy)
        })?;
        let mut invites = self.invites.clone();
        let line = invites.make(address, self.identity.fingerprint, unix_seconds())?;
        invites.save(&self.state)?;
        self.invites = invites;
        Ok(Answer::Invite(line.text()))
    }

    fn join(&mut self, line: &str, responder: Responder) {
        let line = match Line::parse(line) {
            Ok(line) if line.fingerprint == self.identity.fingerprint => {
                let remedy = "Run stead join on the other node, or with the line that stead invite prints there";
                return responder.failed(Failure::new(
                    "the invitation was not accepted",
                    "it is this node's own",
                    remedy,
                ));
            }
            Ok(line) => line,
            Err(failure) => return responder.failed(failure),
        };
        let (dialer, name, addresses) = (self.dialer.clone(), self.name.clone(), self.addresses.clone());
        job::spawn(&self.events, move || {
            let joined = resolve(&line).and_then(|found| {
                let question = Ask::Join(JoinAsk { secret: line.secret.clone(), name, addresses });
                let target =
                    Target { name: line.host.clone(), fingerprint: line.fingerprint, addresses: found.clone() };
                match ask_address(&dialer, &target, &question, JOIN_TIMEOUT)? {
                    Tell::Joined(told) => {
                        let mut addresses = found;
                        addresses.extend(told.addresses.into_iter().filter(|a| !target.addresses.contains(a)));
                        Ok(Peer { name: told.name, fingerprint: line.fingerprint, addresses })
                    }
                    other => Err(unexpected(&line.host, &other)),
                }
            });
            match joined {
                Ok(peer) => Some(JobDone::Joined { peer, responder }),
                Err(failure) => {
                    responder.failed(failure);
                    None
                }
            }
        });
    }

    pub(super) fn joined(&mut self, peer: Peer, responder: &Responder) {
        let node = peer.name.clone();
        let result = self.trust(peer).map(|again| Answer::Joined { node, again });
        responder.end(result);
    }

    /// Trusts a node from now on; true: it was trusted before.
    pub(super) fn trust(&mut self, peer: Peer) -> Result<bool, Failure> {
        let (peers, again) = self.peers.with(peer, &self.name)?;
        peers.save(&self.state)?;
        self.book.set(peers.list().to_vec());
        self.peers = peers;
        Ok(again)
    }

    fn nodes(&self, responder: Responder) {
        let own = NodeInfo {
            name: self.name.clone(),
            fingerprint: self.identity.fingerprint.to_string(),
            addresses: self.addresses.clone(),
            reachable: None,
        };
        let (dialer, peers) = (self.dialer.clone(), self.peers.list().to_vec());
        job::spawn(&self.events, move || {
            let ping = |peer: &Peer| NodeInfo {
                name: peer.name.clone(),
                fingerprint: peer.fingerprint.to_string(),
                addresses: peer.addresses.clone(),
                reachable: Some(ask(&dialer, &peer.name, &Ask::Ping, PING_TIMEOUT).is_ok()),
            };
            let peers: Vec<_> = std::thread::scope(|scope| {
                let asked: Vec<_> = peers.iter().map(|peer| scope.spawn(|| ping(peer))).collect();
                asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
            });
            responder.done(Answer::Nodes([vec![own], peers].concat()));
            None
        });
    }

    fn command(
        &mut self,
        set: &SetName,
        command: Command,
        timeout: Option<Duration>,
        what: String,
        responder: Responder,
    ) {
        match self.as_source(set, &what) {
            Ok(()) => self.begin(set, command, timeout, what, responder),
            Err(failure) => responder.failed(failure),
        }
    }

    fn status(&mut self, watch: bool, responder: Responder) {
        if watch {
            let busy = Arc::new(AtomicBool::new(false));
            return self.ops.push(Op::Watch { next: Instant::now(), busy, responder });
        }
        let gathering = self.gathering();
        job::spawn(&self.events, move || {
            responder.done(Answer::Status(gather::everywhere(gathering)));
            None
        });
    }

    pub(super) fn gathering(&self) -> Gathering {
        let peers = self.peers.list().iter().map(|peer| peer.name.clone()).collect();
        Gathering { local: self.local_status(), peers, dialer: self.dialer.clone() }
    }

    fn plan_check(&self, responder: Responder) {
        let (plan, node, dialer) = (self.plan.clone(), self.name.clone(), self.dialer.clone());
        job::spawn(&self.events, move || {
            responder.done(Answer::Checked(check::findings(&plan, &node, &dialer)));
            None
        });
    }
}

fn resolve(line: &Line) -> Result<Vec<SocketAddr>, Failure> {
    let remedy = "Check the address; the other node says it with --listen";
    let failed = |why: String| Failure::new(format!("{} was not found", line.host), why, remedy);
    let found: Vec<_> = (line.host.as_str(), line.port).to_socket_addrs().map_err(|e| failed(e.to_string()))?.collect();
    if found.is_empty() { Err(failed("it has no address".into())) } else { Ok(found) }
}

fn unexpected(who: &str, told: &Tell) -> Failure {
    let why = format!("it answered something else: {told:?}");
    Failure::new(format!("{who} was not understood"), why, "Use releases that fit together")
}
