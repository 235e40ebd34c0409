//! A set with its roles exchanged: what it is while the target stands in, and once more when the source serves again.

use super::{ConnectionPlan, GroupPlan, Mapping, PathPlan, Plan, PlanError, SetPlan};
use crate::{NodeName, SetName};

impl Plan {
    /// The plan with a set turned round along its group: where its replica was is its source, and the other way round. How
    /// it is captured and sent stays, and its further targets, which the new source may not know. Turned twice it is as it
    /// was, but for a pause, which is over.
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
        let along = self.connections_of(name).find(|connection| connection.target == *target);
        let along = along.ok_or_else(|| PlanError::UnknownConnection(name.clone(), target.clone()))?;
        let turned = set.turned(along)?;
        let mut plan = self.clone();
        for connection in plan.connections.iter_mut().filter(|connection| connection.set == *name) {
            *connection = if connection.target == *target { along.turned(set) } else { connection.moved(along) };
        }
        plan.sets.iter_mut().filter(|set| set.name == *name).for_each(|set| *set = turned.clone());
        plan.check()?;
        Ok(plan)
    }

    /// The plan with every set where it belongs, the sources of groups being sources.
    pub fn at_home(&self) -> Plan {
        let away = |plan: &Plan, set: &SetName, group: &GroupPlan| {
            plan.set(set).is_some_and(|planned| planned.source == group.target)
        };
        self.turned_where(away)
    }

    /// The plan with every set the way it goes in that one, and the volumes of replicas that are known there.
    pub fn as_in(&self, now: &Plan) -> Plan {
        let known = now.at_home();
        let mut plan = self.clone();
        for connection in &mut plan.connections {
            let before = known.connections_of(&connection.set).find(|before| before.target == connection.target);
            for mapping in connection.mapping.iter_mut().filter(|mapping| mapping.volume.is_none()) {
                let same =
                    before.and_then(|c| c.mapping.iter().find(|m| (&m.from, &m.to) == (&mapping.from, &mapping.to)));
                mapping.volume = same.and_then(|same| same.volume.clone());
            }
        }
        plan.turned_as_in(now)
    }

    fn turned_as_in(&self, now: &Plan) -> Plan {
        let otherwise = |plan: &Plan, set: &SetName, group: &GroupPlan| {
            let source = |plan: &Plan| plan.set(set).map(|planned| planned.source.clone());
            source(now).is_some_and(|other| group.other(&other).is_some() && Some(other) != source(plan))
        };
        self.turned_where(otherwise)
    }

    fn turned_where(&self, is_to_turn: impl Fn(&Plan, &SetName, &GroupPlan) -> bool) -> Plan {
        let mut plan = self.clone();
        for group in &self.groups {
            for set in group.sets.iter().filter(|set| is_to_turn(self, set, group)) {
                plan = plan.turned(set).unwrap_or(plan);
            }
        }
        plan
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
        let (route, return_route) = (self.return_route, self.route);
        let target = set.source.clone();
        ConnectionPlan { target, route, return_route, paused: false, mapping, ..self.clone() }
    }

    /// The same from the other end of `along`.
    fn moved(&self, along: &ConnectionPlan) -> ConnectionPlan {
        let from = |mapping: &Mapping| along.replica_of(&mapping.from).unwrap_or(&mapping.from).to_path_buf();
        let mapping = self.mapping.iter().map(|mapping| Mapping { from: from(mapping), ..mapping.clone() }).collect();
        ConnectionPlan { mapping, ..self.clone() }
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
