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
    /// The undo log is damaged where no crash can have damaged it: the state that it keeps cannot be brought back whole.
    #[error("the undo log {path} is damaged at byte {offset}: remove it, and mirror the set anew")]
    DamagedImages {
        /// The log.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// Rolling back had begun and cannot be finished.
    #[error("the replica cannot be rolled back: {0}")]
    RollBack(#[source] Box<ApplyError>),
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
    /// Name or path too long for the target's file system (ENAMETOOLONG).
    NameTooLong,
    /// The file is larger than the target's file system, or a limit of the process, allows (EFBIG).
    FileTooLarge,
    /// More links than the target's file system allows (EMLINK).
    TooManyLinks,
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
    /// The undo log has no room left. Nothing was changed: make room, or give up the images
    /// ([`Replica::drop_images`](super::Replica::drop_images)).
    #[error("no room to keep what is about to change in {}: {why}", path.display())]
    NoRoom {
        /// The undo log.
        path: PathBuf,
        /// What the kernel said, or the limit.
        why: String,
    },
    /// It cannot be done now.
    #[error("cannot {what} amid {amid}")]
    Amid {
        /// What was asked for.
        what: &'static str,
        /// What is under way.
        amid: &'static str,
    },
    /// No earlier state was kept.
    #[error("no earlier state of the replica was kept")]
    NoImages,
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
            Errno::FBIG => Class::FileTooLarge,
            Errno::MLINK => Class::TooManyLinks,
            Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS => Class::NotSupported,
            _ => Class::Io,
        }
    }
}

impl Class {
    /// As [`Class::of`]; `None` where the kernel said nothing.
    pub fn of_io(error: &std::io::Error) -> Option<Class> {
        Errno::from_io_error(error).map(Class::of)
    }

    /// What to do about it, for people.
    pub fn remedy(self) -> &'static str {
        match self {
            Class::NoSpace => "Make room on the target's file system; it goes on by itself",
            Class::Quota => "Raise the quota of the owner on the target's file system; it goes on by itself",
            Class::ReadOnly => "Mount the target's file system writable; look into the kernel log for why it is not",
            Class::Denied => "Look for what forbids it: a mount, a security module, a process that has it open",
            Class::NameTooLong => "Rename it on the source, or put the replica on a file system with longer names",
            Class::FileTooLarge => {
                "Put the replica on a file system with larger files, or raise the limit of the daemon"
            }
            Class::TooManyLinks => "Put the replica on a file system with more links to one file",
            Class::NotSupported => "Put the replica on a file system that knows it, or go without such features",
            Class::Io => "Look at the kernel log and at the disk of the target",
        }
    }
}

impl ApplyError {
    /// What to do about it, for people; `None` where only a new mirror helps.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            ApplyError::Failed { class, .. } => Some(class.remedy()),
            ApplyError::NoRoom { .. } => Some("Make room beside the replica's state, or let the last good image go"),
            ApplyError::Map(error) => Class::of_io(&error.cause).map(Class::remedy),
            _ => None,
        }
    }

    /// The class of a failed system call.
    pub fn class(&self) -> Option<Class> {
        match self {
            ApplyError::Failed { class, .. } => Some(*class),
            ApplyError::Map(error) => Class::of_io(&error.cause),
            _ => None,
        }
    }
}
