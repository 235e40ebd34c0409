//! System calls that `rustix` lacks.
#![allow(unsafe_code, reason = "file handles, FIEMAP, file-system UUIDs and mount_setattr have no safe wrapper")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, Result};
use stead_model::handle::{HANDLE_BYTES_MAX, Handle};

#[repr(C)]
struct RawHandle {
    bytes: u32,
    kind: i32,
    data: [u8; HANDLE_BYTES_MAX],
}

/// Handle of `name` beneath `dir` (of `dir` itself where `name` is empty); symlinks are not followed.
pub(crate) fn name_to_handle(dir: BorrowedFd<'_>, name: &CStr) -> Result<Handle> {
    let mut handle = RawHandle { bytes: HANDLE_BYTES_MAX as u32, kind: 0, data: [0; HANDLE_BYTES_MAX] };
    let mut mount = 0i32;
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: the handle has room for the number of bytes that it announces; the name ends with a zero.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            (&raw mut handle),
            (&raw mut mount),
            flags,
        )
    };
    check(done)?;
    Ok(Handle { kind: handle.kind, len: handle.bytes as usize, bytes: handle.data })
}

/// Opens the file of that handle on the mount that `mount` is open on.
pub(crate) fn open_by_handle(mount: BorrowedFd<'_>, handle: &Handle, flags: i32) -> Result<OwnedFd> {
    let mut raw = RawHandle { bytes: handle.len as u32, kind: handle.kind, data: handle.bytes };
    // SAFETY: the handle has the number of bytes that it announces.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), (&raw mut raw), flags | libc::O_CLOEXEC)
    };
    check(fd)?;
    // SAFETY: the kernel just gave this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// One extent of [`fiemap`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub offset: u64,
    pub len: u64,
    /// Allocated but never written (FIEMAP_EXTENT_UNWRITTEN).
    pub unwritten: bool,
    /// The last one of the file.
    pub last: bool,
}

const EXTENTS_MAX: usize = 64;
const FS_IOC_FIEMAP: libc::c_ulong = 0xC020_660B;
const FIEMAP_EXTENT_LAST: u32 = 1;
const FIEMAP_EXTENT_UNWRITTEN: u32 = 0x800;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct RawFiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [RawExtent; EXTENTS_MAX],
}

/// Up to 64 extents that reach into the range, in order.
pub(crate) fn fiemap(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Vec<Extent>> {
    let mut map = RawFiemap {
        start: offset,
        length: len,
        flags: 0,
        mapped: 0,
        count: EXTENTS_MAX as u32,
        reserved: 0,
        extents: [RawExtent::default(); EXTENTS_MAX],
    };
    // SAFETY: the structure is the kernel's `struct fiemap` with room for `count` extents.
    check(i64::from(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) }))?;
    let found = &map.extents[..(map.mapped as usize).min(EXTENTS_MAX)];
    Ok(found
        .iter()
        .map(|e| Extent {
            offset: e.logical,
            len: e.length,
            unwritten: e.flags & FIEMAP_EXTENT_UNWRITTEN != 0,
            last: e.flags & FIEMAP_EXTENT_LAST != 0,
        })
        .collect())
}

/// UUID of the file system; an error where the kernel or the file system has none to give.
pub(crate) fn fs_uuid(fd: BorrowedFd<'_>) -> Result<[u8; 16]> {
    const FS_IOC_GETFSUUID: libc::c_ulong = 0x8011_1500;
    let mut out = [0u8; 17];
    // SAFETY: the structure is one byte of length and 16 bytes of UUID.
    check(i64::from(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_GETFSUUID, out.as_mut_ptr()) }))?;
    if out[0] != 16 {
        return Err(Errno::NOTSUP);
    }
    Ok(out[1..].try_into().expect("16 bytes"))
}

/// Inode flags (FS_IOC_GETFLAGS).
pub(crate) fn flags(fd: BorrowedFd<'_>) -> Result<u32> {
    const FS_IOC_GETFLAGS: libc::c_ulong = 0x8008_6601;
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes an int; the long has room for it.
    check(i64::from(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_GETFLAGS, &raw mut flags) }))?;
    Ok(flags as u32)
}

/// Sets inode flags (FS_IOC_SETFLAGS).
pub(crate) fn set_flags(fd: BorrowedFd<'_>, flags: u32) -> Result<()> {
    const FS_IOC_SETFLAGS: libc::c_ulong = 0x4008_6602;
    let flags = libc::c_long::from(flags);
    // SAFETY: the kernel reads an int from the long's lower half.
    check(i64::from(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_SETFLAGS, &raw const flags) }))
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOATIME: u64 = 0x10;
const MOUNT_ATTR_ATIME: u64 = 0x70;
const AT_RECURSIVE: i32 = 0x8000;

/// Makes a detached mount, and all beneath it, read-only and without access times.
pub(crate) fn mount_read_only(tree: BorrowedFd<'_>) -> Result<()> {
    let propagation = libc::MS_PRIVATE;
    set_mount(
        tree,
        AT_RECURSIVE,
        MountAttr { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME, clear: MOUNT_ATTR_ATIME, propagation, userns: 0 },
    )
}

/// Makes a detached mount touch no access times.
pub(crate) fn mount_quiet(tree: BorrowedFd<'_>) -> Result<()> {
    set_mount(tree, 0, MountAttr { set: MOUNT_ATTR_NOATIME, clear: MOUNT_ATTR_ATIME, propagation: 0, userns: 0 })
}

fn set_mount(tree: BorrowedFd<'_>, flags: i32, attr: MountAttr) -> Result<()> {
    // SAFETY: the structure is the kernel's `struct mount_attr` of the size given; the path is empty and ends with a zero.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check(done)
}

/// Gives this thread a view of the mounts of its own.
pub(crate) fn unshare_mounts() -> Result<()> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: only the view of the mounts and the working directory are unshared; descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
}

/// A file that grows beyond a limit of the process is an error (EFBIG), not the end of the process.
pub(crate) fn size_limit_is_an_error() {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn check(result: i64) -> Result<()> {
    if result >= 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(errno))
}
