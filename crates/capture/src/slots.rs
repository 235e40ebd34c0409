//! Request slots: each serving thread reads the kernel's requests into a slot in shared memory, and notes there how far
//! it got, so that a replacement of a killed server knows what was done.
//!
//! ```text
//!   memory:  counts · slots (head · request) · ledger (heads)
//! ```
//! A new server first moves what its dead predecessors had begun to the *ledger*, by the request's number. The kernel
//! delivers each of those requests again, and who gets it finds there what is to be answered, or what was before it was
//! begun, from which it tells whether it took effect.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use stead_model::FileId;

use crate::fuse::abi::{REQUEST_BYTES_MAX, UNIQUE_RESEND};
use crate::ring::{FLIGHTS, Ring};
use crate::sys::{Atomics, Shared};

/// Bytes of shared memory, mostly untouched.
pub const BYTES: usize = LEDGER_AT + FLIGHTS * HEAD_BYTES;
/// Longest answer that is kept for a repetition.
pub const ANSWER_BYTES_MAX: usize = 512;

const HEAD_BYTES: usize = 4096;
const STRIDE: usize = HEAD_BYTES + REQUEST_BYTES_MAX;
const SLOTS_AT: usize = HEAD_BYTES;
const LEDGER_AT: usize = SLOTS_AT + FLIGHTS * STRIDE;

/// How far the request in a slot got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// There is none, or it was answered.
    Idle = 0,
    /// It was read.
    Read = 1,
    /// It is being executed: whether it took effect is not known.
    Executing = 2,
    /// It took effect, and its records are in the ring; the answer is in the slot.
    Executed = 3,
}

/// What names meant before an operation on them was carried out; `FileId::NONE`: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The first name.
    pub file: FileId,
    /// The second name, of a rename.
    pub file2: FileId,
}

#[repr(C)]
struct Head {
    unique: AtomicU64,
    phase: AtomicU32,
    /// Of the mount that asks: numbers of requests are its own.
    root: AtomicU32,
    error: AtomicI32,
    answer_len: AtomicU32,
    /// 1: what was before is known.
    knows: AtomicU32,
    pad: AtomicU32,
    before: [AtomicU64; 4],
    /// In the ledger: [`Flight::main`](crate::ring::Flight::main) of who began it, and after how many deaths it came.
    main: AtomicU64,
    born: AtomicU64,
}

// SAFETY: atomics only.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Head {}

/// How many slots and places of the ledger were ever used: the others are not looked at.
#[repr(C)]
struct Counts {
    slots: AtomicU32,
    places: AtomicU32,
}

// SAFETY: atomics only.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Counts {}

/// All slots.
pub struct Slots {
    memory: Shared,
}

/// The slot of one thread, or a place of the ledger.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    memory: &'a Shared,
    head: &'a Head,
    at: usize,
}

impl Slots {
    /// The slots in `memory`.
    pub fn new(memory: Shared) -> Slots {
        Slots { memory }
    }

