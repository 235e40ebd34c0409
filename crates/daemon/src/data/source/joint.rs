//! One number for what several drivers captured. Each driver numbers its own changes; the mind knows one number. With one
//! driver it is the driver's; with two, a number is issued for each moment that somebody asks about, and is reached when
//! every driver was drained up to what it had captured at that moment.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::threads::lock;

/// Moments that somebody waits for: one for each read or wait that is under way.
const MOMENTS_MAX: usize = 1 << 16;

/// The numbers of a set's drivers, joined.
pub(super) struct Joint(Mutex<Moments>);

#[derive(Default)]
struct Moments {
    waiting: VecDeque<Moment>,
    issued: u64,
    reached: u64,
}

struct Moment {
    number: u64,
    captured: Vec<u64>,
}

impl Joint {
    pub(super) fn new() -> Joint {
        Joint(Mutex::default())
    }

    /// The number of this moment, at which the drivers have captured that much.
    pub(super) fn issue(&self, captured: Vec<u64>) -> u64 {
        if let [only] = captured[..] {
            return only;
        }
        let mut moments = lock(&self.0);
        assert!(moments.waiting.len() < MOMENTS_MAX, "reads and waits are bounded, so are moments");
        moments.issued += 1;
        let number = moments.issued;
        moments.waiting.push_back(Moment { number, captured });
        number
    }

    /// The last number that is reached now that the drivers are drained that far.
    pub(super) fn reached(&self, taken: &[u64]) -> u64 {
        if let [only] = *taken {
            return only;
        }
        let mut moments = lock(&self.0);
        while moments.waiting.front().is_some_and(|moment| moment.captured.iter().zip(taken).all(|(a, b)| a <= b)) {
            let moment = moments.waiting.pop_front().expect("it was looked at");
            moments.reached = moment.number;
        }
        moments.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_driver_keeps_its_numbers() {
        let joint = Joint::new();
        assert_eq!(joint.issue(vec![70]), 70);
        assert_eq!(joint.reached(&[64]), 64);
    }

    #[test]
    fn a_moment_is_reached_when_every_driver_is_drained_up_to_it() {
        let joint = Joint::new();
        let first = joint.issue(vec![10, 0]);
        let second = joint.issue(vec![10, 5]);
        assert_eq!(joint.reached(&[9, 100]), 0);
        assert_eq!(joint.reached(&[10, 4]), first);
        assert_eq!(joint.reached(&[500, 4]), first);
        assert_eq!(joint.reached(&[500, 5]), second);
        assert!(second > first);
    }
}
