//! Directories and attributes.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, Statx, StatxAttributes, StatxFlags};
use rustix::io::{Errno, Result};
use stead_model::record::Extras;
use stead_model::{Attr, FileId, Time};

use super::{Entry, Listing, READ, content, inode_flags};
use crate::HOLDING;
use crate::volume::{Root, file_id_of, open_by_id};
use crate::xattr::{self, Target};

pub(super) struct Limits {
    pub entries_max: usize,
    pub small_max: u64,
    pub bytes_max: usize,
}

const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOATIME).union(OFlags::CLOEXEC);

pub(super) fn list(root: &Root, dir: FileId, cookie: u64, limits: Limits) -> Result<Option<Listing>> {
    let Some(fd) = open_by_id(root, dir, DIR)? else { return Ok(None) };
    if cookie > 0 {
        rustix::fs::seek(&fd, SeekFrom::Start(cookie))?;
    }
    let at_root = dir == root.id();
    let mut listing = Listing { attr: stat(fd.as_fd())?.0, ..Listing::default() };
    listing.attr.flags = inode_flags(fd.as_fd())?;
    let mut bytes_read = 0;
    let mut buf = vec![MaybeUninit::uninit(); (limits.entries_max * 64).clamp(4096, 1 << 17)];
    let mut names = RawDir::new(&fd, &mut buf);
    while let Some(name) = names.next() {
        let name = name?;
        let skipped = matches!(name.file_name().to_bytes(), b"." | b"..");
        if skipped || (at_root && name.file_name().to_bytes() == HOLDING) {
            continue;
        }
        if let Some(entry) = entry(root, fd.as_fd(), name.file_name(), name.file_type(), &limits)? {
            bytes_read += entry.content.as_ref().map_or(0, |_| entry.attr.size as usize);
            listing.entries.push(entry);
        }
        if listing.entries.len() >= limits.entries_max || (limits.bytes_max > 0 && bytes_read >= limits.bytes_max) {
            listing.next = Some(name.next_entry_cookie());
            break;
        }
    }
    Ok(Some(listing))
}

pub(super) fn node(root: &Root, file: FileId) -> Result<Option<(Attr, Extras)>> {
    let Some(path) = open_by_id(root, file, PATH)? else { return Ok(None) };
    let (attr, _) = stat(path.as_fd())?;
    if !has_content(attr.mode) {
        return describe(path.as_fd(), true).map(|(attr, extras, _)| Some((attr, extras)));
    }
    let Some(fd) = open_by_id(root, file, READ)? else { return Ok(None) };
    describe(fd.as_fd(), false).map(|(attr, extras, _)| Some((attr, extras)))
}

/// One name; `None` where it vanished or leads to another mount or volume.
fn entry(root: &Root, dir: BorrowedFd<'_>, name: &CStr, kind: FileType, limits: &Limits) -> Result<Option<Entry>> {
    let Some((fd, path_only)) = open(dir, name, kind)? else { return Ok(None) };
    let (attr, extras, stat) = match describe(fd.as_fd(), path_only) {
        Err(Errno::STALE | Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let elsewhere = (stat.stx_dev_major, stat.stx_dev_minor) != root.device();
    if elsewhere || stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(None);
    }
    let file = match file_id_of(root, fd.as_fd()) {
        Err(Errno::XDEV | Errno::STALE | Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let small = !path_only && attr.is_file() && attr.size <= limits.small_max && limits.bytes_max > 0;
    let content = if small { Some(content::small(fd.as_fd(), &attr, stat.stx_blocks)?) } else { None };
    Ok(Some(Entry { name: name.to_bytes().to_vec(), file, attr, extras, content }))
}

/// Opens what has content for reading, anything else as a mere path: opening a FIFO or a device has effects.
fn open(dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<Option<(OwnedFd, bool)>> {
    if matches!(kind, FileType::RegularFile | FileType::Directory) {
        match rustix::fs::openat(dir, name, READ, Mode::empty()) {
            Ok(fd) => return Ok(Some((fd, false))),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    let fd = match rustix::fs::openat(dir, name, PATH, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    if kind == FileType::Unknown && has_content(stat(fd.as_fd())?.0.mode) {
        return open(dir, name, FileType::RegularFile);
    }
    Ok(Some((fd, true)))
}

fn has_content(mode: u32) -> bool {
    matches!(mode & 0o170_000, 0o100_000 | 0o040_000)
}

/// Attributes and extras of an open file.
pub(crate) fn describe(fd: BorrowedFd<'_>, path_only: bool) -> Result<(Attr, Extras, Statx)> {
    let (mut attr, stat) = stat(fd)?;
    if !path_only {
        attr.flags = inode_flags(fd)?;
    }
    let mut extras = Extras { target: Vec::new(), xattrs: xattr::all(Target { fd, path_only })? };
    if attr.mode & 0o170_000 == 0o120_000 {
        extras.target = rustix::fs::readlinkat(fd, c"", Vec::new())?.into_bytes();
    }
    Ok((attr, extras, stat))
}

/// Attributes of an open file, without inode flags.
pub(crate) fn stat(fd: BorrowedFd<'_>) -> Result<(Attr, Statx)> {
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    let mut attr = Attr::default();
    attr.size = stat.stx_size;
    attr.rdev = rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
    attr.mode = stat.stx_mode.into();
    (attr.uid, attr.gid) = (stat.stx_uid, stat.stx_gid);
    attr.nlink = stat.stx_nlink;
    attr.set_atime(Time { sec: stat.stx_atime.tv_sec, nsec: stat.stx_atime.tv_nsec });
    attr.set_mtime(Time { sec: stat.stx_mtime.tv_sec, nsec: stat.stx_mtime.tv_nsec });
    attr.set_ctime(Time { sec: stat.stx_ctime.tv_sec, nsec: stat.stx_ctime.tv_nsec });
    Ok((attr, stat))
}
