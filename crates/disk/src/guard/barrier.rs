//! The barrier: at boot a directory is inaccessible until its capture or guard is up, so that nothing works past them.

use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use super::resolve;
use crate::DiskError;
use crate::mounts::{mounts, topmost_at};

/// What the table of mounts calls it.
const SOURCE: &str = "stead-barrier";

/// Lays an empty read-only file system over `path`; returns whether it did: not where something is mounted there that
/// Stead made, a barrier among them.
///
/// # Errors
/// What the kernel said.
pub fn raise(path: &Path) -> Result<bool, DiskError> {
    let path = resolve(path)?;
    let all = mounts()?;
    let served = topmost_at(&all, &path).is_some_and(|top| top.source == SOURCE || top.file_system == "fuse.stead");
    if served || super::is_set(&path)? {
        return Ok(false);
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(SOURCE, &path, "tmpfs", flags, c"mode=000,size=4k,nr_inodes=2")
        .map_err(DiskError::at("make inaccessible", path.display()))?;
    Ok(true)
}

/// Takes the barrier away; returns whether there was one.
///
/// # Errors
/// What the kernel said.
pub fn lift(path: &Path) -> Result<bool, DiskError> {
    let path = resolve(path)?;
    if topmost_at(&mounts()?, &path).is_none_or(|top| top.source != SOURCE) {
        return Ok(false);
    }
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(&path, flags).map_err(DiskError::at("lift the barrier of", path.display()))?;
    Ok(true)
}
