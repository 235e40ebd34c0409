//! A source that another node took the place of: it is told so when it comes back, gives its part up, and keeps its files.

use std::time::{Duration, Instant};

use stead_api::Failure;
use stead_model::plan::GroupPlan;
use stead_model::{GroupName, NodeName, SetName};
use tracing::{info, warn};

use super::Node;
use crate::clock::wall_clock;
use crate::job::{self, JobDone};
use crate::peer::ask;
use crate::peer::messages::{Ask, Tell};
use crate::state::replaced::{Own, Successor};

/// How often a node that does not know it yet is told.
const TELL_AGAIN: Duration = Duration::from_secs(5);
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

impl Node {
    /// The group's source is in the place of that node, which is to be told.
    pub(super) fn note_replaced(&mut self, group: &GroupPlan, old: &NodeName) -> Result<(), Failure> {
        let epoch = self.monitor_of(&group.name).map_or(0, |monitor| monitor.epoch);
        let mut replaced = self.replaced.clone();
        replaced.untold.retain(|one| (&one.group, &one.old) != (&group.name, old));
        replaced.untold.retain(|one| (&one.group, &one.old) != (&group.name, &group.source));
        let (name, by) = (group.name.clone(), group.source.clone());
        replaced.untold.push(Successor { group: name, old: old.clone(), by, epoch });
        replaced.save(&self.state)?;
        self.replaced = replaced;
        Ok(())
    }

    /// Tells one node that does not know it yet.
    pub(super) fn tell_replaced(&mut self) {
        let now = Instant::now();
        if self.replaced.untold.is_empty() || now < self.tell_replaced_at {
            return;
        }
        self.tell_replaced_at = now + TELL_AGAIN;
        let known: Vec<_> = self.replaced.untold.iter().filter(|one| self.dialer.knows(&one.old)).cloned().collect();
        for one in known {
            let dialer = self.dialer.clone();
            job::spawn(&self.events, move || {
                let Successor { group, by, epoch, .. } = one.clone();
                match ask(&dialer, &one.old, &Ask::Replaced { group, by, epoch }, ASK_TIMEOUT) {
                    Ok(_) => Some(JobDone::ReplacedTold(one)),
                    Err(failure) => {
                        tracing::debug!("{} does not know yet that it is replaced: {failure}", one.old);
                        None
                    }
                }
            });
        }
    }

    pub(super) fn replaced_told(&mut self, told: &Successor) {
        info!("group {}: {} knows that {} is in its place", told.group, told.old, told.by);
        self.replaced.untold.retain(|one| one != told);
        self.replaced.save(&self.state).unwrap_or_else(|failure| warn!("{failure}"));
    }

    /// The node that serves says that another one is in the place of this one.
    pub(super) fn be_replaced(
        &mut self,
        name: &GroupName,
        by: &NodeName,
        epoch: u64,
        from: &NodeName,
    ) -> Result<Tell, Failure> {
        let what = format!("{} goes on in group {name}", self.name);
        let Some(group) = self.plan.group(name).cloned() else { return Ok(Tell::Done) };
        if group.source == *by || group.source != self.name {
            return Ok(Tell::Done);
        }
        let monitor = self.monitor_of(name);
        let (known, doing) = monitor.map_or((0, String::new()), |monitor| (monitor.epoch, monitor.doing));
        if group.target != *from || epoch < known {
            return Err(Failure::new(what, format!("{from} does not serve it under the newest epoch"), ""));
        }
        if !matches!(doing.as_str(), "down" | "standby" | "restore-required" | "approval") {
            return Err(Failure::new(what, format!("it is {doing}"), "Stop what it serves"));
        }
        self.give_up_part(&group, by, from)?;
        warn!("group {name}: {by} is its source in the place of this node, says {from}");
        Ok(Tell::Done)
    }

    fn give_up_part(&mut self, group: &GroupPlan, by: &NodeName, from: &NodeName) -> Result<(), Failure> {
        let paths = self.roots_of(group);
        let mut replaced = self.replaced.clone();
        replaced.own.retain(|own| own.group != group.name);
        let (name, by, told_by) = (group.name.clone(), by.clone(), from.clone());
        replaced.own.push(Own { group: name, by, told_by, at: wall_clock(), paths });
        replaced.save(&self.state)?;
        self.replaced = replaced;
        self.end_group(&group.name)?;
        group.sets.iter().try_for_each(|set| self.end_part(set))
    }

    /// The files stay as they are.
    fn end_part(&mut self, set: &SetName) -> Result<(), Failure> {
        match self.plan.set(set).map(|planned| planned.source == self.name) {
            Some(true) => self.end_source(set).map(drop),
            Some(false) => self.drop_replica(set, false),
            None => Ok(()),
        }
    }

    pub(super) fn forget_replaced(&mut self, group: &GroupName) -> Result<(), Failure> {
        let mut replaced = self.replaced.clone();
        replaced.own.retain(|own| own.group != *group);
        replaced.save(&self.state)?;
        self.replaced = replaced;
        Ok(())
    }
}
