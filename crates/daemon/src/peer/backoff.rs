//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST_MS: u64 = 100;
const LONGEST_MS: u64 = 10_000;

/// Waits between attempts: doubling from 100 ms to 10 s, each drawn from the upper half of its range so that many nodes
/// do not knock in step.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let whole = FIRST_MS.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_MS);
        self.attempts += 1;
        Duration::from_millis(whole / 2 + random_below(whole / 2 + 1))
    }

    /// It worked: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

fn random_below(end: u64) -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes) % end,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_ten_seconds_and_no_further() {
        let mut backoff = Backoff::default();
        for whole in [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
            let wait = backoff.next_wait().as_millis() as u64;
            assert!((whole / 2..=whole).contains(&wait), "{wait} of {whole}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
