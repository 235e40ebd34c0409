//! A set with its roles exchanged: what it is while the target stands in, and once more when the source serves again.

use super::{ConnectionPlan, Mapping, PathPlan, Plan, PlanError, SetPlan};
use crate::{NodeName, SetName};

impl Plan {
    /// The plan with a set turned round along its group: where its replica was is its source, and the other way round. How
    /// it is captured and sent stays; route, pause and further targets were those of the old source and are left out.
    ///
    /// # Errors
    /// Where it goes with no group, has no connection along it, relays another set, or its mapping does not name volumes;
    /// and what would be wrong with the plan then.
    pub fn turned(&self, name: &SetName) -> Result<Plan, PlanError> {
        let set = self.set(name).ok_or_else(|| PlanError::UnknownSet(name.clone()))?;
        if let Some(relay) = &set.relay {
            let why = "and cannot be turned round";
            return Err(PlanError::Relay { set: name.clone(), relay: relay.clone(), why });
        }
        let target = self.other_end(set)?;
        let mut plan = self.clone();
        plan.connections.retain(|connection| connection.set != *name || connection.target == *target);
        let connection = plan.connections.iter_mut().find(|connection| connection.set == *name);
        let connection = connection.ok_or_else(|| PlanError::UnknownConnection(name.clone(), target.clone()))?;
        let turned = set.turned(connection)?;
        *connection = connection.turned(set);
        plan.sets.iter_mut().filter(|set| set.name == *name).for_each(|set| *set = turned.clone());
        plan.check()?;
        Ok(plan)
    }

    fn other_end(&self, set: &SetPlan) -> Result<&NodeName, PlanError> {
        let group = self.group_of(&set.name).ok_or_else(|| PlanError::NoGroup(set.name.clone()))?;
        group.other(&set.source).ok_or_else(|| PlanError::NoGroup(set.name.clone()))
    }
}

impl SetPlan {
    /// Its paths keep their order: their places are the root numbers of the stream, at both ends.
    fn turned(&self, connection: &ConnectionPlan) -> Result<SetPlan, PlanError> {
        let paths = self.paths.iter().map(|path| connection.replica_as_path(path)).collect::<Result<_, _>>()?;
        Ok(SetPlan { source: connection.target.clone(), paths, ..self.clone() })
    }
}

impl ConnectionPlan {
    fn turned(&self, set: &SetPlan) -> ConnectionPlan {
        let volume =
            |mapping: &Mapping| set.paths.iter().find(|path| path.path == mapping.from).map(|path| path.volume.clone());
        let back =
            |mapping: &Mapping| Mapping { from: mapping.to.clone(), to: mapping.from.clone(), volume: volume(mapping) };
        let mapping = self.mapping.iter().map(back).collect();
        ConnectionPlan { target: set.source.clone(), route: None, paused: false, mapping, ..self.clone() }
    }

    fn replica_as_path(&self, path: &PathPlan) -> Result<PathPlan, PlanError> {
        let (set, target, path) = (&self.set, &self.target, &path.path);
        let mapping = self.mapping.iter().find(|mapping| mapping.from == *path).ok_or_else(|| PlanError::Unmapped {
            set: set.clone(),
            target: target.clone(),
            path: path.clone(),
        })?;
        let volume = mapping.volume.clone().ok_or_else(|| PlanError::NoVolume {
            set: set.clone(),
            target: target.clone(),
            path: path.clone(),
        })?;
        Ok(PathPlan { path: mapping.to.clone(), volume })
    }
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
