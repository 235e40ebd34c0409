//! The order of the stream: slots that become records one after the other, from the front.
//!
//! A read takes its slot when it is asked for. What is captured while it is outstanding comes after it, and is looked at
//! only when the read has ended: which files are announced then depends on what it found.

use std::collections::{HashMap, VecDeque};

use stead_model::record::{FIXED_BYTES, records};
use stead_model::{FileId, Kind};

use super::dirty::Marks;
use super::job::JobId;
use super::scan::Page;
use crate::planted::{Planted, is_planted};
use crate::read::{Entry, Piece, ReadResult, Ticket};

/// Records drained from capture.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) records: Vec<u8>,
    /// What comes before it is done.
    pub(super) at: usize,
    pub(super) captured: u64,
    pub(super) time: u64,
}

/// How a directory is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// With all directories beneath.
    Deep,
    /// With those directories beneath that no target knows.
    Flat,
    /// Only to look again at names that differ.
    Check,
}

/// What a read is for.
#[derive(Clone, Debug)]
pub(super) enum ReadFor {
    /// The node of a root, at the begin of a whole scan.
    Root { generation: u64, file: FileId, index: u32 },
    /// The node of a file that a scan is about.
    Part { generation: u64, file: FileId, marks: Marks },
    /// A page of a directory.
    List { generation: u64, page: Page },
    /// The node of a file that a rename or link brings into the set.
    MoveIn { file: FileId, parent: FileId, name: Vec<u8>, news: bool },
    /// Attributes, with which a job begins.
    JobNode { job: JobId, compares: bool },
    /// Content for a job.
    JobContent { job: JobId },
    /// Hashes for a job.
    JobHashes { job: JobId, offset: u64, len: u64, compares: bool },
}

impl ReadFor {
    fn compares(&self) -> bool {
        matches!(self, ReadFor::JobNode { compares: true, .. } | ReadFor::JobHashes { compares: true, .. })
    }
}

/// A place in the stream.
#[derive(Debug)]
pub(super) enum Slot {
    Captured(Captured),
    Read {
        ticket: Ticket,
        what: ReadFor,
    },
    /// Encoded records that replace a captured one.
    Records(Vec<u8>),
    /// Changes were lost: of everything, or of that file.
    Lost(Option<(FileId, bool)>),
    /// A subtree has to be looked at.
    Rescan(FileId),
    /// All reads of the job came before.
    JobEnd(JobId),
    ScanBegin {
        generation: u64,
    },
    ScanEnd {
        generation: u64,
    },
    Mark(u64),
}

/// A slot at the front whose turn has come.
#[derive(Debug)]
pub(super) enum Due {
    Slot(Slot),
    Read { what: ReadFor, result: ReadResult, captured: u64 },
}

/// The slots.
#[derive(Debug, Default)]
pub(super) struct Stream {
    slots: VecDeque<Slot>,
    outstanding: usize,
    arrived: HashMap<Ticket, (ReadResult, u64)>,
    waiting: std::collections::HashSet<Ticket>,
    bytes: usize,
    read_bytes: usize,
}

impl Stream {
    pub(super) fn push(&mut self, slot: Slot) {
        self.note_in(&slot);
        if is_planted(Planted::PlaceAfterRead) && matches!(slot, Slot::Captured(_)) {
            let read = self.slots.iter().position(|slot| matches!(slot, Slot::Read { .. }));
            return self.slots.insert(read.unwrap_or(self.slots.len()), slot);
        }
        self.slots.push_back(slot);
    }

    pub(super) fn push_front(&mut self, slot: Slot) {
        self.note_in(&slot);
        self.slots.push_front(slot);
    }

    /// The result of a read; an unknown ticket is ignored.
    pub(super) fn arrived(&mut self, ticket: Ticket, result: ReadResult, captured: u64) {
        if self.waiting.remove(&ticket) {
            self.outstanding -= 1;
            self.read_bytes += weight(&result);
            self.arrived.insert(ticket, (result, captured));
        }
    }

    /// The front slot, unless it waits: for its read, or, where it compares, for everything that was captured until
    /// its read ended (which tells whether the file was touched meanwhile), unless the queue is `full`.
    pub(super) fn next(&mut self, captured_in: u64, full: bool) -> Option<Due> {
        if let Some(Slot::Read { ticket, what }) = self.slots.front() {
            let (_, captured) = self.arrived.get(ticket)?;
            if what.compares() && *captured > captured_in && !full {
                return None;
            }
        }
        let slot = self.slots.pop_front()?;
        if let Slot::Captured(captured) = &slot {
            self.bytes -= captured.records.len();
        }
        Some(match slot {
            Slot::Read { ticket, what } => {
                let (result, captured) = self.arrived.remove(&ticket).expect("looked at above");
                self.read_bytes -= weight(&result);
                Due::Read { what, result, captured }
            }
            slot => Due::Slot(slot),
        })
    }

    /// Reads that have not ended.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Captured bytes that wait for their turn.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that were read and wait for their turn, about.
    pub(super) fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// Does the front lie between two instants of the source: amid what was captured together?
    pub(super) fn is_amid(&self) -> bool {
        self.slots.iter().any(|slot| match slot {
            Slot::Captured(captured) => captured.at > 0,
            _ => false,
        })
    }

    /// Does anything that waits for its turn change that file?
    pub(super) fn touches(&self, file: FileId) -> bool {
        let captured = self.slots.iter().filter_map(|slot| match slot {
            Slot::Captured(captured) => Some(&captured.records[captured.at..]),
            _ => None,
        });
        captured.flat_map(records).flatten().any(|record| {
            let names = record.names;
            [record.file, record.parent, names.parent2, names.victim].contains(&file) || record.kind == Kind::Lost
        })
    }

    fn note_in(&mut self, slot: &Slot) {
        match slot {
            Slot::Captured(captured) => self.bytes += captured.records.len(),
            Slot::Read { ticket, .. } => {
                self.outstanding += 1;
                self.waiting.insert(*ticket);
            }
            _ => {}
        }
    }
}

/// Bytes of the records that it becomes, about.
fn weight(result: &ReadResult) -> usize {
    let data = |pieces: &[Piece]| -> usize {
        let of = |piece: &Piece| FIXED_BYTES + if let Piece::Data { bytes, .. } = piece { bytes.len() } else { 0 };
        pieces.iter().map(of).sum()
    };
    let entry = |entry: &Entry| FIXED_BYTES + entry.content.as_deref().map_or(0, data);
    match result {
        ReadResult::Listing(listing) => listing.entries.iter().map(entry).sum(),
        ReadResult::Pieces(pieces) => data(pieces),
        ReadResult::Hashes(hashes) => size_of_val(hashes.as_slice()),
        ReadResult::Node(_) | ReadResult::Gone | ReadResult::Failed(_) => FIXED_BYTES,
    }
}
