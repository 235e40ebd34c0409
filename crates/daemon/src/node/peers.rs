//! Questions of peers.

use std::net::SocketAddr;
use std::path::PathBuf;

use stead_api::Failure;
use stead_model::plan::{ConnectionPlan, SetPlan};
use stead_model::{NodeName, SetName};
use tracing::{info, warn};

use super::{Node, unix_seconds};
use crate::job::{self, JobDone};
use crate::peer::listen::{Caller, PeerAsk};
use crate::peer::messages::{Ask, JoinAsk, JoinTell, ReplicaAsk, Tell};
use crate::protect;
use crate::state::peers::Peer;
use crate::state::sets::SetState;

impl Node {
    pub(super) fn on_ask(&mut self, PeerAsk { mut from, ask, reply }: PeerAsk) {
        // It may have been removed while it asked.
        from.name = self.book.by_fingerprint(from.fingerprint).map(|peer| peer.name);
        let answer = match (ask, &from.name) {
            (Ask::Join(ask), _) => self.admit(&ask, &from),
            (_, None) => Err(Failure::new("the question was refused", "this node does not trust the asking one", "")),
            (Ask::Ping, _) => Ok(Tell::Done),
            (Ask::Status, _) => Ok(Tell::Status(self.local_status().connections)),
            (Ask::Standing, _) => Ok(Tell::Standing(self.standing())),
            (Ask::Secret { secret }, Some(name)) => self.tell_secret(name, secret),
            (Ask::Group(group), Some(name)) => self.take_part(&group, name),
            (Ask::Ungroup { group }, Some(name)) => self.leave_group(&group, name),
            (Ask::Move { group, want, expires_ms }, Some(name)) => {
                let name = name.clone();
                return self.move_for(&group, want, expires_ms, &name, reply);
            }
            (Ask::CheckGroup { group }, Some(_)) => return self.check_group(&group, reply),
            (Ask::List { set, root, after, max }, Some(name)) => {
                let name = name.clone();
                return self.list_replica((set, root), after, max, &name, reply);
            }
            (Ask::Replaced { group, by, epoch }, Some(name)) => self.be_replaced(&group, &by, epoch, name),
            (Ask::Volumes { set }, Some(name)) => self.tell_volumes(&set, name),
            (Ask::Compare { group, content, number }, Some(name)) => {
                let name = name.clone();
                self.compare_for(&group, content, (name, number))
            }
            (Ask::Fits { addresses, resources, copies }, Some(_)) => {
                return self.tell_unfit(addresses, resources, copies, reply);
            }
            (Ask::Try { group, resources }, Some(_)) => return self.tell_tried(&group, resources, reply),
            (Ask::Facts { group }, Some(_)) => return self.tell_facts(&group, reply),
            (Ask::Explain { group }, Some(_)) => Ok(Tell::Timelines(self.timelines(group.as_ref()))),
            (Ask::ForkPoint { set, known }, Some(name)) => self.fork_point(&set, known, name).map(Tell::ForkPoint),
            (Ask::Have { set }, Some(name)) => Ok(Tell::Have(self.keeps(&set, name).is_ok())),
            (Ask::Change(change), Some(name)) => self.change_replica(*change, name),
            (Ask::Release { set, undo }, Some(name)) => self.release_for(&set, name, undo),
            (Ask::Forget, Some(name)) => self.forget_for(name),
            (Ask::NewKey { fingerprint }, Some(name)) => self.take_key(name, from.fingerprint, fingerprint),
            (Ask::Check(ask), Some(_)) => {
                let world = self.world();
                return job::spawn(&self.events, move || {
                    let what = format!("{} cannot keep set {}", world.node, ask.set.name);
                    let told = job::guarded(&what, || protect::target::examine(&world, &ask));
                    let _ = reply.send(told.map(Tell::Checked));
                    None
                });
            }
            (Ask::Keep(ask), Some(_)) => {
                let world = self.world();
                return job::spawn(&self.events, move || {
                    let what = format!("{} cannot keep set {}", world.node, ask.set.name);
                    let result = job::guarded(&what, || protect::target::make(&world, &ask));
                    Some(JobDone::ReplicaMade { ask, from, result, reply })
                });
            }
        };
        let _ = reply.send(answer);
    }

    /// May that peer send that set to this node now?
    pub(super) fn may_send(&self, set: &SetName, source: &NodeName) -> Result<(), Failure> {
        self.keeps(set, source).and_then(|()| self.is_kept_aside(set))
    }

