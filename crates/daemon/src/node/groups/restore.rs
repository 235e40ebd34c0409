//! Restores: the node that another one stood in for gets what that one has now; what that would change is shown first.

use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::SyncSender;

use stead_api::{Answer, Failure, FailureKind, Restore};
use stead_disk::inventory::Inventory;
use stead_model::plan::{ConnectionPlan, GroupPlan, PathPlan};
use stead_model::{GroupName, NodeName, Rules, SetName};

use super::super::ops::Op;
use super::Node;
use crate::api_server::Responder;
use crate::compare::{self, Pair, PairRoot};
use crate::job;
use crate::peer::messages::{Tell, text_as_path};
use crate::protect;
use crate::seam::TargetRoot;
use crate::state::sets::SetState;

/// What comes back to a peer that asked.
type Reply = SyncSender<Result<Tell, Failure>>;

impl Node {
    pub(in super::super) fn restore(&mut self, options: Restore, responder: Responder) {
        let what = format!("group {} was not restored", options.group);
        let (group, sets) = match self.to_restore(&options.group, &options.sets, &what) {
            Ok(found) => found,
            Err(failure) => return responder.failed(failure),
        };
        if options.to.is_some() || !options.map.is_empty() {
            return self.resettle(group, sets, options, responder);
        }
        match self.begin_restore(&sets) {
            Ok(()) => self.follow_restore(group, sets, options.no_wait, responder),
            Err(failure) => responder.failed(failure),
        }
    }

    /// The client is told how far it is, or that it has begun.
    pub(super) fn follow_restore(&mut self, group: GroupPlan, sets: Vec<SetName>, no_wait: bool, responder: Responder) {
        match no_wait {
            true => responder.done(Answer::Restored { left: self.left_to_restore(&group) }),
            false => self.ops.push(Op::Restore { group: Box::new(group), sets, responder }),
        }
    }

    /// Sets of the group of which nothing is sent yet.
    pub(in super::super) fn left_to_restore(&self, group: &GroupPlan) -> Vec<SetName> {
        group.sets.iter().filter(|set| self.groups.awaiting.contains(*set)).cloned().collect()
    }

    /// The group, and which of its sets are meant: all where none is named.
    fn to_restore(
        &self,
        group: &GroupName,
        sets: &[SetName],
        what: &str,
    ) -> Result<(GroupPlan, Vec<SetName>), Failure> {
        let group = self.known_group(group, what)?.clone();
        if let Some(stray) = sets.iter().find(|set| !group.sets.contains(set)) {
            let with = group.sets.iter().map(SetName::as_str).collect::<Vec<_>>().join(", ");
            let why = format!("set {stray} does not go with it; with it go {with}");
            return Err(Failure::new(what, why, "Name sets of the group"));
        }
        self.is_to_restore(&group, what)?;
        let sets = if sets.is_empty() { group.sets.clone() } else { sets.to_vec() };
        Ok((group, sets))
    }

    fn is_to_restore(&self, group: &GroupPlan, what: &str) -> Result<(), Failure> {
        let monitor = self.monitor_of(&group.name);
        let other = monitor.as_ref().and_then(|monitor| monitor.other.as_deref());
        // The source, too, may have stood in: for its target, while that was the active side.
        let stood_in =
            other == Some("restore-required") || group.sets.iter().any(|set| self.groups.awaiting.contains(set));
        let refused = |why, remedy| Err(Failure::new(what, why, remedy).kind(FailureKind::No));
        match monitor.and_then(|monitor| monitor.active) {
            Some(active) if active != self.name => {
                let why = format!("{active} serves, and it is restored from there");
                refused(why, format!("Run the command on {active}"))
            }
            Some(active) if active == group.source && !stood_in => {
                refused(format!("{active} serves, where it belongs"), "Look at: stead status".into())
            }
            _ => Ok(()),
        }
    }

    /// The other node gets what this one has from now on.
    pub(super) fn begin_restore(&mut self, sets: &[SetName]) -> Result<(), Failure> {
        for set in sets {
            self.may_be_restored(set)?;
            self.reconfigure(set)?;
        }
        Ok(())
    }

    /// A person agreed that the other node becomes what this one is.
    pub(super) fn may_be_restored(&mut self, set: &SetName) -> Result<(), Failure> {
        let mut kept = SetState::load(&self.state, set)?;
        kept.restore = false;
        kept.save(&self.state, set, "source")?;
        self.groups.awaiting.remove(set);
        Ok(())
    }

