//! Targets that are more than the queue behind: what was touched is remembered instead of the changes.
//!
//! Where the queue is full, the slowest target goes behind, alone: of the stream it is sent nothing more, and what the
//! changes touch becomes dirty for it. A scan that runs for it goes on. When it has taken all it was sent, it is
//! included again: from a place of the stream on it gets everything, and a scan of what is dirty makes up for the rest.

use std::time::{Duration, Instant};

use stead_model::{FileId, Kind, Record};

use super::connection::{STREAM, TargetMask, bit};
use super::dirty::{CHANGED, Marks, Touched, UNPROVEN};
use super::queue::Follower;
use super::{Source, TargetId};

/// First and longest time before a target that went behind while it caught up is included again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// A target that is behind.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) since: Instant,
    pub(super) reason: String,
    not_before: Option<Instant>,
}

impl Source {
    /// A record of the stream is not for targets that are behind: they remember what it touches.
    pub(super) fn withhold(&mut self, record: &Record<'_>) {
        let mut touched = Touched::default();
        touched.note(record);
        let max = self.config.settings.dirty_max;
        for connection in self.connections.values_mut().filter(|connection| connection.behind.is_some()) {
            connection.dirty.add_touched(&touched, max);
        }
    }

    /// Something has to be looked at for these targets.
    pub(super) fn make_dirty(&mut self, file: FileId, marks: Marks, targets: TargetMask) {
        let max = self.config.settings.dirty_max;
        for (_, connection) in self.connections.iter_mut().filter(|(id, _)| targets & bit(**id) != 0) {
            connection.dirty.add(file, marks, max);
        }
    }

    /// A scan told these targets of a file. Those behind were not told how it came: it may have been made elsewhere, and
    /// have come to a directory that nothing touches.
    pub(super) fn hear(&mut self, file: FileId, is_dir: bool, targets: TargetMask) {
        let behind = targets & self.withheld;
        for (_, connection) in self.connections.iter_mut().filter(|(id, _)| behind & bit(**id) != 0) {
            connection.dirty.hear(file, is_dir);
        }
    }

    /// For whom something is dirty.
    pub(super) fn dirty(&self) -> TargetMask {
        let waits = |connection: &super::Connection| connection.behind.is_some() || !connection.dirty.is_empty();
        let waiting = self.connections.iter().filter(|(_, connection)| connection.following && waits(connection));
        waiting.fold(0, |mask, (id, _)| mask | bit(*id))
    }

    /// While the queue is full, the slowest target goes behind.
    pub(super) fn shed(&mut self) {
        while let Some(full) = self.is_full() {
            let following = self.connections.iter().filter(|(_, connection)| connection.following);
            let keeping = following.filter(|(id, connection)| {
                connection.behind.is_none() && self.queue.has_stream_for(bit(**id), connection.kept_after())
            });
            if let Some(slowest) = keeping.min_by_key(|(_, connection)| connection.journaled).map(|(id, _)| *id) {
                self.go_behind(slowest, full);
            } else if let Some(slowest) = self.slow_scanned() {
                self.leave_scan(slowest);
            } else {
                return;
            }
            self.free();
        }
    }

    /// Of a scan for several targets, the one that takes it slowest, where that is too slow. A scan for one target is read
    /// no faster than that takes it: broken off, it would come to the same end.
    fn slow_scanned(&self) -> Option<TargetId> {
        let window = self.config.settings.window_bytes_max as u64;
        let scanned = self.scanned();
        if scanned.count_ones() < 2 {
            return None;
        }
        let waiting = |id: &TargetId| self.ahead(*id);
        let of_scan = self.connections.keys().filter(|id| scanned & bit(**id) != 0);
        of_scan.copied().max_by_key(waiting).filter(|id| self.ahead(*id) > window)
    }

    pub(super) fn go_behind(&mut self, target: TargetId, reason: String) {
        let scanned = self.scanned();
        let (now, max) = (self.now, self.config.settings.dirty_max);
        let Some(connection) = self.connections.get_mut(&target) else { return };
        let after = connection.kept_after();
        let dirty = &mut connection.dirty;
        let amid_scan = scanned & bit(target) != 0;
        self.queue.withhold(bit(target), after, |touched| {
            dirty.add_touched(touched, max);
            if amid_scan && touched.whole {
                dirty.unprove_all();
            }
            let unproven = touched.files.keys().filter(|_| amid_scan);
            unproven.for_each(|file| dirty.add(*file, UNPROVEN, max));
        });
        connection.streak = if amid_scan { (connection.streak + 1).min(16) } else { 0 };
        let not_before =
            (connection.streak > 0).then(|| now + (BACK_OFF.0 * (1 << connection.streak.min(10))).min(BACK_OFF.1));
        connection.skip_until = u64::MAX;
        connection.behind = Some(Behind { since: now, reason, not_before });
        self.withheld |= bit(target);
        for file in self.jobs.drop_of_stream(bit(target)) {
            self.make_dirty(file, CHANGED, bit(target));
        }
    }

