//! Bodies of the small frames: postcard messages.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stead_model::{Epoch, FileId, NodeName, Position, Sequence, SetName};

use super::FrameError;

/// The source introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest version of the protocol that it speaks.
    pub version_min: u8,
    /// Newest.
    pub version_max: u8,
    /// Which set.
    pub set: SetName,
    /// Which node.
    pub node: NodeName,
    /// Under which epoch it writes.
    pub epoch: Epoch,
    /// Number of its stream.
    pub incarnation: u64,
    /// The epochs of the set and where each began, oldest first.
    pub lineage: Vec<(Epoch, Position)>,
    /// The stream cannot go on where the target's Welcome said: it begins anew. A second Hello of a connection.
    pub anew: bool,
    /// Version 2: the run of capture that numbers the changes; 0: none that could go on. Travels in the header.
    #[serde(skip)]
    pub capture: u64,
    /// Version 2: the source's machine may have lost what was not synced since its last completed sync
    /// ([`Kind::Sync`](stead_model::Kind::Sync)). Travels in the header.
    #[serde(skip)]
    pub unclean: bool,
}

/// What the target has of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// Nothing: the replica is empty.
    Nothing,
    /// Something, but it was never a replica: a first mirror that was broken off, a carried copy.
    Partial,
    /// A replica of some moment.
    Replica,
}

/// The target answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Version to speak.
    pub version: u8,
    /// Which node.
    pub node: NodeName,
    /// The highest epoch it knows.
    pub epoch: Epoch,
    /// What it has.
    pub holds: Holds,
    /// The stream may go on after this position; `None` where something between is missing.
    pub resume: Option<Position>,
    /// Version 2: of this run of capture `captured` tells; 0: of none.
    pub capture: u64,
    /// Version 2: every change up to this number of capture is durable here, no scan was under way, and nothing was lost.
    /// Where `resume` is none and Hello named the same run, the target keeps what it has and waits: Changes of the new
    /// incarnation go on (they may repeat what came after that number; until the first consistent point the target takes
    /// them as it takes a journal after a power cut), or a second Hello begins anew.
    pub captured: u64,
}

impl Welcome {
    pub(super) fn write(&self, version: u8) -> Vec<u8> {
        write_for(self, version, |old| (old.capture, old.captured) = (0, 0), 2)
    }

    pub(super) fn read(body: &[u8], version: u8) -> Result<Welcome, FrameError> {
        read_from(body, version, 2)
    }
}

/// Watermarks of the target in the present incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Everything up to here is durable (or, part of a first mirror, applied).
    pub journaled: Sequence,
    /// Everything up to here is applied.
    pub applied: Sequence,
    /// Time of the last consistent point that was applied; 0: none.
    pub consistent_time: u64,
}

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Bytes; to the end of the file with `u64::MAX`.
    pub len: u64,
}

impl Range {
    /// The whole file.
    pub const ALL: Range = Range { offset: 0, len: u64::MAX };

    /// First byte after it.
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// What the target needs of a file in a difference mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The file.
    pub file: FileId,
    /// What of it.
    pub what: NeedWhat,
}

/// What of it is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NeedWhat {
    /// Hashes of all blocks: Hash records follow.
    Hashes,
    /// These ranges, in order; none where it is equal already: Chunk records and a NodeEnd follow.
    Content(Vec<Range>),
}

/// One thing in which replica and source differ, as the target sees it at one place of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// What kind.
    pub kind: DifferenceKind,
    /// The file; [`FileId::NONE`] for an extra name of a file that never came from the source.
    pub file: FileId,
    /// For Missing and Extra: the directory.
    pub parent: FileId,
    /// For Missing and Extra: the name.
    pub name: Vec<u8>,
    /// For Content: the first byte of the blocks that differ.
    pub offset: u64,
    /// For Content: their bytes.
    pub len: u64,
}

/// In what replica and source differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DifferenceKind {
    /// The replica has not that file at that name.
    Missing,
    /// The replica has a name that the source has not.
    Extra,
    /// Type, owner, permissions, mtime, flags, xattrs or symlink target.
    Attributes,
    /// Bytes, or the size.
    Content,
}

/// The target cannot apply, or can again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted {
    /// Why; `None`: it goes on.
    pub reason: Option<String>,
    /// Version 2: what can be done about it.
    pub code: HaltCode,
}

impl Halted {
    pub(super) fn write(&self, version: u8) -> Vec<u8> {
        write_for(self, version, |old| old.code = HaltCode::Other, 1)
    }

    pub(super) fn read(body: &[u8], version: u8) -> Result<Halted, FrameError> {
        read_from(body, version, 1)
    }
}

/// What can be done about a halt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HaltCode {
    /// It goes on by itself when the cause is gone.
    #[default]
    Other,
    /// The mass-change brake: so many files would be removed. It goes on when the source sends Accept.
    Brake {
        /// Files and directories.
        removals: u64,
    },
}

/// How an Undo ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Time of the consistent point to which the replica went back; or why it could not.
    pub result: Result<u64, String>,
}

/// Why a connection is ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Goodbye {
    /// No version in common.
    #[error("the peer speaks protocol versions {min} to {max}, this node others")]
    Version {
        /// Oldest of the sender.
        min: u8,
        /// Newest of the sender.
        max: u8,
    },
    /// Another set than expected.
    #[error("the connection is for another set")]
    Set,
    /// The target knows a newer epoch: the source must not go on.
    #[error("a newer epoch ({}) is known: the source must be restored", .0.number)]
    OlderEpoch(Epoch),
    /// The same epoch number by another writer.
    #[error("two nodes wrote epoch {}", .0.number)]
    Fork(Epoch),
    /// A frame does not continue what came before.
    #[error("expected sequence {expected}, got {got}")]
    Gap {
        /// Next one.
        expected: Sequence,
        /// First one of the frame.
        got: Sequence,
    },
    /// Bytes that are not what they should be.
    #[error("damaged: {0}")]
    Damaged(String),
    /// Nothing was heard for too long.
    #[error("nothing was heard for {0} seconds")]
    Silence(u64),
    /// The daemon stops, or the operator says so.
    #[error("{0}")]
    Ended(String),
}

pub(super) fn write<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("messages of plain values can always be encoded")
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(FrameError::Body("bytes follow the message")),
        Err(_) => Err(FrameError::Body("it is no message of its kind")),
    }
}

/// Version 2 put fields at the end whose zeros take one byte each: version 1 is the same without them. `strip` makes them
/// zero.
fn write_for<T: Serialize + Clone>(message: &T, version: u8, strip: impl Fn(&mut T), added: usize) -> Vec<u8> {
    if version >= 2 {
        return write(message);
    }
    let mut old = message.clone();
    strip(&mut old);
    let mut body = write(&old);
    body.truncate(body.len() - added);
    body
}

fn read_from<T: DeserializeOwned>(body: &[u8], version: u8, added: usize) -> Result<T, FrameError> {
    if version >= 2 {
        return read(body);
    }
    let mut whole = body.to_vec();
    whole.resize(body.len() + added, 0);
    read(&whole)
}
