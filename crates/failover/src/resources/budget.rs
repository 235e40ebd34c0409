//! So often within a time, and no oftener.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Something that may happen so often within a time; what is longer ago counts no more.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: usize,
    within: Duration,
    taken: VecDeque<Instant>,
}

impl Budget {
    /// Nothing has happened yet.
    pub fn new(limit: u32, within: Duration) -> Budget {
        Budget { limit: limit as usize, within, taken: VecDeque::new() }
    }

    /// May it happen once more? Then it has.
    pub fn take(&mut self, now: Instant) -> bool {
        while self.taken.pop_front_if(|then| now.saturating_duration_since(*then) >= self.within).is_some() {}
        let may = self.taken.len() < self.limit;
        if may {
            self.taken.push_back(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_ago_counts_no_more() {
        let (mut budget, begin) = (Budget::new(2, Duration::from_secs(10)), Instant::now());
        let mut take = |second| budget.take(begin + Duration::from_secs(second));
        assert_eq!([0, 1, 2, 9, 10, 10, 11].map(&mut take), [true, true, false, false, true, false, true]);
    }
}
