//! How long a call may go on.

use std::time::{Duration, Instant};

use crate::Stop;

/// How long a call may go on: for a limit from its begin on, or until it is called off.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// All in all.
    pub limit: Duration,
    /// When that is over.
    pub moment: Instant,
    /// What ends it before.
    pub stop: &'a Stop,
}

impl<'a> Term<'a> {
    /// Begins now.
    pub fn new(limit: Duration, stop: &'a Stop) -> Term<'a> {
        Term { limit, moment: Instant::now() + limit, stop }
    }

    /// What is left of its limit.
    pub fn left(&self) -> Duration {
        self.moment.saturating_duration_since(Instant::now())
    }

    /// Is its limit over, or was it called off?
    pub fn is_over(&self) -> bool {
        self.stop.is_called() || Instant::now() >= self.moment
    }

    /// Another that begins now, under the same stop.
    pub fn begin(&self, limit: Duration) -> Term<'a> {
        Term::new(limit, self.stop)
    }
}
