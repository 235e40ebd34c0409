//! What is up is watched: each address by a thread of its own.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use stead_resource::address::{Answer, Conflict, Lease, Probe, Seen, Watch};
use stead_resource::{Call, Cidr, Deadline, Failure, Stop};

use super::Tell;

/// An address of a node that is not fenced is asked for three times within 90 ms. Nobody answers when the node that had it
/// is dead, so that a takeover nearly always waits for all of it, for each address in turn. With what else it takes (the
/// interface's table is synced to disk, the kernel told, the neighbours too) an address is taken within 300 ms, unless the
/// disk is slow.
pub(super) const PROBE: Probe = Probe { count: 3, wait: Duration::from_millis(30) };

/// How old the answer to the question may be whether the lease is held, when somebody else claims an address.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two tries to watch what cannot be watched.
const AGAIN: Duration = Duration::from_secs(1);

/// The addresses that are watched, by their place in the plan.
pub(super) struct Watches {
    lease: Deadline,
    tell: Tell,
    running: BTreeMap<usize, Running>,
}

struct Running {
    call: Call,
    thread: Option<JoinHandle<()>>,
}

impl Watches {
    pub(super) fn new(lease: Deadline, tell: Tell) -> Watches {
        Watches { lease, tell, running: BTreeMap::new() }
    }

    /// Announces it again from time to time, and tells who else claims it, until [`Watches::end`].
    pub(super) fn begin(&mut self, at: usize, cidr: Cidr) {
        match self.start(cidr) {
            Ok(running) => drop(self.running.insert(at, running)),
            Err(e) => (self.tell)(format!("{cidr} is not watched: {e}")),
        }
    }

    /// Returns when nothing is announced any more.
    pub(super) fn end(&mut self, at: usize) {
        self.running.remove(&at);
    }

    fn start(&self, cidr: Cidr) -> std::io::Result<Running> {
        let call = Call::new()?;
        let watcher = Watcher { cidr, lease: self.lease.clone(), stop: call.stop(), tell: self.tell.clone() };
        // From now on, not from when the thread comes to it.
        let watch = Watch::new(cidr);
        let thread = thread::Builder::new().name("hands-watch".into()).spawn(move || watcher.work(watch))?;
        Ok(Running { call, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.call.off();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Watcher {
    cidr: Cidr,
    lease: Deadline,
    stop: Stop,
    tell: Tell,
}

impl Watcher {
    fn work(&self, mut watch: Result<Watch, Failure>) {
        let mut told = false;
        while let Err(why) = watch.and_then(|watch| self.follow(watch)) {
            if !std::mem::replace(&mut told, true) {
                (self.tell)(format!("{} is not watched: {why}", self.cidr));
            }
            if self.stop.wait(Instant::now() + AGAIN) {
                return;
            }
            watch = Watch::new(self.cidr);
        }
    }

    /// Returns when there is nothing to watch any more.
    fn follow(&self, mut watch: Watch) -> Result<(), Failure> {
        while !self.stop.is_called() {
            let lease = if self.lease.has_come() { Lease::NotHeld } else { Lease::Held };
            let Some(seen) = watch.next_until(LOOK_INTERVAL, lease, &self.stop)? else { continue };
            if let Some(words) = self.words(seen) {
                (self.tell)(words);
            }
            if self.is_over(seen) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// For people, of what is worth their while.
    fn words(&self, seen: Seen) -> Option<String> {
        let cidr = self.cidr;
        Some(match seen {
            Seen::Conflict(Conflict { by, answer: Answer::Defended }) => {
                format!("{by} claims {cidr} as well: it was announced again")
            }
            Seen::Conflict(Conflict { by, answer: Answer::Dropped }) => {
                format!("{by} claims {cidr}, and the lease is over: it was removed here")
            }
            Seen::Conflict(Conflict { answer: Answer::Waited, .. }) => return None,
            Seen::Gone => format!("{cidr} is gone from its interface: another program removed it"),
            Seen::LinkUp => format!("the interface of {cidr} came up again: it was announced"),
        })
    }

    fn is_over(&self, seen: Seen) -> bool {
        matches!(seen, Seen::Gone | Seen::Conflict(Conflict { answer: Answer::Dropped, .. }))
    }
}
