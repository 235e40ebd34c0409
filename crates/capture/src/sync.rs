//! Synchronous operation: an fsync is answered when the target has everything before it. Daemon and server tell each
//! other about it in shared memory, so that the server goes by what was last said when the daemon is dead.
//!
//! ```text
//!             set(Some)                in_sync_again
//!   off ────────────────▸ fallen back ───────────────▸ in sync: an fsync waits until its number is confirmed
//!    ▴                         ▴  ▴                      │  │
//!    └── set(None) ─ any       │  └───── fall_back ──────┘  │
//!                              └── answer_by is over, policy Async: the server, by itself
//! ```
//! State and deadline are one word: whoever changes one knows the other. So once [`SyncBlock::extend`] has returned
//! "in sync", no fsync was or will be answered unconfirmed before the new deadline, unless the daemon falls back.

use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_model::Sequence;

use crate::sys::{self, Atomics};
use crate::{CaptureError, MountCapture};

/// A point of CLOCK_BOOTTIME, in nanoseconds.
pub type BootNs = u64;

/// What is done when nobody confirms until the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncPolicy {
    /// Answer, and stay asynchronous until told otherwise.
    #[default]
    Async,
    /// Wait on.
    Block,
}

/// Whether an fsync waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncState {
    /// Never: the set is asynchronous.
    #[default]
    Off,
    /// Until everything before it is confirmed.
    InSync,
    /// Not now: the target is behind, or did not answer in time.
    FallenBack,
}

/// How synchronous operation goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Whether an fsync waits.
    pub state: SyncState,
    /// What is done when nobody confirms.
    pub policy: SyncPolicy,
    /// Number up to which everything is confirmed.
    pub confirmed: Sequence,
    /// Until when an answer is waited for.
    pub answer_by: BootNs,
    /// How often the state changed.
    pub changes: u64,
    /// Calls that wait now.
    pub waiting: u32,
    /// Since when the longest of them waits, 0: none does.
    pub waiting_since: BootNs,
    /// Calls that had to wait, since the start.
    pub held: u64,
    /// Longest wait that ended, in nanoseconds.
    pub longest_wait_ns: u64,
}

/// What daemon and server share.
#[repr(C)]
pub struct SyncBlock {
    /// State in the lowest two bits, the deadline above them.
    word: AtomicU64,
    confirmed: AtomicU64,
    changes: AtomicU64,
    policy: AtomicU32,
    /// Rises with everything that the server should look at; it sleeps on it.
    bell: AtomicU32,
    waiting: AtomicU32,
    pad: AtomicU32,
    waiting_since: AtomicU64,
    held: AtomicU64,
    longest_wait_ns: AtomicU64,
    wanted: AtomicU64,
}

// SAFETY: atomics only.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for SyncBlock {}

const STATE: u64 = 3;

impl SyncBlock {
    // --- the daemon

    /// Turns it on, then fallen back, or off; or changes the policy.
    pub fn set(&self, policy: Option<SyncPolicy>) {
        self.policy.store((policy == Some(SyncPolicy::Block)).into(), Relaxed);
        match (policy, self.state()) {
            (None, _) => self.change(SyncState::Off, 0),
            (Some(_), SyncState::Off) => self.change(SyncState::FallenBack, 0),
            (Some(_), _) => self.ring_bell(),
        }
    }

    /// Everything up to that number is durable on the target.
    pub fn confirm(&self, number: Sequence) {
        if self.confirmed.fetch_max(number, SeqCst) < number && self.waiting.load(SeqCst) > 0 {
            self.ring_bell();
        }
    }

    /// Moves the deadline where it is in sync; returns the state.
    pub fn extend(&self, answer_by: BootNs) -> SyncState {
        let moved = |word| (state_of(word) == SyncState::InSync).then_some(word_of(SyncState::InSync, answer_by));
        match self.word.fetch_update(SeqCst, SeqCst, moved) {
            Ok(_) => SyncState::InSync,
            Err(word) => state_of(word),
        }
    }

    /// In sync, or fallen back.
    pub fn change(&self, state: SyncState, answer_by: BootNs) {
        if state_of(self.word.swap(word_of(state, answer_by), SeqCst)) != state {
            self.changes.fetch_add(1, Relaxed);
        }
        self.ring_bell();
    }

