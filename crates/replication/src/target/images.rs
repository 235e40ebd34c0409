//! The image that the replica can stand in with: keeping the way back to it, going back, standing in.

use super::backlog::Backlog;
use super::runs::{At, Run, Runs};
use super::scans::Scans;
use super::{Captured, Checkpoint, Kept, Link, OnNoRoom, Target, TargetEvent, TargetOutput};
use crate::frame::{Frame, Goodbye, Undone};

/// Why the replica is brought to one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// To stand in for the source.
    StandIn,
    /// Somebody does not want what came.
    Undo,
}

/// How far that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    RollingBack,
    /// A checkpoint of it is being made.
    Saving,
}

/// The last good image.
#[derive(Debug, Default)]
pub(super) struct Images {
    /// Time of the consistent point that the replica is at, or can be brought to; 0: none.
    pub(super) time: u64,
    /// There was one since the first mirror.
    had: bool,
    /// Its place.
    at: At,
    /// The replica is past it, and pre-images lead back.
    pub(super) kept: Option<Kept>,
    /// They are wished for: a checkpoint of it is awaited.
    wished: bool,
    rewind: Option<(Why, Step)>,
    /// It stands in: no source is followed any more.
    stands: bool,
    /// It did before the last restart: what the journal holds is not wanted.
    stood: bool,
}

impl Images {
    pub(super) fn recovered(checkpoint: &Checkpoint, kept: Option<Kept>) -> Images {
        let time = kept.map_or(checkpoint.consistent_time, |kept| kept.consistent_time);
        Images { time, kept, had: true, stood: checkpoint.stood_in, ..Images::default() }
    }

    /// Was there an image, and is there none now?
    pub(super) fn is_spoiled(&self) -> bool {
        self.had && self.time == 0
    }

    /// Is the replica at its point, and nowhere past it?
    pub(super) fn is_at(&self, applied: At) -> bool {
        self.time != 0 && self.at == applied
    }

    pub(super) fn is_rewinding(&self) -> bool {
        self.rewind.is_some()
    }

    /// Is nothing to be applied now?
    pub(super) fn is_rolling_back(&self) -> bool {
        self.stands || self.rewind.is_some_and(|(why, step)| why == Why::Undo || step != Step::Begin)
    }

    /// Is everything beyond the last consistent point set aside?
    pub(super) fn is_standing_in(&self) -> bool {
        self.stands || self.rewind.is_some_and(|(why, _)| why == Why::StandIn)
    }

    /// Does the checkpoint that is made now say so?
    pub(super) fn stands_in(&self) -> bool {
        self.stands || self.rewind == Some((Why::StandIn, Step::Saving))
    }
}

impl Target {
    /// The replica is the source at one instant.
    pub(super) fn reach_point(&mut self, at: At, time: u64) {
        (self.images.at, self.images.time, self.images.wished, self.images.had) = (at, time, false, true);
        if self.images.kept.take().is_some() {
            self.outputs.push_back(TargetOutput::DropPreImages);
        }
    }

    /// The replica has to leave its point: first the way back to it is made sure.
    pub(super) fn wish_images(&mut self) {
        if self.checkpoints.is_making() {
            // It says that there is an image, or is the one that is waited for.
            return;
        }
        if self.images.at != self.applied {
            return self.spoil("it is at no consistent point".into());
        }
        if !self.config.keeps_images {
            return self.spoil("pre-images are not kept".into());
        }
        self.images.wished = true;
        if self.checkpoints.covers(self.applied) {
            self.keep_images();
        } else {
            self.checkpoints.wanted = true;
        }
    }

    /// A checkpoint was made: if it is of the point, the replica may leave it.
    pub(super) fn keep_images(&mut self) {
        let ready = self.images.wished && self.images.at == self.applied && self.checkpoints.covers(self.applied);
        if ready {
            let kept = Kept { position: self.runs.position(self.applied), consistent_time: self.images.time };
            (self.images.wished, self.images.kept) = (false, Some(kept));
            self.outputs.push_back(TargetOutput::KeepPreImages(kept));
        }
    }

    /// Pre-images cannot be kept.
    pub(super) fn no_room(&mut self, reason: String) {
        let spoils = self.images.kept.is_some() && self.config.on_no_room == OnNoRoom::Spoil;
        if self.apply.running && spoils && !self.checkpoints.is_making() {
            self.apply = super::Turn::default();
            self.backlog.apply_again();
            return self.spoil(reason);
        }
        self.apply_failed(format!("what is overwritten cannot be kept: {reason}"));
    }

    /// There is no image to stand in with until the next consistent point.
    fn spoil(&mut self, reason: String) {
        (self.images.time, self.images.wished, self.images.kept) = (0, false, None);
        let last = self.checkpoints.last.unwrap_or_default();
        let checkpoint = Checkpoint { consistent_time: 0, ..last };
        self.checkpoints.last = Some(checkpoint);
        self.outputs.push_back(TargetOutput::Spoil(checkpoint));
        self.event(TargetEvent::Spoiled(reason));
    }

