//! Operations on attributes, inode flags included.

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use stead_model::{AttrMask, Kind, Record};
use zerocopy::{FromBytes, IntoBytes};

use super::names::{flags_of, with_flags};
use super::reply::{FOREVER_S, attr_of};
use super::stat;
use super::worker::Worker;
use crate::fuse::abi::{self, InHeader, IoctlIn, IoctlOut, SetattrIn, StatfsOut, StatxOut, SxTime, WireStatx, setattr};
use crate::nodes::{Access, NodeRef, flag};
use crate::sys::{self, Result};

pub(super) const GETFLAGS: u32 = 0x8008_6601;
const SETFLAGS: u32 = 0x4008_6602;
const GETVERSION: u32 = 0x8008_7601;
const FSGETXATTR: u32 = 0x801c_581f;
const FSSETXATTR: u32 = 0x401c_5820;

impl<'s> Worker<'s, '_> {
    pub(super) fn getattr(&mut self, node: NodeRef<'s>) -> Result<()> {
        let pin = self.server.nodes.pin(&node, Access::Any)?;
        self.reply.put_attr(&stat(pin.fd)?);
        Ok(())
    }

    pub(super) fn statx(&mut self, node: NodeRef<'s>) -> Result<()> {
        let pin = self.server.nodes.pin(&node, Access::Any)?;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let got = rustix::fs::statx(sys::fd(pin.fd), c"", AtFlags::EMPTY_PATH, mask)?;
        let time = |t: rustix::fs::StatxTimestamp| SxTime { sec: t.tv_sec, nsec: t.tv_nsec, reserved: 0 };
        self.reply.put(&StatxOut {
            attr_valid: if got.stx_nlink > 1 && node.is_regular() { 0 } else { FOREVER_S },
            stat: WireStatx {
                mask: got.stx_mask,
                blksize: got.stx_blksize,
                attributes: got.stx_attributes.bits(),
                nlink: got.stx_nlink,
                uid: got.stx_uid,
                gid: got.stx_gid,
                mode: got.stx_mode,
                ino: got.stx_ino,
                size: got.stx_size,
                blocks: got.stx_blocks,
                attributes_mask: got.stx_attributes_mask.bits(),
                atime: time(got.stx_atime),
                btime: time(got.stx_btime),
                ctime: time(got.stx_ctime),
                mtime: time(got.stx_mtime),
                rdev_major: got.stx_rdev_major,
                rdev_minor: got.stx_rdev_minor,
                dev_major: got.stx_dev_major,
                dev_minor: got.stx_dev_minor,
                ..WireStatx::default()
            },
            ..StatxOut::default()
        });
        Ok(())
    }

    pub(super) fn setattr(&mut self, header: &InHeader, node: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: SetattrIn = abi::take(&mut body)?;
        let has = |bits: u32| asked.valid & bits != 0;
        let _settled = self.server.settle(node.file);
        if has(setattr::SIZE) {
            self.truncate(header, &node, asked.size, has(setattr::KILL_SUIDGID))?;
        }
        let pin = self.server.nodes.pin(&node, Access::Any)?;
        let mut mask = AttrMask::default();
        if has(setattr::UID | setattr::GID) {
            let keep = |bit: u32, id: u32| if has(bit) { id } else { u32::MAX };
            let had_caps = node.is_regular() && self.before_change(header, &node, pin.fd, false)?;
            sys::chown(pin.fd, keep(setattr::UID, asked.uid), keep(setattr::GID, asked.gid))?;
            self.after_change(&node, pin.fd, had_caps)?;
            mask |= AttrMask::OWNER;
            // The file system beneath drops setuid and setgid of all but directories.
            if node.has(flag::SUID) {
                mask |= AttrMask::MODE;
            }
        }
        if has(setattr::MODE) {
            sys::chmod(pin.fd, asked.mode & 0o7777)?;
            mask |= AttrMask::MODE;
        }
        if has(setattr::ATIME | setattr::MTIME) {
            let time = |set: u32, now: u32, sec: u64, nsec: u32| libc::timespec {
                tv_sec: sec as i64,
                tv_nsec: match (has(now), has(set)) {
                    (true, _) => libc::UTIME_NOW,
                    (_, true) => nsec.into(),
                    _ => libc::UTIME_OMIT,
                },
            };
            let atime = time(setattr::ATIME, setattr::ATIME_NOW, asked.atime, asked.atimensec);
            let mtime = time(setattr::MTIME, setattr::MTIME_NOW, asked.mtime, asked.mtimensec);
            sys::set_times(pin.fd, &[atime, mtime])?;
            mask |= if has(setattr::ATIME) { AttrMask::ATIME } else { AttrMask::default() };
            mask |= if has(setattr::MTIME) { AttrMask::MTIME } else { AttrMask::default() };
        }
        let now = stat(pin.fd)?;
        node.learn(now.st_mode);
        if mask != AttrMask::default() && !node.is_silent() {
            self.put(&Record { c: mask.0, attr: attr_of(&now), ..Record::new(Kind::SetAttr, node.file) });
        }
        self.reply.put_attr(&now);
        Ok(())
    }

    fn truncate(&mut self, header: &InHeader, node: &NodeRef<'s>, size: u64, kill: bool) -> Result<()> {
        let pin = self.server.nodes.pin(node, Access::Write)?;
        if node.has(flag::APPEND_ONLY) {
            return Err(Errno::PERM);
        }
        let had_caps = self.before_change(header, node, pin.fd, kill)?;
        rustix::fs::ftruncate(sys::fd(pin.fd), size)?;
        let now = self.after_change(node, pin.fd, had_caps)?;
        if !node.is_silent() {
            self.put(&Record { a: size, attr: attr_of(&now), ..Record::new(Kind::Truncate, node.file) });
        }
        Ok(())
    }

    pub(super) fn readlink(&mut self, node: NodeRef<'s>) -> Result<()> {
        let pin = self.server.nodes.pin(&node, Access::Any)?;
        let target = rustix::fs::readlinkat(sys::fd(pin.fd), c"", Vec::new())?;
        self.reply.small.extend_from_slice(target.as_bytes());
        Ok(())
    }

    pub(super) fn statfs(&mut self) -> Result<super::worker::Answer> {
        let got = rustix::fs::fstatvfs(sys::fd(self.root.beneath))?;
        self.reply.put(&StatfsOut {
            blocks: got.f_blocks,
            bfree: got.f_bfree,
            bavail: got.f_bavail,
            files: got.f_files,
            ffree: got.f_ffree,
            bsize: got.f_bsize as u32,
            namelen: got.f_namemax as u32,
            frsize: got.f_frsize as u32,
            ..StatfsOut::default()
        });
        Ok(super::worker::Answer::Reply)
    }

    /// Inode flags; other ioctls are not passed on, since what they change could not be followed.
    pub(super) fn ioctl(&mut self, node: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: IoctlIn = abi::take(&mut body)?;
        let mut data = [0_u8; 32];
        let given = (asked.in_size as usize).min(data.len()).min(body.len());
        data[..given].copy_from_slice(&body[..given]);
        if !matches!(asked.cmd, GETFLAGS | SETFLAGS | GETVERSION | FSGETXATTR | FSSETXATTR) {
            return Err(Errno::NOTTY);
        }
        let pin = self.server.nodes.pin(&node, Access::Read)?;
        let sets = sets_flags(asked.cmd);
        let _settled = self.server.settle(node.file);
        let result = sys::ioctl(pin.fd, asked.cmd, &mut data)?;
        if sets {
            let flags = flags_of(pin.fd).unwrap_or_else(|_| u32::read_from_bytes(&data[..4]).unwrap_or(0));
            let attr = with_flags(attr_of(&stat(pin.fd)?), flags);
            drop(pin);
            self.server.nodes.weaken(&node)?;
            node.mark(0, flag::HEIRS_KNOWN | flag::HEIRS);
            if !node.is_silent() {
                self.put_main(&Record { c: flags, attr, ..Record::new(Kind::SetFlags, node.file) });
            }
        }
        self.reply.put(&IoctlOut { result, ..IoctlOut::default() });
        if !sets {
            let wanted = (asked.out_size as usize).min(data.len());
            self.reply.small.extend_from_slice(data[..wanted].as_bytes());
        }
        Ok(())
    }
}

/// Does that ioctl change inode flags?
pub(super) fn sets_flags(command: u32) -> bool {
    matches!(command, SETFLAGS | FSSETXATTR)
}
