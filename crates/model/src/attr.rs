//! Attributes of a file as they are compared, sent and applied.

use std::ops::{BitOr, BitOrAssign};

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A file time: seconds and nanoseconds since 1970, as the file system gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time {
    /// Seconds; negative before 1970.
    pub sec: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nsec: u32,
}

/// mtime and ctime of a directory after one of its names changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stamp {
    mtime_sec: i64,
    ctime_sec: i64,
    mtime_nsec: u32,
    ctime_nsec: u32,
}

impl Stamp {
    /// A stamp of the two times.
    pub fn new(mtime: Time, ctime: Time) -> Self {
        Stamp { mtime_sec: mtime.sec, mtime_nsec: mtime.nsec, ctime_sec: ctime.sec, ctime_nsec: ctime.nsec }
    }
    /// Time of the last change of content.
    pub fn mtime(&self) -> Time {
        Time { sec: self.mtime_sec, nsec: self.mtime_nsec }
    }
    /// Time of the last change of the inode.
    pub fn ctime(&self) -> Time {
        Time { sec: self.ctime_sec, nsec: self.ctime_nsec }
    }
}

/// The attributes of a file after a change (72 bytes, little-endian).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Attr {
    /// Length of the content in bytes.
    pub size: u64,
    /// Device number of a device file (`st_rdev`), else 0.
    pub rdev: u64,
    atime_sec: i64,
    mtime_sec: i64,
    ctime_sec: i64,
    atime_nsec: u32,
    mtime_nsec: u32,
    ctime_nsec: u32,
    /// File type and permissions (`st_mode`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names; 0 for a file that has lost its last one.
    pub nlink: u32,
    /// `FS_IOC_GETFLAGS` flags where known (see [`Attr::FLAGS`]), else 0.
    pub flags: u32,
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the file types of stat(2)")]
pub enum FileType {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Attr {
    /// The inode flags that are replicated: sync, immutable, append, nodump, noatime, dirsync, nocow, projinherit.
    /// Others say how a file system stores a file, not what it is.
    pub const FLAGS: u32 =
        0x0000_0008 | Self::IMMUTABLE | Self::APPEND | 0x0000_0040 | 0x0000_0080 | 0x0001_0000 | 0x0080_0000;
    /// `FS_IMMUTABLE_FL`
    pub const IMMUTABLE: u32 = 0x0000_0010;
    /// `FS_APPEND_FL`
    pub const APPEND: u32 = 0x0000_0020;

    /// Time of the last access.
    pub fn atime(&self) -> Time {
        Time { sec: self.atime_sec, nsec: self.atime_nsec }
    }
    /// Time of the last change of content.
    pub fn mtime(&self) -> Time {
        Time { sec: self.mtime_sec, nsec: self.mtime_nsec }
    }
    /// Time of the last change of the inode.
    pub fn ctime(&self) -> Time {
        Time { sec: self.ctime_sec, nsec: self.ctime_nsec }
    }
    /// Sets [`Attr::atime`].
    pub fn set_atime(&mut self, time: Time) {
        (self.atime_sec, self.atime_nsec) = (time.sec, time.nsec);
    }
    /// Sets [`Attr::mtime`].
    pub fn set_mtime(&mut self, time: Time) {
        (self.mtime_sec, self.mtime_nsec) = (time.sec, time.nsec);
    }
    /// Sets [`Attr::ctime`].
    pub fn set_ctime(&mut self, time: Time) {
        (self.ctime_sec, self.ctime_nsec) = (time.sec, time.nsec);
    }
    /// mtime and ctime, as they are sent for a parent directory.
    pub fn stamp(&self) -> Stamp {
        Stamp::new(self.mtime(), self.ctime())
    }
    /// Permissions with setuid, setgid and sticky bits, without the type.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
    /// The type; `None` where the mode names none that Linux knows.
    pub fn file_type(&self) -> Option<FileType> {
        Some(match self.mode & 0o170_000 {
            0o100_000 => FileType::Regular,
            0o040_000 => FileType::Directory,
            0o120_000 => FileType::Symlink,
            0o010_000 => FileType::Fifo,
            0o140_000 => FileType::Socket,
            0o020_000 => FileType::CharDevice,
            0o060_000 => FileType::BlockDevice,
            _ => return None,
        })
    }
    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.file_type() == Some(FileType::Directory)
    }
    /// Is it a regular file?
    pub fn is_file(&self) -> bool {
        self.file_type() == Some(FileType::Regular)
    }
}

/// Which attributes a [`SetAttr`](crate::Kind::SetAttr) record changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttrMask(pub u32);

impl AttrMask {
    /// Permissions.
    pub const MODE: AttrMask = AttrMask(1);
    /// Owner and group.
    pub const OWNER: AttrMask = AttrMask(2);
    /// Time of access.
    pub const ATIME: AttrMask = AttrMask(4);
    /// Time of change.
    pub const MTIME: AttrMask = AttrMask(8);

    /// Does it hold all of `other`?
    pub fn has(self, other: AttrMask) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for AttrMask {
    type Output = AttrMask;
    fn bitor(self, other: AttrMask) -> AttrMask {
        AttrMask(self.0 | other.0)
    }
}

impl BitOrAssign for AttrMask {
    fn bitor_assign(&mut self, other: AttrMask) {
        self.0 |= other.0;
    }
}