    /// How it goes.
    pub fn status(&self) -> SyncStatus {
        let word = self.word.load(SeqCst);
        SyncStatus {
            state: state_of(word),
            policy: self.policy(),
            confirmed: self.confirmed(),
            answer_by: word & !STATE,
            changes: self.changes.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            waiting_since: self.waiting_since.load(Relaxed),
            held: self.held.load(Relaxed),
            longest_wait_ns: self.longest_wait_ns.load(Relaxed),
        }
    }

    /// Up to which number somebody is going to wait.
    pub fn wanted(&self) -> Sequence {
        self.wanted.load(SeqCst)
    }

    // --- the server

    /// An fsync begins, and is going to wait for everything up to that number. False: that was said before, or it is not.
    pub fn want(&self, number: Sequence) -> bool {
        self.state() == SyncState::InSync && self.wanted.fetch_max(number, SeqCst) < number
    }

    /// Whether an fsync waits. Falls back where the deadline is over and the policy says so.
    pub fn state_at(&self, now: BootNs) -> SyncState {
        let word = self.word.load(SeqCst);
        let is_over = state_of(word) == SyncState::InSync && word & !STATE <= now;
        if is_over && self.policy() == SyncPolicy::Async {
            let fallen = word_of(SyncState::FallenBack, word);
            if self.word.compare_exchange(word, fallen, SeqCst, SeqCst).is_ok() {
                self.changes.fetch_add(1, Relaxed);
            }
        }
        self.state()
    }

    /// Whether an fsync waits.
    pub fn state(&self) -> SyncState {
        state_of(self.word.load(SeqCst))
    }

    /// What is done when nobody confirms.
    pub fn policy(&self) -> SyncPolicy {
        if self.policy.load(Relaxed) == 1 { SyncPolicy::Block } else { SyncPolicy::Async }
    }

    /// Number up to which everything is confirmed.
    pub fn confirmed(&self) -> Sequence {
        self.confirmed.load(SeqCst)
    }

    /// Until when an answer is waited for.
    pub fn answer_by(&self) -> BootNs {
        self.word.load(SeqCst) & !STATE
    }

    /// Says how many wait, and since when.
    pub fn say_waiting(&self, waiting: usize, since: BootNs) {
        self.waiting.store(waiting as u32, SeqCst);
        self.waiting_since.store(since, Relaxed);
    }

    /// Counts a call that has to wait.
    pub fn count_held(&self) {
        self.held.fetch_add(1, Relaxed);
    }

    /// Notes how long a wait took.
    pub fn note_wait(&self, ns: u64) {
        self.longest_wait_ns.fetch_max(ns, Relaxed);
    }

    /// What the bell says now, for [`SyncBlock::sleep`].
    pub fn bell(&self) -> u32 {
        self.bell.load(Acquire)
    }

    /// Sleeps until the bell says something else than `seen`, or for `timeout`.
    pub fn sleep(&self, seen: u32, timeout: Duration) {
        sys::futex_wait(&self.bell, seen, timeout);
    }

    /// Wakes who sleeps.
    pub fn ring_bell(&self) {
        self.bell.fetch_add(1, SeqCst);
        sys::futex_wake(&self.bell, i32::MAX);
    }
}

fn state_of(word: u64) -> SyncState {
    match word & STATE {
        1 => SyncState::InSync,
        2 => SyncState::FallenBack,
        _ => SyncState::Off,
    }
}

fn word_of(state: SyncState, answer_by: BootNs) -> u64 {
    let state = match state {
        SyncState::Off => 0,
        SyncState::InSync => 1,
        SyncState::FallenBack => 2,
    };
    answer_by & !STATE | state
}

