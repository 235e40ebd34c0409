//! Checkpoints: when one is made, and what follows from it.

use std::time::Instant;

use super::runs::At;
use super::{Checkpoint, Target, TargetOutput, TargetTimer, Turn};

/// Checkpoints of the replica.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    pub(super) turn: Turn,
    /// The one that is being made, and of which place.
    making: Option<(Checkpoint, At)>,
    /// Bytes applied since the last one.
    since: u64,
    /// When one is made at the latest.
    at: Option<Instant>,
    /// One is needed now.
    pub(super) wanted: bool,
    /// Of this place there is one.
    done: Option<At>,
    /// The last one as it was saved.
    pub(super) last: Option<Checkpoint>,
}

impl Checkpoints {
    pub(super) fn of(checkpoint: Checkpoint) -> Checkpoints {
        Checkpoints { last: Some(checkpoint), done: Some(0), ..Checkpoints::default() }
    }

    pub(super) fn due(&self) -> Option<(Instant, TargetTimer)> {
        let at = self.at.filter(|_| self.making.is_none())?;
        Some((at.max(self.turn.retry_at.unwrap_or(at)), TargetTimer::Checkpoint))
    }

    pub(super) fn is_making(&self) -> bool {
        self.making.is_some()
    }

    pub(super) fn covers(&self, at: At) -> bool {
        self.done.is_some_and(|done| done >= at)
    }

    /// The places are numbered anew: there is none of them.
    pub(super) fn forget_places(&mut self) {
        (self.done, self.at, self.wanted, self.since) = (None, None, false, 0);
    }

    pub(super) fn note_applied(&mut self, bytes: usize, latest: Instant) {
        self.since += bytes as u64;
        self.at.get_or_insert(latest);
    }
}

impl Target {
    pub(super) fn start_checkpoint(&mut self) {
        let due = self.checkpoints.at.is_some_and(|at| self.now >= at);
        let enough = self.checkpoints.since >= self.config.checkpoint_bytes;
        let wanted = due || enough || self.checkpoints.wanted || self.first_ended;
        let idle = self.checkpoints.making.is_none() && self.checkpoints.turn.is_due(self.now);
        if !wanted || !idle || self.runs.last().is_none() {
            return;
        }
        let checkpoint = Checkpoint {
            position: self.runs.position(self.applied),
            mirrored: self.mirrored || self.first_ended,
            scanning: self.scans.is_open(),
            consistent_time: self.images.time,
            capture: self.captured_applied.capture,
            captured: self.captured_applied.number,
            stood_in: self.images.stands_in(),
        };
        self.checkpoints.making = Some((checkpoint, self.applied));
        self.checkpoints.wanted = false;
        self.checkpoints.turn.begin();
        self.outputs.push_back(TargetOutput::Checkpoint(checkpoint));
    }

    pub(super) fn checkpointed(&mut self, checkpoint: Checkpoint) {
        let asked = self
            .checkpoints
            .making
            .filter(|(asked, _)| Checkpoint { position: checkpoint.position, ..*asked } == checkpoint);
        let Some((asked, at)) = asked else { return };
        self.checkpoints.making = None;
        self.checkpoints.turn = Turn::default();
        self.checkpoints.since = 0;
        self.checkpoints.at = (self.applied > at).then(|| self.now + self.config.checkpoint_every);
        self.checkpoints.last = Some(checkpoint);
        self.checkpoints.done = Some(at);
        if checkpoint.position == asked.position {
            self.runs.forget_until(at);
        }
        self.mirrored |= checkpoint.mirrored;
        self.first_ended &= !checkpoint.mirrored;
        self.outputs.push_back(TargetOutput::DropJournal(checkpoint.position));
        self.journal_waits = false;
        self.books_are_closed();
        self.keep_images();
        self.rewound();
        self.recover_from_halt();
    }

    pub(super) fn checkpoint_failed(&mut self, reason: String) {
        if self.checkpoints.making.take().is_some() {
            self.checkpoints.wanted = true;
            self.checkpoints.turn.fail(self.now, self.config.retry);
            self.halt(format!("what was applied cannot be made durable: {reason}"));
        }
    }
}
