//! Records that were received and that no sync of the replica covers yet: durable before they are acknowledged, applied in
//! order, kept until a checkpoint of the replica covers them.
//!
//! A directory holds segments `0123456789abcdef.journal`, in the order of their numbers; dropped ones may wait as `spare-…` to be
//! written again. New ones are filled with zeros first: overwriting needs no new blocks, and so no commit of the file
//! system at each sync.
//!
//! ```text
//! segment   0 magic "STEADJNL" 8 B · version u16 · zeros 2 B · crc32 u32 of what follows
//!          16 number u64 · previous u64, previous_len u64: number and bytes of the segment before it, all durable
//!          40 entries, each at a multiple of 8; what follows the last one is anything
//! entry     0 magic "ENT+" 4 B · crc32 u32 of the segment's number, what follows, and the payload
//!           8 len u32 of the payload · flags u32 (1: consistent point after it)
//!          16 epoch u64 · incarnation u64 · first u64 · last u64: the sequences of its records
//!          48 durable u64: bytes of the segment that were durable when the entry was written
//!          56 capture u64 · captured u64: the run of capture at the source, and how far its ring was read (not in version 1)
//!          72 payload (version 1: at 56) · anything to a multiple of 8
//! ```
//! What was being written in a crash is torn, and not damage: reading ends there. It is damage where it lies before a
//! later entry's `durable`, or before the next segment's `previous_len`.

mod format;
mod read;
mod storage;

use std::path::Path;

use stead_model::{Incarnation, Position, Sequence};
use zerocopy::IntoBytes;

use crate::DiskError;
use crate::replica::Class;
use format::{PAYLOAD_BYTES_MAX, RawEntry, SEGMENT_HEAD_BYTES, SegmentHead, VERSION, entry_bytes, segment_name};

pub use read::Entries;
pub use storage::{DirStorage, Storage};

/// Files that wait to be written again.
const SPARE_PREFIX: &str = "spare-";
const SPARES_MAX: usize = 16;

/// Sizes of a journal.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// Bytes of a segment file, allocated in advance.
    pub segment_bytes: u64,
    /// Most bytes that all segments may have.
    pub bytes_max: u64,
}

impl Default for JournalOptions {
    /// Segments of 8 MiB, 4 GiB in all.
    fn default() -> Self {
        JournalOptions { segment_bytes: 8 << 20, bytes_max: 4 << 30 }
    }
}

/// What an entry says about its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHead {
    /// Number of the epoch.
    pub epoch: u64,
    /// Run of capture.
    pub incarnation: Incarnation,
    /// First record of the payload.
    pub first: Sequence,
    /// Last record of the payload.
    pub last: Sequence,
    /// The state after this entry is a consistent point.
    pub consistent: bool,
    /// Run of the capture process at the source; 0 where nobody said.
    pub capture: u64,
    /// How far that run's ring was read when the entry was made.
    pub captured: u64,
}

impl EntryHead {
    /// Position after the entry.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, incarnation: self.incarnation, sequence: self.last }
    }
}

/// An entry as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says about its payload.
    pub head: EntryHead,
    /// Encoded records.
    pub payload: Vec<u8>,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An operation on its files failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An entry in the middle is damaged: what follows it cannot be trusted.
    #[error("the journal segment {segment} is damaged at byte {offset}: {what}")]
    Corrupt {
        /// Number of the segment.
        segment: u64,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A segment is of a later version.
    #[error("the journal segment {segment} has version {version}; this program knows versions up to {known}")]
    Version {
        /// Number of the segment.
        segment: u64,
        /// What it says.
        version: u16,
        /// What this program knows.
        known: u16,
    },
    /// The journal has as many bytes as it may have.
    #[error("the journal is full: {bytes} bytes of {bytes_max}")]
    Full {
        /// What it has.
        bytes: u64,
        /// What it may have.
        bytes_max: u64,
    },
    /// The payload is larger than an entry may be.
    #[error("a payload of {bytes} bytes is larger than an entry may be")]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
    /// A sync failed: what of the entries since the last one is durable is unknown. Open the journal anew.
    #[error("the journal failed to sync and must be opened anew")]
    Failed,
}

impl JournalError {
    /// What to do about it, for people; `None` where the journal must be opened anew or cut.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            JournalError::Disk(error) => Class::of_io(&error.cause).map(Class::remedy),
            JournalError::Full { .. } => Some("Let the replica catch up, or allow the journal more room"),
            _ => None,
        }
    }
}

/// An append-only journal.
#[derive(Debug)]
pub struct Journal<S: Storage = DirStorage> {
    storage: S,
    options: JournalOptions,
    /// Oldest first; the last one is written to.
    segments: Vec<Segment>,
    spares: Vec<String>,
    /// Bytes of the last segment that are durable.
    durable: u64,
    failed: bool,
}

