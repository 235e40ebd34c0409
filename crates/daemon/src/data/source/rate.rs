//! How fast a link may send: a bucket that fills with the rate and is emptied by what is written.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The bucket holds what flows in this time: the longest burst.
const BURST: Duration = Duration::from_millis(100);
/// The least that is written at once, so that a slow line does not pay for tiny packets.
const PIECE_BYTES_MIN: u64 = 1400;

/// The limit of a link, changed while it runs.
#[derive(Debug, Default)]
pub(super) struct Limit(AtomicU64);

impl Limit {
    /// Bytes each second; `None`: as fast as the line is.
    pub(super) fn set(&self, rate: Option<u64>) {
        self.0.store(rate.unwrap_or(0), Relaxed);
    }

    /// As it is now.
    pub(super) fn get(&self) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|rate| *rate > 0)
    }
}

/// What may be written now.
#[derive(Debug)]
pub(super) struct Bucket {
    bytes: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(now: Instant) -> Bucket {
        Bucket { bytes: 0.0, filled: now }
    }

    /// How many of `wanted` bytes may go now (they are taken), or how long to wait before asking again.
    pub(super) fn take(&mut self, wanted: usize, rate: Option<u64>, now: Instant) -> Result<usize, Duration> {
        let Some(rate) = rate else {
            self.filled = now;
            return Ok(wanted);
        };
        let size = (rate as f64 * BURST.as_secs_f64()).max(PIECE_BYTES_MIN as f64);
        let flowed = now.saturating_duration_since(self.filled).as_secs_f64() * rate as f64;
        (self.bytes, self.filled) = ((self.bytes + flowed).min(size), now);
        let least = (PIECE_BYTES_MIN as usize).min(wanted) as f64;
        if self.bytes < least {
            return Err(Duration::from_secs_f64((least - self.bytes) / rate as f64).min(Duration::from_secs(1)));
        }
        let taken = (self.bytes as usize).min(wanted);
        self.bytes -= taken as f64;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes for that long; returns the bytes and the longest single piece.
    fn write_for(bucket: &mut Bucket, seconds: f64, rate: impl Fn(f64) -> Option<u64>) -> (usize, usize) {
        let begin = bucket.filled;
        let (mut at, mut sent, mut longest) = (0.0, 0, 0);
        while at < seconds {
            match bucket.take(64 << 10, rate(at), begin + Duration::from_secs_f64(at)) {
                Ok(bytes) => (sent, longest) = (sent + bytes, longest.max(bytes)),
                Err(wait) => at += wait.as_secs_f64().max(1e-6),
            }
        }
        (sent, longest)
    }

    #[test]
    fn a_limited_link_sends_what_the_rate_allows_and_no_long_bursts() {
        for rate in [2_000, 250_000, 10_000_000] {
            let (sent, longest) = write_for(&mut Bucket::new(Instant::now()), 10.0, |_| Some(rate));
            let aim = rate as f64 * 10.0;
            assert!((sent as f64) < aim * 1.02 + 3000.0 && sent as f64 > aim * 0.98 - 3000.0, "{rate}: {sent}");
            assert!(longest as u64 <= (rate / 10).max(PIECE_BYTES_MIN), "{rate}: {longest}");
        }
    }

    #[test]
    fn a_limit_that_changes_holds_at_once_and_nothing_is_saved_up() {
        let mut bucket = Bucket::new(Instant::now());
        let rate = |at| if at < 5.0 { 1_000_000 } else { 10_000 };
        let (sent, _) = write_for(&mut bucket, 10.0, |at| Some(rate(at)));
        assert!((5_000_000..5_300_000).contains(&sent), "{sent}");
    }

    #[test]
    fn without_a_limit_everything_goes() {
        let now = Instant::now();
        assert_eq!(Bucket::new(now).take(123_456, None, now), Ok(123_456));
    }
}
