//! The mass-change brake: a target is not sent more deletions or rewrites than the limit; it halts and asks.

use std::collections::VecDeque;

use stead_model::{FileId, Kind, Record, Sequence};

use super::connection::{Connection, Link, STREAM, Undo, bit};
use super::dirty::Touched;
use super::{Brake, RootConfig, Source, SourceEvent, TargetId};
use crate::frame::{Frame, HaltCode};

/// The oldest version of the protocol that knows of the brake.
const VERSION: u8 = 2;

/// What a target was sent in the window, and whether it was too much.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// When it was captured, deletions, rewrites.
    sent: VecDeque<(u64, u64, u64)>,
    deletions: u64,
    rewrites: u64,
    /// Everything up to here may be sent.
    accepted: Sequence,
    /// So many would go or be written over.
    pub(super) halted: Option<u64>,
}

impl Count {
    /// May that be sent? Counts it if so, and halts if not.
    pub(super) fn passes(&mut self, brake: &Brake, first: Sequence, time: u64, touched: &Touched) -> bool {
        let window = u64::try_from(brake.window.as_nanos()).unwrap_or(u64::MAX);
        while let Some((at, deletions, rewrites)) = self.sent.front().copied()
            && at.saturating_add(window) < time
        {
            (self.deletions, self.rewrites) = (self.deletions - deletions, self.rewrites - rewrites);
            self.sent.pop_front();
        }
        let (deletions, rewrites) = (self.deletions + touched.deletions, self.rewrites + touched.rewrites);
        let too_many = touched.deletions > 0 && brake.deletions_max > 0 && deletions > brake.deletions_max;
        let over = touched.rewrites > 0 && brake.rewrites_max.is_some_and(|max| rewrites > max);
        if first > self.accepted && (too_many || over) {
            self.halted = Some(if too_many { deletions } else { rewrites });
            return false;
        }
        if touched.deletions + touched.rewrites > 0 && first > self.accepted {
            self.sent.push_back((time, touched.deletions, touched.rewrites));
            (self.deletions, self.rewrites) = (deletions, rewrites);
        }
        true
    }
}

impl Source {
    /// Goes on with what the brake halted at, here or at the target.
    pub(super) fn accept(&mut self, target: TargetId) {
        let last = self.queue.last();
        let Some(connection) = self.connections.get_mut(&target) else { return };
        if connection.brake.halted.is_some() {
            connection.brake = Count { accepted: last, ..Count::default() };
        }
        let halted_there = matches!(connection.halt_code, HaltCode::Brake { .. }) && connection.halted.is_some();
        if halted_there && speaks(connection) {
            self.send(target, Frame::Accept.encode());
        }
    }

    /// The target takes back what was applied in the brake's window. What it lacks then, all is looked at for.
    pub(super) fn undo(&mut self, target: TargetId) {
        let Some(connection) = self.connections.get_mut(&target) else { return };
        if !speaks(connection) {
            let result = Err("the target is not connected, or of a version that cannot".into());
            return self.event(SourceEvent::Undone { target, result });
        }
        connection.undo = Undo::Asked;
        connection.brake = Count::default();
        if connection.following && connection.behind.is_none() {
            self.go_behind(target, "its last changes were taken back".into());
        }
        if let Some(connection) = self.connections.get_mut(&target) {
            connection.dirty.add_all();
        }
        self.send(target, Frame::Undo.encode());
    }

    /// The connection ended before the target said whether it took anything back.
    pub(super) fn lose_undo(&mut self, target: TargetId) {
        let Some(connection) = self.connections.get_mut(&target).filter(|c| c.undo == Undo::Asked) else { return };
        connection.undo = Undo::Unknown;
        let result = Err("the connection ended before the target answered".into());
        self.event(SourceEvent::Undone { target, result });
    }

    /// Why the brake holds a target, for people.
    pub(super) fn brake_reason(&self, connection: &Connection) -> Option<String> {
        let undo = match connection.undo {
            Undo::No => None,
            Undo::Asked => Some("its last changes are being taken back"),
            Undo::Answered(true) => Some("its last changes were taken back"),
            Undo::Answered(false) => Some("its last changes could not be taken back"),
            Undo::Unknown => Some("whether its last changes were taken back is not known"),
        };
        if let Some(undo) = undo {
            return Some(format!("{undo}; resume it to compare it with the source"));
        }
        let many = connection.brake.halted?;
        let seconds = self.config.settings.brake.window.as_secs();
        Some(format!(
            "mass-change brake: {many} deletions or rewrites within {seconds} s are more than the limit; look at the \
             source, then resume and accept the deletions, or undo"
        ))
    }

    /// The set has other rules: whatever was told so far, a scan has to come by again.
    pub(super) fn other_rules(&mut self, roots: Vec<RootConfig>) {
        self.break_off("the rules changed");
        self.jobs.drop_targets(!STREAM);
        self.files.set_rules(&roots);
        self.remember_rules();
        let targets = self.followers();
        self.lose_all(targets);
        if targets & !self.withheld != 0 {
            self.emit(&Record::new(Kind::Lost, FileId::NONE), targets & !self.withheld);
        }
        self.lost_at = self.queue.last();
        self.config.roots = roots;
    }

    /// Other limits; what the brake halted at is looked at again.
    pub(super) fn configure(&mut self, settings: super::Settings) {
        self.config.settings = settings;
        self.queue.young.set_life(settings.brake.window);
        self.connections.values_mut().for_each(|connection| connection.brake.halted = None);
    }

    /// May the next batch of that target be sent?
    pub(super) fn passes_brake(&mut self, target: TargetId) -> bool {
        let brake = self.config.settings.brake;
        let Some(connection) = self.connections.get_mut(&target) else { return false };
        let next = self.queue.next_for(bit(target), connection.sent, connection.skip_until);
        next.filter(|batch| batch.targets & bit(target) != 0)
            .is_none_or(|batch| connection.brake.passes(&brake, batch.first, batch.time, &batch.touched))
    }
}

fn speaks(connection: &Connection) -> bool {
    connection.link == Link::Up && connection.version >= VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deletions(count: u64) -> Touched {
        let mut touched = Touched::default();
        touched.deletions = count;
        touched
    }

    #[test]
    fn a_directory_of_5000_files_may_go_and_three_may_not() {
        let (brake, mut count) = (Brake::default(), Count::default());
        assert!(count.passes(&brake, 1, 1_000, &deletions(5_000)));
        assert!(count.passes(&brake, 2, 2_000, &deletions(5_000)));
        assert!(!count.passes(&brake, 3, 3_000, &deletions(1)));
        assert_eq!(count.halted, Some(10_001));
    }

    #[test]
    fn what_was_captured_before_the_window_does_not_count() {
        let (brake, mut count) = (Brake::default(), Count::default());
        assert!(count.passes(&brake, 1, 1, &deletions(10_000)));
        assert!(count.passes(&brake, 2, 61_000_000_000, &deletions(10_000)));
    }

    #[test]
    fn what_was_accepted_passes_and_what_comes_later_counts_anew() {
        let (brake, mut count) = (Brake::default(), Count { accepted: 5, ..Count::default() });
        assert!(count.passes(&brake, 5, 1, &deletions(100_000)));
        assert!(count.passes(&brake, 6, 2, &deletions(10_000)));
        assert!(!count.passes(&brake, 7, 3, &deletions(1)));
    }
}
