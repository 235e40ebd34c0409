//! The queue: numbered records in batches, each packed once, kept until every target has them.

mod stored;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use stead_model::record::{RecordError, set_sequence};
use stead_model::{Record, Sequence};

use super::api::Compression;
use super::connection::{STREAM, TargetMask};
use super::dirty::Touched;
use super::young::Young;
use crate::frame::CAPTURED_BYTES;
use crate::frame::body::{self, Packed, Packer};
use stored::{DiskPart, Stored};

/// A batch is closed once it has this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// A consistent point is made of a batch from this size on, where one can be.
pub(super) const SEAL_BYTES: usize = BATCH_BYTES / 2;

/// What a batch takes up besides its body, and each file that it touched.
const NOTES_BYTES: usize = 320;
const TOUCHED_BYTES: usize = 64;

/// Records that travel together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    /// Everything captured before is covered.
    pub(super) time: u64,
    /// When the oldest change in it was captured.
    pub(super) oldest_time: u64,
    pub(super) flags: u16,
    /// The body in version 2. Empty once every target has journaled it, or while it is only on disk.
    pub(super) body: Arc<Vec<u8>>,
    pub(super) stored: Stored,
    pub(super) body_crc: u32,
    pub(super) raw_len: usize,
    /// For whom it is; others are told that there is nothing for them.
    pub(super) targets: TargetMask,
    /// For whom its end is a consistent point.
    pub(super) consistent: TargetMask,
    /// Capture's number that the stream had come to, and who has everything up to it by the end of this.
    pub(super) captured: u64,
    pub(super) whole: TargetMask,
    /// For whom it is part of a first mirror.
    pub(super) first_mirror: TargetMask,
    /// Bytes of the body, also when it was let go.
    pub(super) body_len: usize,
    /// What its changes touched, where they are part of the stream and a target may still go behind for them.
    pub(super) touched: Touched,
    /// Bytes in memory besides the body, while that is needed.
    notes: usize,
    /// Bytes and records of the stream up to its end.
    bytes_until: u64,
    records_until: u64,
}

impl Batch {
    /// One that says that nothing is for a target up to there, before this one.
    pub(super) fn before(&self, last: Sequence) -> Batch {
        let (time, first_mirror) = (self.time, self.first_mirror);
        Batch { first: last, last, time, first_mirror, ..Batch::default() }
    }

    /// Packs its records; `captured` is set already.
    fn fill(&mut self, packer: Option<&mut Packer>, raw: Vec<u8>) {
        self.raw_len = raw.len();
        let Packed { flags, mut body } = match packer {
            Some(packer) => packer.pack(raw),
            None => Packed { flags: 0, body: raw },
        };
        body.extend_from_slice(&self.captured.to_le_bytes());
        if body.capacity() > body.len() / 4 * 5 {
            body.shrink_to_fit();
        }
        (self.flags, self.body_crc, self.body_len) = (flags, crc32fast::hash(&body), body.len());
        self.body = body.into();
    }

    /// The body in version 1: without capture's number.
    pub(super) fn records(&self) -> &[u8] {
        &self.body[..self.body.len().saturating_sub(CAPTURED_BYTES)]
    }
}

#[derive(Debug, Default)]
struct Open {
    raw: Vec<u8>,
    records: u64,
    targets: TargetMask,
    oldest_time: u64,
    touched: Touched,
}

impl Open {
    fn touch(&mut self, record: &Record<'_>, young: &mut Young) {
        let rewrites = self.touched.rewrites;
        self.touched.note(record);
        self.touched.deletions -= u64::from(young.loses(record));
        if self.touched.rewrites > rewrites && young.writes_again(record) {
            self.touched.rewrites = rewrites;
        }
    }
}

/// How far a follower is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Follower {
    pub(super) bit: TargetMask,
    pub(super) journaled: Sequence,
    pub(super) applied: Sequence,
    /// It gets nothing of the stream, only what is made for it.
    pub(super) behind: bool,
}

/// The queue of a set.
#[derive(Debug)]
pub(super) struct Queue {
    /// By their first number.
    batches: BTreeMap<Sequence, Batch>,
    /// Those of them that are not part of the stream, and for whom.
    made: BTreeMap<Sequence, (TargetMask, usize)>,
    open: Open,
    next: Sequence,
    packer: Option<Packer>,
    /// Files that came, or were written over, within the brake's window.
    pub(super) young: Young,
    bytes: usize,
    pub(super) disk: DiskPart,
    /// Up to here bodies were let go.
    freed: Sequence,
    bytes_until: u64,
    records_until: u64,
    first_mirror: TargetMask,
    /// What is told of the last batch, where nothing followed it.
    now: Seal,
    captured_now: u64,
    /// Time that a batch closed now gets.
    pub(super) time: u64,
    /// Capture's number that a batch closed now gets.
    pub(super) captured: u64,
}