    /// Does this node keep a replica of that set from that peer?
    fn keeps(&self, set: &SetName, source: &NodeName) -> Result<(), Failure> {
        let what = format!("set {set} was refused");
        let remedy = format!("Protect it again: stead unprotect {set} and stead protect, on {source}");
        let planned = self.plan.set(set).filter(|planned| planned.source == *source);
        let kept = planned.is_some() && self.plan.connections_of(set).any(|c| c.target == self.name);
        match self.unstarted.get(set) {
            _ if !kept => {
                Err(Failure::new(what, format!("{} keeps no replica of it from {source}", self.name), remedy))
            }
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    fn admit(&mut self, ask: &JoinAsk, from: &Caller) -> Result<Tell, Failure> {
        let mut invites = self.invites.clone();
        let checked = invites.check(&ask.secret, unix_seconds());
        if checked.is_ok() {
            self.peers.with(newcomer(ask, from), &self.name)?;
            invites.spend(&ask.secret);
        }
        invites.save(&self.state)?;
        self.invites = invites;
        checked.inspect_err(|failure| warn!("{} was not let in: {failure}", from.address))?;
        let again = self.trust(newcomer(ask, from))?;
        info!("{} joined from {}", ask.name, from.address);
        Ok(Tell::Joined(JoinTell { name: self.name.clone(), addresses: self.addresses(), again }))
    }

    fn release_for(&mut self, set: &SetName, source: &NodeName, undo: bool) -> Result<Tell, Failure> {
        match self.plan.set(set) {
            Some(planned) if planned.source == *source => self.drop_replica(set, undo).map(|()| Tell::Done),
            Some(planned) => {
                let why = format!("its source is {}", planned.source);
                Err(Failure::new(format!("set {set} was not released"), why, ""))
            }
            None => Ok(Tell::Done),
        }
    }

    /// Writes a replica down whose directories were made, and begins to keep it; or unmakes them.
    pub(super) fn keep_replica(
        &mut self,
        ask: ReplicaAsk,
        from: &Caller,
        made: Result<Vec<PathBuf>, Failure>,
    ) -> Result<Tell, Failure> {
        let made = made?;
        let kept = self.keep(ask, from, &made);
        if kept.is_err() {
            protect::target::unmake(&made);
        }
        kept.map(|()| Tell::Done)
    }

    fn keep(&mut self, ask: ReplicaAsk, from: &Caller, made: &[PathBuf]) -> Result<(), Failure> {
        let name = ask.set.name.clone();
        let what = format!("{} cannot keep set {name}", self.name);
        if from.name.as_ref() != Some(&ask.set.source) || ask.connection.target != self.name {
            return Err(Failure::new(what, "its plan names other nodes", "Use releases that fit together"));
        }
        // The replica gets another place: what only this node had is looked for in the old one.
        self.is_kept_aside(&name)?;
        if self.plan.set(&name).is_some_and(|set| set.source == ask.set.source) {
            self.drop_replica(&name, false)?;
        }
        let is_grouped = self.plan.group_of(&name).is_some();
        let connection = if is_grouped { with_volumes(ask.connection, &ask.set, &ask.dirs)? } else { ask.connection };
        let plan = self.plan.with_set(ask.set, vec![connection]);
        let plan =
            plan.map_err(|e| Failure::new(what, e.to_string(), "Choose another name or another place with --map"))?;
        SetState::begin(ask.epoch, ask.dirs, made.to_vec()).save(&self.state, &name, "target")?;
        self.adopt(plan)?;
        self.start_replica(&name)?;
        match self.plan.group_of(&name).cloned() {
            Some(group) => self.run_group(&group, false),
            None => Ok(()),
        }
    }

    /// What jobs see of this node.
    pub(super) fn world(&self) -> protect::World {
        protect::World {
            node: self.name.clone(),
            fingerprint: self.keys.fingerprint(),
            state: self.state.path().to_path_buf(),
            plan: self.plan.clone(),
            dialer: self.dialer.clone(),
        }
    }
}

/// Sets of groups are turned round some day: the file systems of the replica, which is on this node, are known from the start.
pub(super) fn with_volumes(
    mut connection: ConnectionPlan,
    set: &SetPlan,
    dirs: &[bool],
) -> Result<ConnectionPlan, Failure> {
    for (path, is_dir) in set.paths.iter().zip(dirs) {
        for mapping in connection.mapping.iter_mut().filter(|mapping| mapping.from == path.path) {
            mapping.volume = Some(protect::source::volume_of(&mapping.to, *is_dir)?);
        }
    }
    Ok(connection)
}

fn newcomer(ask: &JoinAsk, from: &Caller) -> Peer {
    Peer::new(ask.name.clone(), from.fingerprint, seen(from.address, &ask.addresses), unix_seconds())
}

/// Where a newcomer is reached: at the address that it came from, as far as it listens there, then at the others.
fn seen(from: SocketAddr, told: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for address in told {
        let reached = if address.ip().is_unspecified() { SocketAddr::new(from.ip(), address.port()) } else { *address };
        if !addresses.contains(&reached) {
            addresses.push(reached);
        }
    }
    addresses.sort_by_key(|address| address.ip() != from.ip());
    addresses
}
