//! Probes before something is protected or used as a target.

use std::path::{Path, PathBuf};

use crate::DiskError;

/// Free room at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Bytes that root may still write.
    pub bytes: u64,
    /// Files that can still be made; `u64::MAX` where the file system has no such limit.
    pub inodes: u64,
}

/// What a file system can keep, tried out in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// `user.*` xattrs.
    pub user_xattrs: bool,
    /// `trusted.*` xattrs.
    pub trusted_xattrs: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// File handles with generations, of a shape that Stead knows.
    pub handles: bool,
    /// Files without a name (O_TMPFILE).
    pub unnamed_files: bool,
}

/// Free room of the file system at `path`.
///
/// # Errors
/// What the kernel said.
pub fn free(path: &Path) -> Result<Free, DiskError> {
    let _ = path;
    todo!()
}

/// What the file system at directory `path` can keep: makes and removes a file there.
///
/// # Errors
/// What the kernel said.
pub fn abilities(path: &Path) -> Result<Abilities, DiskError> {
    let _ = path;
    todo!()
}

/// Is the directory empty (or absent)?
///
/// # Errors
/// What the kernel said; where it is no directory.
pub fn is_empty(path: &Path) -> Result<bool, DiskError> {
    let _ = path;
    todo!()
}

/// Mount points beneath `path`, itself not included.
///
/// # Errors
/// Where the table of mounts cannot be read.
pub fn mounts_beneath(path: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let _ = path;
    todo!()
}

/// Is `path` itself a mount point?
///
/// # Errors
/// Where the table of mounts cannot be read.
pub fn is_mount_point(path: &Path) -> Result<bool, DiskError> {
    let _ = path;
    todo!()
}

/// Type of the file system at `path`, as "ext4" or "fuse.stead".
///
/// # Errors
/// Where the table of mounts cannot be read.
pub fn file_system(path: &Path) -> Result<String, DiskError> {
    let _ = path;
    todo!()
}
