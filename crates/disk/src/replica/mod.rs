//! Applying records to a target tree.

mod error;

use std::path::PathBuf;

use stead_model::record::Purpose;
use stead_model::{FileId, Position, Record, Rules, Time};

pub use error::{ApplyError, Class, OpenError};

/// Where a replica is and where it keeps its file-id map.
#[derive(Debug)]
pub struct ReplicaConfig {
    /// The target directories, in the order of the set's roots. They exist.
    pub roots: Vec<RootTarget>,
    /// Directory for the file-id map; it exists, on any file system.
    pub state_dir: PathBuf,
    /// Does each replica file carry its file id as an xattr?
    pub ids: IdStorage,
    /// Xattrs, ACLs and flags that the target's file system does not know are left out instead of refused.
    pub go_without: bool,
}

/// One target directory.
#[derive(Debug)]
pub struct RootTarget {
    /// Its path. Where a guard is set, the directory beneath the guard is used.
    pub path: PathBuf,
    /// The set's rules: what they leave out is never removed by a scan.
    pub rules: Rules,
}

/// Where file ids are kept besides the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdStorage {
    /// With each file, as xattr `trusted.stead.id`.
    Xattr,
    /// In the map alone: for file systems without trusted xattrs.
    MapOnly,
}

/// What applying a record brought up; mostly nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What the target needs from the source.
    pub needs: Vec<Need>,
    /// What a scan found different.
    pub differs: Vec<Difference>,
}

/// What the target needs from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Hashes of the whole file: its (ctime, size) are not those last proven equal.
    Hash {
        /// The file.
        file: FileId,
    },
    /// Content of these ranges (offset, length; length `u64::MAX`: to the end), then a NodeEnd.
    Content {
        /// The file.
        file: FileId,
        /// The ranges, in order.
        ranges: Vec<(u64, u64)>,
    },
    /// A name record spoke of a file that is not here and that the scan may have missed: send it as a move-in.
    Node {
        /// The file.
        file: FileId,
        /// Directory that it went to.
        parent: FileId,
        /// Its name there.
        name: Vec<u8>,
    },
}

/// A difference between source and replica that a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The source's file; none for what only the replica has.
    pub file: FileId,
    /// Path beneath the replica's root, for people.
    pub path: PathBuf,
    /// What differs.
    pub what: What,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Content of a range.
    Content {
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Attributes, each as "mode 644, should be 600".
    Attributes(Vec<String>),
    /// Xattrs or ACLs: the names of those that differ.
    Xattrs(Vec<Vec<u8>>),
    /// The replica lacks the name, or has another file there.
    Missing,
    /// Only the replica has the name.
    Extra,
}

/// Counts since the replica was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Records applied.
    pub records: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// Files known.
    pub files: u64,
    /// Objects in the holding directories.
    pub held: u64,
}

/// A target tree and the map from the source's file ids to its files.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
}

/// A checkpoint that has begun: run it on any thread while the replica goes on applying.
#[derive(Debug)]
#[must_use = "nothing is durable before it has run"]
pub struct Checkpoint {}

impl Checkpoint {
    /// Syncs the file systems of the replica, then makes the map durable. Once it returns, the journal up to
    /// [`Checkpoint::position`] may go.
    ///
    /// # Errors
    /// What the kernel said; then the journal must stay.
    pub fn run(self) -> Result<(), ApplyError> {
        todo!()
    }

    /// Everything up to here is durable once it has run.
    pub fn position(&self) -> Position {
        todo!()
    }
}

impl Replica {
    /// Opens the target directories and loads the map.
    ///
    /// # Errors
    /// Where a root cannot be used, or the map cannot be read.
    pub fn open(config: ReplicaConfig) -> Result<Replica, OpenError> {
        Ok(Replica { config })
    }

    /// Applies one record. After an error nothing is lost: apply the same record again once the cause is gone.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(&mut self, record: &Record<'_>) -> Result<Outcome, ApplyError> {
        let _ = (record, &self.config);
        todo!()
    }

    /// Sets what was put off since the last call (times, flags): call it at the end of each batch of records.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn settle(&mut self) -> Result<(), ApplyError> {
        todo!()
    }

    /// While replaying (from the last checkpoint's position to the end of the journal, after a crash) records about
    /// unknown files are skipped: they died later. The end of the replay removes what is left over.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set_replaying(&mut self, replaying: bool) -> Result<(), ApplyError> {
        let _ = replaying;
        todo!()
    }

    /// Begins a checkpoint at `position`: everything up to there has been applied.
    ///
    /// # Errors
    /// As [`Replica::settle`].
    pub fn begin_checkpoint(&mut self, position: Position) -> Result<Checkpoint, ApplyError> {
        let _ = position;
        todo!()
    }

    /// [`Replica::begin_checkpoint`] and [`Checkpoint::run`].
    ///
    /// # Errors
    /// As both.
    pub fn checkpoint(&mut self, position: Position) -> Result<(), ApplyError> {
        self.begin_checkpoint(position)?.run()
    }

    /// Position of the last durable checkpoint: where replay begins.
    pub fn applied(&self) -> Position {
        todo!()
    }

    /// ctime and size of the source's file when it was last known equal.
    pub fn proven(&self, file: FileId) -> Option<(Time, u64)> {
        let _ = file;
        todo!()
    }

    /// The scan that a crash or a lost connection cut off, if any: another scan must follow.
    pub fn scan_unfinished(&self) -> Option<Purpose> {
        todo!()
    }

    /// Path of a file beneath the replica's roots, for messages.
    pub fn path_of(&self, file: FileId) -> Option<PathBuf> {
        let _ = file;
        todo!()
    }

    /// Builds the map anew from the xattrs of the replica's files; returns how many it found.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn rebuild(&mut self) -> Result<u64, ApplyError> {
        todo!()
    }

    /// Counts since it was opened.
    pub fn statistics(&self) -> Statistics {
        todo!()
    }

    /// Takes leave: settles, removes the holding directories, and leaves a plain tree.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn release(self) -> Result<(), ApplyError> {
        todo!()
    }
}