/// What is known of a segment.
#[derive(Clone, Debug, Default)]
struct Segment {
    number: u64,
    version: u16,
    /// Where its entries end.
    len: u64,
    /// Bytes that its file has.
    allocated: u64,
    /// Runs of one epoch and incarnation, with their first and last sequence.
    runs: Vec<EntryHead>,
}

impl Segment {
    fn note(&mut self, head: &EntryHead) {
        match self.runs.last_mut() {
            Some(run) if (run.epoch, run.incarnation) == (head.epoch, head.incarnation) => {
                (run.last, run.capture, run.captured) = (head.last, head.capture, head.captured);
            }
            _ => self.runs.push(*head),
        }
    }
}

impl Journal {
    /// Opens or makes the journal in `dir`, which exists, and finds its end.
    ///
    /// # Errors
    /// See [`JournalError`]; after [`JournalError::Corrupt`] use [`Journal::open_cut`].
    pub fn open(dir: &Path, options: JournalOptions) -> Result<Journal, JournalError> {
        Journal::open_on(DirStorage::new(dir), options)
    }

    /// As [`Journal::open`], but what follows a damaged entry is thrown away.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open_cut(dir: &Path, options: JournalOptions) -> Result<Journal, JournalError> {
        Journal::open_cut_on(DirStorage::new(dir), options)
    }
}