    pub(super) fn stand_in(&mut self) {
        if self.images.stands || self.images.is_standing_in() {
            return;
        }
        if self.link != Link::Down {
            self.close(Goodbye::Ended("the replica stands in for the source".into()));
        }
        self.greeting = None;
        self.gather_no_more();
        self.images.wished = false;
        self.images.rewind = Some((Why::StandIn, Step::Begin));
    }

    /// Takes back what was applied since the last consistent point, amid a scan; else what was removed lately.
    pub(super) fn undo(&mut self) {
        if self.images.rewind.is_none() {
            self.images.rewind = Some((Why::Undo, Step::Begin));
        }
    }

    fn undone(&mut self, result: Result<u64, String>) {
        if self.version >= 2 {
            self.send(&Frame::Undone(Undone { result }));
        }
    }

    /// Goes on with bringing the replica to its point.
    pub(super) fn rewind(&mut self) {
        let Some((why, Step::Begin)) = self.images.rewind else { return };
        let busy = self.apply.running || self.journal.running || self.checkpoints.is_making();
        if busy || !self.apply.is_due(self.now) {
            return;
        }
        if !self.mirrored {
            return self.stand_in_with_nothing();
        }
        let forward = self.consistent_journaled > self.applied && self.braked.is_none() && self.apply.failures == 0;
        match self.images.kept {
            // A later point is whole in the journal.
            Some(_) if why == Why::StandIn && forward => {}
            Some(kept) => {
                self.images.rewind = Some((why, Step::RollingBack));
                self.apply.rest();
                self.outputs.push_back(TargetOutput::RollBack(kept));
            }
            None if why == Why::Undo => {
                self.images.rewind = Some((why, Step::RollingBack));
                self.apply.rest();
                self.outputs.push_back(TargetOutput::PutBack);
            }
            None if self.braked.is_some() => {
                // Part of what leads to the next point is applied, and the rest must not be.
                self.images.time = 0;
                self.save_image(why);
            }
            None if self.applied >= self.consistent_journaled || self.images.time == 0 => self.save_image(why),
            None => {}
        }
    }

    fn stand_in_with_nothing(&mut self) {
        (self.images.rewind, self.images.stands, self.images.time) = (None, true, 0);
        let position = self.runs.position(self.applied);
        self.event(TargetEvent::StoodIn { position, consistent_time: 0 });
    }

    pub(super) fn rolled_back(&mut self, result: Result<(), String>) {
        let Some((why, Step::RollingBack)) = self.images.rewind else { return };
        match result {
            Ok(()) => {
                // What was put back makes it the image of no instant.
                let here = Kept { position: self.runs.position(self.applied), consistent_time: 0 };
                self.land_at(self.images.kept.unwrap_or(here));
                self.save_image(why);
            }
            Err(reason) if why == Why::Undo => {
                self.images.rewind = None;
                self.undone(Err(reason));
            }
            Err(reason) => {
                self.images.rewind = Some((why, Step::Begin));
                self.apply.fail(self.now, self.config.retry);
                self.halt(format!("the replica cannot be rolled back: {reason}"));
            }
        }
    }

    /// The replica is at that point, and nothing that came after it is known any more.
    fn land_at(&mut self, kept: Kept) {
        let position = kept.position;
        let stream = (position.epoch, position.incarnation);
        self.runs = Runs::default();
        self.runs.push(Run { stream, begin: 0, before: position.sequence, capture: 0 });
        (self.received, self.journaled, self.applied, self.consistent_journaled) = (0, 0, 0, 0);
        (self.captured_journaled, self.captured_applied) = (Captured::default(), Captured::default());
        (self.images.at, self.images.time, self.replay_until) = (0, kept.consistent_time, 0);
        (self.backlog, self.scans, self.books) = (Backlog::default(), Scans::default(), None);
        (self.stream, self.begun, self.resumable) = (None, false, false);
        self.apply.went_on();
        self.checkpoints.forget_places();
    }

    fn save_image(&mut self, why: Why) {
        self.images.rewind = Some((why, Step::Saving));
        self.checkpoints.wanted = true;
    }

    /// A checkpoint was made: if it is of the image that was gone back to, that is done.
    pub(super) fn rewound(&mut self) {
        let Some((why, Step::Saving)) = self.images.rewind else { return };
        self.images.rewind = None;
        if self.images.kept.take().is_some() {
            self.outputs.push_back(TargetOutput::DropPreImages);
        }
        if why == Why::StandIn {
            self.images.stands = true;
            let position = self.runs.position(self.applied);
            return self.event(TargetEvent::StoodIn { position, consistent_time: self.images.time });
        }
        self.outputs.push_back(TargetOutput::ResetJournal);
        self.undone(Ok(self.images.time));
        self.close(Goodbye::Ended("what came since the last consistent point was undone".into()));
    }

    /// Does the replica stand in for the source?
    pub(super) fn stands(&self) -> bool {
        self.images.is_standing_in()
    }

    /// A source is followed after the replica stood in: what the journal still holds must not come back.
    pub(super) fn forget_set_aside(&mut self) {
        if std::mem::take(&mut self.images.stood) {
            self.outputs.push_back(TargetOutput::ResetJournal);
            (self.journal_waits, self.checkpoints.wanted) = (true, true);
        }
    }
}