    /// A thread's slot, that it is going to use.
    pub fn take(&self, index: usize) -> Slot<'_> {
        self.counts().slots.fetch_max(index as u32 + 1, Relaxed);
        let slot = self.slot(index);
        self.memory.pin(slot.at, STRIDE);
        slot
    }

    /// A slot.
    pub fn slot(&self, index: usize) -> Slot<'_> {
        assert!(index < FLIGHTS);
        self.at(SLOTS_AT + index * STRIDE)
    }

    /// What a dead server had begun of a request that is delivered again.
    pub fn find(&self, root: u32, unique: u64) -> Option<Slot<'_>> {
        let unique = unique & !UNIQUE_RESEND;
        self.ledger().find(|place| place.phase() != Phase::Idle && place.is(root, unique))
    }

    /// Moves what the dead had begun to the ledger, and clears slots and flights. Only before any thread serves.
    pub fn take_over(&self, ring: &Ring, deaths: u64) {
        for index in 0..(self.counts().slots.load(Relaxed) as usize).min(FLIGHTS) {
            let (slot, flight) = (self.slot(index), ring.flight(index));
            if matches!(slot.phase(), Phase::Executing | Phase::Executed) {
                let (root, unique) = (slot.head.root.load(Relaxed), slot.head.unique.load(Relaxed));
                let place = self.find(root, unique).or_else(|| self.vacancy());
                if let Some(place) = place {
                    place.copy(&slot, flight.main(), deaths);
                }
            }
            slot.set(Phase::Idle);
        }
        (0..FLIGHTS).for_each(|index| ring.flight(index).reset());
    }

    fn vacancy(&self) -> Option<Slot<'_>> {
        let used = self.counts().places.load(Relaxed) as usize;
        if used < FLIGHTS && self.ledger().all(|place| place.phase() != Phase::Idle) {
            self.counts().places.store(used as u32 + 1, Relaxed);
            return Some(self.at(LEDGER_AT + used * HEAD_BYTES));
        }
        // Taken by a request that was answered just before the death, a place is never asked for: the oldest goes.
        self.ledger()
            .min_by_key(|place| if place.phase() == Phase::Idle { 0 } else { place.head.born.load(Relaxed) + 1 })
    }

    fn ledger(&self) -> impl Iterator<Item = Slot<'_>> {
        let used = (self.counts().places.load(Relaxed) as usize).min(FLIGHTS);
        (0..used).map(|index| self.at(LEDGER_AT + index * HEAD_BYTES))
    }

    fn counts(&self) -> &Counts {
        self.memory.atomics(0)
    }

    fn at(&self, at: usize) -> Slot<'_> {
        Slot { memory: &self.memory, head: self.memory.atomics(at), at }
    }
}

impl<'a> Slot<'a> {
    /// Room for the request. Only the thread that owns the slot may ask for it.
    pub fn buffer(&self) -> &'a mut [u8] {
        self.memory.exclusive(self.at + HEAD_BYTES, REQUEST_BYTES_MAX)
    }

    /// Notes that a request was read; nothing of it was begun.
    pub fn begin(&self, root: u32, unique: u64) {
        self.head.phase.store(Phase::Idle as u32, Relaxed);
        self.head.knows.store(0, Release);
        self.head.root.store(root, Relaxed);
        self.head.unique.store(unique & !UNIQUE_RESEND, Relaxed);
        self.set(Phase::Read);
    }

    /// Goes on where a dead server stopped. The place in the ledger is free afterwards.
    pub fn inherit(&self, place: &Slot<'_>) {
        self.copy(place, 0, 0);
        place.set(Phase::Idle);
    }

    /// Notes how far it got.
    pub fn set(&self, phase: Phase) {
        self.head.phase.store(phase as u32, Release);
    }

    /// Notes what names mean just before they are changed.
    pub fn note(&self, before: Before) {
        let words = [before.file, before.file2].map(|file| [file.ino, pack(file)]);
        for (word, value) in self.head.before.iter().zip(words.as_flattened()) {
            word.store(*value, Relaxed);
        }
        self.head.knows.store(1, Release);
    }

    /// What names meant; `None`: whoever died had not come so far, and changed nothing.
    pub fn before(&self) -> Option<Before> {
        let word = |at: usize| self.head.before[at].load(Relaxed);
        let file =
            |at: usize| FileId { ino: word(at), generation: word(at + 1) as u32, volume: (word(at + 1) >> 32) as u32 };
        (self.head.knows.load(Acquire) == 1).then(|| Before { file: file(0), file2: file(2) })
    }

    /// In the ledger: what [`Flight::begin`](crate::ring::Flight::begin) has to know.
    pub fn main(&self) -> u64 {
        self.head.main.load(Relaxed)
    }

    /// Notes that it took effect, and how it is answered.
    pub fn executed(&self, error: i32, answer: &[u8]) {
        if answer.len() > ANSWER_BYTES_MAX {
            return;
        }
        self.memory.exclusive(self.at + size_of::<Head>(), answer.len()).copy_from_slice(answer);
        self.head.answer_len.store(answer.len() as u32, Relaxed);
        self.head.error.store(error, Relaxed);
        self.set(Phase::Executed);
    }

    /// The kept answer: error number, bytes.
    pub fn answer(&self) -> (i32, &'a [u8]) {
        let len = (self.head.answer_len.load(Relaxed) as usize).min(ANSWER_BYTES_MAX);
        (self.head.error.load(Relaxed), self.memory.exclusive(self.at + size_of::<Head>(), len))
    }

    /// How far it got.
    pub fn phase(&self) -> Phase {
        match self.head.phase.load(Acquire) {
            1 => Phase::Read,
            2 => Phase::Executing,
            3 => Phase::Executed,
            _ => Phase::Idle,
        }
    }

    fn is(&self, root: u32, unique: u64) -> bool {
        self.head.root.load(Relaxed) == root && self.head.unique.load(Relaxed) == unique
    }

    /// Takes over what another one holds.
    fn copy(&self, from: &Slot<'_>, main: u64, born: u64) {
        self.set(Phase::Idle);
        let (error, answer) = from.answer();
        self.head.unique.store(from.head.unique.load(Relaxed), Relaxed);
        self.head.root.store(from.head.root.load(Relaxed), Relaxed);
        for (to, from) in self.head.before.iter().zip(&from.head.before) {
            to.store(from.load(Relaxed), Relaxed);
        }
        self.head.knows.store(from.head.knows.load(Acquire), Relaxed);
        self.head.main.store(main, Relaxed);
        self.head.born.store(born, Relaxed);
        match from.phase() {
            Phase::Executed => self.executed(error, answer),
            phase => self.set(phase),
        }
    }
}

