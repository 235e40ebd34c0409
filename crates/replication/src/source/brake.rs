//! The mass-change brake: a target is not sent more deletions or rewrites than the limit; it halts and asks.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use stead_model::{FileId, Kind, Record, Sequence};

use super::connection::{Connection, Link, STREAM, Undo, bit};
use super::dirty::Touched;
use super::queue::Batch;
use super::{Brake, Braked, RootConfig, Source, SourceEvent, TargetId};
use crate::frame::{Frame, HaltCode};

/// The oldest version of the protocol that knows of the brake.
const VERSION: u8 = 2;

/// What a target was sent in the window, and whether it was too much.
#[derive(Debug, Default)]
pub(super) struct Count {
    sent: VecDeque<Sent>,
    deletions: u64,
    rewrites: u64,
    /// Everything up to here may be sent.
    accepted: Sequence,
    pub(super) halted: Option<Braked>,
}

/// What a batch that was sent took away and wrote over.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// When it was captured, by the source's wall clock.
    time: u64,
    at: Instant,
    deletions: u64,
    rewrites: u64,
}

/// A batch that is to be sent.
pub(super) struct Next<'a> {
    first: Sequence,
    time: u64,
    touched: &'a Touched,
}

impl<'a> From<&'a Batch> for Next<'a> {
    fn from(batch: &'a Batch) -> Next<'a> {
        Next { first: batch.first, time: batch.time, touched: &batch.touched }
    }
}

impl Brake {
    /// What of that is more than the limit.
    fn beyond(&self, counted: Braked) -> Braked {
        let deletions =
            if self.deletions_max > 0 && counted.deletions > self.deletions_max { counted.deletions } else { 0 };
        let rewrites = counted.rewrites;
        Braked { deletions, rewrites: if self.rewrites_max.is_some_and(|max| rewrites > max) { rewrites } else { 0 } }
    }
}

impl Count {
    /// May that be sent? Counts it if so, and halts if not.
    pub(super) fn passes(&mut self, brake: &Brake, next: Next<'_>, now: Instant) -> bool {
        let Next { first, time, touched } = next;
        self.forget(brake.window, time, now);
        let (deletions, rewrites) = (self.deletions + touched.deletions, self.rewrites + touched.rewrites);
        let beyond = brake.beyond(Braked { deletions, rewrites });
        let is_too_much = touched.deletions > 0 && beyond.deletions > 0 || touched.rewrites > 0 && beyond.rewrites > 0;
        if first > self.accepted && is_too_much {
            self.halted = Some(Braked { deletions, rewrites });
            return false;
        }
        if touched.deletions + touched.rewrites > 0 && first > self.accepted {
            let (gone, over) = (touched.deletions, touched.rewrites);
            self.sent.push_back(Sent { time, at: now, deletions: gone, rewrites: over });
            (self.deletions, self.rewrites) = (deletions, rewrites);
        }
        true
    }

    /// Forgets what was captured before the window that ends at `time`.
    fn forget(&mut self, window: Duration, time: u64, now: Instant) {
        // Where the clock was set back, it counts how long ago it was sent.
        for sent in self.sent.iter_mut().rev().take_while(|sent| sent.time > time) {
            sent.time = time.saturating_sub(now.saturating_duration_since(sent.at).as_nanos() as u64);
        }
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        while let Some(sent) = self.sent.pop_front_if(|sent| sent.time.saturating_add(window) < time) {
            (self.deletions, self.rewrites) = (self.deletions - sent.deletions, self.rewrites - sent.rewrites);
        }
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
        let brake = self.config.settings.brake;
        let Some(connection) = self.connections.get_mut(&target) else { return };
        if !speaks(connection) {
            let result = Err("the target is not connected, or of a version that cannot".into());
            return self.event(SourceEvent::Undone { target, result });
        }
        let written_over = connection.brake.halted.is_some_and(|counted| brake.beyond(counted).rewrites > 0);
        connection.undo = Undo::Asked { written_over };
        connection.brake = Count::default();
        if connection.following && connection.behind.is_none() {
            self.go_behind(target, "its last changes were taken back".into());
        }
        if let Some(connection) = self.connections.get_mut(&target) {
            connection.dirty.add_all();
        }
        self.send(target, Frame::Undo.encode());
    }

