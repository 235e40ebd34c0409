//! Content as data, holes and allocated ranges.
//!
//! SEEK_DATA and SEEK_HOLE know what is still in memory only, but count allocated, unwritten ranges as holes; FIEMAP
//! tells those apart. So data comes from the former, and each hole is looked up with the latter.

use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result};
use stead_model::Attr;

use super::{PIECE_BYTES_MAX, Piece};
use crate::sys;

const BLOCK: usize = 4096;

/// Content of a small file in as few calls as it takes. `blocks`: what it occupies, in units of 512 bytes.
pub(super) fn small(fd: BorrowedFd<'_>, attr: &Attr, blocks: u64) -> Result<Vec<Piece>> {
    let size = attr.size as usize;
    if size == 0 && blocks == 0 {
        return Ok(Vec::new());
    }
    let rounded = attr.size.next_multiple_of(BLOCK as u64);
    if size > 0 && blocks * 512 <= rounded + BLOCK as u64 {
        let mut bytes = vec![0; size];
        let len = read_at(fd, &mut bytes, 0)?;
        bytes.truncate(len);
        if bytes.len() == size && !bytes.chunks(BLOCK).any(is_zero) {
            return Ok(vec![Piece::Data { offset: 0, bytes }]);
        }
    }
    pieces_of(fd)
}

/// The whole content of a file.
pub(crate) fn pieces_of(fd: BorrowedFd<'_>) -> Result<Vec<Piece>> {
    let mut out = Vec::new();
    pieces(fd, 0, u64::MAX, usize::MAX, &mut out)?;
    Ok(out)
}

/// Appends pieces of `[offset, end)`; returns where to go on, or `None` where nothing follows.
pub(super) fn pieces(
    fd: BorrowedFd<'_>,
    offset: u64,
    end: u64,
    data_max: usize,
    out: &mut Vec<Piece>,
) -> Result<Option<u64>> {
    let mut at = offset;
    let mut read = 0;
    while at < end {
        let Some(data) = seek(fd, SeekFrom::Data(at))? else {
            return holes(fd, at, end, out).map(|more| more.then_some(end));
        };
        if data > at {
            holes(fd, at, data.min(end), out)?;
            at = data.min(end);
            continue;
        }
        let data_end = seek(fd, SeekFrom::Hole(at))?.unwrap_or(at).min(end);
        while at < data_end {
            if read >= data_max {
                return Ok(Some(at));
            }
            let want = (data_end - at).min(PIECE_BYTES_MAX as u64).min((data_max - read).max(BLOCK) as u64);
            let mut bytes = vec![0; want as usize];
            let len = read_at(fd, &mut bytes, at)?;
            if len == 0 {
                return Ok(None);
            }
            bytes.truncate(len);
            out.push(Piece::Data { offset: at, bytes });
            at += len as u64;
            read += len;
        }
    }
    Ok(Some(end))
}

/// Appends what lies in a range without data: allocated ranges, and holes up to the end of the file. Does anything
/// follow the range?
fn holes(fd: BorrowedFd<'_>, from: u64, to: u64, out: &mut Vec<Piece>) -> Result<bool> {
    let size = size(fd)?;
    let mut at = from;
    let mut more = false;
    'map: while at < to {
        let extents = match sys::fiemap(fd, at, to - at) {
            Ok(extents) => extents,
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::FBIG) => Vec::new(),
            Err(errno) => return Err(errno),
        };
        if extents.is_empty() {
            break;
        }
        for extent in extents {
            let start = extent.offset.max(at);
            let stop = (extent.offset + extent.len).min(to);
            if extent.unwritten && start < stop {
                push_hole(at, start.min(size), out);
                push_allocated(start, stop, out);
                at = stop;
            }
            if extent.last {
                more = extent.unwritten && extent.offset + extent.len > to;
                break 'map;
            }
            if !extent.unwritten {
                // Written, but without data for SEEK_DATA: beyond the end, or changed meanwhile.
                push_hole(at, stop.min(size).max(at), out);
                at = stop.max(at);
            }
            if stop >= to {
                more = true;
                break 'map;
            }
        }
    }
    push_hole(at, to.min(size), out);
    Ok(more || size > to)
}

fn push_hole(from: u64, to: u64, out: &mut Vec<Piece>) {
    if from >= to {
        return;
    }
    match out.last_mut() {
        Some(Piece::Hole { offset, len }) if *offset + *len == from => *len += to - from,
        _ => out.push(Piece::Hole { offset: from, len: to - from }),
    }
}

fn push_allocated(from: u64, to: u64, out: &mut Vec<Piece>) {
    match out.last_mut() {
        Some(Piece::Allocated { offset, len }) if *offset + *len == from => *len += to - from,
        _ => out.push(Piece::Allocated { offset: from, len: to - from }),
    }
}

fn seek(fd: BorrowedFd<'_>, to: SeekFrom) -> Result<Option<u64>> {
    match rustix::fs::seek(fd, to) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn size(fd: BorrowedFd<'_>) -> Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_size as u64)
}

/// Reads until `out` is full or the file ends; returns how much.
pub(super) fn read_at(fd: BorrowedFd<'_>, out: &mut [u8], offset: u64) -> Result<usize> {
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

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
