//! Talking with the targets: greeting, sending, acknowledgements, silence, states.

use std::sync::Arc;
use std::time::Instant;

use stead_model::status::{MirrorStatus, QueueStatus, State};
use stead_model::{FileId, Kind, Position, Record, Sequence};

use super::connection::{Connection, Link, TargetMask, Undo, bit};
use super::queue::{Batch, Seal};
use super::{BehindView, Braked, ConnectionView, Source, SourceEvent, SourceOutput, TargetId};
use crate::frame::{
    Encoded, Frame, FrameKind, Goodbye, HaltCode, Header, Hello, Holds, VERSION, VERSION_MIN, Welcome, flags,
    writer_check,
};

/// Records that one frame covers.
const COVERED_MAX: u64 = 1 << 32;
/// So many times the keep-alive time of silence ends a connection.
const SILENCE: u32 = 4;

impl Source {
    pub(super) fn connected(&mut self, target: TargetId) {
        let now = self.now;
        // Only the target may have noticed that the connection before this one was gone.
        self.disconnected(target, "another connection took its place".into());
        let Some(connection) = self.connections.get_mut(&target) else { return };
        connection.link = Link::Greeting;
        connection.halted = None;
        connection.heard = now;
        self.greet(target, false);
    }

    fn greet(&mut self, target: TargetId, anew: bool) {
        let hello = Frame::Hello(Hello {
            version_min: VERSION_MIN,
            version_max: VERSION,
            set: self.config.set.clone(),
            node: self.config.node.clone(),
            epoch: self.config.epoch,
            incarnation: self.config.incarnation,
            lineage: self.config.lineage.clone(),
            anew,
            capture: self.config.capture,
            unclean: self.config.unclean,
        });
        self.send(target, hello.encode());
    }

    pub(super) fn disconnected(&mut self, target: TargetId, reason: String) {
        if let Some(connection) = self.connections.get_mut(&target)
            && !matches!(connection.link, Link::Down { .. })
        {
            connection.link = Link::Down { reason };
            self.lose_flight(target);
            self.lose_undo(target);
        }
    }