/// Now, on CLOCK_BOOTTIME.
pub fn boot_ns() -> BootNs {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Synchronous operation. All of it is shared memory: nothing here waits, and any thread may call it.
impl MountCapture {
    /// Makes the set synchronous, or asynchronous again (`None`); or changes the policy. Where it was asynchronous it
    /// begins as fallen back: [`MountCapture::in_sync_again`] makes an fsync wait. A new start of capture is
    /// asynchronous until this is called.
    ///
    /// # Errors
    /// Where the capture process is of an earlier version, which cannot do it.
    pub fn set_sync(&self, policy: Option<SyncPolicy>) -> Result<(), CaptureError> {
        match self.sync_block() {
            Some(sync) => sync.set(policy),
            None if policy.is_none() => {}
            None => return Err(CaptureError::TooOld),
        }
        Ok(())
    }

    /// Everything up to that number is durable on the target: calls that wait for no more are answered.
    pub fn confirm(&self, number: Sequence) {
        if let Some(sync) = self.sync_block() {
            sync.confirm(number);
        }
    }

    /// Number up to which an fsync that has begun is going to wait.
    pub fn wanted(&self) -> Sequence {
        self.sync_block().map_or(0, SyncBlock::wanted)
    }

    /// Moves the deadline of the answer, where it is in sync. Where it is not any more, because the deadline was over
    /// before this call, the state says so: calls were answered unconfirmed.
    pub fn extend(&self, answer_by: BootNs) -> SyncState {
        self.sync_block().map_or(SyncState::Off, |sync| sync.extend(answer_by))
    }

    /// Becomes asynchronous for now: who waits is answered. Only once no target claims to be in sync any more.
    pub fn fall_back(&self) {
        if let Some(sync) = self.sync_block().filter(|sync| sync.state() == SyncState::InSync) {
            sync.change(SyncState::FallenBack, 0);
        }
    }

    /// Every fsync waits again from now on, each until `answer_by`, which [`MountCapture::extend`] moves.
    pub fn in_sync_again(&self, answer_by: BootNs) {
        if let Some(sync) = self.sync_block().filter(|sync| sync.state() != SyncState::Off) {
            sync.change(SyncState::InSync, answer_by);
        }
    }

    /// How synchronous operation goes, without waiting for anything; `None`: the capture process is too old.
    pub fn sync_status(&self) -> Option<SyncStatus> {
        self.sync_block().map(SyncBlock::status)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::sys::Shared;

    fn memory() -> Shared {
        let memory = sys::shared_memory(c"test", 4096).unwrap();
        Shared::map(memory.as_raw_fd(), 0, 4096).unwrap()
    }

    #[test]
    fn who_moves_the_deadline_knows_whether_it_was_in_time() {
        let memory = memory();
        let sync: &SyncBlock = memory.atomics(0);
        assert_eq!((sync.extend(100), sync.state_at(0)), (SyncState::Off, SyncState::Off));
        sync.set(Some(SyncPolicy::Async));
        assert_eq!(sync.extend(100), SyncState::FallenBack, "on, and not in sync yet");
        sync.change(SyncState::InSync, 100);
        assert_eq!(sync.state_at(99), SyncState::InSync);
        assert_eq!(sync.extend(200), SyncState::InSync);
        assert_eq!(sync.state_at(199), SyncState::InSync);
        assert_eq!(sync.state_at(200), SyncState::FallenBack);
        assert_eq!(sync.extend(300), SyncState::FallenBack, "too late: calls were answered");
        assert_eq!(sync.status().changes, 3);
        sync.set(Some(SyncPolicy::Block));
        sync.change(SyncState::InSync, 100);
        assert_eq!(sync.state_at(u64::MAX), SyncState::InSync, "waits on");
        sync.set(None);
        assert_eq!((sync.state(), sync.status().changes), (SyncState::Off, 5));
    }

    /// The server falls back and the daemon moves the deadline at the same time: never do both succeed.
    #[test]
    fn falling_back_and_moving_the_deadline_exclude_each_other() {
        let memory = memory();
        let sync: &SyncBlock = memory.atomics(0);
        sync.set(Some(SyncPolicy::Async));
        for round in 1..2000_u64 {
            sync.change(SyncState::InSync, round * 100);
            std::thread::scope(|scope| {
                let server = scope.spawn(|| sync.state_at(round * 100));
                let moved = sync.extend(round * 100 + 1000);
                let seen = server.join().unwrap();
                assert_eq!(moved, sync.state(), "round {round}: what the daemon was told holds");
                assert_eq!(seen, moved, "round {round}");
            });
        }
    }

    #[test]
    fn who_is_going_to_wait_says_so_once_and_only_in_sync() {
        let memory = memory();
        let sync: &SyncBlock = memory.atomics(0);
        sync.set(Some(SyncPolicy::Async));
        assert!(!sync.want(5));
        sync.change(SyncState::InSync, 100);
        assert!(sync.want(5) && !sync.want(5) && !sync.want(4) && sync.want(6));
        assert_eq!(sync.wanted(), 6);
    }

    #[test]
    fn confirmed_numbers_only_rise() {
        let memory = memory();
        let sync: &SyncBlock = memory.atomics(0);
        sync.confirm(9);
        sync.confirm(4);
        assert_eq!(sync.confirmed(), 9);
    }
}
