//! Which function serves which request.

use rustix::io::Errno;

use super::worker::{Answer, Worker};
use crate::fuse::abi::{self, BatchForgetIn, ForgetIn, ForgetOne, InHeader, op};
use crate::nodes::NodeRef;
use crate::sys::Result;

impl<'s> Worker<'s, '_> {
    pub(super) fn dispatch(&mut self, header: &InHeader, mut body: &'s [u8]) -> Result<Answer> {
        match header.opcode {
            op::FORGET => {
                let forget: ForgetIn = abi::take(&mut body)?;
                self.forget(header.nodeid, forget.nlookup);
                return Ok(Answer::None);
            }
            op::BATCH_FORGET => {
                let batch: BatchForgetIn = abi::take(&mut body)?;
                for _ in 0..batch.count {
                    let one: ForgetOne = abi::take(&mut body)?;
                    self.forget(one.nodeid, one.nlookup);
                }
                return Ok(Answer::None);
            }
            op::INTERRUPT => return Ok(Answer::None),
            op::DESTROY | op::RELEASE | op::RELEASEDIR => return Ok(Answer::Reply),
            op::STATFS => return self.statfs(),
            _ => {}
        }
        let node = self.server.nodes.get(self.root, header.nodeid)?;
        match header.opcode {
            op::LOOKUP => self.lookup(node, body)?,
            op::GETATTR => self.getattr(node)?,
            op::STATX => self.statx(node)?,
            op::SETATTR => self.setattr(header, node, body)?,
            op::READLINK => self.readlink(node)?,
            op::SYMLINK => self.symlink(header, node, body)?,
            op::MKNOD => self.mknod(header, node, body)?,
            op::MKDIR => self.mkdir(header, node, body)?,
            op::TMPFILE => self.tmpfile(header, node, body)?,
            op::UNLINK => self.unlink(node, body, false)?,
            op::RMDIR => self.unlink(node, body, true)?,
            op::RENAME | op::RENAME2 => self.rename(header, node, body)?,
            op::LINK => self.link(node, body)?,
            op::READ => self.read(header, node, body)?,
            op::WRITE => self.write(header, node, body)?,
            op::FALLOCATE => self.fallocate(header, node, body)?,
            op::LSEEK => self.lseek(node, body)?,
            op::FSYNC | op::FSYNCDIR => return self.fsync(node, body),
            op::SYNCFS => return self.syncfs(),
            op::SETXATTR => self.setxattr(node, body)?,
            op::GETXATTR => self.getxattr(node, body)?,
            op::LISTXATTR => self.listxattr(node, body)?,
            op::REMOVEXATTR => self.removexattr(node, body)?,
            op::READDIR => self.readdir(node, body, false)?,
            op::READDIRPLUS => self.readdir(node, body, true)?,
            op::IOCTL => self.ioctl(node, body)?,
            _ => return Err(Errno::NOSYS),
        }
        Ok(Answer::Reply)
    }

    fn forget(&self, id: u64, lookups: u64) {
        let last = |node: NodeRef<'_>| self.server.record_atime(node, self.flight);
        self.server.nodes.forget(self.root, id, lookups, last);
    }
}
