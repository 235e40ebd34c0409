//! How fit the replicas of groups are here, and since when one could go back.

use std::time::Instant;

use stead_failover::machine::{Fitness, Want};
use stead_model::SetName;
use stead_model::plan::GroupPlan;
use stead_model::status::{ConnectionStatus, State, SyncState};

use super::Node;
use crate::failover::Order;

impl Node {
    /// Tells the watcher how fit the replicas here are, where that changed.
    pub(in super::super) fn tell_fitness(&mut self) {
        let statuses = self.plane.status();
        for group in self.own_groups() {
            let fitness = self.fitness(&group, &statuses);
            if self.groups.told.get(&group.name) != Some(&fitness) {
                self.groups.told.insert(group.name.clone(), fitness);
                self.groups.failover.give(Order::Replica(group.name.clone(), fitness));
            }
        }
    }

    fn fitness(&self, group: &GroupPlan, statuses: &[ConnectionStatus]) -> Fitness {
        let of = |set: &SetName| {
            let found = statuses.iter().find(|c| c.set == *set && c.target == self.name);
            found.filter(|_| !self.unstarted.contains_key(set)).map(fitness_of).unwrap_or_default()
        };
        let all: Vec<_> = group.sets.iter().map(of).collect();
        // Without sets there is nothing that could be of another epoch.
        let newest = || self.monitor_of(&group.name).map_or(0, |monitor| monitor.epoch);
        let epoch = all.iter().map(|fitness| fitness.epoch).min().unwrap_or_else(newest);
        let is_same = all.iter().all(|fitness| fitness.epoch == epoch);
        Fitness {
            epoch: if is_same { epoch } else { 0 },
            mirrored: all.iter().all(|fitness| fitness.mirrored),
            consistent: all.iter().all(|fitness| fitness.consistent),
            halted: all.iter().any(|fitness| fitness.halted),
            spoiled: all.iter().any(|fitness| fitness.spoiled),
            in_sync: all.iter().all(|fitness| fitness.in_sync),
        }
    }

    /// Has groups go back by themselves, where the plan says so and their source was well for long enough.
    pub(super) fn switch_back(&mut self) {
        let now = Instant::now();
        let mut groups = self.own_groups();
        groups.retain(|group| group.source == self.name);
        for group in groups {
            let Some(after) = group.switch_back else { continue };
            let monitor = self.monitor_of(&group.name);
            let is_well = monitor.is_some_and(|monitor| {
                let waits = monitor.doing == "standby" && monitor.other.as_deref() == Some("active");
                waits && monitor.state == "online" && monitor.hold.is_none()
            });
            let is_fit = self.groups.told.get(&group.name).is_some_and(|fitness| fitness.consistent && !fitness.halted);
            if !is_well || !is_fit {
                self.groups.well_since.remove(&group.name);
                continue;
            }
            let since = *self.groups.well_since.entry(group.name.clone()).or_insert(now);
            if now.duration_since(since) >= after.0 {
                self.groups.well_since.remove(&group.name);
                self.ask_for(&group.name, Want::Failback);
            }
        }
    }
}

fn fitness_of(status: &ConnectionStatus) -> Fitness {
    let consistent = status.consistent_at.is_some();
    Fitness {
        epoch: status.epoch,
        mirrored: consistent,
        consistent,
        halted: status.state == State::Halted,
        spoiled: status.details.spoiled,
        in_sync: status.details.sync.is_some_and(|sync| sync.state == SyncState::InSync),
    }
}
