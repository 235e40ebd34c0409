//! Reading a source tree by file id, without touching access times.

mod content;
mod hash;
mod list;

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use stead_model::record::Extras;
use stead_model::{Attr, FileId};

use crate::volume::{Root, open_by_id};
use crate::{DiskError, sys};

#[cfg(feature = "testing")]
pub(crate) use content::pieces_of;
pub(crate) use hash::{ZeroHash, hash_block};
pub(crate) use list::{describe, stat};

/// Largest [`Piece::Data`]: what fits one record.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

/// Reads the directories and files of a set.
#[derive(Debug)]
pub struct Reader {
    roots: Vec<Root>,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name: 1 to 255 bytes, neither zero nor slash.
    pub name: Vec<u8>,
    /// Who is called so.
    pub file: FileId,
    /// Attributes, with inode flags for regular files and directories.
    pub attr: Attr,
    /// Symlink target and xattrs.
    pub extras: Extras,
    /// The whole content where [`Reader::list_with_content`] read it along.
    pub content: Option<Vec<Piece>>,
}

/// A part of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Attributes of the directory, taken before its names were read.
    pub attr: Attr,
    /// Names in the directory's own order, without "." and "..".
    pub entries: Vec<Entry>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// A piece of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "offset and length in bytes")]
pub enum Piece {
    /// Bytes, at most [`PIECE_BYTES_MAX`].
    Data { offset: u64, bytes: Vec<u8> },
    /// Nothing is allocated; reads as zeros.
    Hole { offset: u64, len: u64 },
    /// Allocated and never written; reads as zeros; may lie beyond the end of the file.
    Allocated { offset: u64, len: u64 },
}

/// How far [`Reader::content`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The pieces cover everything from the offset asked for up to here.
    pub until: u64,
    /// Neither data nor allocation follows.
    pub done: bool,
    /// Attributes of the file as they were *after* the pieces were read, without inode flags.
    pub attr: Attr,
}

impl Reader {
    /// A reader of these roots.
    pub fn new(roots: Vec<Root>) -> Reader {
        Reader { roots: roots.into_iter().map(Root::quiet).collect() }
    }

    /// The roots.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Up to `entries_max` names in the directory, from `cookie` on (0: from its beginning). `None`: the directory is
    /// gone. What lies on other mounts or volumes is left out, and so is what vanished meanwhile.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn list(&self, dir: FileId, cookie: u64, entries_max: usize) -> Result<Option<Listing>, DiskError> {
        self.list_with_content(dir, cookie, entries_max, 0, 0)
    }

    /// As [`Reader::list`], and reads the whole content of regular files of up to `small_max` bytes along. The listing
    /// ends early once `bytes_max` bytes of content were read.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn list_with_content(
        &self,
        dir: FileId,
        cookie: u64,
        entries_max: usize,
        small_max: u64,
        bytes_max: usize,
    ) -> Result<Option<Listing>, DiskError> {
        let Some(root) = self.root_of(dir) else { return Ok(None) };
        list::list(root, dir, cookie, list::Limits { entries_max, small_max, bytes_max })
            .map_err(DiskError::at("list directory", dir))
    }

    /// Attributes and extras of one file; `None` where it is gone.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn node(&self, file: FileId) -> Result<Option<(Attr, Extras)>, DiskError> {
        let Some(root) = self.root_of(file) else { return Ok(None) };
        list::node(root, file).map_err(DiskError::at("read the attributes of", file))
    }

    /// Appends the pieces of the file's content from `offset` on to `out`, without gaps: no further than `len` bytes, and
    /// no more than `data_max` bytes of data (but at least one block, so that it comes forward). Where the range reaches
    /// the end of the file, it covers also what is allocated beyond. `None`: the file is gone.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn content(
        &self,
        file: FileId,
        offset: u64,
        len: u64,
        data_max: usize,
        out: &mut Vec<Piece>,
    ) -> Result<Option<Covered>, DiskError> {
        let Some(fd) = self.open(file, "read content of")? else { return Ok(None) };
        let failed = || DiskError::at("read content of", file);
        let size = list::stat(fd.as_fd()).map_err(failed())?.0.size;
        let end = Some(offset.saturating_add(len)).filter(|end| *end < size).unwrap_or(u64::MAX);
        let until = content::pieces(fd.as_fd(), offset, end, data_max, out).map_err(failed())?;
        let (attr, _) = list::stat(fd.as_fd()).map_err(failed())?;
        Ok(Some(Covered { until: until.unwrap_or(end), done: until.is_none(), attr }))
    }

    /// xxh3-128 of each block from `offset` (a multiple of `block`) up to `offset + len` or the end of the file; the
    /// last block may be short. Holes hash as zeros, unread. `None`: the file is gone.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn hashes(&self, file: FileId, offset: u64, len: u64, block: u32) -> Result<Option<Hashes>, DiskError> {
        let Some(fd) = self.open(file, "hash")? else { return Ok(None) };
        let failed = || DiskError::at("hash", file);
        let blocks = hash::hashes(fd.as_fd(), offset, len, block).map_err(failed())?;
        let (attr, _) = list::stat(fd.as_fd()).map_err(failed())?;
        Ok(Some(Hashes { blocks, attr }))
    }

    fn root_of(&self, file: FileId) -> Option<&Root> {
        self.roots.iter().find(|root| root.volume() == file.volume)
    }

    fn open(&self, file: FileId, operation: &'static str) -> Result<Option<OwnedFd>, DiskError> {
        let Some(root) = self.root_of(file) else { return Ok(None) };
        open_by_id(root, file, READ).map_err(DiskError::at(operation, file))
    }
}

/// Hashes of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// One for each block.
    pub blocks: Vec<u128>,
    /// Attributes of the file as they were *after* it was read, without inode flags.
    pub attr: Attr,
}

/// How content is opened: no access time, no waiting for a writer of what became a FIFO.
pub(crate) const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOATIME).union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Inode flags that are replicated; 0 where the file system has none.
pub(crate) fn inode_flags(fd: std::os::fd::BorrowedFd<'_>) -> Result<u32, Errno> {
    match sys::flags(fd) {
        Ok(flags) => Ok(flags & Attr::FLAGS),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(0),
        Err(errno) => Err(errno),
    }
}
