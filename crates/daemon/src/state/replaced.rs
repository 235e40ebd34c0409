//! Sources of groups in whose place other nodes are: who is to be told so, and what this node was told of itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_model::status::Timestamp;
use stead_model::{GroupName, NodeName};

use super::{StateDir, files};

const FILE: &str = "replaced.toml";

/// The file `replaced.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replaced {
    /// Nodes that do not know it yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) untold: Vec<Successor>,
    /// Of this node itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) own: Vec<Own>,
}

/// A node that takes the place of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Successor {
    pub(crate) group: GroupName,
    pub(crate) old: NodeName,
    pub(crate) by: NodeName,
    pub(crate) epoch: u64,
}

/// A group of which this node was the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Own {
    pub(crate) group: GroupName,
    pub(crate) by: NodeName,
    /// The node that serves, which says so.
    pub(crate) told_by: NodeName,
    pub(crate) at: Timestamp,
    /// Where its data was, and is.
    pub(crate) paths: Vec<PathBuf>,
}

impl Replaced {
    pub(crate) fn load(state: &StateDir) -> Result<Replaced, Failure> {
        Ok(files::read_toml(&state.file(FILE))?.unwrap_or_default())
    }

    pub(crate) fn save(&self, state: &StateDir) -> Result<(), Failure> {
        files::write_toml(&state.file(FILE), self)
    }

    /// Was this node the source of that group?
    pub(crate) fn is_known(&self, group: &GroupName) -> bool {
        self.own.iter().any(|own| own.group == *group)
    }
}

impl Own {
    /// What `stead status` says of it.
    pub(crate) fn text(&self) -> String {
        let Own { group, by, told_by, at, paths } = self;
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        let left = match paths.is_empty() {
            true => String::new(),
            false => format!("; what this node had is still in {}", paths.join(", ")),
        };
        format!(
            "group {group}: {by} is its source in the place of this node, as {told_by} said at {at}{left}; \
             to be told so no more: stead unmonitor {group}"
        )
    }
}
