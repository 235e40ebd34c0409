//! Marks: when is everything that was captured up to a number applied everywhere?

use stead_model::Sequence;

use super::{Slot, Source, SourceEvent, bit};
use crate::planted::{Planted, is_planted};

/// Marks that may be open; the oldest is given up beyond.
const MARKS_MAX: usize = 4096;

#[derive(Debug)]
struct Mark {
    id: u64,
    captured: u64,
    at: At,
}

/// How far a mark came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Capture has not delivered up to it.
    Capture,
    /// Its slot is in the stream.
    Stream,
    /// Its turn came amid a mirror, which has to end.
    Mirror,
    /// When this is applied everywhere.
    Apply(Sequence),
}

/// The open marks.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: Vec<Mark>,
}

impl Marks {
    pub(super) fn forget(&mut self, id: u64) {
        self.marks.retain(|mark| mark.id != id);
    }
}

impl Source {
    pub(super) fn mark(&mut self, id: u64, captured: u64) {
        if self.marks.marks.len() >= MARKS_MAX {
            self.marks.marks.remove(0);
        }
        self.marks.marks.push(Mark { id, captured, at: At::Capture });
        self.place_marks();
    }

    /// Gives marks that capture has reached their place in the stream.
    pub(super) fn place_marks(&mut self) {
        for mark in &mut self.marks.marks {
            if mark.at == At::Capture && mark.captured <= self.captured_in {
                mark.at = At::Stream;
                self.stream.push(Slot::Mark(mark.id));
            }
        }
    }

    /// The turn of a mark came.
    pub(super) fn take_mark(&mut self, id: u64) {
        if let Some(mark) = self.marks.marks.iter_mut().find(|mark| mark.id == id) {
            mark.at = At::Mirror;
        }
    }

    /// Ends the marks that are applied everywhere.
    pub(super) fn settle_marks(&mut self) {
        if self.marks.marks.is_empty() {
            return;
        }
        if self.is_repeating() {
            return;
        }
        let blocked = self.blocked();
        // Of what the source before this one sent, a target tells only by what it applies of this stream.
        let first = Sequence::from(self.config.recalled.is_some());
        let last = self.queue.last();
        let connected: Vec<_> = self.connections.iter().collect();
        let everywhere = |sequence: Sequence| {
            connected.iter().all(|(id, connection)| {
                let applied = if is_planted(Planted::MarkEarly) { connection.sent } else { connection.applied };
                connection.following
                    && !connection.expected
                    && applied >= sequence.max(first)
                    && blocked & bit(**id) == 0
            })
        };
        let mut done = Vec::new();
        for mark in &mut self.marks.marks {
            if mark.at == At::Mirror && blocked == 0 {
                mark.at = At::Apply(last);
            }
            if let At::Apply(sequence) = mark.at
                && everywhere(sequence)
            {
                done.push(mark.id);
            }
        }
        for id in done {
            self.marks.forget(id);
            self.event(SourceEvent::Marked { id });
        }
    }
}
