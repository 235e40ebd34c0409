//! Applying what is durable, and what stops it.

use super::backlog::Item;
use super::runs::At;
use super::{Batch, Replay, Target, TargetOutput, Turn};
use crate::planted::{Planted, is_planted};

impl Target {
    /// Up to where may be applied? Beyond the last consistent point only where it must be, and where the way back to
    /// that point is kept, or there is none to keep.
    fn may_apply_until(&mut self) -> At {
        let calm = self.consistent_journaled;
        if self.may_be_braked() && self.backlog.durable().next().is_some() {
            self.wish_images();
            if self.images.kept.is_none() && self.images.time != 0 {
                return self.applied;
            }
        }
        // Never past it in one go: what is beyond may need the way back.
        if self.images.is_standing_in() || self.applied < calm {
            return calm;
        }
        let crowded = self.backlog.bytes() >= self.config.backlog_bytes_max / 2;
        let past_it = self.images.kept.is_some() || !self.mirrored;
        if !(self.scans.is_open() || crowded || past_it || self.is_replaying() || self.flushes()) {
            return calm;
        }
        if past_it || self.images.time == 0 || is_planted(Planted::NoPreImages) {
            return self.received;
        }
        if self.backlog.durable().next().is_some() {
            self.wish_images();
        }
        let leads_back = self.images.kept.is_some();
        if leads_back || self.images.time == 0 { self.received } else { calm }
    }

    /// The replica is at a point, and the brake may halt it on the way to the next one, whole as that may be in the
    /// journal: the way back is kept there as well.
    fn may_be_braked(&self) -> bool {
        let brakes = self.config.removals_max.is_some() && !self.accepted && self.scans.is_open();
        let at_point = self.mirrored && self.images.is_at(self.applied) && !self.is_replaying();
        brakes && at_point && self.config.keeps_images && self.images.kept.is_none()
    }

    pub(super) fn start_apply(&mut self) {
        if self.first_ended || self.braked.is_some() || self.images.stands_in() {
            return self.apply.rest();
        }
        if !self.apply.is_due(self.now) {
            return;
        }
        if self.images.is_rolling_back() {
            return self.apply.rest();
        }
        let until = self.may_apply_until();
        let Some(first) = self.backlog.first() else { return self.apply.rest() };
        let run_end = self.runs.end_of(first.at);
        let (runs, replay_until) = (&self.runs, self.replay_until);
        let removals_max = self.config.removals_max.filter(|_| !self.accepted);
        let batches = self.backlog.take_for_apply(until, run_end, self.config.group_bytes_max, |item| Batch {
            position: runs.position(item.at),
            first: item.first,
            records: item.records.clone(),
            consistent: item.consistent,
            unjournaled: item.unjournaled,
            replay: replay(item, replay_until),
            removals_max,
        });
        if batches.is_empty() {
            return self.apply.rest();
        }
        self.apply.begin();
        self.outputs.push_back(TargetOutput::Apply(batches));
    }

    pub(super) fn applied(&mut self, last: u64) {
        if !self.apply.running {
            return;
        }
        for item in self.backlog.applied(last) {
            self.scans.applied(&item);
            self.applied = item.at;
            let capture = self.runs.of(item.at).map_or(0, |run| run.capture);
            self.captured_applied.follow(&item, capture);
            if item.unjournaled {
                self.captured_journaled = self.captured_applied;
            }
            self.accepted &= item.signs.ends.is_none();
            self.first_ended |= self.scans.take_first_end() && !self.mirrored;
            if let Some(time) = item.consistent.filter(|_| replay(&item, self.replay_until) != Replay::Amid) {
                self.reach_point(item.at, time);
            }
            let latest = self.now + self.config.checkpoint_every;
            self.checkpoints.note_applied(item.records.len(), latest);
        }
        self.apply.went_on();
        self.partial = true;
        if !self.backlog.is_applying() {
            self.apply = Turn::default();
        }
        self.close_books();
        self.recover_from_halt();
        self.advance_journaled();
    }

    pub(super) fn apply_failed(&mut self, reason: String) {
        if self.apply.running {
            self.apply.fail(self.now, self.config.retry);
            self.backlog.apply_again();
            self.halt(reason);
        }
    }

    /// A scan would remove more than may be removed unasked.
    pub(super) fn brake(&mut self, removals: u64) {
        if self.apply.running {
            self.apply = Turn::default();
            self.backlog.apply_again();
            self.braked = Some(removals);
            self.halt(format!("the end of a scan would remove {removals} objects"));
        }
    }

    /// The source says that it may.
    pub(super) fn accept(&mut self) {
        if self.braked.take().is_some() {
            self.accepted = true;
            self.recover_from_halt();
        }
    }
}

/// Does the batch repeat what the replica may have?
fn replay(item: &Item, replay_until: At) -> Replay {
    if item.at < replay_until || item.repeats {
        Replay::Amid
    } else if item.at == replay_until || item.ends_repeats {
        Replay::Last
    } else {
        Replay::No
    }
}
