//! Streams that follow each other: their numbers begin anew, so inside they are put one behind the other.

use std::collections::VecDeque;

use stead_model::{Position, Sequence};

/// A place in all that was received since the target started: grows over streams.
pub(super) type At = u64;

/// A part of one stream, received without a gap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Epoch and incarnation.
    pub(super) stream: (u64, u64),
    /// Where it begins here, and the sequence before its first one.
    pub(super) begin: At,
    pub(super) before: Sequence,
    /// The run of capture that its numbers are of; 0: none.
    pub(super) capture: u64,
}

impl Run {
    pub(super) fn at(&self, sequence: Sequence) -> At {
        self.begin + sequence.saturating_sub(self.before)
    }

    pub(super) fn sequence(&self, at: At) -> Sequence {
        self.before + at.saturating_sub(self.begin)
    }

    fn position(&self, at: At) -> Position {
        let (epoch, incarnation) = self.stream;
        Position { epoch, incarnation, sequence: self.sequence(at) }
    }
}

/// The runs that are not wholly behind a checkpoint, oldest first.
#[derive(Debug, Default)]
pub(super) struct Runs(VecDeque<Run>);

impl Runs {
    pub(super) fn push(&mut self, run: Run) {
        self.0.push_back(run);
    }

    pub(super) fn last(&self) -> Option<&Run> {
        self.0.back()
    }

    /// The position that `at` stands for.
    pub(super) fn position(&self, at: At) -> Position {
        let run = self.0.iter().rev().find(|run| run.begin < at).or(self.0.front());
        run.map_or_else(Position::default, |run| run.position(at))
    }

    /// The run that the record at `at` belongs to.
    pub(super) fn of(&self, at: At) -> Option<&Run> {
        self.0.iter().rev().find(|run| run.begin < at)
    }

    /// Where the run ends that the record at `at` belongs to.
    pub(super) fn end_of(&self, at: At) -> At {
        self.0.iter().find(|run| run.begin >= at).map_or(At::MAX, |run| run.begin)
    }

    /// Forgets runs that ended before `at`.
    pub(super) fn forget_until(&mut self, at: At) {
        while self.0.get(1).is_some_and(|second| second.begin < at) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(incarnation: u64, begin: At, before: Sequence) -> Run {
        Run { stream: (1, incarnation), begin, before, capture: 0 }
    }

    #[test]
    fn places_of_several_streams_are_one_row() {
        let mut runs = Runs::default();
        runs.push(run(7, 0, 40));
        runs.push(run(8, 10, 0));
        let position = |incarnation, sequence| Position { epoch: 1, incarnation, sequence };
        assert_eq!(runs.position(0), position(7, 40));
        assert_eq!(runs.position(10), position(7, 50));
        assert_eq!(runs.position(11), position(8, 1));
        assert_eq!(runs.last().unwrap().at(3), 13);
        runs.forget_until(10);
        assert_eq!(runs.position(10), position(7, 50));
        runs.forget_until(11);
        assert_eq!(runs.position(12), position(8, 2));
    }
}
