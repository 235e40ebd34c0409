//! A node's CLOCK_BOOTTIME: goes a little wrong, and stands still while a virtual machine is frozen.

use std::time::{Duration, Instant};

/// Virtual time in microseconds since the simulation began.
pub(super) type Micros = u64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
    /// Local microseconds at `since`.
    local: u64,
    since: Micros,
    /// Local microseconds in a second.
    rate: u64,
    frozen: bool,
}

impl Clock {
    pub fn new(origin: Instant, local: u64, rate: u64) -> Clock {
        Clock { origin, local, since: 0, rate, frozen: false }
    }

    fn micros(&self, at: Micros) -> u64 {
        let passed = at.saturating_sub(self.since);
        if self.frozen {
            self.local
        } else {
            self.local + (u128::from(passed) * u128::from(self.rate) / 1_000_000) as u64
        }
    }

    /// What it shows then.
    pub fn read(&self, at: Micros) -> Instant {
        self.origin + Duration::from_micros(self.micros(at))
    }

    /// When it shows that, or now where it has.
    pub fn when(&self, shows: Instant, now: Micros) -> Micros {
        let local = shows.saturating_duration_since(self.origin).as_nanos().div_ceil(1_000) as u64;
        let ahead = local.saturating_sub(self.local);
        let passed = (u128::from(ahead) * 1_000_000).div_ceil(u128::from(self.rate)) as u64;
        (self.since + passed).max(now)
    }

    pub fn freeze(&mut self, frozen: bool, now: Micros) {
        (self.local, self.since) = (self.micros(now), now);
        self.frozen = frozen;
    }
}