    /// A target that is behind is included no sooner than a moment from now: somebody may want to see why it is.
    pub(super) fn put_off(&mut self, target: TargetId) {
        let then = Some(self.now + BACK_OFF.0);
        if let Some(behind) = self.connections.get_mut(&target).and_then(|connection| connection.behind.as_mut()) {
            behind.not_before = behind.not_before.max(then);
        }
    }

    /// Which targets were not told of a change of the file that what they are sent of it may lack: its end proves nothing.
    pub(super) fn unproven(&self, file: FileId) -> TargetMask {
        let behind = self.connections.iter().filter(|(_, connection)| connection.behind.is_some());
        behind.filter(|(_, connection)| connection.dirty.has(file)).fold(0, |mask, (id, _)| mask | bit(*id))
    }

    /// The link is gone: nothing is on its way any more.
    pub(super) fn lose_flight(&mut self, target: TargetId) {
        let max = self.config.settings.dirty_max;
        let Some(connection) = self.connections.get_mut(&target).filter(|c| c.behind.is_some()) else { return };
        let dirty = &mut connection.dirty;
        self.queue.withhold(bit(target), connection.journaled, |touched| dirty.add_touched(touched, max));
    }

    /// The scan goes on without a target.
    pub(super) fn leave_scan(&mut self, target: TargetId) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.targets & bit(target) != 0) else { return };
        scan.targets &= !bit(target);
        let (left, whole, verifies) = (scan.targets, scan.whole, scan.is_verify());
        let parts = std::mem::take(&mut scan.parts);
        if let Some(connection) = self.connections.get(&target) {
            self.queue.unmake(bit(target), connection.sent);
        }
        self.jobs.drop_targets(bit(target));
        match (verifies, whole) {
            (true, _) => {}
            (false, true) => {
                self.requests.difference(bit(target));
                self.keep_unproven(bit(target));
            }
            (false, false) => {
                parts.iter().for_each(|(file, marks)| self.make_dirty(*file, *marks, bit(target)));
                if let Some(scan) = &mut self.scan {
                    scan.parts = parts;
                }
            }
        }
        if left == 0 {
            // What it was sent is to be taken first: begun at once, it would come to the same end.
            self.requests.scan_ended(true, self.now);
            self.break_off("no target is left that it is for");
        }
    }

    /// Those behind that took all they were sent, while the queue has room.
    pub(super) fn can_catch_up(&self) -> TargetMask {
        let roomy = self.has_room_to_catch_up();
        let ready = |connection: &super::Connection| {
            let behind = connection.behind.as_ref();
            behind.is_some_and(|behind| behind.not_before.is_none_or(|at| self.now >= at))
                && connection.in_flight() == 0
        };
        let ready = self.connections.iter().filter(|(_, connection)| roomy && ready(connection));
        ready.fold(0, |mask, (id, _)| mask | bit(*id)) & self.up()
    }

    /// When that is to be asked again.
    pub(super) fn catch_up_due(&self) -> Option<Instant> {
        let behind = self.connections.values().filter_map(|connection| connection.behind.as_ref());
        behind.filter_map(|behind| behind.not_before).filter(|at| *at > self.now).min()
    }

    /// From here on the target gets the stream again. What it missed proves nothing until it was looked at.
    pub(super) fn include(&mut self, target: TargetId) {
        self.queue.split();
        let last = self.queue.last();
        let Some(connection) = self.connections.get_mut(&target).filter(|c| c.behind.is_some()) else { return };
        connection.behind = None;
        connection.skip_until = last;
        self.withheld &= !bit(target);
        self.emit(&Record::new(Kind::Lost, FileId::NONE), bit(target));
        self.lost_at = self.queue.last();
    }

    /// Bytes on the way to a target, or waiting to be sent to it.
    pub(super) fn ahead(&self, target: TargetId) -> u64 {
        let Some(connection) = self.connections.get(&target) else { return 0 };
        let unsent = self.queue.unsent_bytes(bit(target), connection.sent, connection.skip_until);
        unsent + connection.in_flight() as u64 + (self.stream.bytes() + self.stream.read_bytes()) as u64
    }

    /// Lets go of what every follower has.
    pub(super) fn free(&mut self) {
        let followers: Vec<Follower> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.following)
            .map(|(id, connection)| Follower {
                bit: bit(*id),
                journaled: connection.journaled,
                applied: connection.applied,
                behind: connection.sent < connection.skip_until,
            })
            .collect();
        if self.queue.open_for() & STREAM != 0 && followers.iter().all(|follower| follower.behind) {
            self.queue.split();
        }
        self.queue.free(&followers);
    }

    /// For whom a scan runs that is not a mere comparison.
    pub(super) fn scanned(&self) -> TargetMask {
        self.scan.as_ref().filter(|scan| !scan.is_verify()).map_or(0, |scan| scan.targets)
    }

    /// Sends a record in the place that the stream has come to, to these targets; with [`STREAM`], to those of them that
    /// are not behind.
    pub(super) fn emit(&mut self, record: &Record<'_>, targets: TargetMask) {
        if targets & STREAM == 0 {
            return self.queue.push(record, targets);
        }
        if self.withheld != 0 {
            self.withhold(record);
        }
        self.queue.push(record, targets & !self.withheld);
    }
}
