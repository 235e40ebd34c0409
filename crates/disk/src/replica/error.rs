//! What can go wrong with a replica.

use std::path::PathBuf;

use rustix::io::Errno;
use stead_model::{FileId, Kind};

use crate::DiskError;

/// Why a replica cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A root or the state directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file-id map is of a later version.
    #[error("the file-id map {path} has version {version}; this program knows versions up to {known}")]
    Version {
        /// The map.
        path: PathBuf,
        /// What it says.
        version: u16,
        /// What this program knows.
        known: u16,
    },
    /// The file-id map is damaged where no crash can have damaged it.
    #[error("the file-id map {path} is damaged at byte {offset}: rebuild it from the replica")]
    Damaged {
        /// The map.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
}

/// What kind of failure a record met, for the decision what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// No space left (ENOSPC).
    NoSpace,
    /// Over quota (EDQUOT).
    Quota,
    /// Read-only file system (EROFS).
    ReadOnly,
    /// Not permitted (EPERM, EACCES, ETXTBSY, EBUSY).
    Denied,
    /// Name or path too long for the target's file system.
    NameTooLong,
    /// An xattr, ACL, flag or file type that the target's file system does not know.
    NotSupported,
    /// Anything else that the kernel said.
    Io,
}

/// A record that was not applied. It can be applied again once the cause is gone.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A system call failed.
    #[error("cannot {operation} {}: {errno}", path.display())]
    Failed {
        /// Which kind of failure.
        class: Class,
        /// What was tried, as "write" or "rename".
        operation: &'static str,
        /// Path beneath the replica's root where it is known, else the file id.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// The record is about a file that the replica does not have, outside of a scan or replay.
    #[error("{kind:?} is about file {file}, which the replica does not have")]
    Unknown {
        /// The file, or the directory that it should be in.
        file: FileId,
        /// The record.
        kind: Kind,
    },
    /// The record contradicts itself.
    #[error("{kind:?} of file {file} is malformed: {what}")]
    Corrupt {
        /// Its file.
        file: FileId,
        /// The record.
        kind: Kind,
        /// What is wrong.
        what: &'static str,
    },
    /// The file-id map cannot be written.
    #[error(transparent)]
    Map(#[from] DiskError),
}

impl Class {
    /// The class of an error of the kernel.
    pub fn of(errno: Errno) -> Class {
        match errno {
            Errno::NOSPC => Class::NoSpace,
            Errno::DQUOT => Class::Quota,
            Errno::ROFS => Class::ReadOnly,
            Errno::PERM | Errno::ACCESS | Errno::TXTBSY | Errno::BUSY => Class::Denied,
            Errno::NAMETOOLONG => Class::NameTooLong,
            Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS => Class::NotSupported,
            _ => Class::Io,
        }
    }
}

impl ApplyError {
    /// The class of a failed system call.
    pub fn class(&self) -> Option<Class> {
        match self {
            ApplyError::Failed { class, .. } => Some(*class),
            _ => None,
        }
    }
}
