//! Copies of what lies in a tree, whole or only what changed since an instant, with all that belongs to the files.
//!
//! Nothing is held in memory but the way down to the directory that is being read: what is found is told one by one.

mod copy;
#[cfg(test)]
mod tests;
mod walk;

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Statx};
use stead_model::Rules;

use crate::DiskError;

/// What changed shortly before the instant is taken as well: a change is noted a little later than the file system dates it.
const MARGIN: i128 = 2_000_000_000;

/// A tree, or part of it.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The directory at its top.
    pub root: PathBuf,
    /// Which names beneath it.
    pub rules: Rules,
    /// Only what changed since; none: everything.
    pub since: Option<Since>,
}

/// An instant by the clock that dates the tree's changes: nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// The instant.
    pub at: u64,
    /// What that clock shows now. What is dated later was written before the clock was set back, nobody knows when.
    pub now: u64,
}

impl Since {
    /// May what changed then have changed since?
    pub fn takes(self, changed: i128) -> bool {
        changed >= i128::from(self.at) - MARGIN || changed > i128::from(self.now)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A symlink.
    Symlink,
    /// A directory: its names or its attributes changed.
    Directory,
    /// A socket, a pipe or a device.
    Special,
}

/// An entry of a tree that was taken.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path beneath the root.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Length of its content.
    pub size: u64,
    /// Bytes that its content takes on the file system.
    pub allocated: u64,
    /// When its content was written last: nanoseconds since 1970.
    pub modified: i128,
    /// There is a copy of it.
    pub is_copied: bool,
    /// Why there is none, or what it lacks.
    pub lacks: Option<String>,
}

/// Tells what of a tree would be copied.
///
/// # Errors
/// Where the tree cannot be read, or `found` says so.
pub fn list(tree: &Tree, found: &mut dyn FnMut(Entry) -> io::Result<()>) -> Result<(), DiskError> {
    walk::Walk::begin(tree, None, found)?.run()
}

/// Copies a tree into a directory, which is made where something is to go into it, and tells what was copied. Directories that
/// are there already keep their attributes. A file whose content cannot be read is told and left out.
///
/// # Errors
/// Where the tree cannot be listed, the copy cannot be written, or `found` says so.
pub fn copy(tree: &Tree, to: &Path, found: &mut dyn FnMut(Entry) -> io::Result<()>) -> Result<(), DiskError> {
    walk::Walk::begin(tree, Some(to), found)?.run()
}

/// Does a file of `from` that is copied to `to` take no room, as both share its content?
pub fn shares(from: &Path, to: &Path) -> bool {
    copy::shares(from, to).unwrap_or(false)
}

/// Bytes that files may still take where `path` is.
///
/// # Errors
/// What the kernel says.
pub fn room(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes everything durable that was written where `path` is.
///
/// # Errors
/// Where something was not written.
pub fn sync(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(path)?)?)
}

fn kind_of(stat: &Statx) -> Kind {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        FileType::Directory => Kind::Directory,
        _ => Kind::Special,
    }
}

fn nanoseconds(time: rustix::fs::StatxTimestamp) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
