//! A rebuilt machine takes the place of a dead node.

use stead_api::{Answer, Failure};
use stead_model::plan::{ConnectionPlan, Plan, SetPlan};
use stead_model::{NodeName, SetName};
use tracing::info;

use super::Node;
use super::trust::{Newcomer, accept};
use crate::api_server::Responder;
use crate::job::{self, JobDone, Replacement};
use crate::peer::ask_target;
use crate::peer::messages::{Ask, ReplicaAsk};
use crate::protect;
use crate::state::invites::Line;
use crate::state::peers::Peer;
use crate::state::sets::SetState;

/// Whom the operator named.
enum Named {
    Invited(Line),
    Known(Peer),
}

impl Node {
    pub(super) fn replace_node(&mut self, old: NodeName, new: &str, seeded: bool, responder: Responder) {
        let planned = self.replaceable(&old).and_then(|()| {
            let named = self.named(&old, new)?;
            Ok((named, self.replicas_on(&old, seeded)?))
        });
        let (named, replicas) = match planned {
            Ok(planned) => planned,
            Err(failure) => return responder.failed(failure),
        };
        let sets: Vec<_> = replicas.iter().map(|ask| ask.set.name.clone()).collect();
        self.reserved.extend(sets.iter().cloned());
        let newcomer = self.newcomer();
        job::spawn(&self.events, move || {
            let mut replacement = Replacement { old, peer: None, sets, seeded };
            let what = format!("{} was not replaced", replacement.old);
            let result = job::guarded(&what, || settle(&newcomer, named, replicas, &mut replacement));
            Some(JobDone::Replaced { replacement: Box::new(replacement), result, responder })
        });
    }

    /// The end of it: the new machine keeps the replicas, or it came to nothing.
    pub(super) fn replaced(&mut self, new: Replacement, result: Result<(), Failure>, responder: &Responder) {
        self.reserved.retain(|set| !new.sets.contains(set));
        let Replacement { old, peer, sets, seeded } = new;
        let done = match (result, peer) {
            (Ok(()), Some(peer)) => self.take_place(&old, peer, sets, seeded),
            (Ok(()), None) => Err(Failure::new(format!("{old} was not replaced"), "nobody took its place", "")),
            (Err(failure), Some(peer)) if peer.name != old => self.trust(peer).and(Err(failure)),
            (Err(failure), _) => Err(failure),
        };
        responder.end(done);
    }

    fn take_place(&mut self, old: &NodeName, peer: Peer, sets: Vec<SetName>, seeded: bool) -> Result<Answer, Failure> {
        let node = peer.name.clone();
        let plan = with_target(&self.plan, old, &node)?;
        let (peers, _) = self.peers.without(old).with(peer, &self.name)?;
        // First the plan: a name that is trusted no longer is not dialed either.
        self.adopt(plan)?;
        self.adopt_peers(peers)?;
        self.book.end(old);
        self.told(old)?;
        info!("{node} is in the place of {old}");
        if node != *old {
            let fresh = |c: &ConnectionPlan| (c.target == node).then_some(seeded);
            let running = sets.iter().filter(|set| !self.unstarted.contains_key(set)).collect::<Vec<_>>();
            running.into_iter().try_for_each(|set| self.reconfigure_with(set, &fresh))?;
        }
        Ok(Answer::Replaced { node, sets })
    }

    fn replaceable(&self, old: &NodeName) -> Result<(), Failure> {
        let what = format!("{old} was not replaced");
        self.trusted(old, &what)?;
        if let Some(set) = self.plan.sets.iter().find(|set| set.source == *old) {
            let why = format!("it is the source of set {}, and this node keeps its replica", set.name);
            let remedy = format!(
                "Bring its state back there with stead state restore, or give the set up: stead unprotect {} --force",
                set.name
            );
            return Err(Failure::new(what, why, remedy));
        }
        match self.plan.sets.iter().find(|set| self.reserved.contains(&set.name)) {
            Some(set) => {
                let why = format!("another command is at work on set {}", set.name);
                Err(Failure::new(what, why, "Wait for the other command to end"))
            }
            None => Ok(()),
        }
    }

