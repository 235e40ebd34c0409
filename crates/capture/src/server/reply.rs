//! Answers, and the shapes that attributes take in them.

use rustix::fs::Stat;
use stead_model::Attr;
use zerocopy::{Immutable, IntoBytes};

use crate::fuse::abi::{self, AttrOut, EntryOut, WireAttr};
use crate::ring::time;

/// How long the kernel may trust what it was told: changes go through us, and others are watched for.
pub const FOREVER_S: u64 = 1 << 40;

/// An answer under construction: a small part, then perhaps data. Its memory is used again for the next one.
pub struct Reply {
    /// The small part.
    pub small: Vec<u8>,
    /// Room for data.
    pub data: Box<[u8]>,
    /// Used bytes of it.
    pub data_len: usize,
}

impl Reply {
    /// Nothing, with room for the largest answer.
    pub fn new() -> Reply {
        Reply { small: Vec::with_capacity(1024), data: vec![0; abi::WRITE_BYTES_MAX + 4096].into(), data_len: 0 }
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.small.clear();
        self.data_len = 0;
    }

    /// Adds a struct.
    pub fn put<T: IntoBytes + Immutable>(&mut self, value: &T) {
        self.small.extend_from_slice(value.as_bytes());
    }

    /// Adds attributes.
    pub fn put_attr(&mut self, stat: &Stat) {
        self.put(&AttrOut { attr_valid: attr_valid_s(stat), attr: wire_attr(stat), ..AttrOut::default() });
    }

    /// Adds an entry.
    pub fn put_entry(&mut self, id: u64, generation: u32, stat: &Stat) {
        self.put(&entry(id, generation, stat));
    }
}

/// How long the kernel may trust the attributes of a file. One that has several links may be changed through a link
/// outside of the set.
pub fn attr_valid_s(stat: &Stat) -> u64 {
    if stat.st_nlink > 1 && stat.st_mode & libc::S_IFMT == libc::S_IFREG { 0 } else { FOREVER_S }
}

/// An entry as the kernel wants it.
pub fn entry(id: u64, generation: u32, stat: &Stat) -> EntryOut {
    EntryOut {
        nodeid: id,
        generation: generation.into(),
        entry_valid: FOREVER_S,
        attr_valid: attr_valid_s(stat),
        attr: wire_attr(stat),
        ..EntryOut::default()
    }
}

/// Attributes as the kernel wants them.
pub fn wire_attr(stat: &Stat) -> WireAttr {
    WireAttr {
        ino: stat.st_ino,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: stat.st_atime as u64,
        mtime: stat.st_mtime as u64,
        ctime: stat.st_ctime as u64,
        atimensec: stat.st_atime_nsec as u32,
        mtimensec: stat.st_mtime_nsec as u32,
        ctimensec: stat.st_ctime_nsec as u32,
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev as u32,
        blksize: stat.st_blksize as u32,
        flags: 0,
    }
}

/// Attributes as records have them; inode flags unknown.
pub fn attr_of(stat: &Stat) -> Attr {
    let mut attr = Attr::default();
    attr.size = stat.st_size as u64;
    attr.rdev = if matches!(stat.st_mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK) { stat.st_rdev } else { 0 };
    attr.mode = stat.st_mode;
    attr.uid = stat.st_uid;
    attr.gid = stat.st_gid;
    attr.nlink = stat.st_nlink as u32;
    attr.set_atime(time(stat.st_atime, stat.st_atime_nsec as i64));
    attr.set_mtime(time(stat.st_mtime, stat.st_mtime_nsec as i64));
    attr.set_ctime(time(stat.st_ctime, stat.st_ctime_nsec as i64));
    attr
}
