//! Past the lease of a group nothing in its sets is changed: their captures see to that by themselves, and are told here which
//! lease it is.

use stead_api::Failure;
use stead_model::SetName;
use stead_model::plan::GroupPlan;
use tracing::warn;

use super::Node;
use crate::failover::kept::GroupDir;
use crate::failover::lease::{self, LeaseFile};
use crate::seam::SetLease;

impl Node {
    /// Past which lease nothing in that set is changed on this node.
    pub(in super::super) fn lease_of(&self, set: &SetName) -> Option<SetLease> {
        let group = self.plan.group_of(set).filter(|group| self.is_leased(group))?;
        let dir = GroupDir::of(&self.state, &group.name);
        Some(SetLease { file: lease::path(dir.path()), policy: group.on_lease_lost })
    }

    /// The same for a capture that begins: the lease's file is there, of this boot.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(in super::super) fn lease_to_begin_with(&self, set: &SetName) -> Result<Option<SetLease>, Failure> {
        let lease = self.lease_of(set);
        if let Some(dir) = lease.as_ref().and_then(|lease| lease.file.parent()) {
            LeaseFile::open(dir)?;
        }
        Ok(lease)
    }

    /// Has the captures of all sets follow the leases of their groups, as far as they do not yet.
    pub(super) fn keep_leases(&mut self) {
        self.groups.unheld.retain(|group| !lease::is_begun(GroupDir::of(&self.state, group).path()));
        let own = |set: &&SetName| self.plane.runs_source(set);
        let sets: Vec<_> = self.plan.sets.iter().map(|set| &set.name).filter(own).cloned().collect();
        self.groups.leases.retain(|set, _| sets.contains(set));
        for set in sets {
            let lease = self.lease_of(&set);
            if self.groups.leases.get(&set) == Some(&lease) {
                continue;
            }
            // A capture that cannot now is too old for it, or gone: the next one is told when it begins.
            self.plane.lease(&set, lease.as_ref()).unwrap_or_else(|failure| warn!("{failure}"));
            self.groups.leases.insert(set, lease);
        }
    }

    /// Is a group served for a lease here? One that was just made, and whose services may run, is so from its first lease on.
    fn is_leased(&self, group: &GroupPlan) -> bool {
        let takes_part = group.witness.is_some() && group.other(&self.name).is_some();
        takes_part && !self.groups.unheld.contains(&group.name)
    }
}
