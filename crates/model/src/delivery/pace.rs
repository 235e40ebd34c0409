//! How fast one receiver may be told, and how soon what failed is tried again.

use std::time::{Duration, Instant};

use super::{Fate, planted};

/// Attempts for one message.
pub(super) const ATTEMPTS_MAX: u32 = 100;
/// How long after the first attempt there may be another one.
pub(super) const TRIED_FOR_MAX: Duration = Duration::from_secs(8 * 3600);
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

/// The pace of one receiver.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// The messages so far would have been even until then (generic cell rate algorithm).
    even_until: Option<Instant>,
    attempts: u32,
    first_attempt: Option<Instant>,
    again_at: Option<Instant>,
}

impl Pace {
    /// When another message may go.
    pub(super) fn free_at(&self, per_minute: u32) -> Option<Instant> {
        let free = self.even_until.and_then(|until| until.checked_sub(MINUTE - interval(per_minute)));
        if planted::is(planted::Planted::NoLimit) { self.again_at } else { free.max(self.again_at) }
    }

    /// A message goes.
    pub(super) fn goes(&mut self, per_minute: u32, now: Instant) {
        if self.attempts == 0 {
            let even = self.even_until.map_or(now, |until| until.max(now));
            self.even_until = Some(even + interval(per_minute));
            self.first_attempt = Some(now);
        }
        self.attempts += 1;
        self.again_at = None;
    }

    /// It is over with that message.
    pub(super) fn done(&mut self) {
        (self.attempts, self.first_attempt, self.again_at) = (0, None, None);
    }

    /// It failed; none: it is given up.
    pub(super) fn again(&mut self, now: Instant) -> Option<Fate> {
        let wait = AGAIN_FIRST.saturating_mul(1 << self.attempts.saturating_sub(1).min(16)).min(AGAIN_MAX);
        let tried_for = self.first_attempt.map_or(Duration::ZERO, |first| now + wait - first);
        if self.attempts >= ATTEMPTS_MAX || tried_for > TRIED_FOR_MAX {
            return None;
        }
        self.again_at = Some(now + wait);
        Some(Fate::Again(wait))
    }
}

fn interval(per_minute: u32) -> Duration {
    MINUTE / per_minute.max(1)
}
