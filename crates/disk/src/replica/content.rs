//! Content: writes, sizes, holes, allocation, and the comparison of hashes.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use stead_model::record::{CUT, Purpose};
use stead_model::{FileId, Kind, Record};

use super::{ApplyError, Difference, Need, Outcome, Replica, What};
use crate::read::{ZeroHash, hash_block};

static ZEROS: [u8; 65536] = [0; 65536];
const HASH_BYTES: usize = size_of::<u128>();
const BLOCK_BYTES_MAX: u64 = 16 << 20;

impl Replica {
    pub(super) fn write(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        self.write_at(record.file, record.a, record.data)?;
        self.follow(record)
    }

    pub(super) fn truncate(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        if record.c == CUT {
            self.on_handle(record.file, "read the capability of", |handles| handles.keep_capability(record.file))?;
        }
        // Also where the size is so already: what is allocated beyond the end goes.
        self.before_content(record.file, record.a, u64::MAX)?;
        self.handles.sized(record.file, None);
        self.on_fd(record.file, "truncate", |fd| rustix::fs::ftruncate(fd, record.a))?;
        self.follow(record)
    }

    pub(super) fn allocate(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let (file, kind) = (record.file, record.kind);
        let known = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        let mode = FallocateFlags::from_bits_retain(record.c);
        if !known.contains(mode) {
            return Err(ApplyError::Corrupt { file, kind, what: "a mode of allocation that cannot be repeated" });
        }
        if record.b > 0 {
            self.before_content(file, record.a, record.b)?;
            self.handles.sized(file, None);
            self.on_fd(file, "allocate", |fd| allocate(fd, mode, record.a, record.b))?;
        }
        self.follow(record)
    }

    /// A piece of a scan: data, or `b` bytes of hole.
    pub(super) fn chunk(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let file = record.file;
        if self.handle(file)?.is_none() {
            return Ok(());
        }
        self.on_handle(file, "read the capability of", |handles| handles.keep_capability(file))?;
        self.map.disprove(file);
        if record.data.is_empty() {
            self.before_content(file, record.a, record.b)?;
            return self.on_fd(file, "punch a hole into", |fd| punch(fd, record.a, record.b));
        }
        self.write_at(file, record.a, record.data)
    }

    pub(super) fn set_size(&mut self, file: FileId, size: u64) -> Result<(), ApplyError> {
        if self.handles.size(file) == Some(size) {
            return Ok(());
        }
        self.before_content(file, size, u64::MAX)?;
        self.on_fd(file, "set the size of", |fd| match rustix::fs::fstat(fd)?.st_size as u64 == size {
            true => Ok(()),
            false => rustix::fs::ftruncate(fd, size),
        })?;
        self.handles.sized(file, Some(size));
        Ok(())
    }

    /// Compares hashes with the file. Without hashes: all have come.
    pub(super) fn compare(&mut self, record: &Record<'_>, out: &mut Outcome) -> Result<(), ApplyError> {
        let (file, purpose) = (record.file, Purpose::from_u32(record.c));
        let corrupt = |what| ApplyError::Corrupt { file, kind: Kind::Hash, what };
        let purpose = purpose.ok_or(corrupt("no purpose"))?;
        let reports = matches!(purpose, Purpose::Verify | Purpose::Repair);
        let Some(handle) = self.handle(file)?.filter(|handle| !handle.path_only) else { return Ok(()) };
        let ranges = if record.data.is_empty() {
            self.differing_size(handle.fd(), record)
        } else if record.b == 0 || record.b > BLOCK_BYTES_MAX || !record.data.len().is_multiple_of(HASH_BYTES) {
            return Err(corrupt("hashes of no usable block size"));
        } else {
            differing(handle.fd(), record)
        };
        let ranges = ranges.map_err(|errno| self.failed("read", file, errno))?;
        if reports {
            let path = if ranges.is_empty() { PathBuf::new() } else { self.path_of(file).unwrap_or_default() };
            let differs = ranges.iter().map(|&(offset, len)| {
                let what = What::Content { offset, len };
                Difference { file, parent: FileId::NONE, name: Vec::new(), path: path.clone(), what }
            });
            out.differs.extend(differs);
            return Ok(());
        }
        if record.data.is_empty() {
            let mut ranges = self.differing.remove(&file).unwrap_or_default();
            join(&mut ranges);
            out.needs.push(Need::Content { file, ranges });
        } else if !ranges.is_empty() {
            self.map.disprove(file);
            self.differing.entry(file).or_default().extend(ranges);
        }
        Ok(())
    }