    /// What would a restore change? Nothing is.
    pub(in super::super) fn preview_restore(&mut self, group: &GroupName, sets: &[SetName], responder: Responder) {
        let what = format!("group {group} was not compared");
        let pairs = self.to_restore(group, sets, &what).and_then(|(group, sets)| self.pairs(&group, &sets, &what));
        let (pairs, dialer) = match pairs {
            Ok(pairs) => (pairs, self.dialer.clone()),
            Err(failure) => return responder.failed(failure),
        };
        job::spawn(&self.events, move || {
            let compare = || pairs.iter().map(|pair| compare::preview(&dialer, pair)).collect::<Result<Vec<_>, _>>();
            responder.end(job::guarded(&what, compare).map(Answer::Preview));
            None
        });
    }

    /// Each set here, beside its replica on the other node of the group.
    fn pairs(&self, group: &GroupPlan, sets: &[SetName], what: &str) -> Result<Vec<Pair>, Failure> {
        let pair = |name: &SetName| {
            let set = self.known(name, what)?;
            let connection = self.along(group, name, what)?;
            let dirs = SetState::load(&self.state, name)?.dirs;
            let root = |(path, is_dir): (&PathPlan, bool)| PairRoot {
                here: path.path.clone(),
                there: connection.replica_of(&path.path).unwrap_or(&path.path).to_path_buf(),
                is_dir,
            };
            Ok(Pair {
                set: name.clone(),
                on: connection.target.clone(),
                rules: set.rules.clone(),
                without: connection.without.clone(),
                roots: set.paths.iter().zip(dirs).map(root).collect(),
            })
        };
        sets.iter().map(pair).collect()
    }

    /// The connection of a set from this node to the other one of its group.
    pub(super) fn along(&self, group: &GroupPlan, set: &SetName, what: &str) -> Result<&ConnectionPlan, Failure> {
        let is_source = self.plan.set(set).is_some_and(|planned| planned.source == self.name);
        let other = group.other(&self.name).filter(|_| is_source);
        let found = other.and_then(|other| self.plan.connections.iter().find(|c| c.set == *set && c.target == *other));
        found.ok_or_else(|| {
            let why = format!("set {set} is not sent from this node to the other one of the group");
            Failure::new(what, why, "Look at: stead status")
        })
    }

    /// The node that writes a set wants to see part of the replica here.
    pub(in super::super) fn list_replica(
        &self,
        (set, root): (SetName, u32),
        after: Option<String>,
        max: u32,
        from: &NodeName,
        reply: Reply,
    ) {
        let what = format!("the replica of set {set} was not listed");
        let root = self.replica_for(&set, from, &what).and_then(|(roots, connection)| {
            let found = usize::try_from(root).ok().and_then(|at| roots.get(at).cloned());
            let rules = self.known(&set, &what)?.rules.clone();
            let found = found.ok_or_else(|| Failure::new(&what, "it has no such path", ""))?;
            Ok((found, rules, connection.without.clone()))
        });
        let (root, rules, without) = match root {
            Ok(found) => found,
            Err(failure) => return drop(reply.try_send(Err(failure))),
        };
        job::spawn(&self.events, move || {
            let list = || {
                let rules = Rules::new(&rules).map_err(|e| Failure::new(&what, e.to_string(), ""))?;
                let tree = Inventory { root: &root.path, is_dir: root.is_dir, rules: &rules, without: &without };
                let after = after.map(|text| text_as_path(&text));
                let after = after.as_ref().map(|path| path.as_os_str().as_bytes());
                compare::page(&tree, after, max as usize).map(|(items, more)| Tell::List { items, more })
            };
            let _ = reply.try_send(job::guarded(&what, list));
            None
        });
    }

    /// The node that writes a set wants to know on which file systems the replica here is.
    pub(in super::super) fn tell_volumes(&self, set: &SetName, from: &NodeName) -> Result<Tell, Failure> {
        let what = format!("the file systems of set {set} were not told");
        let (roots, connection) = self.replica_for(set, from, &what)?;
        let volume = |root: &TargetRoot| {
            let from = connection.mapping.iter().find(|mapping| mapping.to == root.path);
            let from = from.map_or_else(|| root.path.clone(), |mapping| mapping.from.clone());
            Ok((from, protect::source::volume_of(&root.path, root.is_dir)?))
        };
        roots.iter().map(volume).collect::<Result<_, _>>().map(Tell::Volumes)
    }

    /// The roots of a replica that this node keeps of that one, and its connection.
    fn replica_for(
        &self,
        set: &SetName,
        from: &NodeName,
        what: &str,
    ) -> Result<(Vec<TargetRoot>, &ConnectionPlan), Failure> {
        let planned = self.known(set, what)?;
        let connection = self.plan.connections.iter().find(|c| c.set == *set && c.target == self.name);
        let connection = connection.filter(|_| planned.source == *from).ok_or_else(|| {
            let why = format!("{} keeps no replica of it from {from}", self.name);
            Failure::new(what, why, "Look at: stead status, on both nodes")
        })?;
        let spec = self.target_spec(planned, connection, &SetState::load(&self.state, set)?)?;
        Ok((spec.roots, connection))
    }
}
