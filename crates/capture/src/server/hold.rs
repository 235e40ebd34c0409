//! Calls that wait for the target (synchronous operation): carried out here, in the stream, and not answered until
//! their number is confirmed.
//!
//! Nobody but the kernel needs to remember them: where the server dies, the kernel delivers each of them again, and the
//! next server syncs again and waits again.

use std::os::fd::RawFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use stead_model::Sequence;

use crate::fuse::device;
use crate::sync::{BootNs, SyncBlock, SyncPolicy, SyncState, boot_ns};

/// How often it is looked whether somebody who waits is being killed.
const LOOK: Duration = Duration::from_secs(1);
const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);

/// Those that wait. As many as there are threads in applications: the kernel holds each of them too.
#[derive(Default)]
pub struct Hold {
    parked: Mutex<Vec<Parked>>,
    /// When the releasing thread looks again by itself.
    looks_at: AtomicU64,
}

/// A call that waits.
pub struct Parked {
    /// Where the answer goes.
    pub device: RawFd,
    /// Which request it is.
    pub unique: u64,
    /// What has to be confirmed.
    pub number: Sequence,
    /// The thread that asked.
    pub caller: u32,
    /// Since when.
    pub since: BootNs,
}

impl Hold {
    /// Has a call of that number to wait?
    pub fn has_to_wait(sync: &SyncBlock, number: Sequence) -> bool {
        sync.state() == SyncState::InSync && sync.confirmed() < number && sync.state_at(boot_ns()) == SyncState::InSync
    }

    /// Lets it wait; answers it at once where that is due by now.
    pub fn park(&self, sync: &SyncBlock, call: Parked) {
        let number = call.number;
        sync.count_held();
        let mut parked = self.lock();
        parked.push(call);
        say(sync, &parked);
        drop(parked);
        // Who confirms stores the number, then looks whether somebody waits; here it is the other way round.
        if sync.confirmed() >= number || sync.state() != SyncState::InSync {
            self.answer_due(sync, false);
        } else if sync.policy() == SyncPolicy::Async && sync.answer_by() < self.looks_at.load(SeqCst) {
            sync.ring_bell();
        }
    }

    /// Answers until `is_over`: the body of the releasing thread.
    pub fn run(&self, sync: &SyncBlock, is_over: impl Fn() -> bool) {
        let mut looked_at = 0;
        while !is_over() {
            let (seen, now) = (sync.bell(), boot_ns());
            let look = now - looked_at >= LOOK.as_nanos() as u64;
            if look {
                looked_at = now;
            }
            let waits = self.answer_due(sync, look);
            let mut until = now + LOOK.as_nanos() as u64;
            self.looks_at.store(until, SeqCst);
            if waits && sync.policy() == SyncPolicy::Async {
                until = until.min(sync.answer_by().max(now));
                self.looks_at.store(until, SeqCst);
            }
            sync.sleep(seen, Duration::from_nanos(until - now));
        }
    }

    /// Answers whom it is time to answer. `look`: also who is being killed and could not die otherwise. True: some
    /// still wait.
    fn answer_due(&self, sync: &SyncBlock, look: bool) -> bool {
        let now = boot_ns();
        let holds = sync.state_at(now) == SyncState::InSync;
        let confirmed = sync.confirmed();
        let mut parked = self.lock();
        if parked.is_empty() {
            return false;
        }
        let is_due = |call: &Parked| !holds || call.number <= confirmed;
        let due: Vec<_> = parked.extract_if(.., |call| is_due(call) || look && is_dying(call.caller)).collect();
        say(sync, &parked);
        let waits = !parked.is_empty();
        drop(parked);
        for call in due {
            let sent = if is_due(&call) {
                device::reply(call.device, call.unique, &[&[], &[]])
            } else {
                device::refuse(call.device, call.unique, Errno::INTR)
            };
            if let Err(error) = sent
                && !matches!(error, Errno::NOENT | Errno::NODEV)
            {
                eprintln!("stead capture: answering an fsync: {error}");
            }
            sync.note_wait(now.saturating_sub(call.since));
        }
        waits
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Parked>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn say(sync: &SyncBlock, parked: &[Parked]) {
    sync.say_waiting(parked.len(), parked.iter().map(|call| call.since).min().unwrap_or(0));
}

/// Was a thread killed, and waits only for us? A call that returns EINTR for any other signal would surprise.
pub(super) fn is_dying(thread: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{thread}/status")) else { return false };
    let pending = text.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    pending.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask & SIGKILL_BIT != 0)
}
