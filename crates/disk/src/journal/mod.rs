//! Records that were received and that no sync of the replica covers yet.

use std::path::{Path, PathBuf};

use stead_model::{Incarnation, Position, Sequence};

use crate::DiskError;

/// Sizes of a journal.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// Bytes of a segment file, allocated in advance.
    pub segment_bytes: u64,
    /// Most bytes that all segments may have.
    pub bytes_max: u64,
}

/// What an entry says about its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHead {
    /// Number of the epoch.
    pub epoch: u64,
    /// Run of capture.
    pub incarnation: Incarnation,
    /// First record of the payload.
    pub first: Sequence,
    /// Last record of the payload.
    pub last: Sequence,
    /// The state after this entry is a consistent point.
    pub consistent: bool,
}

/// An entry as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says about its payload.
    pub head: EntryHead,
    /// Encoded records.
    pub payload: Vec<u8>,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An operation on its files failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An entry in the middle is damaged: what follows it cannot be trusted.
    #[error("the journal segment {segment} is damaged at byte {offset}: {what}")]
    Corrupt {
        /// Number of the segment.
        segment: u64,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A segment is of a later version.
    #[error("the journal segment {segment} has version {version}; this program knows versions up to {known}")]
    Version {
        /// Number of the segment.
        segment: u64,
        /// What it says.
        version: u16,
        /// What this program knows.
        known: u16,
    },
    /// The journal has as many bytes as it may have.
    #[error("the journal is full: {bytes} bytes of {bytes_max}")]
    Full {
        /// What it has.
        bytes: u64,
        /// What it may have.
        bytes_max: u64,
    },
    /// The payload is larger than an entry may be.
    #[error("a payload of {bytes} bytes is larger than an entry may be")]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
}

/// An append-only journal in a directory.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
}

impl Journal {
    /// Opens or makes the journal in `dir`, which exists, and finds its end.
    ///
    /// # Errors
    /// See [`JournalError`]; after [`JournalError::Corrupt`] use [`Journal::open_cut`].
    pub fn open(dir: &Path, options: JournalOptions) -> Result<Journal, JournalError> {
        let _ = options;
        Ok(Journal { dir: dir.into() })
    }

    /// As [`Journal::open`], but what follows a damaged entry is thrown away.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open_cut(dir: &Path, options: JournalOptions) -> Result<Journal, JournalError> {
        Journal::open(dir, options)
    }

    /// Appends an entry; it is durable after the next [`Journal::sync`].
    ///
    /// # Errors
    /// [`JournalError::Full`], or what the kernel said; then nothing was appended.
    pub fn append(&mut self, head: &EntryHead, payload: &[u8]) -> Result<(), JournalError> {
        let _ = (head, payload, &self.dir);
        todo!()
    }

    /// Makes all entries durable.
    ///
    /// # Errors
    /// What the kernel said: after it no entry since the last sync may be acknowledged; open the journal anew.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        todo!()
    }

    /// All entries in order.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn entries(&self) -> Result<Vec<Entry>, JournalError> {
        todo!()
    }

    /// Removes the segments that hold nothing after `position`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn drop_until(&mut self, position: Position) -> Result<(), JournalError> {
        let _ = position;
        todo!()
    }

    /// Position after the last entry; `None` where there is none.
    pub fn last(&self) -> Option<Position> {
        todo!()
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        todo!()
    }
}