/// What the end of a batch is, and for whom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seal {
    /// A consistent point.
    pub(super) consistent: TargetMask,
    /// All that the changes up to capture's number brought about has come.
    pub(super) whole: TargetMask,
}

impl Queue {
    pub(super) fn new(compression: Compression, window: Duration) -> Queue {
        Queue {
            batches: BTreeMap::new(),
            made: BTreeMap::new(),
            open: Open::default(),
            next: 1,
            packer: (compression == Compression::Adaptive).then(Packer::new),
            young: Young::new(window),
            bytes: 0,
            disk: DiskPart::default(),
            freed: 0,
            bytes_until: 0,
            records_until: 0,
            first_mirror: 0,
            now: Seal::default(),
            captured_now: 0,
            time: 0,
            captured: 0,
        }
    }

    /// As if so many records had come and gone.
    #[cfg(test)]
    pub(super) fn skip(&mut self, records: u64) {
        self.next += records;
    }

    /// The last number given.
    pub(super) fn last(&self) -> Sequence {
        self.next - 1
    }

    /// Bytes in memory of packed batches and of the open one.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.open.raw.len()
    }

    /// Appends a record for these targets.
    pub(super) fn push(&mut self, record: &Record<'_>, targets: TargetMask) {
        self.prepare(record.encoded_len(), targets);
        let record = Record { sequence: self.next, ..*record };
        self.note(record.time);
        if targets & STREAM != 0 {
            self.open.touch(&record, &mut self.young);
        }
        record.append_to(&mut self.open.raw);
    }

    /// Appends encoded records for these targets.
    pub(super) fn append(&mut self, records: &mut [u8], targets: TargetMask) -> Result<(), RecordError> {
        let mut rest = records;
        while !rest.is_empty() {
            let len = record_len(rest)?;
            self.prepare(len, targets);
            let room = BATCH_BYTES.saturating_sub(self.open.raw.len());
            let mut run = 0;
            while run < rest.len() {
                let len = record_len(&rest[run..])?;
                if run > 0 && run + len > room {
                    break;
                }
                set_sequence(&mut rest[run..], self.next);
                self.note(record_time(&rest[run..]));
                self.open.touch(&Record::parse(&rest[run..])?.0, &mut self.young);
                run += len;
            }
            let (taken, after) = rest.split_at_mut(run);
            self.open.raw.extend_from_slice(taken);
            rest = after;
        }
        Ok(())
    }

    /// As [`Queue::append`], without a copy where that can be.
    pub(super) fn adopt(&mut self, mut records: Vec<u8>, targets: TargetMask) -> Result<(), RecordError> {
        if self.open.records > 0 || records.len() > BATCH_BYTES {
            return self.append(&mut records, targets);
        }
        self.prepare(0, targets);
        let mut at = 0;
        while at < records.len() {
            let len = record_len(&records[at..])?;
            set_sequence(&mut records[at..], self.next);
            self.note(record_time(&records[at..]));
            self.open.touch(&Record::parse(&records[at..])?.0, &mut self.young);
            at += len;
        }
        self.open.raw = records;
        Ok(())
    }

    /// Batches from now on are part of a first mirror for these targets.
    pub(super) fn set_first_mirror(&mut self, targets: TargetMask) {
        if self.first_mirror != targets {
            self.close(Seal::default());
            self.first_mirror = targets;
        }
    }

    /// Is the open batch worth closing, if a consistent point can be made of its end?
    pub(super) fn is_worth_sealing(&self) -> bool {
        self.open.raw.len() >= SEAL_BYTES
    }

    /// Closes the open batch. Where nothing is open, an empty batch tells `followers` of a consistent point, or of
    /// capture's number, if they were not told yet.
    pub(super) fn seal(&mut self, seal: Seal, followers: TargetMask) {
        let known = if self.captured > self.captured_now { 0 } else { self.now.whole };
        let news = (seal.consistent & !self.now.consistent) | (seal.whole & !known);
        if self.open.records > 0 {
            self.close(seal);
        } else if news & followers != 0 {
            self.open.targets = TargetMask::MAX;
            self.next += 1;
            self.close_open(seal);
        }
    }

    /// The next batch for a target that was sent everything up to there, of which nothing of the stream up to
    /// `skip_until` is for it; `None`: there is none yet.
    pub(super) fn next_for(&self, target: TargetMask, sent: Sequence, skip_until: Sequence) -> Option<&Batch> {
        if sent >= skip_until {
            return self.batches.range(sent + 1..).next().map(|(_, batch)| batch);
        }
        let made = self.made.range(sent + 1..).find(|(_, (targets, _))| targets & target != 0);
        if let Some((first, _)) = made.filter(|(first, _)| **first <= skip_until) {
            return self.batches.get(first);
        }
        self.batches.range(skip_until.checked_add(1)?..).next().map(|(_, batch)| batch)
    }

    /// Bytes that such a target was not sent yet.
    pub(super) fn unsent_bytes(&self, target: TargetMask, sent: Sequence, skip_until: Sequence) -> u64 {
        let of_stream = if skip_until == Sequence::MAX { 0 } else { self.after(sent.max(skip_until)).0 };
        if sent >= skip_until {
            return of_stream;
        }
        let made = self.made.range(sent + 1..).take_while(|(first, _)| **first <= skip_until);
        of_stream + made.filter(|(_, (targets, _))| targets & target != 0).map(|(_, (_, len))| *len as u64).sum::<u64>()
    }

    /// Batches after that place, the next one first.
    pub(super) fn batches_after(&self, sequence: Sequence) -> impl Iterator<Item = &Batch> {
        self.batches.range(sequence + 1..).map(|(_, batch)| batch)
    }

    /// One batch in the place of these, which follow each other.
    pub(super) fn joined(&mut self, batches: RangeInclusive<Sequence>) -> Option<Batch> {
        let parts: Vec<&Batch> = self.batches.range(batches).map(|(_, batch)| batch).collect();
        let (first, last) = (parts.first()?, parts.last()?);
        let mut raw = Vec::with_capacity(parts.iter().map(|batch| batch.raw_len).sum());
        for batch in &parts {
            raw.extend(body::unpack(batch.flags, batch.raw_len, batch.records()).ok()?);
        }
        let mut joined = Batch { first: first.first, oldest_time: first.oldest_time, ..last.before(last.last) };
        (joined.targets, joined.consistent) = (last.targets, last.consistent);
        (joined.captured, joined.whole) = (last.captured, last.whole);
        joined.fill(self.packer.as_mut(), raw);
        Some(joined)
    }

    /// Can a target that has everything up to there go on?
    pub(super) fn continues_after(&self, sequence: Sequence) -> bool {
        let last_closed = self.last() - self.open.records;
        sequence == last_closed || self.batches.contains_key(&(sequence + 1))
    }

    /// Bytes and records after that place.
    pub(super) fn after(&self, sequence: Sequence) -> (u64, u64) {
        let next = self.batches.range(sequence + 1..).next().map(|(_, batch)| batch);
        let (bytes, records) = next.map_or((self.bytes_until, self.records_until), |next| {
            (next.bytes_until - next.body_len as u64, next.records_until - (next.last + 1 - next.first))
        });
        (self.bytes_until - bytes + self.open.raw.len() as u64, self.records_until - records + self.open.records)
    }

    /// When the oldest change after that place was captured.
    pub(super) fn oldest_after(&self, sequence: Sequence) -> Option<u64> {
        let open = (self.open.records > 0).then_some(self.open.oldest_time);
        let after = self.batches.range(sequence + 1..).map(|(_, batch)| batch.oldest_time);
        after.into_iter().find(|time| *time > 0).or(open).filter(|time| *time > 0)
    }

    /// Whom the open batch is for.
    pub(super) fn open_for(&self) -> TargetMask {
        self.open.targets
    }

    /// What comes is in another batch than what came.
    pub(super) fn split(&mut self) {
        self.close(Seal::default());
    }

    /// Is anything of the stream after that place for the target?
    pub(super) fn has_stream_for(&self, target: TargetMask, after: Sequence) -> bool {
        let is_for = |targets: TargetMask| targets & STREAM != 0 && targets & target != 0;
        let open = self.open.records > 0 && is_for(self.open.targets);
        open || self.batches.range(after + 1..).any(|(_, batch)| is_for(batch.targets))
    }

    /// Nothing of the stream after that place is for the target any more; what it touched goes to `each`.
    pub(super) fn withhold(&mut self, target: TargetMask, after: Sequence, mut each: impl FnMut(&Touched)) {
        self.close(Seal::default());
        for (_, batch) in self.batches.range_mut(after + 1..) {
            batch.consistent &= !target;
            batch.whole &= !target;
            if batch.targets & STREAM != 0 && batch.targets & target != 0 {
                batch.targets &= !target;
                each(&batch.touched);
            }
        }
    }

    /// Nothing that was made for the target after that place is needed any more.
    pub(super) fn unmake(&mut self, target: TargetMask, after: Sequence) {
        self.close(Seal::default());
        for (first, (targets, _)) in self.made.range_mut(after + 1..) {
            *targets &= !target;
            if let Some(batch) = self.batches.get_mut(first) {
                batch.targets &= !target;
            }
        }
    }

    /// Lets go of what every follower has: bodies when journaled, the rest when applied.
    pub(super) fn free(&mut self, followers: &[Follower]) {
        let keeping = || followers.iter().filter(|follower| !follower.behind);
        let journaled = keeping().map(|follower| follower.journaled).min().unwrap_or(self.last());
        let applied = keeping().map(|follower| follower.applied).min().unwrap_or(self.last());
        let behind: Vec<&Follower> = followers.iter().filter(|follower| follower.behind).collect();
        let is_needed = |batch: &Batch| {
            behind.iter().any(|follower| batch.targets & follower.bit != 0 && follower.journaled < batch.last)
        };
        let done: Vec<Sequence> = (self.batches.values().take_while(|batch| batch.last <= applied))
            .filter(|batch| !is_needed(batch))
            .map(|batch| batch.first)
            .collect();
        for first in done {
            self.let_go(first);
            self.batches.remove(&first);
            self.made.remove(&first);
        }
        let from = self.freed + 1;
        let through: Vec<Sequence> = (self.batches.range(from..).take_while(|(_, batch)| batch.last <= journaled))
            .filter(|(_, batch)| !is_needed(batch))
            .map(|(first, _)| *first)
            .collect();
        through.into_iter().for_each(|first| self.let_go(first));
        self.freed = self.freed.max(journaled);
    }

    /// The batch that begins there.
    pub(super) fn batch(&self, first: Sequence) -> Option<&Batch> {
        self.batches.get(&first)
    }

    fn prepare(&mut self, more: usize, targets: TargetMask) {
        let full = self.open.raw.len() + more > BATCH_BYTES;
        if self.open.records > 0 && (full || self.open.targets != targets) {
            self.close(Seal::default());
        }
        self.open.targets = targets;
    }

    fn note(&mut self, time: u64) {
        if self.open.oldest_time == 0 {
            self.open.oldest_time = time;
        }
        self.open.records += 1;
        self.next += 1;
        self.now = Seal::default();
    }

    fn close(&mut self, seal: Seal) {
        if self.open.records > 0 {
            self.close_open(seal);
        }
    }

    fn close_open(&mut self, seal: Seal) {
        let open = std::mem::take(&mut self.open);
        let last = self.last();
        let records = open.records.max(1);
        let first = last + 1 - records;
        let mut batch = Batch {
            first,
            last,
            time: self.time,
            oldest_time: open.oldest_time,
            targets: open.targets,
            consistent: seal.consistent,
            captured: self.captured,
            whole: seal.whole,
            first_mirror: self.first_mirror,
            notes: NOTES_BYTES + open.touched.files.len() * TOUCHED_BYTES,
            touched: open.touched,
            ..Batch::default()
        };
        batch.fill(self.packer.as_mut(), open.raw);
        self.bytes += batch.body_len;
        (self.records_until, self.bytes_until) =
            (self.records_until + records, self.bytes_until + batch.body_len as u64);
        (batch.records_until, batch.bytes_until) = (self.records_until, self.bytes_until);
        (self.now, self.captured_now) = (seal, self.captured);
        self.disk.notes += batch.notes;
        if batch.targets & STREAM == 0 {
            self.made.insert(first, (batch.targets, batch.body_len));
        } else if batch.raw_len > 0 {
            self.disk.unstored.insert(first);
        }
        self.batches.insert(first, batch);
    }
}

fn record_len(bytes: &[u8]) -> Result<usize, RecordError> {
    let len = u32::from_le_bytes(*bytes.first_chunk().ok_or(RecordError::Cut)?) as usize;
    if len >= stead_model::record::FIXED_BYTES && len <= bytes.len() { Ok(len) } else { Err(RecordError::Cut) }
}

fn record_time(bytes: &[u8]) -> u64 {
    bytes.get(72..80).and_then(|time| time.first_chunk()).map_or(0, |time| u64::from_le_bytes(*time))
}
