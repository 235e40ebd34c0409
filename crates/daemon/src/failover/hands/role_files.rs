//! Files that are others while the node serves.

use std::path::Path;

use stead_failover::machine::{Outcome, Turn};
use stead_model::plan::{AsActive, GroupPlan};
use stead_resource::Done;
use stead_resource::role_file::{Active, Role, RoleFile};
use stead_resource::service::Manager;

use super::worker::Worker;

/// What is known of them is kept in it, in the group's own directory.
const DIR: &str = "role-files";

/// Those of a group on this node; `paths`: those of its sets on either node, each with where it is here, `dir`: the group's
/// own directory.
pub(crate) fn role_files(group: &GroupPlan, paths: &[(String, String)], dir: &Path) -> Vec<RoleFile> {
    let of = |plan: &stead_model::plan::RoleFilePlan| RoleFile {
        path: plan.path.clone(),
        active: match plan.active(&group.name) {
            AsActive::Copy(copy) => Active::Copy(copy),
            AsActive::From(from) => Active::Made { from, paths: paths.to_vec() },
        },
        standby: plan.as_standby.clone(),
        dir: dir.join(DIR).join(plan.path.strip_prefix("/").unwrap_or(&plan.path)),
    };
    group.role_files.iter().map(of).collect()
}

impl<M: Manager> Worker<M> {
    /// All of them, also behind one that cannot be.
    pub(super) fn switch_files(&self, turn: Turn) -> Outcome {
        let role = if turn == Turn::Do { Role::Active } else { Role::Standby };
        let (mut changed, mut failed) = (false, Vec::new());
        for file in &self.kit.role_files {
            match file.switch(role) {
                Ok(switched) => {
                    changed |= switched.done == Done::Changed;
                    switched.told.into_iter().for_each(|told| (self.tell)(told));
                }
                Err(why) => failed.push(why.to_string()),
            }
        }
        match failed.as_slice() {
            [] if changed => Outcome::Done,
            [] => Outcome::Already,
            failed => Outcome::Failed(failed.join("; ")),
        }
    }
}