    /// The target took back what it could.
    pub(super) fn undone(&mut self, target: TargetId, result: Result<u64, String>) {
        let Some(connection) = self.connections.get_mut(&target) else { return };
        let result = match (connection.undo, result) {
            // It had no image to go back to, only what was removed.
            (Undo::Asked { written_over: true }, Ok(0)) => {
                Err("files that were written over are not kept as they were; what was deleted is back".into())
            }
            (_, result) => result,
        };
        if matches!(connection.undo, Undo::Asked { .. }) {
            connection.undo = Undo::Answered(result.is_ok());
        }
        self.event(SourceEvent::Undone { target, result });
    }

    /// The connection ended before the target said whether it took anything back.
    pub(super) fn lose_undo(&mut self, target: TargetId) {
        let Some(connection) = self.connections.get_mut(&target).filter(|c| matches!(c.undo, Undo::Asked { .. }))
        else {
            return;
        };
        connection.undo = Undo::Unknown;
        let result = Err("the connection ended before the target answered".into());
        self.event(SourceEvent::Undone { target, result });
    }

    /// Why the brake holds a target, for people.
    pub(super) fn brake_reason(&self, connection: &Connection) -> Option<String> {
        let undo = match connection.undo {
            Undo::No => None,
            Undo::Asked { .. } => Some("its last changes are being taken back"),
            Undo::Answered(true) => Some("its last changes were taken back"),
            Undo::Answered(false) => Some("its last changes could not all be taken back"),
            Undo::Unknown => Some("whether its last changes were taken back is not known"),
        };
        if let Some(undo) = undo {
            return Some(format!("{undo}; resume it to compare it with the source"));
        }
        let brake = self.config.settings.brake;
        let (braked, seconds) = (brake.beyond(connection.brake.halted?), brake.window.as_secs());
        Some(format!(
            "mass-change brake: {braked} within {seconds} s are more than the limit; look at the source, then resume and \
             accept the deletions, or undo"
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
        let (brake, now) = (self.config.settings.brake, self.now);
        let Some(connection) = self.connections.get_mut(&target) else { return false };
        let next = self.queue.next_for(bit(target), connection.sent, connection.skip_until);
        next.filter(|batch| batch.targets & bit(target) != 0)
            .is_none_or(|batch| connection.brake.passes(&brake, batch.into(), now))
    }
}

impl fmt::Display for Braked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Braked { deletions, rewrites: 0 } => write!(f, "{deletions} deletions"),
            Braked { deletions: 0, rewrites } => write!(f, "{rewrites} rewrites"),
            Braked { deletions, rewrites } => write!(f, "{deletions} deletions and {rewrites} rewrites"),
        }
    }
}

fn speaks(connection: &Connection) -> bool {
    connection.link == Link::Up && connection.version >= VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Count {
        fn lets(&mut self, first: Sequence, time: u64, deletions: u64) -> bool {
            let mut touched = Touched::default();
            touched.deletions = deletions;
            self.passes(&Brake::default(), Next { first, time, touched: &touched }, Instant::now())
        }
    }

    #[test]
    fn a_directory_of_5000_files_may_go_and_three_may_not() {
        let mut count = Count::default();
        assert!(count.lets(1, 1_000, 5_000) && count.lets(2, 2_000, 5_000));
        assert!(!count.lets(3, 3_000, 1));
        assert_eq!(count.halted, Some(Braked { deletions: 10_001, rewrites: 0 }));
    }

    #[test]
    fn what_was_captured_before_the_window_does_not_count() {
        let mut count = Count::default();
        assert!(count.lets(1, 1, 10_000) && count.lets(2, 61_000_000_000, 10_000));
    }

    #[test]
    fn where_the_clock_was_set_back_the_window_goes_on() {
        let mut count = Count::default();
        assert!(count.lets(1, 900_000_000_000, 10_000));
        assert!(!count.lets(2, 100_000_000_000, 1), "that was just now");
        count.sent[0].at -= Duration::from_secs(61);
        count.sent[0].time = 900_000_000_000;
        assert!(count.lets(2, 100_000_000_000, 10_000));
    }

    #[test]
    fn what_was_accepted_passes_and_what_comes_later_counts_anew() {
        let mut count = Count { accepted: 5, ..Count::default() };
        assert!(count.lets(5, 1, 100_000) && count.lets(6, 2, 10_000));
        assert!(!count.lets(7, 3, 1));
    }
}
