//! What is up is watched: each address by a thread of its own.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use stead_resource::address::{Address, Answer, Conflict, Lease, Probe, Seen, Watch};
use stead_resource::{Call, Cidr, Deadline, Failure, Stop};

use super::Tell;
use super::cards::Cards;

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
    /// It goes to its backup card where its own dies.
    pub(super) fn begin(&mut self, at: usize, address: &Address, backup: Option<&String>) {
        match self.start(address, backup) {
            Ok(running) => drop(self.running.insert(at, running)),
            Err(e) => (self.tell)(format!("{} is not watched: {e}", address.cidr)),
        }
    }

    /// Returns when nothing is announced any more.
    pub(super) fn end(&mut self, at: usize) {
        self.running.remove(&at);
    }

    fn start(&self, address: &Address, backup: Option<&String>) -> std::io::Result<Running> {
        let (call, cidr) = (Call::new()?, address.cidr);
        let cards = Cards::of(address, backup);
        let (lease, tell) = (self.lease.clone(), self.tell.clone());
        let mut watcher = Watcher { cidr, lease, stop: call.stop(), tell, cards };
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
    cards: Option<Cards>,
}

/// What is to follow.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Over,
    /// It is on another card.
    Anew,
}

impl Watcher {
    fn work(&mut self, mut watch: Result<Watch, Failure>) {
        let mut told = false;
        loop {
            match watch.and_then(|watch| self.follow(watch)) {
                Ok(Next::Over) => return,
                Ok(Next::Anew) => told = false,
                Err(why) if !std::mem::replace(&mut told, true) => {
                    (self.tell)(format!("{} is not watched: {why}", self.cidr));
                }
                Err(_) => _ = self.has_moved(),
            }
            if self.stop.wait(Instant::now() + AGAIN) {
                return;
            }
            watch = Watch::new(self.cidr);
        }
    }

    /// Returns when there is nothing to watch any more.
    fn follow(&mut self, mut watch: Watch) -> Result<Next, Failure> {
        while !self.stop.is_called() {
            let lease = if self.lease.has_come() { Lease::NotHeld } else { Lease::Held };
            let seen = watch.next_until(LOOK_INTERVAL, lease, &self.stop)?;
            if self.has_moved() {
                return Ok(Next::Anew);
            }
            let Some(seen) = seen else { continue };
            if let Some(words) = self.words(seen) {
                (self.tell)(words);
            }
            if self.is_over(seen) {
                return Ok(Next::Over);
            }
        }
        Ok(Next::Over)
    }

    /// Nothing moves past the lease.
    fn has_moved(&mut self) -> bool {
        let stop = self.stop.or(&self.lease.stop());
        if stop.is_called() {
            return false;
        }
        let moved = self.cards.as_mut().and_then(|cards| cards.look(&stop));
        moved.map(|words| (self.tell)(words)).is_some()
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
        let waits = self.cards.is_some();
        !waits && seen == Seen::Gone || matches!(seen, Seen::Conflict(Conflict { answer: Answer::Dropped, .. }))
    }
}
