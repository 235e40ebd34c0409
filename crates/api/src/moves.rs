//! What is asked of groups that move: restores and failbacks, and what they answer.

use serde::{Deserialize, Serialize};
use stead_model::compare::Gap;
use stead_model::status::VerifyReport;
use stead_model::{GroupName, NodeName, SetName};

use crate::MapArg;

/// All options of `stead restore`. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The group.
    pub group: GroupName,
    /// Only these sets of it; none: all.
    pub sets: Vec<SetName>,
    /// Where paths of the node that serves go on the restored node from now on, where not to where they were.
    pub map: Vec<MapArg>,
    /// That node is the group's source from now on, in the place of the one that was; none: that one is restored.
    pub to: Option<NodeName>,
    /// The new places may hold something.
    pub into_non_empty: bool,
    /// What would be deleted there was seen and agreed to.
    pub yes: bool,
    /// Return once it runs, not once the node is restored.
    pub no_wait: bool,
}

/// What a restore would change of a set on the node that is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The set.
    pub set: SetName,
    /// The node that would be restored.
    pub on: NodeName,
    /// Entries that were compared.
    pub compared: u64,
    /// What would be made.
    pub made: Amount,
    /// What would be written anew, as far as its content differs.
    pub rewritten: Amount,
    /// Entries that would get other attributes.
    pub dressed: u64,
    /// What would be removed.
    pub removed: Amount,
    /// The first of them (at most 20,000).
    pub changes: Vec<PreviewChange>,
}

/// Entries of a tree, and the length of their content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Files, directories and whatever else has a name.
    pub entries: u64,
    /// Length of their content.
    pub bytes: u64,
}

/// One entry that a restore would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewChange {
    /// Its path on the restored node, with bytes that are not UTF-8 shown as U+FFFD.
    pub path: String,
    /// `missing` there, `extra` there, or in what it differs.
    pub what: Gap,
    /// Length of the content that would be written or removed.
    pub bytes: u64,
}

impl Preview {
    /// Of a set that was not compared yet.
    pub fn new(set: SetName, on: NodeName) -> Preview {
        let none = Amount::default();
        Preview { set, on, compared: 0, made: none, rewritten: none, dressed: 0, removed: none, changes: Vec::new() }
    }

    /// How many entries would change.
    pub fn changed(&self) -> u64 {
        self.made.entries + self.rewritten.entries + self.dressed + self.removed.entries
    }
}

/// All options of `stead failback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failback {
    /// The group.
    pub group: GroupName,
    /// What is compared before anything is stopped.
    pub verify: Level,
    /// What becomes of the group afterwards.
    pub then: Then,
    /// After that long, counted from the end of the comparison, it is not begun any more.
    pub expires_ms: u64,
}

/// How much of two trees is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing.
    None,
    /// Names, kinds, sizes, times, owners, permissions and xattrs.
    #[default]
    Names,
    /// Contents as well.
    Content,
}

/// What becomes of a group after its failback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It is watched on.
    #[default]
    Monitor,
    /// It is watched no longer; its sets stay protected.
    Stop,
}

/// What was compared of a set before its group moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The set.
    pub set: SetName,
    /// What was found.
    pub report: VerifyReport,
}
