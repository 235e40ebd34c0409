//! What is not kept alike by itself.

use serde::{Deserialize, Serialize};
use stead_model::{GroupName, NodeName};

/// One line of a checklist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecklistItem {
    /// The group.
    pub group: GroupName,
    /// What kind of thing it is: `role file`, `unit`, `program`, `file`, `package`, `owner`, `machine`, `by hand`.
    pub area: String,
    /// Which one.
    pub what: String,
    /// Is it the same on both nodes?
    pub alike: Alike,
    /// What each node has, the source first; nothing where no node was asked.
    pub nodes: Vec<(NodeName, String)>,
    /// What to do about it, where there is something.
    pub remedy: Option<String>,
}

/// Is something the same on both nodes?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alike {
    /// It is, or, of what is of each node alone, right on both.
    Same,
    /// It is not.
    Different,
    /// A node could not tell.
    Unknown,
    /// Nobody can tell but a person.
    Reminder,
}
