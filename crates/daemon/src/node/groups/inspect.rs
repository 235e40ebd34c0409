//! `plan check` of groups: what is to be looked at here, and what is remembered when a group moves.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

use stead_api::{Answer, Failure};
use stead_model::plan::GroupPlan;
use stead_model::{Epoch, GroupName};
use tracing::warn;

use super::Node;
use crate::api_server::Responder;
use crate::check::parts::{Remembered, parts};
use crate::check::{Local, checklist};
use crate::clock::wall_clock;
use crate::failover::hands::role_files;
use crate::failover::kept::GroupDir;
use crate::job;
use crate::peer::messages::Tell;

impl Node {
    /// The groups of which this node is one of the two.
    pub(in super::super) fn local_groups(&self) -> Vec<Local> {
        self.own_groups().into_iter().map(|group| self.local(group)).collect()
    }

    fn local(&self, group: GroupPlan) -> Local {
        let dir = GroupDir::of(&self.state, &group.name);
        let paths = self.paths_of(&group);
        let group = self.on_this_node(&group);
        Local {
            role_files: role_files(&group, &paths, dir.path()),
            own: self.name.clone(),
            roots: self.roots_of(&group),
            all_roots: self.all_roots(),
            state: self.state.path().to_path_buf(),
            dir,
            serves: self.serves(&group.name),
            has_data: self.has_data(&group),
            group,
        }
    }

    pub(in super::super) fn serves(&self, group: &GroupName) -> bool {
        self.monitor_of(group).is_some_and(|monitor| monitor.doing == "active")
    }

    /// Is here what all of its sets hold: as their source, or mirrored once?
    pub(super) fn has_data(&self, group: &GroupPlan) -> bool {
        group.sets.iter().all(|set| self.plan.set(set).is_some() && !self.is_no_image(set))
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
        let Some(local) = self.local_or_refused(name, &reply) else { return };
        job::spawn(&self.events, move || {
            let parts = parts(&local.group);
            let texts = local.findings(&parts);
            let _ = reply.try_send(Ok(Tell::Findings { texts, now: wall_clock(), parts }));
            None
        });
    }

    /// The other node of a group asks what there is here that is not kept alike by itself.
    pub(in super::super) fn tell_facts(&self, name: &GroupName, reply: SyncSender<Result<Tell, Failure>>) {
        let Some(local) = self.local_or_refused(name, &reply) else { return };
        job::spawn(&self.events, move || {
            let _ = reply.try_send(Ok(Tell::Facts(local.facts())));
            None
        });
    }

    fn local_or_refused(&self, name: &GroupName, reply: &SyncSender<Result<Tell, Failure>>) -> Option<Local> {
        let found = self.local_groups().into_iter().find(|local| local.group.name == *name);
        if found.is_none() {
            let why = format!("{} takes no part in it", self.name);
            let _ = reply.try_send(Err(Failure::new(format!("group {name} was not checked"), why, "")));
        }
        found
    }

    /// What is not kept alike by itself, of all groups of this node or of that one.
    pub(in super::super) fn checklist(&self, name: Option<&GroupName>, responder: Responder) {
        let of: Vec<_> =
            self.local_groups().into_iter().filter(|l| name.is_none_or(|name| l.group.name == *name)).collect();
        if let (Some(name), []) = (name, of.as_slice()) {
            let why = format!("{} is neither source nor target of a group of that name", self.name);
            return responder.failed(Failure::new(
                "there is no checklist",
                why,
                format!("Run it on a node of group {name}"),
            ));
        }
        let dialer = self.dialer.clone();
        let plan = self.plan.clone();
        job::spawn(&self.events, move || {
            let items = of.iter().flat_map(|local| checklist::of_group(local, &plan, &dialer)).collect();
            responder.done(Answer::Checklist(items));
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
