//! Which way the sets of groups go: the way of the newest epoch, whatever happened in between.

use std::collections::BTreeSet;

use stead_api::Failure;
use stead_failover::Record;
use stead_model::plan::GroupPlan;
use stead_model::{Epoch, Position, SetName};
use tracing::{info, warn};

use super::Node;
use crate::failover::config::node_id;
use crate::failover::kept::GroupDir;
use crate::seam::Stop;
use crate::state::sets::{self, SetState};

impl Node {
    /// Has the sets of groups go the way that the newest epoch says, before any of them is started.
    pub(in super::super) fn orient_groups(&mut self) {
        for group in self.own_groups() {
            match GroupDir::of(&self.state, &group.name).record::<Record>() {
                Ok(Some(record)) => drop(self.groups.unturned.insert(group.name.clone(), record.epoch)),
                Ok(None) => {}
                Err(failure) => warn!("group {}: {failure}", group.name),
            }
            for set in &group.sets {
                if SetState::load(&self.state, set).is_ok_and(|kept| kept.restore) {
                    self.groups.awaiting.insert(set.clone());
                }
            }
        }
        self.turn_the_rest();
    }

    /// Has groups go the way of their newest epoch, also those that could not before.
    pub(super) fn turn_the_rest(&mut self) {
        for (name, epoch) in std::mem::take(&mut self.groups.unturned) {
            let group = self.plan.group(&name).cloned();
            if group.is_some_and(|group| !self.orient(&group, epoch)) {
                self.groups.unturned.insert(name, epoch);
            }
        }
    }

    /// Where another node has the newest epoch, the sets come from there from now on. Is it so?
    fn orient(&mut self, group: &GroupPlan, epoch: Epoch) -> bool {
        if node_id(&self.name).0 == epoch.writer {
            return true;
        }
        let mut all = true;
        for set in &group.sets {
            if let Err(failure) = self.become_target(set, epoch) {
                warn!("group {}, set {set} is not turned round yet: {failure}", group.name);
                all = false;
            }
        }
        all
    }

    fn become_target(&mut self, set: &SetName, epoch: Epoch) -> Result<(), Failure> {
        let Some(planned) = self.plan.set(set) else { return Ok(()) };
        let mut kept = SetState::load(&self.state, set)?;
        if planned.source != self.name {
            let is_newer = kept.epoch().is_none_or(|known| known.number < epoch.number);
            return if is_newer { self.follow_epoch(set, kept, epoch) } else { Ok(()) };
        }
        if self.plane.runs_source(set) {
            self.plane.stop_source(set, Stop::Unprotect).or_else(|failure| {
                warn!("set {set}: {failure}; what is open works on, on the directory beneath");
                self.plane.stop_source(set, Stop::UnprotectOpen)
            })?;
        }
        (kept.restore, self.groups.awaiting) = (false, without(&self.groups.awaiting, set));
        self.note_fork(set, &kept, epoch)?;
        self.turn(set, kept, epoch, "target")?;
        self.start_turned(set);
        self.tick_forks();
        Ok(())
    }

    /// A target stays what it is, under a newer epoch.
    fn follow_epoch(&mut self, set: &SetName, mut kept: SetState, epoch: Epoch) -> Result<(), Failure> {
        kept.enter(epoch, self.applied(set));
        kept.save(&self.state, set, "target")?;
        let connection = self.plan.connections_of(set).find(|c| c.target == self.name).cloned();
        let (Some(planned), Some(connection)) = (self.plan.set(set).cloned(), connection) else { return Ok(()) };
        if self.unstarted.contains_key(set) || !self.is_running {
            return Ok(());
        }
        let spec = self.target_spec(&planned, &connection, &kept)?;
        self.plane.reconfigure_target(spec)
    }

    /// Exchanges the roles of a set's two nodes, durably. The old role's session has ended.
    pub(super) fn turn(&mut self, set: &SetName, mut kept: SetState, epoch: Epoch, role: &str) -> Result<(), Failure> {
        let plan = self.plan.turned(set).map_err(|e| {
            Failure::new(format!("set {set} was not turned round"), e.to_string(), "Look at: stead plan show")
        })?;
        kept.enter(epoch, self.applied(set));
        kept.save(&self.state, set, role)?;
        self.adopt(plan)?;
        let old = if role == "source" { "target" } else { "source" };
        sets::remove_role(&self.state, set, old)?;
        info!("set {set}: this node is its {role} from now on, under epoch {}", epoch.number);
        Ok(())
    }

    /// Starts a set in its new role; at the start of the daemon all are started later.
    fn start_turned(&mut self, set: &SetName) {
        if self.is_running {
            self.unstarted.remove(set);
            self.start_again(set);
        }
    }

    pub(super) fn applied(&self, set: &SetName) -> Position {
        let status = self.plane.status().into_iter().find(|c| c.set == *set);
        status.map_or(Position::default(), |c| c.positions.applied)
    }
}

fn without(sets: &BTreeSet<SetName>, set: &SetName) -> BTreeSet<SetName> {
    sets.iter().filter(|other| *other != set).cloned().collect()
}
