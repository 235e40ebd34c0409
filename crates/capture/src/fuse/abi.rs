//! Wire structs of `/dev/fuse` (kernel: `include/uapi/linux/fuse.h`, version 7.38 and later).
#![allow(missing_docs, reason = "names and fields are the kernel's")]

use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const ROOT_ID: u64 = 1;
/// Largest write that one request carries.
pub const WRITE_BYTES_MAX: usize = 1 << 20;
/// Room for any request.
pub const REQUEST_BYTES_MAX: usize = WRITE_BYTES_MAX + 4096;
/// Set in `unique` of a request that is delivered again.
pub const UNIQUE_RESEND: u64 = 1 << 63;

pub mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const INIT: u32 = 26;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const SYNCFS: u32 = 50;
    pub const TMPFILE: u32 = 51;
    pub const STATX: u32 = 52;
}

pub mod init {
    pub const ASYNC_READ: u64 = 1 << 0;
    pub const EXPORT_SUPPORT: u64 = 1 << 4;
    pub const BIG_WRITES: u64 = 1 << 5;
    pub const DONT_MASK: u64 = 1 << 6;
    pub const HAS_IOCTL_DIR: u64 = 1 << 11;
    pub const DO_READDIRPLUS: u64 = 1 << 13;
    pub const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub const ASYNC_DIO: u64 = 1 << 15;
    pub const WRITEBACK_CACHE: u64 = 1 << 16;
    pub const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    pub const POSIX_ACL: u64 = 1 << 20;
    pub const MAX_PAGES: u64 = 1 << 22;
    pub const CACHE_SYMLINKS: u64 = 1 << 23;
    pub const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
    pub const EXPLICIT_INVAL_DATA: u64 = 1 << 25;
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub const SETXATTR_EXT: u64 = 1 << 29;
    pub const INIT_EXT: u64 = 1 << 30;
    pub const HAS_RESEND: u64 = 1 << 39;
}

pub mod setattr {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const FH: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const CTIME: u32 = 1 << 10;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}

pub mod notify {
    pub const INVAL_INODE: i32 = 2;
    pub const RESEND: i32 = 7;
    pub const INC_EPOCH: i32 = 8;
}

/// `FUSE_WRITE_CACHE`: from write-back.
pub const WRITE_CACHE: u32 = 1;
/// `FUSE_WRITE_KILL_SUIDGID`
pub const WRITE_KILL_SUIDGID: u32 = 4;
/// `FUSE_SETXATTR_ACL_KILL_SGID`
pub const SETXATTR_ACL_KILL_SGID: u32 = 1;
/// `FUSE_FSYNC_FDATASYNC`
pub const FSYNC_FDATASYNC: u32 = 1;

macro_rules! wire {
    ($(struct $name:ident { $($field:ident : $type:ty),* $(,)? })*) => {$(
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $(pub $field: $type),* }
    )*};
}

wire! {
    struct InHeader { len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32, extlen: u16, pad: u16 }
    struct OutHeader { len: u32, error: i32, unique: u64 }
    struct WireAttr {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64, atimensec: u32, mtimensec: u32,
        ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    struct EntryOut {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32, attr_valid_nsec: u32,
        attr: WireAttr,
    }
    struct AttrOut { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: WireAttr }
    struct OpenOut { fh: u64, open_flags: u32, backing_id: i32 }
    struct ForgetIn { nlookup: u64 }
    struct BatchForgetIn { count: u32, dummy: u32 }
    struct ForgetOne { nodeid: u64, nlookup: u64 }
    struct SetattrIn {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    struct MknodIn { mode: u32, rdev: u32, umask: u32, padding: u32 }
    struct MkdirIn { mode: u32, umask: u32 }
    struct RenameIn { newdir: u64 }
    struct Rename2In { newdir: u64, flags: u32, padding: u32 }
    struct LinkIn { oldnodeid: u64 }
    struct CreateIn { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    struct ReadIn { fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    struct WriteIn { fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    struct WriteOut { size: u32, padding: u32 }
    struct FsyncIn { fh: u64, fsync_flags: u32, padding: u32 }
    struct SetxattrIn { size: u32, flags: u32, setxattr_flags: u32, padding: u32 }
    struct GetxattrIn { size: u32, padding: u32 }
    struct GetxattrOut { size: u32, padding: u32 }
    struct FallocateIn { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    struct LseekIn { fh: u64, offset: u64, whence: u32, padding: u32 }
    struct LseekOut { offset: u64 }
    struct IoctlIn { fh: u64, flags: u32, cmd: u32, arg: u64, in_size: u32, out_size: u32 }
    struct IoctlOut { result: i32, flags: u32, in_iovs: u32, out_iovs: u32 }
    struct StatfsOut {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32, frsize: u32,
        padding: u32, spare: [u32; 6],
    }
    struct Dirent { ino: u64, off: u64, namelen: u32, kind: u32 }
    struct InitIn { major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11] }
    struct InitOut {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16, congestion_threshold: u16,
        max_write: u32, time_gran: u32, max_pages: u16, map_alignment: u16, flags2: u32, max_stack_depth: u32,
        request_timeout: u16, unused: [u16; 11],
    }
    struct SxTime { sec: i64, nsec: u32, reserved: i32 }
    struct WireStatx {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32, mode: u16, spare0: u16, ino: u64,
        size: u64, blocks: u64, attributes_mask: u64, atime: SxTime, btime: SxTime, ctime: SxTime, mtime: SxTime,
        rdev_major: u32, rdev_minor: u32, dev_major: u32, dev_minor: u32, spare2: [u64; 14],
    }
    struct StatxOut { attr_valid: u64, attr_valid_nsec: u32, flags: u32, spare: [u64; 2], stat: WireStatx }
    struct InvalInodeOut { ino: u64, off: i64, len: i64 }
}

/// Takes a struct from the front of a request's body.
///
/// # Errors
/// `EINVAL` where the body is too short.
pub fn take<T: FromBytes>(body: &mut &[u8]) -> Result<T, Errno> {
    let (value, rest) = T::read_from_prefix(body).map_err(|_| Errno::INVAL)?;
    *body = rest;
    Ok(value)
}

/// Takes a NUL-terminated name from the front of a request's body.
///
/// # Errors
/// `EINVAL` where none is there.
pub fn take_name<'a>(body: &mut &'a [u8]) -> Result<&'a std::ffi::CStr, Errno> {
    let name = std::ffi::CStr::from_bytes_until_nul(body).map_err(|_| Errno::INVAL)?;
    *body = &body[name.to_bytes_with_nul().len()..];
    Ok(name)
}

const _: () = assert!(size_of::<InHeader>() == 40 && size_of::<WriteIn>() == 40 && size_of::<InitOut>() == 64);
const _: () = assert!(size_of::<EntryOut>() == 128 && size_of::<WireStatx>() == 256 && size_of::<StatxOut>() == 288);
