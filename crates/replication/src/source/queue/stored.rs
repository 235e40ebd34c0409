//! Which bodies of the queue are in memory, which are on disk, and which are on their way from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use stead_model::Sequence;

use super::{Batch, Queue, TargetMask, Touched};
use crate::planted::{Planted, is_planted};

/// Is a body on disk?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::source) enum Stored {
    #[default]
    No,
    /// It is being written; until it is, it stays in memory.
    Writing,
    Yes,
    /// What was written cannot be read: who needs it goes behind.
    Lost,
}

/// Bookkeeping of the bodies that are on disk, or could be.
#[derive(Debug, Default)]
pub(in crate::source) struct DiskPart {
    /// Of the stream, in memory alone.
    pub(super) unstored: BTreeSet<Sequence>,
    /// On disk and in memory.
    loaded: BTreeSet<Sequence>,
    /// Being written, with their bytes; also those that are needed no more.
    writing: BTreeMap<Sequence, usize>,
    /// Being read, and since when.
    reading: BTreeMap<Sequence, Instant>,
    /// What cannot be read, and why.
    pub(in crate::source) lost: BTreeMap<Sequence, String>,
    /// On disk and needed no more.
    pub(in crate::source) forgotten: Vec<Sequence>,
    /// Bytes on disk or on the way there, of what is needed.
    pub(in crate::source) bytes: u64,
    /// What batches that somebody lacks take up in memory besides their bodies.
    pub(in crate::source) notes: usize,
}

impl Queue {
    /// The youngest body that is in memory alone and may be written; none of `near`.
    pub(in crate::source) fn to_spill(&self, near: &BTreeSet<Sequence>) -> Option<&Batch> {
        let first = self.disk.unstored.iter().rev().find(|first| !near.contains(first))?;
        self.batches.get(first)
    }

    pub(in crate::source) fn begin_spill(&mut self, first: Sequence) -> Option<Arc<Vec<u8>>> {
        let batch = self.batches.get_mut(&first)?;
        batch.stored = Stored::Writing;
        self.disk.unstored.remove(&first);
        self.disk.writing.insert(first, batch.body_len);
        self.disk.bytes += batch.body_len as u64;
        Some(batch.body.clone())
    }

    /// A body was written, or not.
    pub(in crate::source) fn spilled(&mut self, first: Sequence, written: bool) {
        if self.disk.writing.remove(&first).is_none() {
            return;
        }
        match self.batches.get_mut(&first).filter(|batch| batch.stored == Stored::Writing) {
            Some(batch) if written => {
                batch.stored = Stored::Yes;
                self.disk.loaded.insert(first);
            }
            Some(batch) => {
                batch.stored = Stored::No;
                self.disk.bytes -= batch.body_len as u64;
                self.disk.unstored.insert(first);
            }
            None if written => self.disk.forgotten.push(first),
            None => {}
        }
    }

    /// Bodies on their way to the disk, and their bytes.
    pub(in crate::source) fn writing(&self) -> (usize, usize) {
        (self.disk.writing.len(), self.disk.writing.values().sum())
    }

    /// Bytes on disk of what is for the target after that place.
    pub(in crate::source) fn bytes_on_disk(&self, target: TargetMask, after: Sequence) -> u64 {
        if self.disk.bytes == 0 {
            return 0;
        }
        let stored = |batch: &&Batch| batch.stored == Stored::Yes && batch.targets & target != 0;
        self.batches.range(after + 1..).map(|(_, batch)| batch).filter(stored).map(|batch| batch.body_len as u64).sum()
    }

    /// A body that is only on disk is asked for.
    pub(in crate::source) fn begin_fetch(&mut self, first: Sequence, now: Instant) -> bool {
        let is_away = |batch: &Batch| batch.stored == Stored::Yes && batch.body.is_empty();
        let asks = self.batches.get(&first).is_some_and(is_away) && !self.disk.reading.contains_key(&first);
        if asks {
            self.disk.reading.insert(first, now);
        }
        asks
    }

    /// When the oldest of the bodies was asked for that did not come yet.
    pub(in crate::source) fn asked_first(&self) -> Option<Instant> {
        self.disk.reading.values().min().copied()
    }

    /// What was asked for up to then and did not come counts as lost.
    pub(in crate::source) fn lose_asked_until(&mut self, then: Instant) {
        let late: Vec<Sequence> =
            self.disk.reading.iter().filter(|(_, at)| **at <= then).map(|(first, _)| *first).collect();
        for first in late {
            self.disk.reading.remove(&first);
            self.lose(first, "the queue's disk does not answer".into());
        }
    }

    /// A body was read, or not.
    pub(in crate::source) fn fetched(&mut self, first: Sequence, result: Result<Vec<u8>, String>) {
        let asked = self.disk.reading.remove(&first).is_some();
        let wanted = |batch: &&mut Batch| asked && batch.stored == Stored::Yes && batch.body.is_empty();
        let Some(batch) = self.batches.get_mut(&first).filter(wanted) else { return };
        let fits = |body: &[u8]| body.len() == batch.body_len && crc32fast::hash(body) == batch.body_crc;
        match result {
            Ok(body) if fits(&body) || is_planted(Planted::TrustDisk) => {
                batch.body_crc = crc32fast::hash(&body);
                self.bytes += body.len();
                batch.body = body.into();
                self.disk.loaded.insert(first);
            }
            Ok(_) => self.lose(first, "the queue's disk is damaged: what was read is not what was written".into()),
            Err(why) => self.lose(first, why),
        }
    }

    /// Bodies that are on disk too stay in memory only where they are needed soon.
    pub(in crate::source) fn unload(&mut self, near: &BTreeSet<Sequence>) {
        let far: Vec<Sequence> = self.disk.loaded.difference(near).copied().collect();
        for first in far {
            self.disk.loaded.remove(&first);
            if let Some(batch) = self.batches.get_mut(&first) {
                self.bytes -= batch.body.len();
                batch.body = Arc::default();
            }
        }
    }

    fn lose(&mut self, first: Sequence, why: String) {
        if let Some(batch) = self.batches.get_mut(&first) {
            batch.stored = Stored::Lost;
            self.disk.bytes -= batch.body_len as u64;
            self.disk.forgotten.push(first);
            self.disk.lost.insert(first, why);
        }
    }

    /// Nobody needs the body any more.
    pub(super) fn let_go(&mut self, first: Sequence) {
        let Some(batch) = self.batches.get_mut(&first) else { return };
        self.bytes -= batch.body.len();
        batch.body = Arc::default();
        batch.touched = Touched::default();
        self.disk.notes -= std::mem::take(&mut batch.notes);
        let stored = std::mem::replace(&mut batch.stored, Stored::No);
        if matches!(stored, Stored::Yes | Stored::Writing) {
            self.disk.bytes -= batch.body_len as u64;
        }
        if stored == Stored::Yes {
            self.disk.forgotten.push(first);
        }
        self.disk.unstored.remove(&first);
        self.disk.loaded.remove(&first);
        self.disk.reading.remove(&first);
        self.disk.lost.remove(&first);
    }
}
