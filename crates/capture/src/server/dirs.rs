//! Reading directories.

use std::ffi::CStr;

use rustix::fs::Stat;
use zerocopy::IntoBytes;

use super::reply::entry;
use super::worker::Worker;
use crate::fuse::abi::{self, Dirent, EntryOut, ReadIn};
use crate::nodes::{Access, NodeRef};
use crate::sys::{self, Result};

/// Bytes of entries read at once.
const BATCH_BYTES: usize = 32 << 10;

impl<'s> Worker<'s, '_> {
    /// `plus`: with node and attributes of each entry.
    pub(super) fn readdir(&mut self, dir: NodeRef<'s>, mut body: &[u8], plus: bool) -> Result<()> {
        let asked: ReadIn = abi::take(&mut body)?;
        let pin = self.server.nodes.pin(&dir, Access::Read)?;
        let room = (asked.size as usize).min(self.reply.data.len());
        // What is read but does not fit is read again, so read about as much as fits.
        let share = if plus { room / 5 } else { room * 3 / 4 };
        let mut batch = [0_u8; BATCH_BYTES];
        let len = {
            // One descriptor, with one position, serves all readers of the directory.
            let _guard = self.server.nodes.stripe(dir.index);
            sys::lseek(pin.fd, asked.offset as i64, libc::SEEK_SET)?;
            sys::getdents(pin.fd, &mut batch[..share.clamp(512, BATCH_BYTES)])?
        };
        let mut rest = &batch[..len];
        while let Some((dirent, name)) = next_entry(&mut rest) {
            let head = if plus { size_of::<EntryOut>() } else { 0 };
            let need = (head + size_of::<Dirent>() + dirent.namelen as usize).next_multiple_of(8);
            if self.reply.data_len + need > room {
                break;
            }
            if plus {
                let entry = self.plus_entry(pin.fd, name);
                self.put_data(entry.as_bytes());
            }
            self.put_data(dirent.as_bytes());
            self.put_data(name.to_bytes());
            let end = self.reply.data_len.next_multiple_of(8);
            self.reply.data[self.reply.data_len..end].fill(0);
            self.reply.data_len = end;
        }
        Ok(())
    }

    /// The entry of a name, empty where it has gone meanwhile: the kernel then looks it up when it is needed.
    fn plus_entry(&mut self, dir: i32, name: &CStr) -> EntryOut {
        if matches!(name.to_bytes(), b"." | b"..") {
            return EntryOut::default();
        }
        let found = || -> Result<(u64, u32, Stat)> {
            let (file, stat) = self.identify(dir, name)?;
            let (_, id) = self.server.nodes.intern(self.root, file, stat.st_mode)?;
            Ok((id, file.generation, stat))
        };
        found().map_or(EntryOut::default(), |(id, generation, stat)| entry(id, generation, &stat))
    }

    fn put_data(&mut self, bytes: &[u8]) {
        let end = self.reply.data_len + bytes.len();
        self.reply.data[self.reply.data_len..end].copy_from_slice(bytes);
        self.reply.data_len = end;
    }
}

/// Takes an entry from the front of what `getdents64(2)` returned.
fn next_entry<'a>(rest: &mut &'a [u8]) -> Option<(Dirent, &'a CStr)> {
    let number = |at: usize, len: usize| -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(rest.get(at..at + len)?);
        Some(u64::from_le_bytes(bytes))
    };
    let (ino, off, len, kind) = (number(0, 8)?, number(8, 8)?, number(16, 2)?, number(18, 1)?);
    let name = CStr::from_bytes_until_nul(rest.get(19..len as usize)?).ok()?;
    *rest = &rest[len as usize..];
    Some((Dirent { ino, off, namelen: name.to_bytes().len() as u32, kind: kind as u32 }, name))
}