    pub(super) fn received(&mut self, target: TargetId, frame: Frame) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&target) else { return };
        connection.heard = now;
        match (&connection.link, frame) {
            (Link::Down { .. }, _) => {}
            (_, Frame::Goodbye(reason)) => self.refused(target, reason),
            (_, Frame::Control(bytes)) => self.event(SourceEvent::Control { target, bytes }),
            (_, Frame::Ping(number)) => self.send(target, Frame::Pong(number).encode()),
            (_, Frame::Pong(_)) => {}
            (Link::Greeting, Frame::Welcome(welcome)) => self.welcomed(target, welcome),
            // Of before a second Hello.
            (Link::Greeting, Frame::Ack(_) | Frame::Needs(_) | Frame::Differences(_) | Frame::Halted(_)) => {}
            (Link::Up, Frame::Ack(ack)) => {
                if let Err(wrong) = connection.acknowledge(ack) {
                    self.close(target, Goodbye::Damaged(wrong.into()));
                }
            }
            (Link::Up, Frame::Needs(needs)) => self.take_needs(target, needs),
            (Link::Up, Frame::Differences(differences)) => self.take_differences(target, differences),
            (Link::Up, Frame::Halted(halted)) => {
                (connection.halted, connection.halt_code) = (halted.reason, halted.code)
            }
            (Link::Up, Frame::Undone(undone)) => self.undone(target, undone.result),
            (_, _) => self.close(target, Goodbye::Damaged("a frame that a target does not send, or not now".into())),
        }
    }

    /// A difference mirror is asked for; one that does not follow gets one anyway.
    pub(super) fn mirror(&mut self, target: TargetId) {
        let Some(connection) = self.connections.get_mut(&target) else { return };
        if connection.behind.is_some() {
            connection.dirty.add_all();
        } else if connection.following {
            self.requests.difference(bit(target));
            self.emit(&Record::new(Kind::Lost, FileId::NONE), bit(target));
        }
    }

    pub(super) fn set_paused(&mut self, target: TargetId, paused: bool) {
        if let Some(connection) = self.connections.get_mut(&target) {
            connection.paused = paused;
            if !paused {
                connection.undo = Undo::No;
            }
        }
    }

    /// The target's cursor is no place in the queue any more.
    pub(super) fn begin_anew(&mut self, target: TargetId) {
        let gone = bit(target);
        if let Some(connection) = self.connections.get_mut(&target) {
            connection.following = false;
            (connection.behind, connection.skip_until) = (None, 0);
            connection.dirty.take();
        }
        self.withheld &= !gone;
        self.requests.forget(gone);
        self.jobs.drop_targets(gone);
        self.ended.iter_mut().for_each(|ended| ended.targets &= !gone);
        if let Some(scan) = self.scan.as_mut().filter(|scan| scan.targets & gone != 0) {
            scan.targets &= !gone;
            if scan.targets == 0 {
                self.break_off("the target begins anew");
            }
        }
    }

    /// Sends what there is to every target that takes it.
    pub(super) fn send_batches(&mut self) {
        let targets: Vec<TargetId> = self.connections.keys().copied().collect();
        for target in targets {
            while let Some(frame) = self.next_batch(target) {
                self.send(target, frame);
            }
        }
    }

    fn next_batch(&mut self, target: TargetId) -> Option<Encoded> {
        let window = self.config.settings.window_bytes_max;
        let ready = |c: &Connection| c.is_up() && !c.is_held() && c.has_room(window);
        let connection = self.connections.get(&target).filter(|connection| ready(connection))?;
        let (sent, skip_until) = (connection.sent, connection.skip_until);
        let is_for_it = connection.behind.is_none() || self.queue.open_for() & bit(target) != 0;
        if is_for_it && self.queue.next_for(bit(target), sent, skip_until).is_none() {
            self.queue.seal(self.sealing(), self.followers());
        }
        let batch = self.queue.next_for(bit(target), sent, skip_until)?;
        let skipped =
            (batch.last - sent > COVERED_MAX).then(|| batch.before((sent + COVERED_MAX).min(batch.first - 1)));
        let is_away = batch.targets & bit(target) != 0 && batch.body.is_empty();
        if skipped.is_none() && (is_away || !self.passes_brake(target)) {
            return None;
        }
        let made = skipped.or_else(|| self.gathered(target));
        let batch = made.as_ref().or(self.queue.next_for(bit(target), sent, skip_until))?;
        let (last, frame) = (batch.last, self.frame(batch, target, sent + 1));
        let whole = if batch.whole & bit(target) != 0 { batch.captured } else { 0 };
        let connection = self.connections.get_mut(&target)?;
        connection.sent(last, frame.len(), whole);
        Some(frame)
    }

    /// `first`: it covers everything from there on, also what the target skips.
    fn frame(&self, batch: &Batch, target: TargetId, first: Sequence) -> Encoded {
        let bit = bit(target);
        let version = self.connections.get(&target).map_or(VERSION, |connection| connection.version);
        let for_it = batch.targets & bit != 0;
        let mut flags = if for_it { batch.flags } else { 0 };
        if batch.consistent & bit != 0 {
            flags |= flags::CONSISTENT;
        }
        if batch.first_mirror & bit != 0 {
            flags |= flags::UNJOURNALED;
        }
        if batch.whole & bit != 0 && version >= 2 {
            flags |= flags::WHOLE;
        }
        let body: Arc<Vec<u8>> = match (for_it, version) {
            (true, 1) => batch.records().to_vec().into(),
            (true, _) => batch.body.clone(),
            (false, 1) => Arc::default(),
            (false, _) => batch.captured.to_le_bytes().to_vec().into(),
        };
        let shared = for_it && version > 1;
        let header = Header {
            version,
            kind: FrameKind::Changes,
            flags,
            body_len: body.len(),
            raw_len: if for_it { batch.raw_len } else { 0 },
            body_crc: if shared { batch.body_crc } else { crc32fast::hash(&body) },
            epoch: self.config.epoch.number,
            writer: writer_check(&self.config.epoch),
            incarnation: self.config.incarnation,
            first,
            last: batch.last,
            time: batch.time,
        };
        Encoded { header: header.encode(), body }
    }

    pub(super) fn keep_alive(&mut self) {
        let now = self.now;
        let every = self.config.keep_alive;
        let targets: Vec<TargetId> = self.connections.keys().copied().collect();
        for target in targets {
            let connection = &self.connections[&target];
            if matches!(connection.link, Link::Down { .. }) {
                continue;
            }
            if now >= connection.heard + every * SILENCE {
                self.close(target, Goodbye::Silence((every * SILENCE).as_secs()));
            } else if now >= connection.spoke + every {
                self.send(target, Frame::Ping(0).encode());
            }
        }
    }

    pub(super) fn keep_alive_due(&self) -> Option<Instant> {
        let every = self.config.keep_alive;
        let up = self.connections.values().filter(|connection| !matches!(connection.link, Link::Down { .. }));
        up.map(|connection| (connection.spoke + every).min(connection.heard + every * SILENCE)).min()
    }

    /// Tells of states that changed.
    pub(super) fn update_states(&mut self) {
        let targets: Vec<TargetId> = self.connections.keys().copied().collect();
        for target in targets {
            let (state, reason) = self.state(target, &self.connections[&target]);
            let connection = self.connections.get_mut(&target).expect("its key was there");
            let told = Some((state, reason.clone()));
            if connection.told != told {
                connection.told = told;
                self.event(SourceEvent::State { target, state, reason });
            }
        }
    }

    /// A connection as it is; `None` for an unknown target.
    pub fn view(&self, target: TargetId) -> Option<ConnectionView> {
        let connection = self.connections.get(&target)?;
        let (state, reason) = self.state(target, connection);
        let seen = if connection.following { connection.applied } else { self.queue.last() };
        let (bytes, changes) = self.queue.after(seen);
        let oldest = self.queue.oldest_after(seen);
        Some(ConnectionView {
            state,
            reason,
            mirror: self.with_expected(connection.mirror, state),
            queue: QueueStatus {
                changes,
                bytes: bytes + self.stream.bytes() as u64,
                disk_bytes: self.queue.bytes_on_disk(bit(target), seen),
            },
            following: connection.following,
            awaits_scan: self.awaiting_scan() & bit(target) != 0,
            oldest_time: oldest,
            consistent_time: connection.consistent_time,
            captured: self.queue.last(),
            sent: connection.sent,
            journaled: connection.journaled,
            applied: connection.applied,
            durable: connection.durable,
            behind: connection
                .behind
                .as_ref()
                .map(|behind| BehindView { since: behind.since, dirty: connection.dirty.len() }),
            braked: connection.brake.halted.or(match connection.halt_code {
                HaltCode::Brake { removals } if connection.halted.is_some() => {
                    Some(Braked { deletions: removals, rewrites: 0 })
                }
                _ => None,
            }),
        })
    }

    fn with_expected(&self, mirror: MirrorStatus, state: State) -> MirrorStatus {
        if state != State::Mirroring {
            return mirror;
        }
        let (files, bytes) = self.expected;
        MirrorStatus {
            files_total: mirror.files_total.max(files),
            bytes_total: mirror.bytes_total.max(bytes),
            ..mirror
        }
    }

    fn state(&self, target: TargetId, connection: &Connection) -> (State, Option<String>) {
        let bit = bit(target);
        if connection.restore_required {
            return (State::RestoreRequired, Some("the target knows a newer epoch".into()));
        }
        if connection.paused {
            return (State::Paused, None);
        }
        match &connection.link {
            Link::Down { reason } => return (State::Disconnected, Some(reason.clone())),
            Link::Greeting => return (State::Disconnected, Some("greeting".into())),
            Link::Up => {}
        }
        if let Some(reason) = self.brake_reason(connection) {
            return (State::Halted, Some(reason));
        }
        if let Some(reason) = &connection.halted {
            return (State::Halted, Some(reason.clone()));
        }
        let running = self.scanned();
        if let Some(behind) = connection.behind.as_ref().filter(|_| running & bit == 0) {
            return (State::Behind, Some(behind.reason.clone()));
        }
        if (self.awaiting_scan() | self.dirty()) & bit != 0 {
            return (State::Mirroring, None);
        }
        (State::Replicating, None)
    }

    /// Who waits for a scan, gets one, or has not applied the end of one.
    fn awaiting_scan(&self) -> TargetMask {
        let ended = self.ended.iter().fold(0, |mask, ended| mask | ended.targets);
        self.scanned() | ended | self.requests.blocked()
    }

    fn welcomed(&mut self, target: TargetId, welcome: Welcome) {
        if !(VERSION_MIN..=VERSION).contains(&welcome.version) {
            return self.close(target, Goodbye::Version { min: VERSION_MIN, max: VERSION });
        }
        let ours = self.config.epoch;
        if welcome.epoch.number > ours.number || (welcome.epoch.number == ours.number && welcome.epoch != ours) {
            return self.refused(target, Goodbye::OlderEpoch(welcome.epoch));
        }
        if let Some(connection) = self.connections.get_mut(&target) {
            connection.node = Some(welcome.node.clone());
        }
        let warm = welcome.resume.is_none() && self.goes_on_warm(target, &welcome);
        if warm {
            let Some(connection) = self.connections.get_mut(&target) else { return };
            connection.go_on_after(0);
            (connection.link, connection.version, connection.expected) = (Link::Up, welcome.version, false);
            connection.durable = welcome.captured;
            return;
        }
        if let Some(connection) = self.connections.get_mut(&target) {
            connection.expected = false;
        }
        let resume = welcome.resume.filter(|position| self.can_resume(target, *position));
        if resume.is_none() && welcome.resume.is_some() {
            return self.greet(target, true);
        }
        if resume.is_none() {
            self.begin_anew(target);
            self.queue.seal(Seal::default(), 0);
        }
        let last = self.queue.last();
        let Some(connection) = self.connections.get_mut(&target) else { return };
        connection.link = Link::Up;
        connection.version = welcome.version;
        match resume {
            Some(position) => connection.go_on_after(position.sequence),
            None => {
                connection.begin_after(last);
                connection.mirror = MirrorStatus::default();
            }
        }
        let bit = bit(target);
        match (resume, welcome.holds) {
            (Some(_), _) => {}
            (None, Holds::Nothing) => self.requests.mirror(bit),
            (None, Holds::Partial) => self.requests.first(bit),
            (None, Holds::Replica) => self.requests.difference(bit),
        }
        if resume.is_none() {
            self.update_first_mirror();
            self.emit(&Record::new(Kind::Lost, FileId::NONE), bit);
        }
    }

    fn can_resume(&self, target: TargetId, position: Position) -> bool {
        let Some(connection) = self.connections.get(&target).filter(|connection| connection.following) else {
            return false;
        };
        position.epoch == self.config.epoch.number
            && position.incarnation == self.config.incarnation
            && position.sequence >= connection.journaled
            && position.sequence <= connection.sent
            && (position.sequence < connection.skip_until || self.queue.continues_after(position.sequence))
    }

    fn refused(&mut self, target: TargetId, reason: Goodbye) {
        if let Goodbye::OlderEpoch(epoch) | Goodbye::Fork(epoch) = &reason {
            self.event(SourceEvent::Superseded { epoch: *epoch });
            if let Some(connection) = self.connections.get_mut(&target) {
                connection.restore_required = true;
            }
        }
        self.close(target, reason);
    }

    pub(super) fn close(&mut self, target: TargetId, reason: Goodbye) {
        let Some(connection) = self.connections.get_mut(&target) else { return };
        connection.link = Link::Down { reason: reason.to_string() };
        self.lose_flight(target);
        self.lose_undo(target);
        self.send(target, Frame::Goodbye(reason.clone()).encode());
        self.outputs.push_back(SourceOutput::Close { target, reason });
    }

    pub(super) fn control(&mut self, target: TargetId, bytes: Vec<u8>) {
        if self.connections.get(&target).is_some_and(|connection| connection.link == Link::Up) {
            self.send(target, Frame::Control(bytes).encode());
        }
    }

    pub(super) fn send(&mut self, target: TargetId, frame: Encoded) {
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(&target) {
            connection.spoke = now;
        }
        self.outputs.push_back(SourceOutput::Send { target, frame });
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
