//! Ranges of a file that are saved already.

use std::collections::BTreeMap;

/// Disjoint ranges: where each begins and ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// The parts of the range that are not among them, in order.
    pub(super) fn gaps(&self, from: u64, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = from;
        let before = self.0.range(..=from).next_back();
        for (&begin, &until) in before.into_iter().chain(self.0.range(from.saturating_add(1)..end.max(from + 1))) {
            if begin > at {
                gaps.push((at, begin.min(end)));
            }
            at = at.max(until);
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }

    /// Adds a range, joined with those that it touches.
    pub(super) fn add(&mut self, mut from: u64, mut end: u64) {
        while let Some((&begin, &until)) = self.0.range(..=end).next_back().filter(|(_, until)| **until >= from) {
            (from, end) = (from.min(begin), end.max(until));
            self.0.remove(&begin);
        }
        self.0.insert(from, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_was_not_added() {
        let mut seed = 7u64;
        for _ in 0..200 {
            let mut ranges = Ranges::default();
            let mut bits = [false; 64];
            for _ in 0..12 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let (from, len) = (seed >> 33 & 31, 1 + (seed >> 40 & 15));
                let gaps = ranges.gaps(from, from + len);
                let mut found = [false; 64];
                gaps.iter().for_each(|(a, b)| (*a..*b).for_each(|at| found[at as usize] = true));
                (0..64).for_each(|at| {
                    let inside = (from..from + len).contains(&at);
                    assert_eq!(found[at as usize], inside && !bits[at as usize], "{ranges:?} {from} {len}");
                });
                ranges.add(from, from + len);
                (from..from + len).for_each(|at| bits[at as usize] = true);
            }
        }
    }
}