    fn named(&self, old: &NodeName, new: &str) -> Result<Named, Failure> {
        if new.contains(':') {
            return self.foreign_line(new).map(Named::Invited);
        }
        let what = format!("{old} was not replaced");
        let name = new.parse::<NodeName>().map_err(|e| Failure::new(&what, e.to_string(), ""))?;
        if name == *old {
            let remedy = format!("Name the line that stead invite prints on it: stead node replace {old} LINE");
            return Err(Failure::new(what, "a rebuilt machine of the same name has a new certificate", remedy));
        }
        if let Some(c) = self.plan.connections.iter().find(|c| c.target == name && keeps(&self.plan, old, &c.set)) {
            let why = format!("{name} keeps a replica of set {} already", c.set);
            return Err(Failure::new(what, why, "Choose a node that keeps none of its sets"));
        }
        self.trusted(&name, &what).cloned().map(Named::Known)
    }

    /// What the new machine is asked to keep; the target's name follows when it is known.
    fn replicas_on(&self, old: &NodeName, seeded: bool) -> Result<Vec<ReplicaAsk>, Failure> {
        let status = self.local_status();
        let ask = |(set, connection): (&SetPlan, &ConnectionPlan)| {
            let kept = SetState::load(&self.state, &set.name)?;
            let unread = || Failure::new(format!("{old} was not replaced"), "the epoch of a set cannot be read", "");
            let mirror = status.connections.iter().find(|c| c.set == set.name && c.target == *old);
            Ok(ReplicaAsk {
                set: set.clone(),
                connection: ConnectionPlan { route: None, ..connection.clone() },
                epoch: kept.epoch().ok_or_else(unread)?,
                dirs: kept.dirs,
                bytes: mirror.map_or(0, |c| c.mirror.bytes_total),
                files: mirror.map_or(0, |c| c.mirror.files_total),
                into_non_empty: seeded,
            })
        };
        let on = self.plan.connections.iter().filter(|c| c.target == *old);
        on.filter_map(|c| self.plan.set(&c.set).map(|set| (set, c))).map(ask).collect()
    }
}

/// Has the machine trust this node, and keep the replicas: all of them, or none.
fn settle(
    newcomer: &Newcomer,
    named: Named,
    replicas: Vec<ReplicaAsk>,
    replacement: &mut Replacement,
) -> Result<(), Failure> {
    let peer = match named {
        Named::Known(peer) => peer,
        Named::Invited(line) => accept(newcomer, &line)?,
    };
    replacement.peer = Some(peer.clone());
    let named = peer.name.clone();
    let asks: Vec<_> = replicas
        .into_iter()
        .map(|ask| ReplicaAsk { connection: ConnectionPlan { target: named.clone(), ..ask.connection }, ..ask })
        .collect();
    let target = newcomer.dialer.invited(peer.name.to_string(), peer.fingerprint, peer.addresses.clone());
    let put = |ask: Ask| ask_target(&newcomer.dialer, &target, &ask, protect::ASK_TIMEOUT);
    let undo = |set: &SetName| Ask::Release { set: set.clone(), undo: true };
    protect::keep_all(&put, &asks, &|_, _| Ok(()), &undo)
}

fn keeps(plan: &Plan, node: &NodeName, set: &SetName) -> bool {
    plan.connections_of(set).any(|c| c.target == *node)
}

/// The plan with another target in the place of `old`.
fn with_target(plan: &Plan, old: &NodeName, new: &NodeName) -> Result<Plan, Failure> {
    let mut plan = plan.clone();
    for connection in plan.connections.iter_mut().filter(|c| c.target == *old) {
        (connection.target, connection.route) = (new.clone(), None);
    }
    let failed = |e: stead_model::plan::PlanError| Failure::new(format!("{old} was not replaced"), e.to_string(), "");
    Plan::parse(&plan.to_toml()).map_err(failed)
}
