//! Edits make a new plan; the old one stays as it was. What of a set can change while it runs is decided here.

use super::{ConnectionPlan, GroupPlan, Plan, PlanError, SetPlan};
use crate::{GroupName, NodeName, SetName};

/// What lies between a set as it runs and as it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// What can be changed while it runs.
    Live,
    /// What needs the set to be ended and made again, and what that is.
    Anew(&'static str),
}

impl Plan {
    /// The plan with that set and its connections added.
    ///
    /// # Errors
    /// What would be wrong with it then.
    pub fn with_set(&self, set: SetPlan, connections: Vec<ConnectionPlan>) -> Result<Plan, PlanError> {
        let mut plan = self.clone();
        plan.sets.push(set);
        plan.connections.extend(connections);
        plan.check()?;
        Ok(plan)
    }

    /// The plan without that set and its connections.
    ///
    /// # Errors
    /// Where there is no such set.
    pub fn without_set(&self, name: &SetName) -> Result<Plan, PlanError> {
        self.set(name).ok_or_else(|| PlanError::UnknownSet(name.clone()))?;
        let mut plan = self.clone();
        plan.sets.retain(|set| set.name != *name);
        plan.connections.retain(|connection| connection.set != *name);
        Ok(plan)
    }

    /// The plan with all connections of that set paused or going on.
    ///
    /// # Errors
    /// Where there is no such set.
    pub fn with_paused(&self, name: &SetName, paused: bool) -> Result<Plan, PlanError> {
        self.with_changed(name, None, |connection| connection.paused = paused)
    }

    /// The plan with the connections of that set changed, or with the one to that node.
    ///
    /// # Errors
    /// Where there is no such set or connection, and what would be wrong with the plan then.
    pub fn with_changed(
        &self,
        name: &SetName,
        on: Option<&NodeName>,
        change: impl Fn(&mut ConnectionPlan),
    ) -> Result<Plan, PlanError> {
        self.set(name).ok_or_else(|| PlanError::UnknownSet(name.clone()))?;
        let mut plan = self.clone();
        let meant = |c: &&mut ConnectionPlan| c.set == *name && on.is_none_or(|on| c.target == *on);
        let mut changed = 0;
        for connection in plan.connections.iter_mut().filter(meant) {
            change(connection);
            changed += 1;
        }
        if let (Some(on), 0) = (on, changed) {
            return Err(PlanError::UnknownConnection(name.clone(), on.clone()));
        }
        plan.check()?;
        Ok(plan)
    }

    /// The plan with another target for a set.
    ///
    /// # Errors
    /// What would be wrong with it then.
    pub fn with_connection(&self, connection: ConnectionPlan) -> Result<Plan, PlanError> {
        let mut plan = self.clone();
        plan.connections.push(connection);
        plan.check()?;
        Ok(plan)
    }

    /// The plan with these connections in the place of those of their sets to `old`, and with that group in the place of
    /// the one of its name.
    ///
    /// # Errors
    /// What would be wrong with it then.
    pub fn resettled(
        &self,
        old: &NodeName,
        connections: &[ConnectionPlan],
        group: Option<&GroupPlan>,
    ) -> Result<Plan, PlanError> {
        let mut plan = self.clone();
        for new in connections {
            let before = plan.connections.iter_mut().find(|c| c.set == new.set && c.target == *old);
            *before.ok_or_else(|| PlanError::UnknownConnection(new.set.clone(), old.clone()))? = new.clone();
        }
        if let Some(group) = group {
            plan.groups.iter_mut().filter(|known| known.name == group.name).for_each(|known| *known = group.clone());
        }
        plan.check()?;
        Ok(plan)
    }

    /// The plan with a set that is run in another way: what of it and its connections changes while it runs.
    ///
    /// # Errors
    /// What would be wrong with it then.
    pub fn with_set_changed(&self, set: SetPlan, connections: Vec<ConnectionPlan>) -> Result<Plan, PlanError> {
        let name = set.name.clone();
        let mut plan = self.clone();
        let old = plan.sets.iter_mut().find(|old| old.name == name);
        *old.ok_or_else(|| PlanError::UnknownSet(name.clone()))? = set;
        plan.connections.retain(|connection| connection.set != name);
        plan.connections.extend(connections);
        plan.check()?;
        Ok(plan)
    }

    /// The plan with that group, in the place of the one of that name where there is one.
    ///
    /// # Errors
    /// What would be wrong with it then.
    pub fn with_group(&self, group: GroupPlan) -> Result<Plan, PlanError> {
        let mut plan = self.clone();
        match plan.groups.iter_mut().find(|old| old.name == group.name) {
            Some(old) => *old = group,
            None => plan.groups.push(group),
        }
        plan.check()?;
        Ok(plan)
    }

    /// The plan without that group; its sets stay.
    ///
    /// # Errors
    /// Where there is no such group.
    pub fn without_group(&self, name: &GroupName) -> Result<Plan, PlanError> {
        self.group(name).ok_or_else(|| PlanError::UnknownGroup(name.clone()))?;
        let mut plan = self.clone();
        plan.groups.retain(|group| group.name != *name);
        Ok(plan)
    }
}

impl SetPlan {
    /// What leads from this set to that one.
    pub fn change_to(&self, other: &SetPlan) -> Change {
        if self.source != other.source {
            return Change::Anew("its source");
        }
        if self.paths != other.paths {
            return Change::Anew("its paths");
        }
        if self.capture != other.capture || self.order != other.order || self.relay != other.relay {
            return Change::Anew("how it is captured");
        }
        if self == other { Change::None } else { Change::Live }
    }
}

impl ConnectionPlan {
    /// What leads from this connection to that one.
    pub fn change_to(&self, other: &ConnectionPlan) -> Change {
        if self.mapping != other.mapping {
            return Change::Anew("where its replica is");
        }
        if self.without != other.without {
            return Change::Anew("what its replica goes without");
        }
        if self == other { Change::None } else { Change::Live }
    }
}
