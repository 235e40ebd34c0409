//! `plan check` of groups: what is to be looked at here, and what is remembered when a group moves.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

use stead_api::Failure;
use stead_model::plan::GroupPlan;
use stead_model::{Epoch, GroupName};
use tracing::warn;

use super::Node;
use crate::check::Local;
use crate::check::parts::{Remembered, parts};
use crate::clock::wall_clock;
use crate::failover::kept::GroupDir;
use crate::job;
use crate::peer::messages::Tell;

impl Node {
    /// The groups of which this node is one of the two.
    pub(in super::super) fn local_groups(&self) -> Vec<Local> {
        self.own_groups().into_iter().map(|group| self.local(group)).collect()
    }

    fn local(&self, group: GroupPlan) -> Local {
        let group = self.on_this_node(&group);
        Local {
            own: self.name.clone(),
            roots: self.roots_of(&group),
            all_roots: self.all_roots(),
            state: self.state.path().to_path_buf(),
            dir: GroupDir::of(&self.state, &group.name),
            serves: self.monitor_of(&group.name).is_some_and(|monitor| monitor.doing == "active"),
            group,
        }
    }

    /// Where sets and replicas are on this node.
    fn all_roots(&self) -> Vec<PathBuf> {
        let own = self.plan.sets.iter().filter(|set| set.source == self.name);
        let kept = self.plan.connections.iter().filter(|connection| connection.target == self.name);
        let sources = own.flat_map(|set| set.paths.iter().map(|path| path.path.clone()));
        sources.chain(kept.flat_map(|connection| connection.mapping.iter().map(|m| m.to.clone()))).collect()
    }

    /// The other node of a group asks what stands against it here.
    pub(in super::super) fn check_group(&self, name: &GroupName, reply: SyncSender<Result<Tell, Failure>>) {
        let found = self.local_groups().into_iter().find(|local| local.group.name == *name);
        let Some(local) = found else {
            let why = format!("{} takes no part in it", self.name);
            let _ = reply.try_send(Err(Failure::new(format!("group {name} was not checked"), why, "")));
            return;
        };
        job::spawn(&self.events, move || {
            let parts = parts(&local.group);
            let texts = local.findings(&parts);
            let _ = reply.try_send(Ok(Tell::Findings { texts, now: wall_clock(), parts }));
            None
        });
    }

    /// A group is served under that epoch: what it runs is remembered, to be compared later.
    pub(super) fn remember_parts(&self, name: &GroupName, epoch: Epoch) {
        let Some(group) = self.own_groups().into_iter().find(|group| group.name == *name) else { return };
        let dir = GroupDir::of(&self.state, name);
        job::spawn(&self.events, move || {
            remember(&group, &dir, epoch).unwrap_or_else(|failure| warn!("group {}: {failure}", group.name));
            None
        });
    }
}

fn remember(group: &GroupPlan, dir: &GroupDir, epoch: Epoch) -> Result<(), Failure> {
    let known = dir.parts::<Remembered>().ok().flatten();
    if known.is_some_and(|known| known.epoch == epoch) {
        return Ok(());
    }
    dir.keep_parts(&Remembered { epoch, at: wall_clock(), parts: parts(group) })
}
