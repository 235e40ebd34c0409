//! What a node alone had when another one stood in for it.

use serde::{Deserialize, Serialize};
use stead_model::status::Timestamp;
use stead_model::{NodeName, SetName};

/// What this node alone had of a set, or may have had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    /// The set.
    pub set: SetName,
    /// The epoch under which another node stood in.
    pub epoch: u64,
    /// That node.
    pub by: NodeName,
    /// How far it is kept.
    pub state: ForkState,
    /// What was written here since then is not there, by this node's clock; none: not known yet.
    pub since: Option<Timestamp>,
    /// When it was kept.
    pub kept_at: Option<Timestamp>,
    /// Files and symlinks that are kept.
    pub files: u64,
    /// Length of their content.
    pub bytes: u64,
    /// Of those that were found, what is not kept.
    pub unkept: u64,
    /// Why it cannot be kept.
    pub why: Option<String>,
}

/// How far it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForkState {
    /// The other node has to say since when.
    Asking,
    /// Files are being copied.
    Keeping,
    /// It cannot be kept; it is tried again, and the set is not restored meanwhile.
    Blocked,
    /// It is kept.
    Kept,
}

impl ForkState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            ForkState::Asking => "asking",
            ForkState::Keeping => "keeping",
            ForkState::Blocked => "blocked",
            ForkState::Kept => "kept",
        }
    }
}

/// A file that only this node had as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForkEntry {
    /// Where it was; other bytes than UTF-8 are replaced.
    pub path: String,
    /// `file`, `symlink`, `directory` (its names or its attributes changed) or `special`.
    pub kind: String,
    /// Length of its content.
    pub size: u64,
    /// When its content was written last.
    pub modified: Timestamp,
    /// There is a copy.
    pub kept: bool,
    /// Why there is none, or what the copy lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
