//! How a node is watched.

use std::time::Duration;

/// Interval, time-out and paths of a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorConfig {
    /// Between two heartbeats; 10 ms to 60 s.
    pub interval: Duration,
    /// Silence after which a node counts as failed; 30 ms to 1 h, at least three intervals.
    pub timeout: Duration,
    /// That silence after the node had said that it goes down in order; at least the time-out.
    pub leave_grace: Duration,
    /// How many paths there are; 1 to 16.
    pub paths: u32,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        MonitorConfig {
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(3),
            leave_grace: Duration::from_secs(60),
            paths: 1,
        }
    }
}

/// What is wrong with the times of a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMonitor {
    /// Out of range.
    #[error("a heartbeat interval of {0:?} is not between 10 ms and 60 s")]
    Interval(Duration),
    /// Out of range.
    #[error("a time-out of {0:?} is not between 30 ms and 1 h")]
    Timeout(Duration),
    /// One or two lost datagrams would count as a failure.
    #[error("a time-out of {timeout:?} is less than three intervals of {interval:?}")]
    TooTight {
        /// The interval.
        interval: Duration,
        /// The time-out.
        timeout: Duration,
    },
    /// Shorter than the time-out.
    #[error("the grace of {0:?} for a node that goes down in order is shorter than the time-out")]
    Grace(Duration),
    /// Out of range.
    #[error("{0} heartbeat paths are not between 1 and 16")]
    Paths(u32),
}

impl MonitorConfig {
    /// Are the values within their ranges, and do they fit together?
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), BadMonitor> {
        let ms = Duration::from_millis;
        let (interval, timeout) = (self.interval, self.timeout);
        if !(ms(10)..=ms(60_000)).contains(&interval) {
            return Err(BadMonitor::Interval(interval));
        }
        if !(ms(30)..=ms(3_600_000)).contains(&timeout) {
            return Err(BadMonitor::Timeout(timeout));
        }
        if timeout < interval * 3 {
            return Err(BadMonitor::TooTight { interval, timeout });
        }
        if self.leave_grace < timeout {
            return Err(BadMonitor::Grace(self.leave_grace));
        }
        if (1..=16).contains(&self.paths) { Ok(()) } else { Err(BadMonitor::Paths(self.paths)) }
    }

    /// Silence after which a node is late; never less than one and a half intervals, so that a heartbeat that comes when it
    /// is due is not.
    pub(crate) fn late_after(&self) -> Duration {
        (self.timeout / 4).max(self.interval * 3 / 2)
    }

    /// How much later than due this process may be called before it counts as stalled.
    pub(crate) fn stall_max(&self) -> Duration {
        self.timeout / 4
    }
}
