//! The trust circle: who is let in, listed, moved and sent away.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use stead_api::{Answer, Failure, FailureKind, NodeInfo};
use stead_model::plan::Plan;
use stead_model::status::Timestamp;
use stead_model::{NodeName, SetName};
use tracing::info;

use super::sets::meant;
use super::{Node, unix_seconds};
use crate::api_server::Responder;
use crate::failover::Order;
use crate::job::{self, JobDone};
use crate::peer::hello::VERSIONS;
use crate::peer::listen::reached_at;
use crate::peer::messages::{Ask, JoinAsk, Tell};
use crate::peer::{Book, Dialer, ask, ask_address};
use crate::state::invites::Line;
use crate::state::peers::{Peer, Peers};

const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(4);
const FORGET_TIMEOUT: Duration = Duration::from_secs(10);

/// Who asks to be trusted.
pub(super) struct Newcomer {
    pub(super) name: NodeName,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) dialer: Dialer,
}

impl Node {
    /// Where other nodes reach this one.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        reached_at(&self.listens, &self.plan.moving())
    }

    pub(super) fn invite(&mut self) -> Result<Answer, Failure> {
        let address = self.addresses().first().copied().ok_or_else(|| {
            let remedy = "Start the daemon with --listen IP:PORT, an address that the other node reaches";
            Failure::new("no invitation was made", "this node listens on no address", remedy)
        })?;
        let mut invites = self.invites.clone();
        let line = invites.make(address, self.keys.fingerprint(), unix_seconds())?;
        invites.save(&self.state)?;
        self.invites = invites;
        Ok(Answer::Invite(line.text()))
    }

    pub(super) fn join(&mut self, line: &str, responder: Responder) {
        let line = match self.foreign_line(line) {
            Ok(line) => line,
            Err(failure) => return responder.failed(failure),
        };
        let newcomer = self.newcomer();
        job::spawn(&self.events, move || match accept(&newcomer, &line) {
            Ok(peer) => Some(JobDone::Joined { peer, responder }),
            Err(failure) => {
                responder.failed(failure);
                None
            }
        });
    }

    /// Reads an invitation that another node made.
    pub(super) fn foreign_line(&self, line: &str) -> Result<Line, Failure> {
        let line = Line::parse(line)?;
        if line.fingerprint == self.keys.fingerprint() {
            let remedy = "Run stead join on the other node, or with the line that stead invite prints there";
            return Err(Failure::new("the invitation was not accepted", "it is this node's own", remedy));
        }
        Ok(line)
    }

    pub(super) fn newcomer(&self) -> Newcomer {
        let (name, addresses) = (self.name.clone(), self.addresses());
        Newcomer { name, addresses, dialer: self.dialer.clone() }
    }

    pub(super) fn joined(&mut self, peer: Peer, responder: &Responder) {
        let node = peer.name.clone();
        let result = self.trust(peer).map(|again| Answer::Joined { node, again });
        responder.end(result);
    }

    /// Trusts a node from now on; true: it was trusted before.
    pub(super) fn trust(&mut self, peer: Peer) -> Result<bool, Failure> {
        let name = peer.name.clone();
        let (peers, again) = self.peers.with(peer, &self.name)?;
        self.adopt_peers(peers)?;
        // It joined by this node's newest certificate.
        self.told(&name)?;
        Ok(again)
    }

    /// Makes these the trusted nodes.
    pub(super) fn adopt_peers(&mut self, peers: Peers) -> Result<(), Failure> {
        peers.save(&self.state)?;
        self.book.set(peers.list().to_vec());
        self.groups.failover.give(Order::Look);
        self.peers = peers;
        Ok(())
    }

    pub(super) fn nodes(&self, responder: Responder) {
        let own = self.own_info();
        let peers: Vec<_> = self.peers.list().iter().map(|peer| self.info(peer)).collect();
        let (dialer, book) = (self.dialer.clone(), self.book.clone());
        job::spawn(&self.events, move || {
            let peers: Vec<_> = std::thread::scope(|scope| {
                let asked: Vec<_> =
                    peers.into_iter().map(|info| scope.spawn(|| with_answer(info, &dialer, &book))).collect();
                asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
            });
            responder.done(Answer::Nodes([vec![own], peers].concat()));
            None
        });
    }

    fn own_info(&self) -> NodeInfo {
        let untold = self.rotation.as_ref().map(|rotation| &rotation.untold);
        let remarks = untold.filter(|untold| !untold.is_empty()).map(|untold| {
            let names: Vec<_> = untold.iter().map(NodeName::as_str).collect();
            format!("its new certificate is not known yet to {}", names.join(", "))
        });
        NodeInfo {
            name: self.name.clone(),
            fingerprint: self.keys.fingerprint().to_string(),
            addresses: self.addresses(),
            reachable: None,
            since: None,
            last_heard: None,
            streams: 0,
            protocol: Some(VERSIONS.1),
            source_of: source_of(&self.plan, &self.name),
            target_of: target_of(&self.plan, &self.name),
            remarks: remarks.into_iter().collect(),
        }
    }

    fn info(&self, peer: &Peer) -> NodeInfo {
        let older = peer.older.as_ref().filter(|older| peer.accepts(older.fingerprint, unix_seconds()));
        let remarks = older.map(|older| format!("its older certificate {} is still accepted", older.fingerprint));
        NodeInfo {
            name: peer.name.clone(),
            fingerprint: peer.fingerprint.to_string(),
            addresses: peer.addresses.clone(),
            reachable: None,
            since: peer.since.map(|seconds| Timestamp(seconds.saturating_mul(1_000_000_000))),
            last_heard: None,
            streams: 0,
            protocol: None,
            source_of: source_of(&self.plan, &peer.name),
            target_of: target_of(&self.plan, &peer.name),
            remarks: remarks.into_iter().collect(),
        }
    }

    pub(super) fn move_node(&mut self, node: &NodeName, addresses: &[SocketAddr]) -> Result<Answer, Failure> {
        let what = format!("the address of {node} was not changed");
        let peer = self.trusted(node, &what)?;
        let own = self.addresses();
        if let Some(own) = addresses.iter().find(|address| own.contains(address)) {
            return Err(Failure::new(what, format!("{own} is this node's own"), "").kind(FailureKind::Usage));
        }
        let routes = self.plan.connections.iter().filter(|c| c.target == *node);
        let mut stale = routes.filter_map(|c| c.route).filter(|route| peer.addresses.contains(route));
        if let Some(route) = stale.find(|route| !addresses.contains(route)) {
            let why = format!("the plan sends to it by the route {route}, which it would no longer have");
            let remedy = "Name that address, too, or change the route in the plan first (stead plan show, apply)";
            return Err(Failure::new(what, why, remedy));
        }
        self.adopt_peers(self.peers.moved(node, addresses))?;
        info!("{node} is reached at {addresses:?} from now on");
        Ok(Answer::Done)
    }

    pub(super) fn remove_node(&mut self, node: NodeName, force: bool, responder: Responder) {
        let what = format!("{node} was not removed");
        let refused = self.trusted(&node, &what).and_then(|_| unused(&self.plan, &node, &self.name, &what));
        if let Err(failure) = refused {
            return responder.failed(failure);
        }
        let dialer = self.dialer.clone();
        job::spawn(&self.events, move || {
            let told = ask(&dialer, &node, &Ask::Forget, FORGET_TIMEOUT);
            Some(JobDone::Forgotten { node, force, told: told.map(drop), responder })
        });
    }

    /// The end of a removal: the node was told to forget this one, or could not be.
    pub(super) fn removed(&mut self, node: &NodeName, force: bool, told: Result<(), Failure>, responder: &Responder) {
        if let Err(failure) = told {
            if failure.kind == FailureKind::No && !force {
                return responder.failed(failure);
            }
            let why = failure.why;
            responder
                .notice(format!("{node} still trusts this node ({why}); run there: stead node remove {}", self.name));
        }
        let what = format!("{node} was not removed");
        let removed = unused(&self.plan, node, &self.name, &what).and_then(|()| self.distrust(node));
        responder.end(removed.map(|()| Answer::Done));
    }

    /// A peer asks to be forgotten.
    pub(super) fn forget_for(&mut self, node: &NodeName) -> Result<Tell, Failure> {
        let what = format!("{} does not forget {node}", self.name);
        unused(&self.plan, node, &self.name, &what).map_err(|failure| failure.kind(FailureKind::No))?;
        self.distrust(node).map(|()| Tell::Done)
    }

    /// Trusts a node no longer: its streams end at once, and it does not come back without a new invitation.
    pub(super) fn distrust(&mut self, node: &NodeName) -> Result<(), Failure> {
        self.adopt_peers(self.peers.without(node))?;
        self.book.end(node);
        self.groups.secrets.forget(node)?;
        self.groups.failover.give(Order::Forget(node.clone()));
        self.told(node)?;
        info!("{node} is no longer trusted");
        Ok(())
    }

    pub(super) fn trusted(&self, node: &NodeName, what: &str) -> Result<&Peer, Failure> {
        self.peers.get(node).ok_or_else(|| {
            let names = self.peers.list().iter().map(|peer| peer.name.as_str());
            let known = meant(node.as_str(), names, "it trusts none");
            let why = format!("{node} is not a node that this one trusts; {known}");
            Failure::new(what, why, "Look at: stead node list")
        })
    }
}

