//! A line as a leaky bucket: each bucket of time pours in what changed, evenly, and the line lets out as much as it can.

use std::time::Duration;

use serde::Serialize;

/// How a line would have done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LineReport {
    /// The line, in bytes each second.
    pub bytes_per_second: u64,
    /// Part of the time in which the replica was behind by no more than what counts as keeping up.
    pub keeps_up_share: f64,
    /// Furthest that the replica was behind, in seconds.
    pub lag_max_seconds: f64,
    /// As far behind, or less, for 95 % of the time.
    pub lag_usually_seconds: f64,
    /// How far behind it was at the end: the time that the line would have needed for the rest.
    pub lag_end_seconds: f64,
    /// Most bytes that waited.
    pub waiting_bytes_max: u64,
}

/// How that line does with what changed in each bucket of time.
pub(super) fn judge(values: &[u64], width: Duration, rate: u64, within: Duration) -> LineReport {
    let waiting = waiting(values, width, rate);
    let lag = |bytes: u64| if bytes == 0 { 0.0 } else { bytes as f64 / rate as f64 };
    let mut sorted = waiting.clone();
    sorted.sort_unstable();
    LineReport {
        bytes_per_second: rate,
        keeps_up_share: share_within(&waiting, rate, within),
        lag_max_seconds: lag(sorted.last().copied().unwrap_or(0)),
        lag_usually_seconds: lag(sorted.get(rank(sorted.len())).copied().unwrap_or(0)),
        lag_end_seconds: lag(waiting.last().copied().unwrap_or(0)),
        waiting_bytes_max: sorted.last().copied().unwrap_or(0),
    }
}

/// The smallest line, in bytes each second, that is within that lag for that part of the time.
pub(super) fn smallest(values: &[u64], width: Duration, within: Duration, share: f64) -> u64 {
    let keeps_up = |rate| share_within(&waiting(values, width, rate), rate, within) >= share;
    let (mut low, mut high) = (0, values.iter().copied().max().unwrap_or(0).div_ceil(width.as_secs().max(1)));
    while low < high {
        let middle = low + (high - low) / 2;
        if keeps_up(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Bytes that wait at the end of each bucket.
fn waiting(values: &[u64], width: Duration, rate: u64) -> Vec<u64> {
    let carried = rate.saturating_mul(width.as_secs());
    let mut waits = 0_u64;
    values
        .iter()
        .map(|value| {
            waits = (waits + value).saturating_sub(carried);
            waits
        })
        .collect()
}

fn share_within(waiting: &[u64], rate: u64, within: Duration) -> f64 {
    let most = (rate as f64 * within.as_secs_f64()) as u64;
    let kept = waiting.iter().filter(|bytes| **bytes <= most).count();
    if waiting.is_empty() { 1.0 } else { kept as f64 / waiting.len() as f64 }
}

/// Place of the value that 95 % of so many do not exceed.
fn rank(count: usize) -> usize {
    (count * 95).div_ceil(100).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_worked_off_at_the_speed_of_the_line() {
        let line = judge(&[1000, 0, 0, 0, 0], SECOND, 300, SECOND);
        assert_eq!(line.waiting_bytes_max, 700);
        assert!((line.lag_max_seconds - 700.0 / 300.0).abs() < 1e-9);
        assert_eq!(line.lag_end_seconds, 0.0);
        assert_eq!(line.keeps_up_share, 3.0 / 5.0, "700 and 400 wait longer than a second, then 100, then nothing");
    }

    #[test]
    fn a_line_that_is_too_slow_falls_behind_for_ever() {
        let line = judge(&[100; 60], SECOND, 50, SECOND);
        assert_eq!(line.waiting_bytes_max, 3000);
        assert_eq!((line.lag_max_seconds, line.lag_end_seconds), (60.0, 60.0));
        assert_eq!(line.lag_usually_seconds, 57.0);
        assert_eq!(line.keeps_up_share, 1.0 / 60.0);
    }

    #[test]
    fn the_smallest_line_is_enough_and_one_byte_less_is_not() {
        let values: Vec<u64> = (0..200).map(|n| if n % 40 == 7 { 9_000 } else { n % 13 }).collect();
        for share in [0.95, 1.0] {
            let rate = smallest(&values, SECOND, SECOND, share);
            assert!(judge(&values, SECOND, rate, SECOND).keeps_up_share >= share);
            assert!(judge(&values, SECOND, rate - 1, SECOND).keeps_up_share < share);
        }
        assert!(smallest(&values, SECOND, SECOND, 0.95) < smallest(&values, SECOND, SECOND, 1.0));
        assert_eq!(smallest(&values, SECOND, Duration::ZERO, 1.0), 9_000);
    }

    #[test]
    fn where_nothing_changes_no_line_is_needed() {
        assert_eq!(smallest(&[0; 10], SECOND, SECOND, 1.0), 0);
        let line = judge(&[0; 10], SECOND, 1, SECOND);
        assert_eq!((line.lag_max_seconds, line.keeps_up_share), (0.0, 1.0));
        assert_eq!(judge(&[], SECOND, 1, SECOND).keeps_up_share, 1.0);
    }

    #[test]
    fn wide_buckets_carry_as_much_as_their_time_allows() {
        let line = judge(&[4000, 0], Duration::from_secs(4), 500, SECOND);
        assert_eq!((line.waiting_bytes_max, line.lag_max_seconds, line.lag_end_seconds), (2000, 4.0, 0.0));
        assert_eq!(smallest(&[4000, 0], Duration::from_secs(4), Duration::ZERO, 1.0), 1000);
    }
}