    /// The range by which the sizes differ.
    fn differing_size(&self, fd: BorrowedFd<'_>, record: &Record<'_>) -> Result<Vec<(u64, u64)>, Errno> {
        let (here, there) = (rustix::fs::fstat(fd)?.st_size as u64, record.attr.size);
        Ok(if here == there { Vec::new() } else { vec![(here.min(there), here.abs_diff(there))] })
    }

    fn write_at(&mut self, file: FileId, offset: u64, data: &[u8]) -> Result<(), ApplyError> {
        self.before_content(file, offset, data.len() as u64)?;
        let written = self.on_fd(file, "write", |fd| write_all(fd, data, offset));
        if written.is_err() {
            // A part of it may have been.
            self.handles.sized(file, None);
        }
        written?;
        self.handles.grown(file, offset + data.len() as u64);
        self.bytes += data.len() as u64;
        Ok(())
    }

    /// Does something to a regular file's content.
    fn on_fd(
        &mut self,
        file: FileId,
        operation: &'static str,
        act: impl Fn(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<(), ApplyError> {
        let Some(handle) = self.handle(file)?.filter(|handle| !handle.path_only) else { return Ok(()) };
        self.on_handle(file, operation, |_| act(handle.fd()))
    }
}

pub(super) fn write_all(fd: BorrowedFd<'_>, mut data: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !data.is_empty() {
        match rustix::io::pwrite(fd, data, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(len) => {
                data = &data[len..];
                offset += len as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn allocate(fd: BorrowedFd<'_>, mode: FallocateFlags, offset: u64, len: u64) -> Result<(), Errno> {
    match rustix::fs::fallocate(fd, mode, offset, len) {
        Err(Errno::OPNOTSUPP) => {}
        done => return done,
    }
    // The file system cannot do that: what reads back is what counts.
    let size = rustix::fs::fstat(fd)?.st_size as u64;
    let end = offset.saturating_add(len);
    if mode.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE) {
        punch(fd, offset, len)?;
    }
    if !mode.contains(FallocateFlags::KEEP_SIZE) && end > size {
        rustix::fs::ftruncate(fd, end)?;
    }
    Ok(())
}

pub(super) fn punch(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), Errno> {
    let size = rustix::fs::fstat(fd)?.st_size as u64;
    if offset >= size || len == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
        Err(Errno::OPNOTSUPP) => {}
        done => return done,
    }
    let end = offset.saturating_add(len).min(size);
    let mut at = offset;
    while at < end {
        let part = (end - at).min(ZEROS.len() as u64);
        write_all(fd, &ZEROS[..part as usize], at)?;
        at += part;
    }
    Ok(())
}

/// Ranges whose hashes differ, neighbours joined.
fn differing(fd: BorrowedFd<'_>, record: &Record<'_>) -> Result<Vec<(u64, u64)>, Errno> {
    let mut buf = vec![0; record.b as usize];
    let mut zeros = ZeroHash::default();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (n, hash) in record.data.chunks_exact(HASH_BYTES).enumerate() {
        let offset = record.a.saturating_add(n as u64 * record.b);
        let len = record.b.min(record.attr.size.saturating_sub(offset));
        let there = match has_data(fd, offset, len)? {
            true => {
                let part = &mut buf[..len as usize];
                let got = read_at(fd, part, offset)?;
                part[got..].fill(0);
                hash_block(part)
            }
            false => zeros.of(len as usize),
        };
        if there.to_le_bytes() == *hash {
            continue;
        }
        ranges.push((offset, len));
    }
    join(&mut ranges);
    Ok(ranges)
}

/// Sorts ranges and joins those that touch.
fn join(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let end = kept.0.saturating_add(kept.1);
        let touches = next.0 <= end;
        if touches {
            kept.1 = end.max(next.0.saturating_add(next.1)) - kept.0;
        }
        touches
    });
}

fn has_data(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<bool, Errno> {
    match rustix::fs::seek(fd, SeekFrom::Data(offset)) {
        Ok(data) => Ok(data < offset.saturating_add(len)),
        Err(Errno::NXIO) => Ok(false),
        Err(errno) => Err(errno),
    }
}

pub(super) fn read_at(fd: BorrowedFd<'_>, out: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < out.len() {
        match rustix::io::pread(fd, &mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}
