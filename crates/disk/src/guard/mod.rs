//! The guard: a replica is read-only for everyone but Stead.
//!
//! It is a recursive bind mount of the directory over itself, read-only and without access times. Stead writes through
//! the directory beneath it. Who had opened a file before goes on writing: [`holders`] tells who that is.

pub mod barrier;
mod holders;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::mounts::{Mount, mounts, topmost_at};
use crate::{DiskError, sys};

pub use holders::{Hold, Holder, holders};

/// A read-only mount over a directory. It outlives the value: only [`Guard::lift`] takes it away.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
}

impl Guard {
    /// Lays the guard over `path`; where it is already there, makes it read-only again. List [`holders`] first.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set(path: &Path) -> Result<Guard, DiskError> {
        let path = resolve(path)?;
        let failed = || DiskError::at("guard", path.display());
        if stands(&path)? {
            let there = rustix::fs::openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            sys::mount_read_only(there.map_err(failed())?.as_fd()).map_err(failed())?;
            return Ok(Guard { path });
        }
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, &path, clone).map_err(failed())?;
        sys::mount_read_only(tree.as_fd()).map_err(failed())?;
        let over = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&tree, c"", CWD, &path, over).map_err(failed())?;
        Ok(Guard { path })
    }

    /// The guard that is over `path`, if any.
    ///
    /// # Errors
    /// Where the table of mounts cannot be read.
    pub fn find(path: &Path) -> Result<Option<Guard>, DiskError> {
        let path = resolve(path)?;
        Ok(is_set(&path)?.then_some(Guard { path }))
    }

    /// Takes the guard away; does nothing where there is none. Processes that work in it keep what they opened, still
    /// read-only.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn lift(self) -> Result<(), DiskError> {
        if !stands(&self.path)? {
            return Ok(());
        }
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(&self.path, flags).map_err(DiskError::at("lift the guard of", self.path.display()))
    }
}

/// Is a guard over `path`: a read-only mount of what lies beneath it?
///
/// # Errors
/// Where the table of mounts cannot be read.
pub fn is_set(path: &Path) -> Result<bool, DiskError> {
    Ok(over(path)?.is_some_and(|guard| guard.read_only))
}

/// Is one over it, read-only still, or made writable by root since?
///
/// # Errors
/// Where the table of mounts cannot be read.
pub fn stands(path: &Path) -> Result<bool, DiskError> {
    Ok(over(path)?.is_some())
}

/// Opens the directory that lies beneath the topmost mount at `path`, for reading its names and for handles.
///
/// # Errors
/// What the kernel said.
pub fn open_beneath(path: &Path) -> Result<OwnedFd, DiskError> {
    let path = resolve(path)?;
    let failed = |cause: std::io::Error| DiskError::new("open what lies beneath", path.display(), cause);
    // A mount cannot be looked under, so a thread takes it away in a view of the mounts of its own; what it opened
    // stays usable when the view is gone.
    let inner = path.clone();
    let thread = std::thread::Builder::new().name("beneath".into());
    let opened = thread.spawn(move || open_in_own_view(&inner)).map_err(failed)?.join();
    opened.unwrap_or(Err(Errno::IO)).map_err(|errno| failed(errno.into()))
}

fn open_in_own_view(path: &Path) -> rustix::io::Result<OwnedFd> {
    sys::unshare_mounts()?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )?;
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOATIME;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// The topmost mount at `path`, where it is one of what lies beneath it.
fn over(path: &Path) -> Result<Option<Mount>, DiskError> {
    let path = resolve(path)?;
    let mounts = mounts()?;
    let Some(top) = topmost_at(&mounts, &path) else { return Ok(None) };
    let beneath = mounts.iter().find(|mount| mount.id == top.parent);
    let is_guard = beneath.is_some_and(|beneath| top.device == beneath.device && top.root == root_at(beneath, &path));
    Ok(is_guard.then(|| top.clone()))
}

fn resolve(path: &Path) -> Result<PathBuf, DiskError> {
    path.canonicalize().map_err(DiskError::at("resolve", path.display()))
}

/// What of its file system a mount shows at `path`.
fn root_at(mount: &Mount, path: &Path) -> PathBuf {
    match path.strip_prefix(&mount.point) {
        Ok(rest) if rest.as_os_str().is_empty() => mount.root.clone(),
        Ok(rest) => mount.root.join(rest),
        Err(_) => PathBuf::new(),
    }
}

#[cfg(test)]
mod tests;
