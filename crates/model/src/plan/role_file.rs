//! A file that is one while a node serves and another while it stands by, and of its node alone: never replicated, switched
//! when the group moves.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::substitute::substituted;
use crate::GroupName;

/// Beneath it are the copies for which the plan names no place.
const USUAL: &str = "/etc/stead/roles";

/// The table `[[group.role-file]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RoleFilePlan {
    /// Its absolute path, the same on both nodes and in no replication set: `/etc/notes.ini`.
    pub path: PathBuf,
    /// The copy, of each node its own, that is there while the node serves; none: `/etc/stead/roles/GROUP/as-active` with
    /// the path behind it, or what `from` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_active: Option<PathBuf>,
    /// The copy, of each node its own, that is there while the node does not serve; none: what was there before it served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_standby: Option<PathBuf>,
    /// In the place of `as-active`: a file of the group's sets, by its path on the group's source, of which the one that is
    /// there is made with the paths that the sets have on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

/// What is there while the node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsActive {
    /// A copy.
    Copy(PathBuf),
    /// Made from that file, which is in a set, with the paths of this node.
    From(PathBuf),
}

impl RoleFilePlan {
    /// What is there while the node serves; of a plan on a node: with its paths.
    pub fn active(&self, group: &GroupName) -> AsActive {
        match (&self.from, &self.as_active) {
            (Some(from), _) => AsActive::From(from.clone()),
            (None, Some(copy)) => AsActive::Copy(copy.clone()),
            (None, None) => AsActive::Copy(usual(group, &self.path)),
        }
    }

    /// The files that it is made of and that are of each node alone, beside itself, each with its field.
    pub fn copies(&self, group: &GroupName) -> Vec<(&'static str, PathBuf)> {
        let active = match self.active(group) {
            AsActive::Copy(copy) => Some(("as-active", copy)),
            AsActive::From(_) => None,
        };
        active.into_iter().chain(self.as_standby.clone().map(|copy| ("as-standby", copy))).collect()
    }

    pub(super) fn with_paths(&self, paths: &[(String, String)]) -> RoleFilePlan {
        let from = self.from.as_ref().map(|from| substituted(&from.to_string_lossy(), paths).into());
        RoleFilePlan { from, ..self.clone() }
    }

    /// Can it be meant, for itself?
    ///
    /// # Errors
    /// The field, and why not.
    pub(super) fn check(&self, group: &GroupName) -> Result<(), (&'static str, String)> {
        is_of_a_file(&self.path).map_err(|why| ("path", why.into()))?;
        if self.from.is_some() && self.as_active.is_some() {
            return Err((
                "from",
                "beside as-active; what is there while the node serves comes from one of them".into(),
            ));
        }
        self.from.as_deref().map_or(Ok(()), is_of_a_file).map_err(|why| ("from", why.into()))?;
        let copies = self.copies(group);
        for (at, (field, copy)) in copies.iter().enumerate() {
            is_of_a_file(copy).map_err(|why| (*field, why.into()))?;
            let is_taken = *copy == self.path || copies[..at].iter().any(|(_, other)| other == copy);
            if is_taken {
                return Err((field, "is a copy in a place of its own, and there is another file of this one".into()));
            }
        }
        Ok(())
    }
}

fn usual(group: &GroupName, path: &Path) -> PathBuf {
    Path::new(USUAL).join(group.as_str()).join("as-active").join(path.strip_prefix("/").unwrap_or(path))
}

fn is_of_a_file(path: &Path) -> Result<(), &'static str> {
    let mut parts = path.components();
    let is_rooted = parts.next() == Some(Component::RootDir);
    let is_named = path.file_name().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    let is_whole = !path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let is_text = path.to_str().is_some_and(|text| !text.contains('\0'));
    match is_rooted && is_named && is_whole && is_text {
        true => Ok(()),
        false => Err("is not the absolute path of a file, without . and .."),
    }
}
