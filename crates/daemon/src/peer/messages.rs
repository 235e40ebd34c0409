//! What nodes ask each other, apart from the streams of the data path.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stead_model::plan::{ConnectionPlan, SetPlan};
use stead_model::status::ConnectionStatus;
use stead_model::{Epoch, NodeName, SetName};

use super::Fingerprint;

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Trust me (only with purpose `Join`).
    Join(JoinAsk),
    /// Are you there?
    Ping,
    /// The connections that you take part in.
    Status,
    /// Could you keep that replica? Nothing is changed.
    Check(Box<ReplicaAsk>),
    /// Keep that replica. The same question again is answered the same.
    Keep(Box<ReplicaAsk>),
    /// Keep it no longer. The files stay, except that `undo` removes the empty directories that were made for it.
    Release { set: SetName, undo: bool },
    /// Run that replica so from now on: its rules, its settings. The same again changes nothing.
    Change(Box<ReplicaChange>),
    /// Do you keep a replica of that set from me?
    Have { set: SetName },
    /// I no longer trust you: trust me no longer. Refused where connections use the trust (version 2).
    Forget,
    /// That is my certificate from now on; the present one holds for a while longer (version 2).
    NewKey { fingerprint: Fingerprint },
}

impl Ask {
    /// The oldest version of the protocol that knows the question.
    pub(crate) fn version(&self) -> u16 {
        match self {
            Ask::Change(_) | Ask::Forget | Ask::NewKey { .. } => 2,
            _ => 1,
        }
    }
}

/// An answer; a refusal is a [`Failure`](stead_api::Failure) in its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Tell {
    Done,
    Joined(JoinTell),
    Status(Vec<ConnectionStatus>),
    Checked(ReplicaTell),
    Have(bool),
}

/// Who wants to be trusted, and the proof that it was invited.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinAsk {
    pub(crate) secret: String,
    pub(crate) name: NodeName,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Who it is trusted by now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinTell {
    pub(crate) name: NodeName,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) again: bool,
}

/// A replica to be kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReplicaAsk {
    pub(crate) set: SetPlan,
    pub(crate) connection: ConnectionPlan,
    /// For each path of the set: is it a directory?
    pub(crate) dirs: Vec<bool>,
    pub(crate) epoch: Epoch,
    /// Content and entries of the source's tree as they were counted.
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// The directories need not be empty.
    pub(crate) into_non_empty: bool,
}

/// How a replica is run from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReplicaChange {
    pub(crate) set: SetPlan,
    pub(crate) connection: ConnectionPlan,
}

/// What the target found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReplicaTell {
    /// For each path of the set: what lies at the replica's path already, relative to it, parents first, as
    /// [`path_as_text`] writes it.
    pub(crate) existing: Vec<Vec<String>>,
    /// There is more than that.
    pub(crate) cut: bool,
    /// What the operator should know.
    pub(crate) notices: Vec<String>,
}

/// A path of any bytes as text: each byte is one character, U+0000 to U+00FF.
pub(crate) fn path_as_text(path: &Path) -> String {
    path.as_os_str().as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

/// Reads what [`path_as_text`] wrote; other characters are cut to a byte.
pub(crate) fn text_as_path(text: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(text.chars().map(|c| c as u8).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_any_bytes_read_back() {
        let path = PathBuf::from(OsString::from_vec((1..=255).collect()));
        assert_eq!(text_as_path(&path_as_text(&path)), path);
    }
}
