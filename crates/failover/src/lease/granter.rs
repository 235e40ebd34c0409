//! The half that grants to one node.

use std::time::{Duration, Instant};

use super::Times;

/// What was granted.
#[derive(Clone, Debug)]
pub(crate) struct Granter {
    times: Times,
    silent_until: Instant,
    last: Option<Instant>,
    /// When it was granted to last, serving.
    served: Option<Instant>,
    last_number: u64,
    void_to: u64,
    closed: bool,
}

impl Granter {
    /// What was granted before is not known: silent for a full wait.
    pub fn new(times: Times, now: Instant) -> Granter {
        Granter {
            times,
            silent_until: now + times.wait,
            last: None,
            served: None,
            last_number: 0,
            void_to: 0,
            closed: false,
        }
    }

    pub fn open_at_once(&mut self, now: Instant) {
        self.silent_until = now;
    }

    pub fn is_silent(&self, now: Instant) -> bool {
        now < self.silent_until
    }

    /// Grants, where it may. `serves`: to a node that serves already.
    pub fn grant(&mut self, number: u64, serves: bool, now: Instant) -> Option<u32> {
        if self.closed || self.is_silent(now) || number <= self.void_to {
            return None;
        }
        self.last = Some(now);
        self.served = if serves { self.last } else { self.served };
        self.last_number = self.last_number.max(number);
        Some(self.times.lease_millis())
    }

    /// Grants nothing from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Grants again.
    pub fn open(&mut self) {
        self.closed = false;
    }

    /// The holder says that it serves no more, and asked nothing since with a higher number. While silent it is not
    /// believed: it may have been granted to since by who was here before the start.
    pub fn void(&mut self, number: u64, now: Instant) {
        if number > self.last_number && !self.is_silent(now) {
            (self.last, self.served, self.void_to) = (None, None, number);
        }
    }

    /// Did the holder say so, and was it granted nothing since?
    pub fn is_void(&self) -> bool {
        self.last.is_none() && self.void_to > 0
    }

    /// Another node is granted from now on: what the one before had is over, its numbers mean nothing.
    pub fn change_holder(&mut self) {
        (self.last, self.served) = (None, None);
        (self.last_number, self.void_to) = (0, 0);
    }

    /// When everything that was granted is over.
    pub fn lapsed_at(&self) -> Instant {
        let lapses = self.last.map(|last| last + self.times.wait);
        lapses.map_or(self.silent_until, |at| at.max(self.silent_until))
    }

    /// Was it granted to lately, serving?
    pub fn is_seen(&self, now: Instant) -> bool {
        self.served.is_some_and(|last| now.saturating_duration_since(last) < self.seen_for())
    }

    fn seen_for(&self) -> Duration {
        self.times.wait / 2
    }
}