/// Accepts an invitation: the other side trusts this node then; returns whom to trust.
pub(super) fn accept(newcomer: &Newcomer, line: &Line) -> Result<Peer, Failure> {
    let found = resolve(line)?;
    let secret = line.secret.clone();
    let question = Ask::Join(JoinAsk { secret, name: newcomer.name.clone(), addresses: newcomer.addresses.clone() });
    let target = newcomer.dialer.invited(line.host.clone(), line.fingerprint, found.clone());
    match ask_address(&newcomer.dialer, &target, &question, JOIN_TIMEOUT)? {
        Tell::Joined(told) => {
            let mut addresses = found;
            addresses.extend(told.addresses.into_iter().filter(|a| !target.addresses.contains(a)));
            Ok(Peer::new(told.name, line.fingerprint, addresses, unix_seconds()))
        }
        other => Err(unexpected(&line.host, &other)),
    }
}

/// Refuses while a connection of the plan leads to or from that node.
fn unused(plan: &Plan, node: &NodeName, own: &NodeName, what: &str) -> Result<(), Failure> {
    if let Some(group) = plan.groups.iter().find(|group| group.has(node)) {
        let remedy = format!("End that first: stead unmonitor {}", group.name);
        return Err(Failure::new(what, format!("it takes part in group {}", group.name), remedy));
    }
    if let Some(set) = target_of(plan, node).first() {
        let remedy = format!(
            "End it first: stead unprotect {set} (where {node} is dead: stead node replace {node} LINE, with what stead invite printed on its successor)"
        );
        return Err(Failure::new(what, format!("it keeps the replica of set {set} of {own}"), remedy));
    }
    if let Some(set) = source_of(plan, node).first() {
        let remedy = format!("End it first: stead unprotect {set} there, or here with --force");
        return Err(Failure::new(what, format!("{own} keeps the replica of its set {set}"), remedy));
    }
    Ok(())
}

fn source_of(plan: &Plan, node: &NodeName) -> Vec<SetName> {
    plan.sets.iter().filter(|set| set.source == *node).map(|set| set.name.clone()).collect()
}

fn target_of(plan: &Plan, node: &NodeName) -> Vec<SetName> {
    plan.connections.iter().filter(|c| c.target == *node).map(|c| c.set.clone()).collect()
}

fn with_answer(mut info: NodeInfo, dialer: &Dialer, book: &Book) -> NodeInfo {
    info.reachable = Some(ask(dialer, &info.name, &Ask::Ping, PING_TIMEOUT).is_ok());
    let contact = book.contact(&info.name);
    info.last_heard = contact.map(|contact| contact.heard);
    info.protocol = contact.map(|contact| contact.version);
    info.streams = book.streams(&info.name);
    info
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
