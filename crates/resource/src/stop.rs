//! What ends a wait before its limit.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::write;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

use crate::Failure;
use crate::net::readable;

const NEVER: u64 = u64::MAX;
const SECOND: u64 = 1_000_000_000;

/// Ends what waits under it before its limit: a [`Call`] was called off, or a [`Deadline`] has come. The usual one never
/// does.
#[derive(Clone, Debug, Default)]
pub struct Stop(Vec<Arc<Cause>>);

/// Calls off whatever waits under its stop.
#[derive(Clone, Debug)]
pub struct Call(Arc<Cause>);

/// A moment of CLOCK_BOOTTIME, past which nothing waits under its stop. It can be moved meanwhile.
#[derive(Clone, Debug)]
pub struct Deadline(Arc<Cause>);

#[derive(Debug)]
struct Cause {
    /// In nanoseconds of CLOCK_BOOTTIME. The descriptor only wakes: a timer may be late, above all after a suspend.
    comes_at: AtomicU64,
    /// Can be read from then on.
    fd: OwnedFd,
}

impl Stop {
    /// Does not come.
    pub fn never() -> Stop {
        Stop::default()
    }

    /// Comes when the first of both does.
    pub fn or(&self, other: &Stop) -> Stop {
        Stop(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// Has it come?
    pub fn is_called(&self) -> bool {
        self.0.iter().any(|cause| cause.has_come())
    }

    /// Waits until it comes, no longer than until that moment; has it come?
    pub fn wait(&self, until: Instant) -> bool {
        while !self.is_called() && Instant::now() < until {
            if readable([], self, until).is_err() {
                break;
            }
        }
        self.is_called()
    }

    /// To be asked right before something is changed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.is_called() { Err(Failure::Cancelled) } else { Ok(()) }
    }

    /// Descriptors, one of which can be read when it comes.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|cause| cause.fd.as_fd())
    }
}

impl Call {
    /// Not called off yet.
    ///
    /// # Errors
    /// Where there are too many descriptors.
    pub fn new() -> io::Result<Call> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Call(Arc::new(Cause { comes_at: AtomicU64::new(NEVER), fd })))
    }

    /// Calls it off. Once more changes nothing.
    pub fn off(&self) {
        self.0.comes_at.store(0, SeqCst);
        let _ = write(&self.0.fd, &1_u64.to_ne_bytes());
    }

    /// For those who are called off with it.
    pub fn stop(&self) -> Stop {
        Stop(vec![self.0.clone()])
    }
}

impl Deadline {
    /// One that has come.
    ///
    /// # Errors
    /// Where there are too many descriptors.
    pub fn new() -> io::Result<Deadline> {
        let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let deadline = Deadline(Arc::new(Cause { comes_at: AtomicU64::new(0), fd }));
        deadline.set(0);
        Ok(deadline)
    }

    /// Moves it, in nanoseconds of CLOCK_BOOTTIME: 0 has come, `u64::MAX` never does.
    pub fn set(&self, at: u64) {
        self.0.comes_at.store(at, SeqCst);
        // All zeros would mean that it is off.
        let value = if at == NEVER { timespec(0) } else { timespec(at.max(1)) };
        let timer = Itimerspec { it_interval: timespec(0), it_value: value };
        let _ = timerfd_settime(&self.0.fd, TimerfdTimerFlags::ABSTIME, &timer);
    }

    /// Has it come?
    pub fn has_come(&self) -> bool {
        self.0.has_come()
    }

    /// For those who end with it.
    pub fn stop(&self) -> Stop {
        Stop(vec![self.0.clone()])
    }
}

impl Cause {
    fn has_come(&self) -> bool {
        match self.comes_at.load(SeqCst) {
            0 => true,
            NEVER => false,
            at => boot_ns() >= at,
        }
    }
}

fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * SECOND + now.tv_nsec.unsigned_abs()
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / SECOND) as i64, tv_nsec: (ns % SECOND) as i64 }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const MS: u64 = 1_000_000;

    fn waited(stop: &Stop, limit: Duration) -> (bool, Duration) {
        let began = Instant::now();
        (stop.wait(began + limit), began.elapsed())
    }

    #[test]
    fn the_usual_one_never_comes() {
        let (came, took) = waited(&Stop::never(), Duration::from_millis(20));
        assert!(!came && took >= Duration::from_millis(20));
    }

    #[test]
    fn a_call_wakes_everyone_and_stays() {
        let call = Call::new().unwrap();
        let both = call.stop().or(&Call::new().unwrap().stop());
        let waits = thread::spawn(move || waited(&both, LONG));
        thread::sleep(Duration::from_millis(20));
        call.off();
        call.off();
        let (came, took) = waits.join().unwrap();
        assert!(came && took < LONG / 2, "{took:?}");
        assert!(waited(&call.stop(), LONG).1 < LONG / 2 && call.stop().is_called());
    }

    #[test]
    fn a_deadline_comes_when_it_says_and_can_be_moved() {
        let deadline = Deadline::new().unwrap();
        let stop = deadline.stop();
        assert!(stop.is_called(), "a new one has come");
        deadline.set(u64::MAX);
        assert!(!waited(&stop, Duration::from_millis(20)).0);
        deadline.set(boot_ns() + 30 * MS);
        let waits = thread::spawn(move || waited(&stop, LONG));
        deadline.set(boot_ns() + 80 * MS);
        let (came, took) = waits.join().unwrap();
        assert!(came && took > Duration::from_millis(60) && took < LONG / 2, "{took:?}");
        deadline.set(boot_ns() + 3600 * SECOND);
        assert!(!waited(&deadline.stop(), Duration::from_millis(20)).0, "moved on after it came");
    }
}
