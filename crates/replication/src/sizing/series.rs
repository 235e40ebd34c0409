//! Bytes over time, in buckets that widen when there would be too many.

use std::time::Duration;

/// Most buckets: eighteen hours in seconds.
const BUCKETS_MAX: usize = 1 << 16;

/// Bytes over time.
#[derive(Debug)]
pub(super) struct Series {
    /// Seconds of a bucket.
    width: u64,
    values: Vec<u64>,
}

impl Series {
    pub(super) fn new() -> Series {
        Series { width: 1, values: Vec::new() }
    }

    /// Adds bytes to the bucket of that second.
    pub(super) fn add(&mut self, second: u64, bytes: u64) {
        while second / self.width >= BUCKETS_MAX as u64 {
            self.widen();
        }
        let at = (second / self.width) as usize;
        if self.values.len() <= at {
            self.values.resize(at + 1, 0);
        }
        self.values[at] += bytes;
    }

    /// The buckets of that time, also those in which nothing was, and their width.
    pub(super) fn until(&mut self, lasted: Duration) -> (Vec<u64>, Duration) {
        let last = lasted.as_secs_f64().ceil().max(1.0) as u64 - 1;
        self.add(last, 0);
        (self.values.clone(), Duration::from_secs(self.width))
    }

    fn widen(&mut self) {
        self.values = self.values.chunks(2).map(|pair| pair.iter().sum()).collect();
        self.width *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_without_a_change_count_too() {
        let mut series = Series::new();
        series.add(0, 5);
        series.add(3, 7);
        series.add(3, 1);
        let of = |seconds: f64, series: &mut Series| series.until(Duration::from_secs_f64(seconds)).0;
        assert_eq!(of(0.2, &mut series), [5, 0, 0, 8]);
        assert_eq!(of(4.0, &mut series), [5, 0, 0, 8]);
        assert_eq!(of(5.5, &mut series), [5, 0, 0, 8, 0, 0]);
    }

    #[test]
    fn a_long_time_is_kept_in_wider_buckets_and_no_byte_is_lost() {
        let mut series = Series::new();
        for second in 0..300_000 {
            series.add(second, second % 7);
        }
        let (values, width) = series.until(Duration::from_secs(300_000));
        assert_eq!(width, Duration::from_secs(8));
        assert!(values.len() <= BUCKETS_MAX);
        assert_eq!(values.iter().sum::<u64>(), (0..300_000).map(|second| second % 7).sum::<u64>());
    }
}
