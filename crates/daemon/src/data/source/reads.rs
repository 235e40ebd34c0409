//! The thread that reads the tree beneath the capture.

use crossbeam_channel::{Receiver, Sender};
use stead_disk::DiskError;
use stead_disk::read::{self as disk, Reader};
use stead_model::{FileId, SetName};
use stead_replication::read::{Entry, Listing, Node, Piece};
use stead_replication::{ReadRequest, ReadResult, Ticket};

use super::drivers::Drivers;
use super::pump::Event;
use crate::seam::Failure;
use crate::threads;

/// Content that one listing brings along.
const LISTING_BYTES_MAX: usize = 1 << 20;

/// Starts the thread; it ends when the pump does.
pub(super) fn spawn(
    set: &SetName,
    drivers: Drivers,
    reader: Reader,
    requests: Receiver<(Ticket, ReadRequest)>,
    events: Sender<Event>,
) -> Result<(), Failure> {
    threads::spawn(&format!("{set}-reads"), move || {
        for (ticket, request) in requests {
            let result = read(&reader, &request).unwrap_or_else(|e| ReadResult::Failed(e.to_string()));
            let captured = drivers.captured();
            if events.send(Event::Read { ticket, result, captured }).is_err() {
                return;
            }
        }
    })
}

fn read(reader: &Reader, request: &ReadRequest) -> Result<ReadResult, DiskError> {
    let result = match *request {
        ReadRequest::List { dir, cookie, entries_max, content_max } => {
            list(reader, dir, cookie, entries_max, content_max)?.map(ReadResult::Listing)
        }
        ReadRequest::Node { file } => reader.node(file)?.map(|(attr, extras)| ReadResult::Node(Node { attr, extras })),
        ReadRequest::Content { file, offset, len } => content(reader, file, offset, len)?.map(ReadResult::Pieces),
        ReadRequest::Hashes { file, offset, len, block } => {
            reader.hashes(file, offset, len, block)?.map(|hashes| ReadResult::Hashes(hashes.blocks))
        }
    };
    Ok(result.unwrap_or(ReadResult::Gone))
}

fn list(
    reader: &Reader,
    dir: FileId,
    cookie: u64,
    entries_max: usize,
    content_max: u64,
) -> Result<Option<Listing>, DiskError> {
    let listing = reader.list_with_content(dir, cookie, entries_max, content_max, LISTING_BYTES_MAX)?;
    Ok(listing.map(|listing| Listing {
        attr: listing.attr,
        entries: listing.entries.into_iter().map(entry).collect(),
        next: listing.next,
    }))
}

fn entry(entry: disk::Entry) -> Entry {
    let disk::Entry { name, file, attr, extras, content } = entry;
    let content = content.map(|pieces| pieces.into_iter().map(piece).collect());
    Entry { name, file, node: Node { attr, extras }, content }
}

fn content(reader: &Reader, file: FileId, offset: u64, len: u64) -> Result<Option<Vec<Piece>>, DiskError> {
    let end = offset.saturating_add(len);
    let mut pieces = Vec::new();
    let mut from = offset;
    while from < end {
        let Some(covered) = reader.content(file, from, end - from, disk::PIECE_BYTES_MAX, &mut pieces)? else {
            return Ok(None);
        };
        if covered.done || covered.until <= from {
            break;
        }
        from = covered.until;
    }
    Ok(Some(pieces.into_iter().map(piece).collect()))
}

fn piece(piece: disk::Piece) -> Piece {
    match piece {
        disk::Piece::Data { offset, bytes } => Piece::Data { offset, bytes },
        disk::Piece::Hole { offset, len } => Piece::Hole { offset, len },
        disk::Piece::Allocated { offset, len } => Piece::Allocated { offset, len },
    }
}
