//! Role files that were changed by hand: looked for now and then beside the loop, while their groups are at rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stead_model::GroupName;
use stead_model::alert::OfGroup;
use stead_resource::role_file::Role;

use super::Node;
use super::alerts::first_set;
use crate::check::Local;
use crate::job::{self, JobDone};

const EVERY: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Default)]
pub(crate) struct Drift {
    /// When it was looked last.
    looked: Option<Instant>,
    is_looking: bool,
    /// Of each group what is not as it was put there; none: nobody has looked yet.
    found: Option<BTreeMap<GroupName, String>>,
}

/// A group that was at rest when it was looked at.
pub(crate) struct Drifted {
    group: GroupName,
    role: Role,
    /// One line for each file that is not as it was put there.
    lines: Vec<String>,
}

impl Node {
    pub(super) fn look_for_drift(&mut self) {
        let drift = &mut self.pulse.drift;
        let is_due = drift.looked.is_none_or(|looked| looked.elapsed() >= EVERY);
        if drift.is_looking || !is_due {
            return;
        }
        (drift.is_looking, drift.looked) = (true, Some(Instant::now()));
        let is_looked_at = |local: &Local| !local.role_files.is_empty() && self.is_at_rest(&local.group.name);
        let groups: Vec<_> = self.local_groups().into_iter().filter(is_looked_at).collect();
        job::spawn(&self.events, move || Some(JobDone::DriftLooked { found: groups.iter().map(looked).collect() }));
    }

    /// A group that moves, or moved meanwhile, is looked at once it is at rest; until then it stays as it was found.
    pub(super) fn drift_looked(&mut self, found: Vec<Drifted>) {
        let with_files = self.plan.groups.iter().filter(|group| !group.role_files.is_empty() && group.has(&self.name));
        let names: Vec<_> = with_files.map(|group| group.name.clone()).collect();
        let is_still = |it: &Drifted| self.is_at_rest(&it.group) && (it.role == Role::Active) == self.serves(&it.group);
        let found: Vec<_> = found.into_iter().filter(|it| names.contains(&it.group) && is_still(it)).collect();
        let drift = &mut self.pulse.drift;
        drift.is_looking = false;
        let is_whole = drift.found.is_some() || found.len() == names.len();
        let mut all = drift.found.take().unwrap_or_default();
        all.retain(|group, _| names.contains(group));
        for Drifted { group, lines, .. } in found {
            match lines.is_empty() {
                true => drop(all.remove(&group)),
                false => drop(all.insert(group, format!("on {}: {}", self.name, lines.join("; ")))),
            }
        }
        drift.found = is_whole.then_some(all);
    }

    /// What is to be told of it; none: nobody has looked yet.
    pub(super) fn drifted(&self) -> Option<Vec<OfGroup>> {
        let told = |(group, text): (&GroupName, &String)| {
            let group = self.plan.group(group)?;
            let (source, target, text) = (group.source.clone(), group.target.clone(), text.clone());
            Some(OfGroup { set: first_set(group)?, source, target, text })
        };
        Some(self.pulse.drift.found.as_ref()?.iter().filter_map(told).collect())
    }

    fn is_at_rest(&self, group: &GroupName) -> bool {
        let doing = self.monitor_of(group).map(|monitor| monitor.doing);
        doing.is_some_and(|doing| ["active", "standby", "restore-required"].contains(&&*doing))
    }
}

fn looked(local: &Local) -> Drifted {
    let role = local.role();
    let lines = local.role_files.iter().filter_map(|file| file.drifted(role)).collect();
    Drifted { group: local.group.name.clone(), role, lines }
}
