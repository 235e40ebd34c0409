//! Extended attributes, ACLs among them. What Stead itself keeps with a file is neither shown nor taken.

use std::ffi::CStr;
use std::os::fd::RawFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use stead_model::{FileId, Kind, Record};

use super::reply::attr_of;
use super::stat;
use super::worker::Worker;
use crate::fuse::abi::{self, GetxattrIn, GetxattrOut, SetxattrIn};
use crate::nodes::{Access, NodeRef, flag};
use crate::sys::{self, ProcPath, Result};

/// Names that are ours.
const OWN_PREFIX: &[u8] = b"trusted.stead.";
/// Largest list of names, and largest value, that the kernel passes.
const XATTR_BYTES_MAX: usize = 1 << 16;

impl<'s> Worker<'s, '_> {
    pub(super) fn setxattr(&mut self, node: NodeRef<'s>, mut body: &'s [u8]) -> Result<()> {
        let asked: SetxattrIn = abi::take(&mut body)?;
        let name = abi::take_name(&mut body)?;
        let value = body.get(..asked.size as usize).ok_or(Errno::INVAL)?;
        if is_own(name) {
            return Err(Errno::PERM);
        }
        let pin = self.server.nodes.pin(&node, Access::Any)?;
        let _settled = self.server.settle(node.file);
        let before = stat(pin.fd)?;
        let flags = XattrFlags::from_bits_truncate(asked.flags);
        match rustix::fs::setxattr(ProcPath::of(pin.fd).as_cstr(), name, value, flags) {
            Err(Errno::EXIST) if self.repeats && self.has_value(pin.fd, name, value) => {}
            set => set?,
        }
        if asked.setxattr_flags & abi::SETXATTR_ACL_KILL_SGID != 0 {
            let mode = stat(pin.fd)?.st_mode;
            if mode & libc::S_ISGID != 0 {
                sys::chmod(pin.fd, mode & 0o7777 & !libc::S_ISGID)?;
            }
        }
        self.after_xattr(&node, pin.fd, Kind::SetXattr, name, value, before.st_mode)
    }

    pub(super) fn removexattr(&mut self, node: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let name = abi::take_name(&mut body)?;
        if is_own(name) {
            return Err(Errno::NODATA);
        }
        let pin = self.server.nodes.pin(&node, Access::Any)?;
        let _settled = self.server.settle(node.file);
        let before = stat(pin.fd)?;
        if self.before().is_none() && has_xattr(pin.fd, name) {
            self.note_before(node.file, FileId::NONE);
        }
        match rustix::fs::removexattr(ProcPath::of(pin.fd).as_cstr(), name) {
            Err(Errno::NODATA) if self.before().is_some() => {}
            removed => removed?,
        }
        self.after_xattr(&node, pin.fd, Kind::RemoveXattr, name, b"", before.st_mode)
    }

    pub(super) fn getxattr(&mut self, node: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: GetxattrIn = abi::take(&mut body)?;
        let name = abi::take_name(&mut body)?;
        if is_own(name) {
            return Err(Errno::NODATA);
        }
        let pin = self.server.nodes.pin(&node, Access::Any)?;
        let room = if asked.size == 0 { XATTR_BYTES_MAX } else { (asked.size as usize).min(XATTR_BYTES_MAX) };
        let room = &mut self.reply.data[..room];
        let len = rustix::fs::getxattr(ProcPath::of(pin.fd).as_cstr(), name, room)?;
        self.answer_xattr(asked.size, len)
    }

    pub(super) fn listxattr(&mut self, node: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: GetxattrIn = abi::take(&mut body)?;
        let pin = self.server.nodes.pin(&node, Access::Any)?;
        let len = rustix::fs::listxattr(ProcPath::of(pin.fd).as_cstr(), &mut self.reply.data[..XATTR_BYTES_MAX])?;
        let len = leave_out_own(&mut self.reply.data[..len]);
        if asked.size > 0 && len > asked.size as usize {
            return Err(Errno::RANGE);
        }
        self.answer_xattr(asked.size, len)
    }

    fn answer_xattr(&mut self, size: u32, len: usize) -> Result<()> {
        if size == 0 {
            self.reply.put(&GetxattrOut { size: len as u32, padding: 0 });
        } else {
            self.reply.data_len = len;
        }
        Ok(())
    }

    fn has_value(&self, fd: RawFd, name: &CStr, value: &[u8]) -> bool {
        let mut room = vec![0; value.len() + 1];
        let len = rustix::fs::getxattr(ProcPath::of(fd).as_cstr(), name, &mut room[..]);
        len.is_ok_and(|len| room[..len] == *value)
    }

    fn after_xattr(
        &self,
        node: &NodeRef<'_>,
        fd: RawFd,
        kind: Kind,
        name: &CStr,
        value: &[u8],
        mode: u32,
    ) -> Result<()> {
        node.mark(0, flag::CAPS_KNOWN | flag::CAPS);
        if node.is_silent() {
            return Ok(());
        }
        let now = stat(fd)?;
        let attr = attr_of(&now);
        self.put_main(&Record { name: name.to_bytes(), data: value, attr, ..Record::new(kind, node.file) });
        // An ACL that says no more than the permissions becomes the permissions.
        if now.st_mode != mode {
            self.record_mode(node, fd)?;
        }
        Ok(())
    }

    /// Calls `each` with every xattr of an open file.
    pub(super) fn each_xattr(&self, fd: RawFd, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let path = ProcPath::of(fd);
        let mut names = [0_u8; 4096];
        let listed = match rustix::fs::flistxattr(sys::fd(fd), &mut names) {
            Err(Errno::BADF) => rustix::fs::listxattr(path.as_cstr(), &mut names), // O_PATH
            listed => listed,
        };
        let len = match listed {
            Err(Errno::OPNOTSUPP) => return Ok(()),
            len => len?,
        };
        for name in names[..len].split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            let mut value = vec![0; XATTR_BYTES_MAX];
            let len = rustix::fs::getxattr(path.as_cstr(), name, &mut value[..])?;
            each(name.to_bytes(), &value[..len]);
        }
        Ok(())
    }
}

/// Is there such an attribute?
pub(super) fn has_xattr(fd: RawFd, name: &CStr) -> bool {
    let mut none = [0_u8; 0];
    rustix::fs::getxattr(ProcPath::of(fd).as_cstr(), name, &mut none).is_ok()
}

fn is_own(name: &CStr) -> bool {
    name.to_bytes().starts_with(OWN_PREFIX)
}

/// Removes our names from a list in place; returns its new length.
fn leave_out_own(names: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    while from < names.len() {
        let len = names[from..].iter().position(|byte| *byte == 0).map_or(names.len() - from, |at| at + 1);
        if !names[from..].starts_with(OWN_PREFIX) {
            names.copy_within(from..from + len, to);
            to += len;
        }
        from += len;
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_names_are_left_out_of_lists() {
        let mut names = b"user.a\0trusted.stead.id\0trusted.b\0trusted.stead.x\0".to_vec();
        let len = leave_out_own(&mut names);
        assert_eq!(&names[..len], b"user.a\0trusted.b\0");
    }
}