fn pack(file: FileId) -> u64 {
    u64::from(file.generation) | u64::from(file.volume) << 32
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::sys::shared_memory;

    fn slots() -> (Slots, Ring) {
        let memory = shared_memory(c"test", BYTES).unwrap();
        let slots = Slots::new(Shared::map(memory.as_raw_fd(), 0, BYTES).unwrap());
        (slots, Ring::create(1 << 16, 1).unwrap().1)
    }

    fn file(ino: u64) -> FileId {
        FileId { ino, generation: 3, volume: 2 }
    }

    #[test]
    fn what_was_begun_is_found_by_mount_and_number_after_several_deaths() {
        let (slots, ring) = slots();
        for (index, root) in [(0, 0), (1, 1)] {
            let slot = slots.take(index);
            slot.begin(root, 7);
            slot.note(Before { file: file(10 + u64::from(root)), file2: FileId::NONE });
            slot.set(Phase::Executing);
            ring.flight(index).begin(40 + index as u64);
        }
        slots.take(2).begin(0, 9);
        slots.take(3).begin(0, 11);
        slots.slot(3).executed(libc::EPERM, b"");
        slots.take_over(&ring, 1);
        slots.take_over(&ring, 2);
        let found = slots.find(1, 7 | UNIQUE_RESEND).unwrap();
        assert_eq!(found.before(), Some(Before { file: file(11), file2: FileId::NONE }));
        assert_eq!((found.main(), found.phase()), (41, Phase::Executing));
        assert!(slots.find(0, 9).is_none(), "it was only read");
        assert_eq!(slots.find(0, 11).unwrap().answer().0, libc::EPERM);
        // Its heir dies too, before and after the place in the ledger is given up.
        let heir = slots.take(5);
        heir.begin(1, 7);
        heir.copy(&found, 0, 0);
        ring.flight(5).begin(found.main());
        slots.take_over(&ring, 3);
        assert_eq!(slots.ledger().filter(|place| place.is(1, 7) && place.phase() != Phase::Idle).count(), 1);
        let found = slots.find(1, 7).unwrap();
        assert_eq!((found.main(), found.before().unwrap().file), (41, file(11)));
        slots.slot(6).begin(1, 7);
        slots.slot(6).inherit(&found);
        assert!(slots.find(1, 7).is_none());
        assert_eq!(slots.slot(6).before().unwrap().file, file(11));
    }

    #[test]
    fn a_full_ledger_gives_up_what_came_first() {
        let (slots, ring) = slots();
        for round in 0..FLIGHTS as u64 + 10 {
            slots.take(0).begin(0, round);
            slots.slot(0).set(Phase::Executing);
            slots.take_over(&ring, round);
        }
        assert!(slots.find(0, 9).is_none());
        assert!((10..FLIGHTS as u64 + 10).all(|unique| slots.find(0, unique).is_some()));
    }
}