impl<S: Storage> Journal<S> {
    /// As [`Journal::open`], on any storage.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open_on(storage: S, options: JournalOptions) -> Result<Self, JournalError> {
        Self::open_with(storage, options, false)
    }

    /// As [`Journal::open_cut`], on any storage.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open_cut_on(storage: S, options: JournalOptions) -> Result<Self, JournalError> {
        Self::open_with(storage, options, true)
    }

    fn open_with(mut storage: S, options: JournalOptions, cut: bool) -> Result<Self, JournalError> {
        crate::sys::size_limit_is_an_error();
        let found = read::find(&mut storage, cut)?;
        for name in &found.useless {
            storage.remove(name).map_err(DiskError::at("remove", name))?;
        }
        // What a killed process wrote may still be in memory only.
        if let Some(last) = found.segments.last() {
            let name = segment_name(last.number);
            storage.sync(&name).map_err(DiskError::at("sync", &name))?;
        }
        let (segments, spares) = (found.segments, found.spares);
        let mut journal = Journal { storage, options, segments, spares, durable: 0, failed: false };
        journal.trim_last()?;
        // A segment that may be torn is not written on: what a crash left behind its end stays behind it for good.
        journal.begin_segment(found.next, 0)?;
        journal.drop_empty()?;
        Ok(journal)
    }

    /// Appends an entry; it is durable after the next [`Journal::sync`].
    ///
    /// # Errors
    /// [`JournalError::Full`], or what the kernel said; then nothing was appended.
    pub fn append(&mut self, head: &EntryHead, payload: &[u8]) -> Result<(), JournalError> {
        self.check_usable()?;
        let bytes = payload.len() as u64;
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes });
        }
        let needs = entry_bytes(bytes, VERSION);
        let current = self.current();
        if current.len + needs > current.allocated {
            self.sync()?;
            let next = self.current().number + 1;
            self.begin_segment(next, needs)?;
        }
        let (number, at, durable) = (self.current().number, self.current().len, self.durable);
        let raw = RawEntry::new(head, payload, number, durable);
        let name = segment_name(number);
        self.storage.write(&name, at, &[raw.as_bytes(), payload]).map_err(DiskError::at("write", &name))?;
        let current = self.segments.last_mut().expect("a journal has a segment");
        current.len += needs;
        current.note(head);
        Ok(())
    }

    /// Makes all entries durable.
    ///
    /// # Errors
    /// What the kernel said: after it no entry since the last sync may be acknowledged; open the journal anew.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.check_usable()?;
        let (name, len) = (segment_name(self.current().number), self.current().len);
        if self.durable == len {
            return Ok(());
        }
        self.failed = true;
        self.storage.sync(&name).map_err(DiskError::at("sync", &name))?;
        self.failed = false;
        self.durable = len;
        Ok(())
    }

    /// All entries in order.
    pub fn entries(&mut self) -> Entries<'_, S> {
        let segments = self.segments.iter().map(|segment| (segment.number, segment.version, segment.len)).collect();
        Entries::new(&mut self.storage, segments)
    }

    /// Removes the segments that hold nothing after `position`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn drop_until(&mut self, position: Position) -> Result<(), JournalError> {
        let is_of = |run: &&EntryHead| (run.epoch, run.incarnation) == (position.epoch, position.incarnation);
        let begun = |segment: &Segment| segment.runs.iter().filter(is_of).any(|run| run.first <= position.sequence);
        let Some(at) = self.segments.iter().rposition(begun) else { return Ok(()) };
        let ended = self.segments[at].runs.last().is_some_and(|run| is_of(&run) && run.last <= position.sequence);
        let is_current = at + 1 == self.segments.len();
        self.drop_first(if ended && !is_current { at + 1 } else { at })
    }

    /// Removes all entries: after a failover, or when a mirror begins anew.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn clear(&mut self) -> Result<(), JournalError> {
        self.check_usable()?;
        let next = self.current().number + 1;
        self.sync()?;
        self.begin_segment(next, 0)?;
        self.drop_first(self.segments.len() - 1)
    }

    /// Position after the last entry; `None` where there is none.
    pub fn last(&self) -> Option<Position> {
        self.segments.iter().rev().find_map(|segment| segment.runs.last()).map(EntryHead::position)
    }

    /// `capture` and `captured` of the last entry; after [`Journal::open`]: of the last durable one. `None` where there is
    /// no entry.
    pub fn last_captured(&self) -> Option<(u64, u64)> {
        let last = self.segments.iter().rev().find_map(|segment| segment.runs.last());
        last.map(|head| (head.capture, head.captured))
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.allocated).sum()
    }

    /// The storage, for tests.
    pub fn into_storage(self) -> S {
        self.storage
    }

    fn current(&self) -> &Segment {
        self.segments.last().expect("a journal has a segment")
    }

    fn check_usable(&self) -> Result<(), JournalError> {
        if self.failed { Err(JournalError::Failed) } else { Ok(()) }
    }

    /// Begins a segment that has room for an entry of `needs` bytes. All before it is durable.
    fn begin_segment(&mut self, number: u64, needs: u64) -> Result<(), JournalError> {
        let len = self.options.segment_bytes.max(SEGMENT_HEAD_BYTES + needs);
        let bytes = self.bytes() + len;
        if bytes > self.options.bytes_max && !self.segments.is_empty() && needs > 0 {
            return Err(JournalError::Full { bytes: self.bytes(), bytes_max: self.options.bytes_max });
        }
        let name = segment_name(number);
        let failed = || DiskError::at("begin", &name);
        if let Some(spare) = self.spares.last() {
            self.storage.rename(spare, &name).map_err(failed())?;
            self.spares.pop();
        }
        self.storage.allocate(&name, len).map_err(failed())?;
        let allocated = self.storage.len(&name).map_err(failed())?;
        let (previous, previous_len) = self.segments.last().map_or((0, 0), |segment| (segment.number, segment.len));
        let head = SegmentHead::new(number, previous, previous_len);
        self.storage.write(&name, 0, &[head.as_bytes()]).map_err(failed())?;
        self.storage.sync(&name).map_err(failed())?;
        self.storage.sync_names().map_err(failed())?;
        self.segments.push(Segment { number, version: VERSION, len: SEGMENT_HEAD_BYTES, allocated, runs: Vec::new() });
        self.durable = SEGMENT_HEAD_BYTES;
        Ok(())
    }

    /// Opening again and again must not take the room of a whole segment each time.
    fn trim_last(&mut self) -> Result<(), JournalError> {
        let Some(last) = self.segments.last_mut().filter(|last| !last.runs.is_empty()) else { return Ok(()) };
        let name = segment_name(last.number);
        self.storage.trim(&name, last.len).map_err(DiskError::at("cut", &name))?;
        last.allocated = last.len;
        Ok(())
    }

    /// Opening again and again must not pile up segments that hold nothing.
    fn drop_empty(&mut self) -> Result<(), JournalError> {
        let filled = self.segments.iter().position(|segment| !segment.runs.is_empty());
        self.drop_first(filled.unwrap_or(self.segments.len() - 1))
    }

    /// One after the other, so that no crash leaves a gap.
    fn drop_first(&mut self, count: usize) -> Result<(), JournalError> {
        for _ in 0..count {
            let segment = self.segments.remove(0);
            let name = segment_name(segment.number);
            let failed = || DiskError::at("drop", &name);
            if self.spares.len() >= SPARES_MAX || segment.allocated > self.options.segment_bytes {
                self.storage.remove(&name).map_err(failed())?;
            } else {
                let spare = format!("{SPARE_PREFIX}{:x}", segment.number);
                self.storage.rename(&name, &spare).map_err(failed())?;
                self.spares.push(spare);
            }
            self.storage.sync_names().map_err(failed())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
