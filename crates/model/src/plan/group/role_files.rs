//! What of role files cannot be meant: what would be replicated over, and what would not be there on the other node.

use std::path::{Path, PathBuf};

use super::check::{BadGroup, first_twice};
use crate::plan::{AsActive, GroupPlan, Plan, RoleFilePlan};

pub(super) const ROLE_FILES_MAX: usize = 100;

impl GroupPlan {
    pub(super) fn check_role_files(&self) -> Result<(), BadGroup> {
        if self.role_files.len() > ROLE_FILES_MAX {
            return Err(BadGroup::TooManyRoleFiles(self.role_files.len()));
        }
        for file in &self.role_files {
            file.check(&self.name).map_err(|(field, why)| bad(file, field, why))?;
        }
        match first_twice(self.role_files.iter().map(|file| &file.path)) {
            Some(twice) => {
                Err(bad(&RoleFilePlan { path: twice.clone(), ..Default::default() }, "path", "is in it twice"))
            }
            None => Ok(()),
        }
    }

    /// Two groups that have a node in common cannot both say what is there.
    pub(super) fn check_role_files_beside(&self, other: &GroupPlan) -> Result<(), BadGroup> {
        let is_apart = self.other(&other.source).is_none() && self.other(&other.target).is_none();
        let theirs = |path: &PathBuf| other.role_files.iter().any(|file| file.path == *path);
        match self.role_files.iter().find(|file| theirs(&file.path)) {
            Some(file) if !is_apart => Err(bad(file, "path", format!("goes with group {} already", other.name))),
            _ => Ok(()),
        }
    }
}

impl Plan {
    /// Sets of other nodes are in the plan as well, of which the paths here may be of files that have nothing to do with
    /// them: those alone count that are on one of the group's nodes.
    pub(super) fn check_places_of_role_files(&self, group: &GroupPlan) -> Result<(), BadGroup> {
        for file in &group.role_files {
            for (field, path) in [("path", file.path.clone())].into_iter().chain(file.copies(&group.name)) {
                if let Some(set) = self.set_over(group, &path) {
                    let why = match field {
                        "path" => format!(
                            "is in set {set} and would be replicated over; switching files within a set is not built: have \
                             the program read it elsewhere, and make that from this one with `from`"
                        ),
                        _ => format!("is in set {set}: it would not be the node's own; keep it elsewhere"),
                    };
                    return Err(bad(file, field, why));
                }
            }
            self.check_source_of_role_file(group, file)?;
        }
        Ok(())
    }

    fn check_source_of_role_file(&self, group: &GroupPlan, file: &RoleFilePlan) -> Result<(), BadGroup> {
        let AsActive::From(from) = file.active(&group.name) else { return Ok(()) };
        let mut sets = group.sets.iter().filter_map(|name| self.set(name)).peekable();
        // A witness does not know them.
        let is_unknown = sets.peek().is_none() && !group.sets.is_empty();
        let is_at_home = |path: &Path| from.starts_with(path) && from != path;
        let holds = sets.any(|set| self.places_on(group, &set.name, true).iter().any(|place| is_at_home(place)));
        match is_unknown || holds {
            true => Ok(()),
            false => {
                let why = format!(
                    "is in none of the group's sets as they are on {}, so that the other node would not have it",
                    group.source
                );
                Err(bad(file, "from", why))
            }
        }
    }

    /// The set that has that path on one of the group's nodes.
    fn set_over(&self, group: &GroupPlan, path: &Path) -> Option<&crate::SetName> {
        let is_here = |name: &crate::SetName| {
            let both = [true, false].into_iter().flat_map(|source| self.places_on(group, name, source));
            both.into_iter().any(|place| path.starts_with(place))
        };
        self.sets.iter().map(|set| &set.name).find(|name| is_here(name))
    }

    /// Where the paths of a set are on the group's source, or on its target.
    fn places_on<'a>(&'a self, group: &GroupPlan, name: &'a crate::SetName, on_source: bool) -> Vec<&'a Path> {
        let node = if on_source { &group.source } else { &group.target };
        let own = self.set(name).filter(|set| set.source == *node).into_iter().flat_map(|set| &set.paths);
        let kept = self.connections_of(name).filter(|connection| connection.target == *node);
        let kept = kept.flat_map(|connection| connection.mapping.iter().map(|mapping| mapping.to.as_path()));
        own.map(|path| path.path.as_path()).chain(kept).collect()
    }
}

fn bad(file: &RoleFilePlan, field: &'static str, why: impl Into<String>) -> BadGroup {
    BadGroup::RoleFile { path: file.path.display().to_string(), field, why: why.into() }
}
