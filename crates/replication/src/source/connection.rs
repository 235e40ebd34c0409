//! One target of the set: its cursor, its watermarks, its state.

use std::collections::VecDeque;
use std::time::Instant;

use stead_model::status::{MirrorStatus, State};
use stead_model::{NodeName, Sequence};

use super::api::TargetId;
use super::behind::Behind;
use super::brake::Count;
use super::dirty::Dirty;
use crate::frame::{Ack, HaltCode};

/// Targets as bits.
pub(super) type TargetMask = u32;

/// Among the targets of a record: it is part of the stream that all follow, not of a scan for some.
pub(super) const STREAM: TargetMask = 1 << 31;

/// The bit of a target.
pub(super) fn bit(target: TargetId) -> TargetMask {
    1 << target
}

/// How far the talk with the target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Down {
        reason: String,
    },
    /// Hello was sent.
    Greeting,
    Up,
}

/// Bytes sent and not yet known to be journaled.
#[derive(Debug, Default)]
struct Flight {
    frames: VecDeque<(Sequence, usize)>,
    bytes: usize,
}

/// A connection. Watermarks: applied ≤ journaled ≤ sent ≤ what the queue has.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: Link,
    /// Version of the protocol that is spoken.
    pub(super) version: u8,
    /// Its name, once it told it.
    pub(super) node: Option<NodeName>,
    /// It may go on from the stream of the source before this one.
    pub(super) expected: bool,
    /// Its cursor is a place in the queue; else the next connection begins anew.
    pub(super) following: bool,
    pub(super) paused: bool,
    pub(super) restore_required: bool,
    pub(super) halted: Option<String>,
    pub(super) halt_code: HaltCode,
    pub(super) brake: Count,
    /// What the brake let pass was taken back: nothing is sent until it is resumed.
    pub(super) undo: Undo,
    pub(super) sent: Sequence,
    pub(super) journaled: Sequence,
    pub(super) applied: Sequence,
    pub(super) consistent_time: u64,
    /// Capture's number up to which it has everything durably, and what was sent of later ones.
    pub(super) durable: u64,
    wholes: VecDeque<(Sequence, u64)>,
    pub(super) behind: Option<Behind>,
    /// What has to be looked at for it.
    pub(super) dirty: Dirty,
    /// Of the stream up to here, nothing after what it was sent is for it; the highest number while it is behind.
    pub(super) skip_until: Sequence,
    /// So many times in a row it went behind while it caught up.
    pub(super) streak: u32,
    pub(super) mirror: MirrorStatus,
    pub(super) heard: Instant,
    pub(super) spoke: Instant,
    /// State and reason that were told last.
    pub(super) told: Option<(State, Option<String>)>,
    flight: Flight,
}

/// Was a target asked to take back what the brake had let pass?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undo {
    No,
    /// It has not answered yet.
    Asked {
        /// Files that were written over had halted it.
        written_over: bool,
    },
    /// It did, or could not.
    Answered(bool),
    /// Its answer was lost.
    Unknown,
}

impl Connection {
    pub(super) fn new(now: Instant) -> Connection {
        Connection {
            link: Link::Down { reason: "not connected yet".into() },
            version: crate::frame::VERSION_MIN,
            node: None,
            expected: false,
            following: false,
            paused: false,
            restore_required: false,
            halted: None,
            halt_code: HaltCode::Other,
            brake: Count::default(),
            undo: Undo::No,
            sent: 0,
            journaled: 0,
            applied: 0,
            consistent_time: 0,
            durable: 0,
            wholes: VecDeque::new(),
            behind: None,
            dirty: Dirty::default(),
            skip_until: 0,
            streak: 0,
            mirror: MirrorStatus::default(),
            heard: now,
            spoke: now,
            told: None,
            flight: Flight::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.link == Link::Up && self.following
    }

    /// What it was sent may arrive, where there is a way: up to here it need not be sent anything again.
    pub(super) fn kept_after(&self) -> Sequence {
        if self.is_up() { self.sent } else { self.journaled }
    }

    /// Is nothing sent to it, although it could be?
    pub(super) fn is_held(&self) -> bool {
        self.paused || self.undo != Undo::No || self.brake.halted.is_some()
    }

    /// Continues (or begins) after that place, where nothing is in flight.
    pub(super) fn go_on_after(&mut self, sequence: Sequence) {
        self.flight = Flight::default();
        self.sent = sequence;
        self.wholes.retain(|(last, _)| *last <= sequence);
        // A restarted target applies again what it had applied.
        self.applied = 0;
        self.following = true;
    }

    /// Begins anew after that place.
    pub(super) fn begin_after(&mut self, sequence: Sequence) {
        self.go_on_after(sequence);
        (self.journaled, self.applied) = (sequence, sequence);
        self.wholes.clear();
        (self.behind, self.dirty, self.skip_until) = (None, Dirty::default(), 0);
        (self.consistent_time, self.durable) = (0, 0);
    }

    pub(super) fn has_room(&self, window: usize) -> bool {
        self.flight.bytes < window
    }

    /// Bytes that were sent and are not known to be journaled.
    pub(super) fn in_flight(&self) -> usize {
        self.flight.bytes
    }

    /// `whole`: capture's number up to which that brings everything; 0: it does not say so.
    pub(super) fn sent(&mut self, last: Sequence, bytes: usize, whole: u64) {
        assert!(last > self.sent, "frames go out in order");
        self.sent = last;
        if whole > self.wholes.back().map_or(self.durable, |(_, told)| *told) {
            self.wholes.push_back((last, whole));
        }
        self.flight.frames.push_back((last, bytes));
        self.flight.bytes += bytes;
    }

    /// Takes an acknowledgement; says what is wrong with it.
    pub(super) fn acknowledge(&mut self, ack: Ack) -> Result<(), &'static str> {
        if ack.applied > ack.journaled || ack.journaled > self.sent {
            return Err("it acknowledges what it was not sent");
        }
        if ack.applied < self.applied || ack.journaled < self.journaled {
            return Err("it takes an acknowledgement back");
        }
        (self.journaled, self.applied) = (ack.journaled, ack.applied);
        self.consistent_time = ack.consistent_time;
        while let Some((last, bytes)) = self.flight.frames.front()
            && *last <= self.journaled
        {
            self.flight.bytes -= bytes;
            self.flight.frames.pop_front();
        }
        while let Some((last, whole)) = self.wholes.front()
            && *last <= self.journaled
        {
            self.durable = *whole;
            self.wholes.pop_front();
        }
        Ok(())
    }

    pub(super) fn check(&self, captured: Sequence) {
        if self.following {
            assert!(self.applied <= self.journaled, "applied is at most journaled");
            assert!(self.journaled <= self.sent, "journaled is at most sent");
            assert!(self.sent <= captured, "sent is at most captured");
        }
    }
}
