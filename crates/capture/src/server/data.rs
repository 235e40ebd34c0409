//! Operations on content: read, write, allocate, seek, sync.

use std::os::fd::RawFd;

use rustix::fs::Stat;
use rustix::io::Errno;
use stead_model::record::flags;
use stead_model::{AttrMask, FileId, Kind, Record, Sequence};

use super::hold::Hold;
use super::reply::attr_of;
use super::stat;
use super::worker::{Answer, Worker};
use super::xattr::has_xattr;
use crate::Order;
use crate::fuse::abi::{self, FallocateIn, FsyncIn, InHeader, LseekIn, LseekOut, ReadIn, WriteIn, WriteOut};
use crate::nodes::{Access, NodeRef, flag};
use crate::sys::{self, Result};

const CAPABILITY: &std::ffi::CStr = c"security.capability";

impl<'s> Worker<'s, '_> {
    pub(super) fn read(&mut self, header: &InHeader, node: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: ReadIn = abi::take(&mut body)?;
        let pin = self.server.nodes.pin(&node, Access::Read)?;
        let room = (asked.size as usize).min(self.reply.data.len());
        let mut done = 0;
        while done < room {
            let offset = asked.offset + done as u64;
            match rustix::io::pread(sys::fd(pin.fd), &mut self.reply.data[done..room], offset) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(Errno::INTR) => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        self.reply.data_len = done;
        if node.mark(flag::WAS_READ, 0) & flag::WAS_READ == 0 {
            self.server.note_read(self.root, header.nodeid);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, header: &InHeader, node: NodeRef<'s>, mut body: &'s [u8]) -> Result<()> {
        let asked: WriteIn = abi::take(&mut body)?;
        let data = body.get(..asked.size as usize).ok_or(Errno::INVAL)?;
        let pin = self.server.nodes.pin(&node, Access::Write)?;
        let _settled = self.server.settle(node.file);
        let there = if node.has(flag::APPEND_ONLY) {
            already_there(&asked, stat(pin.fd)?.st_size as u64, self.repeats)?
        } else {
            0
        };
        let kill = asked.write_flags & abi::WRITE_KILL_SUIDGID != 0;
        let privileged = self.before_change(header, &node, pin.fd, kill)?;
        let mtime = self.mtime_to_keep(pin.fd)?;
        let mut done = there;
        while done < data.len() {
            match rustix::io::pwrite(sys::fd(pin.fd), &data[done..], asked.offset + done as u64) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(Errno::INTR) => {}
                Err(_) if done > there => break,
                Err(error) => return Err(error),
            }
        }
        keep_mtime(pin.fd, mtime);
        let now = self.after_change(&node, pin.fd, privileged)?;
        if !node.is_silent() {
            let from_cache = if asked.write_flags & abi::WRITE_CACHE != 0 { flags::WRITE_BACK } else { 0 };
            let there = if self.repeats { 0 } else { there };
            self.put_main(&Record {
                flags: from_cache,
                a: asked.offset + there as u64,
                data: &data[there..done],
                attr: attr_of(&now),
                ..Record::new(Kind::Write, node.file)
            });
        }
        self.reply.put(&WriteOut { size: done as u32, padding: 0 });
        Ok(())
    }

    pub(super) fn fallocate(&mut self, header: &InHeader, node: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: FallocateIn = abi::take(&mut body)?;
        let pin = self.server.nodes.pin(&node, Access::Write)?;
        let _settled = self.server.settle(node.file);
        let privileged = self.before_change(header, &node, pin.fd, header.uid != 0)?;
        let mtime = self.mtime_to_keep(pin.fd)?;
        sys::fallocate(pin.fd, asked.mode as i32, asked.offset as i64, asked.length as i64)?;
        keep_mtime(pin.fd, mtime);
        let now = self.after_change(&node, pin.fd, privileged)?;
        if !node.is_silent() {
            self.put_main(&Record {
                a: asked.offset,
                b: asked.length,
                c: asked.mode,
                attr: attr_of(&now),
                ..Record::new(Kind::Allocate, node.file)
            });
        }
        Ok(())
    }

    pub(super) fn lseek(&mut self, node: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: LseekIn = abi::take(&mut body)?;
        let pin = self.server.nodes.pin(&node, Access::Read)?;
        let offset = sys::lseek(pin.fd, asked.offset as i64, asked.whence as i32)?;
        self.reply.put(&LseekOut { offset: offset as u64 });
        Ok(())
    }

    pub(super) fn fsync(&mut self, node: NodeRef<'s>, mut body: &[u8]) -> Result<Answer> {
        let asked: FsyncIn = abi::take(&mut body)?;
        let data_only = asked.fsync_flags & abi::FSYNC_FDATASYNC != 0;
        let pin = self.server.nodes.pin(&node, Access::Read)?;
        let fd = sys::fd(pin.fd);
        let covers = self.begin_sync();
        self.slowly(|_| if data_only { rustix::fs::fdatasync(fd) } else { rustix::fs::fsync(fd) })?;
        if node.is_silent() {
            return Ok(Answer::Reply);
        }
        let _settled = self.server.settle(node.file);
        let attr = attr_of(&stat(pin.fd)?);
        Ok(self.synced(covers, &Record { c: data_only.into(), attr, ..Record::new(Kind::Sync, node.file) }))
    }

    pub(super) fn syncfs(&mut self) -> Result<Answer> {
        let beneath = sys::fd(self.root.beneath);
        let covers = self.begin_sync();
        self.slowly(|_| rustix::fs::syncfs(beneath))?;
        Ok(self.synced(covers, &Record { c: 2, ..Record::new(Kind::Sync, FileId::NONE) }))
    }

    /// What came before a sync that begins; in synchronous operation the target is to have it while this machine syncs.
    fn begin_sync(&self) -> Sequence {
        let ring = &self.server.ring;
        let covers = ring.promised();
        if ring.sync().is_some_and(|sync| sync.want(covers)) {
            ring.call();
        }
        covers
    }

    /// Says in the stream that a sync was carried out; in synchronous operation its answer waits for all that came before
    /// it was asked for, up to `covers`. The target was sent that while this machine synced.
    fn synced(&self, covers: Sequence, record: &Record<'_>) -> Answer {
        let ring = &self.server.ring;
        self.put(record);
        match ring.sync().filter(|sync| Hold::has_to_wait(sync, covers)) {
            None => Answer::Reply,
            Some(_) => Answer::Hold(covers),
        }
    }

    /// With a write-back cache the kernel keeps the time of change of regular files itself and tells it apart from the
    /// data (or not at all, if it did not have to change it): what is written must leave it alone.
    fn mtime_to_keep(&self, fd: RawFd) -> Result<Option<libc::timespec>> {
        if self.server.order == Order::Strict {
            return Ok(None);
        }
        let now = stat(fd)?;
        Ok(Some(libc::timespec { tv_sec: now.st_mtime, tv_nsec: now.st_mtime_nsec as i64 }))
    }

    /// Does to privileges what the kernel does when content changes: setuid and setgid go where the writer may not keep
    /// them. Returns whether there is a `security.capability`, which the file system beneath will drop.
    pub(super) fn before_change(&self, header: &InHeader, node: &NodeRef<'_>, fd: RawFd, kill: bool) -> Result<bool> {
        if kill && node.has(flag::SUID) {
            let before = stat(fd)?;
            let mode = before.st_mode & !libc::S_ISUID & !setgid_to_drop(&before, header.gid);
            if mode != before.st_mode {
                sys::chmod(fd, mode & 0o7777)?;
                self.record_mode(node, fd)?;
            }
        }
        if !node.has(flag::CAPS_KNOWN) {
            let has = has_xattr(fd, CAPABILITY);
            node.mark(flag::CAPS_KNOWN | if has { flag::CAPS } else { 0 }, 0);
        }
        Ok(node.has(flag::CAPS))
    }

    /// Attributes after a change of content; records the capability that went with it.
    pub(super) fn after_change(&self, node: &NodeRef<'_>, fd: RawFd, had_caps: bool) -> Result<Stat> {
        let now = stat(fd)?;
        if had_caps && !has_xattr(fd, CAPABILITY) {
            node.mark(0, flag::CAPS);
            if !node.is_silent() {
                let name = CAPABILITY.to_bytes();
                let attr = attr_of(&now);
                self.put(&Record { name, attr, ..Record::new(Kind::RemoveXattr, node.file) });
            }
        }
        Ok(now)
    }

    /// Records permissions that changed by the way.
    pub(super) fn record_mode(&self, node: &NodeRef<'_>, fd: RawFd) -> Result<()> {
        let now = stat(fd)?;
        node.learn(now.st_mode);
        if !node.is_silent() {
            let attr = attr_of(&now);
            self.put(&Record { c: AttrMask::MODE.0, attr, ..Record::new(Kind::SetAttr, node.file) });
        }
        Ok(())
    }
}

fn keep_mtime(fd: RawFd, mtime: Option<libc::timespec>) {
    if let Some(mtime) = mtime {
        // Refused for files of the inode flag append, whose time is then that of the write-back.
        let _ = sys::set_times(fd, &[libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT }, mtime]);
    }
}

/// A file of the inode flag append takes writes at its end only; write-back, and who repeats, bring what is there once
/// more before it.
fn already_there(asked: &WriteIn, size: u64, repeats: bool) -> Result<usize> {
    let from_cache = asked.write_flags & abi::WRITE_CACHE != 0 || repeats;
    match size.checked_sub(asked.offset) {
        Some(0) => Ok(0),
        Some(before) if from_cache => Ok(before.min(asked.size.into()) as usize),
        _ => Err(Errno::PERM),
    }
}

/// setgid goes with group execution; without, it stays for members of the group.
fn setgid_to_drop(stat: &Stat, writer_gid: u32) -> u32 {
    let drops = stat.st_mode & libc::S_IXGRP != 0 || stat.st_gid != writer_gid;
    if drops { stat.st_mode & libc::S_ISGID } else { 0 }
}
