//! The half that serves.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Times;
use crate::planted::{Planted, is_planted};

/// How many questions are remembered; an answer to an older one comes too late anyway.
const ASKED_MAX: usize = 64;

/// What the active side was granted.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    times: Times,
    asked: VecDeque<(u64, Instant)>,
    until: Option<Instant>,
}

impl Holder {
    pub fn new(times: Times) -> Holder {
        Holder { times, asked: VecDeque::new(), until: None }
    }

    /// A question is sent now.
    pub fn ask(&mut self, number: u64, now: Instant) {
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((number, now));
    }

    /// Was that asked, and does an answer still count?
    pub fn has_asked(&self, number: u64) -> bool {
        self.asked.iter().any(|(asked, _)| *asked == number)
    }

    /// An answer came. Is the lease longer now?
    pub fn granted(&mut self, number: u64, millis: u32, now: Instant) -> bool {
        let Some((_, sent)) = self.asked.iter().find(|(asked, _)| *asked == number) else { return false };
        let from = if is_planted(Planted::CountFromArrival) { now } else { *sent };
        let until = from + self.times.held(Duration::from_millis(millis.into()));
        let longer = until > now && self.until.is_none_or(|held| until > held);
        if longer {
            self.until = Some(until);
        }
        longer
    }

    /// Until when it may serve; `None`: it may not.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    pub fn is_held(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Gives it up: no question of before counts any more.
    pub fn forget(&mut self) {
        self.asked.clear();
        self.until = None;
    }
}
