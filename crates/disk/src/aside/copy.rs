//! One file or symlink, with its attributes.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, SeekFrom, Statx, Timespec, Timestamps, Uid};
use rustix::io::{Errno, Result};

use crate::xattr::{self, Target};

const PIECE: usize = 1 << 20;
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NOATIME).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const NEW: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);
pub(super) const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Which side is at fault.
#[derive(Debug)]
pub(super) enum Fault {
    Source(Errno),
    Copy(Errno),
}

/// Where an entry is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub dir: BorrowedFd<'a>,
    pub name: &'a CStr,
}

/// Copies a regular file; returns what the copy lacks.
pub(super) fn file(from: Place<'_>, to: Place<'_>, stat: &Statx) -> std::result::Result<Option<String>, Fault> {
    let source = rustix::fs::openat(from.dir, from.name, READ, Mode::empty()).map_err(Fault::Source)?;
    let copy = rustix::fs::openat(to.dir, to.name, NEW, Mode::RUSR | Mode::WUSR).map_err(Fault::Copy)?;
    fill(source.as_fd(), copy.as_fd(), stat.stx_size)?;
    dress(source.as_fd(), copy.as_fd(), stat).map_err(Fault::Copy)
}

/// Copies a symlink; returns what the copy lacks.
pub(super) fn symlink(from: Place<'_>, to: Place<'_>, stat: &Statx) -> std::result::Result<Option<String>, Fault> {
    let aim = rustix::fs::readlinkat(from.dir, from.name, Vec::new()).map_err(Fault::Source)?;
    rustix::fs::symlinkat(aim, to.dir, to.name).map_err(Fault::Copy)?;
    let source = rustix::fs::openat(from.dir, from.name, PATH, Mode::empty()).map_err(Fault::Source)?;
    let copy = rustix::fs::openat(to.dir, to.name, PATH, Mode::empty()).map_err(Fault::Copy)?;
    let (uid, gid) = owner(stat);
    rustix::fs::chownat(to.dir, to.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(Fault::Copy)?;
    let target = |fd| Target { fd, path_only: true };
    let lacks = copy_xattrs(target(source.as_fd()), target(copy.as_fd()));
    rustix::fs::utimensat(to.dir, to.name, &times(stat), AtFlags::SYMLINK_NOFOLLOW).map_err(Fault::Copy)?;
    Ok(lacks)
}

/// Gives a copy of a file or directory the attributes that it has to have; returns those that it lacks.
pub(super) fn dress(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Statx) -> Result<Option<String>> {
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    let target = |fd| Target { fd, path_only: false };
    let lacks = copy_xattrs(target(from), target(to));
    rustix::fs::fchmod(to, Mode::from_raw_mode(u32::from(stat.stx_mode) & 0o7777))?;
    rustix::fs::futimens(to, &times(stat))?;
    Ok(lacks)
}

/// See [`super::shares`].
pub(super) fn shares(from: &Path, to: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata(from)?.dev() != std::fs::metadata(to)?.dev() {
        return Ok(false);
    }
    let unnamed = || rustix::fs::open(to, OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    let (first, second) = (std::fs::File::from(unnamed()?), unnamed()?);
    (&first).write_all(&[1; 4096])?;
    Ok(rustix::fs::ioctl_ficlone(second, first).is_ok())
}

fn owner(stat: &Statx) -> (Uid, Gid) {
    (Uid::from_raw(stat.stx_uid), Gid::from_raw(stat.stx_gid))
}

fn times(stat: &Statx) -> Timestamps {
    let time = |time: rustix::fs::StatxTimestamp| Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() };
    Timestamps { last_access: time(stat.stx_atime), last_modification: time(stat.stx_mtime) }
}

/// A file system that holds none of them, or not such large ones, is no reason to copy nothing.
fn copy_xattrs(from: Target<'_>, to: Target<'_>) -> Option<String> {
    let lost = |name: &[u8], errno: Errno| format!("it lacks {}: {errno}", String::from_utf8_lossy(name));
    match xattr::all(from) {
        Ok(all) => all.iter().find_map(|(name, value)| Some(lost(name, xattr::set(to, name, value).err()?))),
        Err(errno) => Some(lost(b"its extended attributes", errno)),
    }
}

/// Copies content; holes stay holes, and what can be shared is.
fn fill(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> std::result::Result<(), Fault> {
    if size == 0 || rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    rustix::fs::ftruncate(to, size).map_err(Fault::Copy)?;
    let mut at = 0;
    while let Some((start, end)) = data(from, at, size).map_err(Fault::Source)? {
        copy_range(from, to, start, end)?;
        at = end;
    }
    Ok(())
}

/// The next range from `at` on that is no hole.
fn data(fd: BorrowedFd<'_>, at: u64, size: u64) -> Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    match rustix::fs::seek(fd, SeekFrom::Data(at)) {
        Ok(start) if start < size => {
            let end = rustix::fs::seek(fd, SeekFrom::Hole(start))?;
            Ok(Some((start, end.min(size))))
        }
        Ok(_) | Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some((at, size))),
        Err(errno) => Err(errno),
    }
}

fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mut at: u64, end: u64) -> std::result::Result<(), Fault> {
    while at < end {
        let (mut read, mut write) = (at, at);
        let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE * 64);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), len) {
            Ok(0) => return Ok(()),
            Ok(copied) => at += copied as u64,
            // Which side is at fault shows only so.
            Err(_) => return copy_by_hand(from, to, at, end),
        }
    }
    Ok(())
}

fn copy_by_hand(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mut at: u64, end: u64) -> std::result::Result<(), Fault> {
    let mut piece = vec![0; PIECE];
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let read = rustix::io::pread(from, &mut piece[..len], at).map_err(Fault::Source)?;
        if read == 0 {
            return Ok(());
        }
        write_all(to, &piece[..read], at).map_err(Fault::Copy)?;
        at += read as u64;
    }
    Ok(())
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::pwrite(to, bytes, at)?;
        if written == 0 {
            return Err(Errno::NOSPC);
        }
        (bytes, at) = (&bytes[written..], at + written as u64);
    }
    Ok(())
}

/// Opens a directory to be listed.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}
