//! Who waits for the requests of one mount.
//!
//! Few threads hold a seat at the device: they wait there and carry out themselves what they read. On a machine with
//! two processors one seat is faster than several threads, among which the kernel would choose by turns, each time another
//! stack and another processor. A thread that does something slow, or is found stuck in an operation, loses the seat to
//! another one. (Spinning for the next request was measured: it gained nothing, and a
//! spinning processor is missing for the disk's work after an fsync.)

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::time::Duration;

use crate::sys;

/// Most threads of one mount.
const DESKS: usize = 32;

/// Looks (one each millisecond while something happens) that count as lately.
const LATELY_LOOKS: u32 = 50;

const AWAY: u32 = 0;
const SEATED: u32 = 1;
const BUSY: u32 = 2;

/// The seats at one device, and who may sit there.
pub struct Gate {
    /// Free seats; those who want one sleep on it.
    free: AtomicU32,
    asleep: AtomicUsize,
    desks: [Desk; DESKS],
    started: AtomicUsize,
    running: AtomicUsize,
    closed: AtomicBool,
    /// Thread that asked last.
    caller: AtomicU32,
    /// Looks so far, and how many there were when another thread asked.
    looks: AtomicU32,
    changed_at: AtomicU32,
}

/// What one thread is doing.
#[derive(Default)]
pub struct Desk {
    state: AtomicU32,
    /// Operations begun.
    begun: AtomicU32,
    /// What `begun` was at the last look.
    seen: AtomicU32,
}

impl Gate {
    /// A gate with free seats.
    pub fn new(seats: u32) -> Gate {
        Gate {
            free: AtomicU32::new(seats),
            asleep: AtomicUsize::new(0),
            desks: Default::default(),
            started: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            caller: AtomicU32::new(0),
            looks: AtomicU32::new(0),
            changed_at: AtomicU32::new(0),
        }
    }

    /// A desk for one more thread; `None`: there are enough.
    pub fn new_desk(&self) -> Option<&Desk> {
        let at = self.started.fetch_update(SeqCst, SeqCst, |started| (started < DESKS).then_some(started + 1)).ok()?;
        self.running.fetch_add(1, SeqCst);
        Some(&self.desks[at])
    }

    /// Waits for the seat. False: the mount is gone.
    pub fn sit(&self, desk: &Desk) -> bool {
        loop {
            if self.closed.load(Acquire) {
                return false;
            }
            if self.free.fetch_update(AcqRel, Relaxed, |free| free.checked_sub(1)).is_ok() {
                desk.state.store(SEATED, SeqCst);
                return true;
            }
            self.asleep.fetch_add(1, SeqCst);
            sys::futex_wait(&self.free, 0, Duration::from_secs(60));
            self.asleep.fetch_sub(1, SeqCst);
        }
    }

    /// Gives a seat that was just freed to who waits for one. False: nobody does, and a new thread should be started.
    pub fn call(&self) -> bool {
        self.free.fetch_add(1, SeqCst);
        let waits = self.asleep.load(SeqCst) > 0;
        if waits {
            sys::futex_wake(&self.free, 1);
        }
        waits
    }

    /// Looks at all desks: did something begin since the last look, and how many lost their seat for being stuck?
    pub fn look(&self) -> (bool, usize) {
        let (mut moved, mut stuck) = (false, 0);
        self.looks.fetch_add(1, Relaxed);
        for desk in &self.desks[..self.started.load(Acquire)] {
            let begun = desk.begun.load(Relaxed);
            if desk.seen.swap(begun, Relaxed) != begun {
                moved = true;
            } else if desk.leave_seat(BUSY) {
                stuck += 1;
            }
        }
        (moved, stuck)
    }

    /// Notes which thread of an application asks.
    pub fn asks(&self, caller: u32) {
        if self.caller.load(Relaxed) != caller {
            self.caller.store(caller, Relaxed);
            self.changed_at.store(self.looks.load(Relaxed), Relaxed);
        }
    }

    /// Have several threads asked lately? Otherwise nobody minds that the seat is taken for a while.
    pub fn is_crowded(&self) -> bool {
        self.looks.load(Relaxed).wrapping_sub(self.changed_at.load(Relaxed)) < LATELY_LOOKS
    }

    /// The mount is gone: everybody may go.
    pub fn close(&self) {
        self.closed.store(true, SeqCst);
        self.free.fetch_add(1, SeqCst);
        sys::futex_wake(&self.free, i32::MAX);
    }

    /// Is the mount gone?
    pub fn is_shut(&self) -> bool {
        self.closed.load(Acquire)
    }

    /// A thread ends.
    pub fn leave(&self) {
        self.running.fetch_sub(1, SeqCst);
    }

    /// Has everybody gone?
    pub fn is_closed(&self) -> bool {
        self.closed.load(SeqCst) && self.running.load(SeqCst) == 0
    }
}

impl Desk {
    /// An operation begins.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
        self.state.store(BUSY, SeqCst);
    }

    /// It ended. False: the seat was given to somebody else.
    pub fn end(&self) -> bool {
        self.state.compare_exchange(BUSY, SEATED, SeqCst, Relaxed).is_ok()
    }

    /// Gives up the seat during an operation. False: it was lost already.
    pub fn give_up(&self) -> bool {
        self.leave_seat(BUSY)
    }

    fn leave_seat(&self, from: u32) -> bool {
        self.state.compare_exchange(from, AWAY, SeqCst, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_thread_loses_its_seat_to_another() {
        let gate = Gate::new(1);
        let (first, second) = (gate.new_desk().unwrap(), gate.new_desk().unwrap());
        assert!(gate.sit(first));
        first.begin();
        assert_eq!(gate.look(), (true, 0));
        assert_eq!(gate.look(), (false, 1), "the same operation at two looks");
        assert!(!gate.call(), "nobody waits yet");
        assert!(gate.sit(second));
        assert!(!first.end(), "the first finds its seat taken");
        second.begin();
        assert!(second.end());
        assert_eq!(gate.look().1, 0);
    }

    #[test]
    fn a_single_caller_makes_no_crowd() {
        let gate = Gate::new(1);
        gate.asks(7);
        for _ in 0..LATELY_LOOKS {
            gate.look();
        }
        gate.asks(7);
        assert!(!gate.is_crowded());
        gate.asks(8);
        assert!(gate.is_crowded());
    }

    #[test]
    fn all_leave_when_the_mount_is_gone() {
        let gate = Gate::new(1);
        let (first, second) = (gate.new_desk().unwrap(), gate.new_desk().unwrap());
        assert!(gate.sit(first));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| gate.sit(second));
            gate.close();
            assert!(!waiter.join().unwrap());
        });
        gate.leave();
        assert!(!gate.is_closed());
        gate.leave();
        assert!(gate.is_closed());
    }
}
