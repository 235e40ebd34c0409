//! How far a replica is behind, in time that passes: also while the wall clock is set, by which changes have their times.

use std::time::{Duration, Instant};

/// A wall clock that goes further than this beside the time that passes was set.
const SET: Duration = Duration::from_secs(2);

/// The lag of a target.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// The wall clock at the last look, when that was, and what was told.
    looked: Option<(u64, Instant, Duration)>,
    /// The clock was set, and the oldest change was made before: what the clock showed first, when, and the lag then.
    set: Option<(u64, Instant, Duration)>,
}

impl Lag {
    /// Seconds since the oldest change that is missing was made, if one is. Asked again and again.
    pub(super) fn seconds(&mut self, oldest: Option<u64>, wall: u64, now: Instant) -> f64 {
        self.notice(wall, now);
        let age = oldest.map_or(Duration::ZERO, |oldest| self.age(oldest, wall, now));
        if oldest.is_none() {
            self.set = None;
        }
        self.looked = Some((wall, now, age));
        age.as_secs_f64()
    }

    fn notice(&mut self, wall: u64, now: Instant) {
        let Some((before, at, told)) = self.looked else { return };
        let passed = now.saturating_duration_since(at);
        let shown = Duration::from_nanos(wall.abs_diff(before.saturating_add(passed.as_nanos() as u64)));
        if shown > SET {
            self.set = Some((wall, now, told + passed));
        }
    }

    fn age(&mut self, oldest: u64, wall: u64, now: Instant) -> Duration {
        // By its time it was made since.
        self.set = self.set.filter(|(shown, ..)| !(*shown..=wall).contains(&oldest));
        match self.set {
            Some((_, at, told)) => told + now.saturating_duration_since(at),
            None => Duration::from_nanos(wall.saturating_sub(oldest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3_600 * SECOND;

    /// Lags of (oldest change, wall clock, time that has passed), all in seconds.
    fn told(looks: &[(Option<u64>, u64, u64)]) -> Vec<f64> {
        let (mut lag, begin) = (Lag::default(), Instant::now());
        let look = |(oldest, wall, passed): &(Option<u64>, u64, u64)| {
            lag.seconds(oldest.map(|at| at * SECOND), wall * SECOND, begin + Duration::from_secs(*passed))
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn it_goes_on_where_the_clock_is_set() {
        let hour = HOUR / SECOND;
        for set in [9 * hour, hour] {
            let looks = [
                (None, 5 * hour, 0),
                (Some(5 * hour), 5 * hour + 3, 3),
                (Some(5 * hour), set, 4),
                (Some(5 * hour), set + 2, 6),
            ];
            assert_eq!(told(&looks), [0.0, 3.0, 4.0, 6.0], "set to {set}");
        }
    }

    #[test]
    fn what_is_made_after_the_clock_was_set_is_told_by_it() {
        let (noon, night) = (43_200, 1_000);
        let looks = [
            (Some(noon), noon + 8, 8),
            (Some(noon), night, 9),
            (Some(night + 2), night + 3, 12),
            (None, night + 4, 13),
        ];
        assert_eq!(told(&looks), [8.0, 9.0, 1.0, 0.0]);
    }
}
