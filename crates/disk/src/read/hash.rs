//! Hashes of blocks.

use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result};
use xxhash_rust::xxh3::xxh3_128;

use super::content::read_at;

/// xxh3-128 of a block.
pub(crate) fn hash_block(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// Hashes of zeros, without hashing the same length twice in a row.
#[derive(Default)]
pub(crate) struct ZeroHash {
    len: usize,
    hash: Option<u128>,
}

impl ZeroHash {
    pub(crate) fn of(&mut self, len: usize) -> u128 {
        match self.hash {
            Some(hash) if self.len == len => hash,
            _ => {
                let hash = xxh3_128(&vec![0; len]);
                (self.len, self.hash) = (len, Some(hash));
                hash
            }
        }
    }
}

/// Hashes of the blocks of `[offset, offset + len)` up to the end of the file.
pub(super) fn hashes(fd: BorrowedFd<'_>, offset: u64, len: u64, block: u32) -> Result<Vec<u128>> {
    let size = rustix::fs::fstat(fd)?.st_size as u64;
    let end = offset.saturating_add(len).min(size);
    let block = u64::from(block.max(1));
    let mut buf = vec![0; block as usize];
    let mut zeros = ZeroHash::default();
    let mut out = Vec::new();
    let mut data_from = offset;
    let mut at = offset;
    while at < end {
        let want = block.min(end - at);
        if data_from <= at {
            data_from = next_data(fd, at, end)?;
        }
        if data_from >= at + want {
            out.push(zeros.of(want as usize));
        } else {
            let part = &mut buf[..want as usize];
            let got = read_at(fd, part, at)?;
            part[got..].fill(0);
            out.push(hash_block(part));
        }
        at += want;
    }
    Ok(out)
}

fn next_data(fd: BorrowedFd<'_>, at: u64, end: u64) -> Result<u64> {
    match rustix::fs::seek(fd, SeekFrom::Data(at)) {
        Ok(data) => Ok(data),
        Err(Errno::NXIO) => Ok(end),
        Err(errno) => Err(errno),
    }
}
