//! How long a lease may be.

use std::time::Duration;

use crate::planted::{Planted, is_planted};

/// The times of a group's leases, the same on all its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long the active side may serve after it asked for what was granted.
    pub lease: Duration,
    /// How long it takes at most to be quiet then: changes blocked, addresses removed, processes killed.
    pub stop_budget: Duration,
    /// What is left over for timers that are late.
    pub margin: Duration,
    /// How long those who granted wait before they agree to a takeover.
    pub wait: Duration,
}

/// Times that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTimes {
    /// The old side could serve while the new one begins.
    #[error(
        "a lease of {lease:?} with a stop budget of {stop_budget:?}, a margin of {margin:?} and clocks that are 1 % wrong \
         needs a wait of {needed:?}; it is {wait:?}"
    )]
    TooLong {
        /// As given.
        lease: Duration,
        /// As given.
        stop_budget: Duration,
        /// As given.
        margin: Duration,
        /// As given.
        wait: Duration,
        /// The least.
        needed: Duration,
    },
    /// One lost heartbeat would end it.
    #[error(
        "a lease of {lease:?} is less than two heartbeat intervals of {interval:?}; use a longer time-out or a shorter interval"
    )]
    TooShort {
        /// The longest that there may be.
        lease: Duration,
        /// As given.
        interval: Duration,
    },
}

impl Times {
    /// The usual stop budget: 1 s, but at most a third of the wait.
    pub fn usual_stop_budget(wait: Duration) -> Duration {
        (wait / 3).min(Duration::from_secs(1))
    }

    /// The longest lease for that wait.
    ///
    /// # Errors
    /// It would be shorter than two intervals.
    pub fn for_wait(wait: Duration, stop_budget: Duration, interval: Duration) -> Result<Times, BadTimes> {
        let margin = wait / 30;
        let lease = ((wait - margin) * 99 / 101).saturating_sub(stop_budget + Duration::from_millis(1));
        let times = Times { lease, stop_budget, margin, wait };
        times.check(interval).map(|()| times)
    }

    /// Those of a group without a witness, where no lease bounds who serves: only what was granted counts, for that wait.
    pub fn without_witness(wait: Duration) -> Times {
        Times { lease: wait / 2, stop_budget: Duration::ZERO, margin: Duration::ZERO, wait }
    }

    /// Do they fit together, with heartbeats at that interval?
    ///
    /// # Errors
    /// How they do not.
    pub fn check(&self, interval: Duration) -> Result<(), BadTimes> {
        let Times { lease, stop_budget, margin, wait } = *self;
        let needed = (lease + stop_budget) * 101 / 99 + margin;
        if needed > wait {
            return Err(BadTimes::TooLong { lease, stop_budget, margin, wait, needed });
        }
        if lease < interval * 2 { Err(BadTimes::TooShort { lease, interval }) } else { Ok(()) }
    }

    pub(super) fn held(&self, granted: Duration) -> Duration {
        if is_planted(Planted::LeaseTooLong) { self.wait * 2 } else { self.lease.min(granted) }
    }

    pub(crate) fn lease_millis(&self) -> u32 {
        u32::try_from(self.lease.as_millis()).unwrap_or(u32::MAX)
    }
}
