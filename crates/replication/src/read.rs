//! What the source half asks of the protected tree, and what it gets.
//!
//! A read takes its place in the stream when it is asked for, so its result may hold the future but must not miss the
//! past: everything that was captured before the request must be visible to the read.

use stead_model::{Attr, FileId, record::Extras};

/// Number of a read, never reused by one [`Source`](crate::Source).
pub type Ticket = u64;

/// One thing to read from the tree beneath the capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRequest {
    /// Names in a directory, with the attributes and extras of each file; small regular files may come with content.
    /// `.` and `..` and what belongs to Stead itself are not among them.
    List {
        /// The directory.
        dir: FileId,
        /// Where to go on: 0 at first, then [`Listing::next`].
        cookie: u64,
        /// No more entries than that.
        entries_max: usize,
        /// Content of regular files up to this size is wanted in the entry; 0: of none.
        content_max: u64,
    },
    /// Attributes and extras of a file.
    Node {
        /// The file.
        file: FileId,
    },
    /// Content of a regular file. Where the range lies in a hole that goes on after it, the result may cover more.
    Content {
        /// The file.
        file: FileId,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Hashes (xxh3-128) of the blocks of a regular file.
    Hashes {
        /// The file.
        file: FileId,
        /// First byte, a multiple of `block`.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Size of a block; the last one before the end of the file may be short.
        block: u32,
    },
}

/// Attributes and extras of a file. Taken before any content that comes with them was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Attributes.
    pub attr: Attr,
    /// Xattrs and symlink target.
    pub extras: Extras,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Vec<u8>,
    /// The file.
    pub file: FileId,
    /// What it is.
    pub node: Node,
    /// The whole content of a small regular file, read after `node`; `None` where it was not read.
    pub content: Option<Vec<Piece>>,
}

/// A page of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Attributes of the directory, taken before its names were read.
    pub attr: Attr,
    /// The names.
    pub entries: Vec<Entry>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// A piece of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data {
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A hole: reads as zeros, takes no room.
    Hole {
        /// Where.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Allocated and never written: reads as zeros, takes room.
    Allocated {
        /// Where.
        offset: u64,
        /// Bytes.
        len: u64,
    },
}

impl Piece {
    /// First byte after it.
    pub fn end(&self) -> u64 {
        match self {
            Piece::Data { offset, bytes } => offset + bytes.len() as u64,
            Piece::Hole { offset, len } | Piece::Allocated { offset, len } => offset.saturating_add(*len),
        }
    }
}

/// What a read brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// To [`ReadRequest::List`].
    Listing(Listing),
    /// To [`ReadRequest::Node`].
    Node(Node),
    /// To [`ReadRequest::Content`]: in order, without gaps, up to the end of the range or of the file.
    Pieces(Vec<Piece>),
    /// To [`ReadRequest::Hashes`]: one for each block up to the end of the range or of the file.
    Hashes(Vec<u128>),
    /// The file does not exist any more: its removal is, or will be, among the captured records.
    Gone,
    /// It could not be read; why. The scan tells and goes on without it.
    Failed(String),
}
