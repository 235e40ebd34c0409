//! Request slots: each serving thread reads the kernel's requests into a slot in shared memory, and notes there how far
//! it got, so that a replacement of a killed server knows what was done.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use crate::fuse::abi::{REQUEST_BYTES_MAX, UNIQUE_RESEND};
use crate::ring::FLIGHTS;
use crate::sys::{Atomics, Shared};

/// Bytes of shared memory, mostly untouched.
pub const BYTES: usize = FLIGHTS * STRIDE;
/// Longest answer that is kept for a repetition.
pub const ANSWER_BYTES_MAX: usize = 512;

const HEAD_BYTES: usize = 4096;
const STRIDE: usize = HEAD_BYTES + REQUEST_BYTES_MAX;

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

#[repr(C)]
struct Head {
    unique: AtomicU64,
    phase: AtomicU32,
    error: AtomicI32,
    answer_len: AtomicU32,
}

// SAFETY: atomics only.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Head {}

/// All slots.
pub struct Slots {
    memory: Shared,
}

/// The slot of one thread.
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

    /// A thread's slot.
    pub fn slot(&self, index: usize) -> Slot<'_> {
        assert!(index < FLIGHTS);
        let at = index * STRIDE;
        Slot { memory: &self.memory, head: self.memory.atomics(at), at }
    }

    /// The slot of the dead server in which a request stands that is delivered again.
    pub fn find(&self, unique: u64) -> Option<Slot<'_>> {
        let unique = unique & !UNIQUE_RESEND;
        (0..FLIGHTS)
            .map(|index| self.slot(index))
            .find(|slot| slot.phase() != Phase::Idle && slot.head.unique.load(Relaxed) == unique)
    }
}

impl<'a> Slot<'a> {
    /// Makes its pages present: only a used slot takes room.
    pub fn prepare(&self) {
        self.memory.pin(self.at, STRIDE);
    }

    /// Room for the request. Only the thread that owns the slot may ask for it.
    pub fn buffer(&self) -> &'a mut [u8] {
        self.memory.exclusive(self.at + HEAD_BYTES, REQUEST_BYTES_MAX)
    }

    /// Notes that a request was read.
    pub fn begin(&self, unique: u64) {
        self.head.unique.store(unique & !UNIQUE_RESEND, Relaxed);
        self.set(Phase::Read);
    }

    /// Notes how far it got.
    pub fn set(&self, phase: Phase) {
        self.head.phase.store(phase as u32, Release);
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
}
