//! What stays in the ring after it was taken, and what is remembered of it when it has to go.
//!
//! ```text
//!   unconfirmed map:  generation being filled ── covers up to its number ──┐ confirmed beyond the number of the
//!                     generation closed       ── covers up to its number   ┘ closed one: cleared, they change places
//! ```
//! A record is let go in this order: its files into the generation being filled, that generation's number, the tail. Who
//! dies in between has remembered too much, never too little.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use stead_model::{FileId, Kind, Record, Sequence};

use super::writer::note;
use super::{PADDING, Ring, UNCONFIRMED_AT};
use crate::dirty::{self, DirtyMap};

/// Records freed while the lock is held once.
const AT_ONCE: usize = 256;

/// Where a reader's stream begins, and what came before it and may be nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Everything up to this number is confirmed, or named below.
    pub tail: Sequence,
    /// What was let go before and never confirmed. The caller makes it durable before it confirms [`Resumed::tail`]
    /// or anything beyond: then it is forgotten here.
    pub unconfirmed: Unconfirmed,
}

/// What changed, and may not have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unconfirmed {
    /// These files (of a directory also its names), each once; none: nothing is missing.
    Files(Vec<FileId>),
    /// Too many to name them.
    WholeSet,
}

impl Ring {
    /// What was let go and not confirmed; the caller holds the lock.
    pub(super) fn unconfirmed(&self) -> Unconfirmed {
        let mut files = Vec::new();
        for map in [self.generation(0), self.generation(1)] {
            if map.is_whole() {
                return Unconfirmed::WholeSet;
            }
            files.extend(map.files());
        }
        files.sort_unstable();
        files.dedup();
        Unconfirmed::Files(files)
    }

    /// Frees what is confirmed, which the reader has taken, and lets go until `keep_free` bytes are free.
    pub(super) fn release(&self, confirmed: Sequence, keep_free: u64) {
        self.forget(confirmed);
        while self.free(confirmed) {}
        self.make_room(keep_free);
    }

    /// Lets go of what was taken until that much is free.
    pub(super) fn make_room(&self, keep_free: u64) {
        let header = self.header();
        let free = || self.bytes - (header.head.0.load(Relaxed) - header.tail.0.load(Relaxed));
        loop {
            let _guard = self.lock();
            if free() >= keep_free || !self.let_go(header.taken.0.load(Relaxed)) {
                return;
            }
        }
    }

    /// Lets go of a few records up to that number, all of them taken; false: there are none. The caller holds the lock.
    pub(super) fn let_go(&self, taken: Sequence) -> bool {
        let header = self.header();
        let (tail, filling) = (header.tail.0.load(Relaxed), header.filling.load(Relaxed) as usize & 1);
        let map = self.generation(filling);
        #[cfg(test)]
        if FREE_FIRST.get() {
            header.tail.0.store(self.walk(tail, taken, |_| {}), Release);
        }
        let end = self.walk(tail, taken, |bytes| {
            step();
            match Record::parse(bytes) {
                Ok((record, _)) if record.kind == Kind::Sync => {}
                Ok((record, _)) => note(&map, &record),
                Err(_) => map.insert_whole(),
            }
        });
        step();
        header.until[filling].store(end, Relaxed);
        step();
        header.tail.0.store(end, Release);
        step();
        end > tail
    }

    /// Frees a few confirmed records; false: there are none.
    fn free(&self, confirmed: Sequence) -> bool {
        let tail = &self.header().tail.0;
        let _guard = self.lock();
        let from = tail.load(Relaxed);
        let end = self.walk(from, confirmed, |_| {});
        step();
        tail.store(end, Release);
        end > from
    }

    /// Clears what is confirmed. Nobody but the reader clears, and what is closed nobody fills.
    fn forget(&self, confirmed: Sequence) {
        let header = self.header();
        for _ in 0..2 {
            let filling = header.filling.load(Relaxed) as usize & 1;
            let closed = self.generation(1 - filling);
            if closed.pending() > 0 {
                if confirmed < header.until[1 - filling].load(Relaxed) {
                    return;
                }
                step();
                closed.remove(FileId::NONE, 0);
            }
            step();
            let _guard = self.lock();
            if self.generation(filling).pending() > 0 {
                header.filling.store(1 - filling as u64, Relaxed);
            }
        }
    }

    /// Goes over a few committed records from `at`, none of which ends beyond `limit`; returns where it came to. The
    /// caller holds the lock.
    fn walk(&self, mut at: u64, limit: u64, mut each: impl FnMut(&[u8])) -> u64 {
        for _ in 0..AT_ONCE {
            if at >= limit {
                break;
            }
            let word = u64::from(self.length_word(at).load(Acquire));
            let len = word & !PADDING;
            if len == 0 || at + len > limit {
                break;
            }
            if word & PADDING == 0 {
                each(self.data.exclusive((at % self.bytes) as usize, len as usize));
            }
            at += len;
        }
        at
    }

    pub(super) fn generation(&self, index: usize) -> DirtyMap<'_> {
        DirtyMap::at(&self.control, UNCONFIRMED_AT + index * dirty::BYTES.next_multiple_of(64))
    }
}

/// A place where a test lets the process die.
#[cfg(not(test))]
#[inline(always)]
fn step() {}
#[cfg(test)]
use super::tests::step;

// The planted fault that the checker has to find.
#[cfg(test)]
thread_local!(pub(super) static FREE_FIRST: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
