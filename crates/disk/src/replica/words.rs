//! What goes into a replica and what comes out of it.

use std::path::PathBuf;

use stead_model::{FileId, Rules};

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
    /// Changes of files that the replica does not have are ignored instead of refused with [`Unknown`](super::ApplyError::Unknown):
    /// for a stream that other targets receive too.
    pub skip_unknown: bool,
}

/// One target directory.
#[derive(Debug)]
pub struct RootTarget {
    /// Its path. Where a guard is set, the directory beneath the guard is used.
    pub path: PathBuf,
    /// The set's rules: what they leave out is never removed by a scan.
    pub rules: Rules,
    /// It is not the set's own, only names in it are: its owner, permissions, times and xattrs are left alone.
    pub borrowed: bool,
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
    /// The end of a scan would remove that many objects, more than [`Policy::removals_max`]: nothing was removed, and the
    /// scan has not ended. After [`Replica::accept_removals`](super::Replica::accept_removals) apply the same ScanEnd again.
    pub would_remove: Option<u64>,
}

/// What the plan wants of a replica besides; see [`Replica::set_policy`](super::Replica::set_policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Objects that the end of a scan may remove without being asked, unless nothing would be left; `None`: any number.
    pub removals_max: Option<u64>,
    /// What becomes of objects that never came from the source.
    pub orphans: Orphans,
    /// How long removed objects are kept so that they can be put back.
    pub trash: TrashLimits,
    /// Bytes that the undo log may have.
    pub images_bytes_max: u64,
}

impl Default for Policy {
    /// No limits, orphans deleted, nothing kept.
    fn default() -> Self {
        let (removals_max, orphans, trash) = (None, Orphans::Delete, TrashLimits::default());
        Policy { removals_max, orphans, trash, images_bytes_max: u64::MAX }
    }
}

/// What becomes, at the end of a scan, of objects that never came from the source and that the rules do not leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orphans {
    /// They go.
    #[default]
    Delete,
    /// They go to `.stead-holding/aside/DATE`, under their own names.
    MoveAside,
    /// They stay, unless the source has another object of that name: then they are moved aside.
    Keep,
}

/// The window in which removed objects are kept; the oldest go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrashLimits {
    /// Seconds after the removal.
    pub seconds_max: u64,
    /// Names; 0: nothing is kept.
    pub objects_max: u64,
    /// Bytes on the disk.
    pub bytes_max: u64,
}

/// What the target needs from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Hashes of the whole file: its (ctime, size) are not those last proven equal.
    Hash {
        /// The file.
        file: FileId,
    },
    /// Content of these ranges (offset, length; length `u64::MAX`: to the end; none where it is equal), then a NodeEnd.
    Content {
        /// The file.
        file: FileId,
        /// The ranges, in order.
        ranges: Vec<(u64, u64)>,
    },
}

/// A difference between source and replica that a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The source's file; none for what never came from the source.
    pub file: FileId,
    /// For names ([`What::Missing`] and [`What::Extra`]): the directory, else none.
    pub parent: FileId,
    /// For names: the name, else empty.
    pub name: Vec<u8>,
    /// Path at the replica, for people.
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
    /// Records that were about nothing that is here.
    pub skipped: u64,
}
