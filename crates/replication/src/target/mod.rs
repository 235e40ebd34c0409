//! The target half: checks that the stream continues, has it journaled, acknowledged and applied.
//!
//! ```text
//!   frame ──► checked ──► journal (one group at a time) ──► ack ──► apply (one group at a time) ──► ack
//!                              unjournaled batches pass by, in order
//! ```
//! Watermarks: applied ≤ journaled ≤ received. An unjournaled batch counts as journaled once it is applied: the source
//! keeps it until then. Outside of mirrors nothing is applied beyond the last consistent point that was journaled, so
//! that the replica always is the source at one instant, or can be made so from the journal.

mod api;
mod backlog;
mod scans;
mod session;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stead_model::{Epoch, Position, Sequence};

pub use api::*;
use backlog::{Backlog, Item};
use scans::Scans;

use crate::frame::{Ack, Changes, Frame, HaltCode, Halted, Holds, VERSION_MIN};
use crate::planted::{Planted, is_planted};

/// How far the talk with the source is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected; Hello is awaited, or the epoch is being saved for it.
    Greeting,
    Up,
}

/// One thing at a time: what was handed out and not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turn {
    running: bool,
    /// It failed so many times in a row.
    failures: u32,
    /// When it is tried again.
    retry_at: Option<Instant>,
}

impl Turn {
    fn is_due(self, now: Instant) -> bool {
        let given_up = self.failures > 0 && is_planted(Planted::NoRetry);
        !self.running && !given_up && self.retry_at.is_none_or(|at| now >= at)
    }

    fn begin(&mut self) {
        (self.running, self.retry_at) = (true, None);
    }

    fn went_on(&mut self) {
        self.failures = 0;
    }

    fn fail(&mut self, now: Instant, (shortest, longest): (Duration, Duration)) {
        let wait = (shortest * 2u32.pow(self.failures.min(16))).min(longest);
        *self = Turn { running: false, failures: self.failures + 1, retry_at: Some(now + wait) };
    }
}

/// The target half of a set.
#[derive(Debug)]
pub struct Target {
    config: TargetConfig,
    now: Instant,
    outputs: VecDeque<TargetOutput>,
    link: Link,
    /// Version of the protocol that is spoken.
    version: u8,
    epoch: Option<Epoch>,
    /// A Hello that waits for its epoch to be saved.
    greeting: Option<crate::frame::Hello>,
    /// Which stream is followed: epoch and incarnation.
    stream: Option<(u64, u64)>,
    writer: u32,
    backlog: Backlog,
    scans: Scans,
    /// Something of the stream came, so that its numbers are known.
    begun: bool,
    /// The stream may go on after what was received.
    resumable: bool,
    received: Sequence,
    journaled: Sequence,
    applied: Sequence,
    /// Up to here the journal held batches at the last start: they may be applied already, and then by halves overwritten
    /// with older ones, until the last of them is applied again.
    replay_until: Sequence,
    /// Up to here batches may be applied: the last consistent point that is durable.
    consistent_journaled: Sequence,
    consistent_time: u64,
    /// There is a replica, and a checkpoint covers its first mirror.
    mirrored: bool,
    partial: bool,
    journal: Turn,
    apply: Turn,
    halted: Option<String>,
    /// The checkpoint that is being made.
    checkpointing: Option<Checkpoint>,
    applied_since: u64,
    checkpoint_at: Option<Instant>,
    checkpointed: Option<Position>,
    /// A first mirror ended: its checkpoint has to come soon.
    checkpoint_now: bool,
    told: Option<Ack>,
    heard: Instant,
}

impl Target {
    /// A target with what it held when it stopped; applies what the journal holds at once.
    pub fn recover(config: TargetConfig, recovery: Recovery, now: Instant) -> Target {
        let checkpoint = recovery.checkpoint;
        let position = checkpoint.map(|checkpoint| checkpoint.position);
        let mut target = Target {
            now,
            outputs: VecDeque::new(),
            link: Link::Down,
            version: VERSION_MIN,
            epoch: recovery.epoch,
            greeting: None,
            stream: position.map(|position| (position.epoch, position.incarnation)),
            writer: recovery.epoch.map_or(0, |epoch| crate::frame::writer_check(&epoch)),
            backlog: Backlog::default(),
            scans: Scans::new(checkpoint.is_some_and(|checkpoint| checkpoint.scanning)),
            begun: position.is_some(),
            resumable: false,
            received: position.map_or(0, |position| position.sequence),
            journaled: position.map_or(0, |position| position.sequence),
            applied: position.map_or(0, |position| position.sequence),
            replay_until: 0,
            consistent_journaled: 0,
            consistent_time: checkpoint.map_or(0, |checkpoint| checkpoint.consistent_time),
            mirrored: checkpoint.is_some_and(|checkpoint| checkpoint.mirrored),
            partial: recovery.partial,
            journal: Turn::default(),
            apply: Turn::default(),
            halted: None,
            checkpointing: None,
            applied_since: 0,
            checkpoint_at: None,
            checkpointed: position,
            checkpoint_now: false,
            told: None,
            heard: now,
            config,
        };
        target.take_journal(recovery.journal);
        target.turn();
        target
    }

    /// Takes an input.
    pub fn handle(&mut self, input: TargetInput, now: Instant) {
        self.now = now;
        match input {
            TargetInput::Connected => self.connected(),
            TargetInput::Disconnected => self.disconnected(),
            TargetInput::Received(frame) => self.received(frame),
            TargetInput::Journaled { last } => self.journaled(last),
            TargetInput::JournalFailed { reason } => self.journal_failed(reason),
            TargetInput::Applied { last, needs, differences } => {
                self.applied(last);
                self.report(needs, differences);
            }
            TargetInput::ApplyFailed { reason } => self.apply_failed(reason),
            TargetInput::Checkpointed(checkpoint) => self.checkpointed(checkpoint),
            TargetInput::EpochSaved(epoch) => self.epoch_saved(epoch),
            TargetInput::NoRoom { reason } => self.apply_failed(reason),
            TargetInput::CheckpointFailed { .. } => {}
            TargetInput::Braked { .. } | TargetInput::StandIn | TargetInput::RolledBack(_) => {}
            TargetInput::Control(bytes) => self.send(&Frame::Control(bytes)),
        }
        self.turn();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.watch_silence();
        self.turn();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<TargetOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Target::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, TargetTimer)> {
        let retries = [self.journal, self.apply].into_iter();
        let retry = retries.filter_map(|turn| Some((turn.retry_at?, TargetTimer::Retry)));
        let checkpoint = self.checkpoint_at.filter(|_| self.checkpointing.is_none());
        let silence = (self.link != Link::Down).then(|| self.heard + self.config.silence_max);
        let others = [checkpoint.map(|at| (at, TargetTimer::Checkpoint)), silence.map(|at| (at, TargetTimer::Silence))];
        retry.chain(others.into_iter().flatten()).min_by_key(|(at, _)| *at)
    }

    /// May frames be read from the connection? Not while too much waits to be applied.
    pub fn wants_frames(&self) -> bool {
        self.backlog.bytes() < self.config.backlog_bytes_max
    }

    /// The target as it is.
    pub fn view(&self) -> TargetView {
        TargetView {
            connected: self.link == Link::Up,
            halted: self.halted.clone(),
            halt_code: HaltCode::Other,
            journaled: self.position(self.journaled),
            applied: self.position(self.applied),
            consistent_time: self.consistent_time,
            kept: false,
            backlog_bytes: self.backlog.bytes(),
            mirroring: self.scans.is_open(),
        }
    }

    /// What can be told of the replica.
    fn holds(&self) -> Holds {
        match (self.mirrored, self.partial) {
            (true, _) => Holds::Replica,
            (false, true) => Holds::Partial,
            (false, false) => Holds::Nothing,
        }
    }

    fn position(&self, sequence: Sequence) -> Position {
        let (epoch, incarnation) = self.stream.unwrap_or_default();
        Position { epoch, incarnation, sequence }
    }

    /// Works off all that can be: called after every input.
    fn turn(&mut self) {
        self.welcome();
        self.start_checkpoint();
        self.start_journal();
        self.start_apply();
        self.acknowledge();
        assert!(self.applied <= self.journaled, "applied is at most journaled");
        assert!(self.journaled <= self.received, "journaled is at most received");
    }

    /// After a restart: what the journal holds is applied again from the checkpoint on.
    fn take_journal(&mut self, journal: Vec<Changes>) {
        let mut whole = true;
        for changes in journal {
            let header = changes.header;
            let stream = (header.epoch, header.incarnation);
            let before = header.first.saturating_sub(1);
            // The journal was reset after the checkpoint: it begins with another stream, or later in the same one.
            let anew = self.stream != Some(stream) || before > self.received;
            if anew && self.backlog.is_empty() {
                whole &= self.stream != Some(stream);
                self.stream = Some(stream);
                self.scans = Scans::default();
                self.begun = true;
                (self.received, self.journaled, self.applied) = (before, before, before);
            }
            if self.stream == Some(stream) && header.last <= self.received {
                continue;
            }
            let records = changes.records().ok().filter(|_| self.stream == Some(stream) && before == self.received);
            let Some(records) = records else {
                whole = false;
                break;
            };
            self.received = header.last;
            self.journaled = header.last;
            if header.is_consistent() {
                self.consistent_journaled = header.last;
            }
            let item = Item::new(changes, records, true);
            self.scans.received(&item);
            self.backlog.push(item);
        }
        self.replay_until = self.received;
        self.resumable = whole && self.mirrored && !self.scans.is_open();
        self.partial |= self.applied < self.received;
    }

    fn is_replaying(&self) -> bool {
        self.applied < self.replay_until
    }

    fn may_apply_until(&self) -> Sequence {
        // A stream that does not go on: what was applied before has to be applied again, to the last.
        let flush = self.greeting.is_some() && self.is_replaying();
        let crowded = self.backlog.bytes() >= self.config.backlog_bytes_max / 2;
        if self.scans.is_open() || crowded || flush { self.received } else { self.consistent_journaled }
    }

    fn start_journal(&mut self) {
        if !self.journal.is_due(self.now) {
            return;
        }
        let (frames, last) = self.backlog.take_for_journal(self.config.group_bytes_max);
        if !frames.is_empty() {
            self.journal.begin();
            self.outputs.push_back(TargetOutput::Journal { frames, last, capture: 0 });
        }
    }

    fn journaled(&mut self, last: Sequence) {
        if self.journal.running {
            self.journal = Turn::default();
            self.backlog.journaled(last);
            self.recover_from_halt();
            self.advance_journaled();
        }
    }

    fn journal_failed(&mut self, reason: String) {
        if self.journal.running {
            self.journal.fail(self.now, self.config.retry);
            self.backlog.journal_again();
            self.halt(format!("the journal cannot be written: {reason}"));
        }
    }

    /// Unjournaled batches count as journaled when they are applied.
    fn advance_journaled(&mut self) {
        let until = self.backlog.journaled_until(self.applied);
        self.journaled = self.journaled.max(until);
        if let Some(consistent) = self.backlog.last_consistent(self.journaled) {
            self.consistent_journaled = self.consistent_journaled.max(consistent);
        }
    }

    fn start_apply(&mut self) {
        if !self.apply.is_due(self.now) || self.checkpoint_now {
            return;
        }
        let until = self.may_apply_until();
        let (epoch, incarnation) = self.stream.unwrap_or_default();
        let batches = self.backlog.take_for_apply(until, self.config.group_bytes_max, |item| Batch {
            position: Position { epoch, incarnation, sequence: item.last },
            first: item.first,
            records: item.records.clone(),
            consistent: item.consistent,
            unjournaled: item.unjournaled,
            replay: Replay::No,
            removals_max: None,
            captured: 0,
        });
        if !batches.is_empty() {
            self.apply.begin();
            self.outputs.push_back(TargetOutput::Apply(batches));
        }
    }

    fn applied(&mut self, last: Sequence) {
        if !self.apply.running || last <= self.applied {
            return;
        }
        for item in self.backlog.applied(last) {
            if self.scans.applied(&item) {
                self.consistent_time = 0;
            }
            self.applied = item.last;
            self.applied_since += item.records.len() as u64;
            self.consistent_time = item.consistent.unwrap_or(self.consistent_time);
            self.checkpoint_now |= self.scans.take_first_end() && !self.mirrored;
        }
        self.apply.went_on();
        self.partial = true;
        if !self.backlog.is_applying() {
            self.apply = Turn::default();
        }
        self.recover_from_halt();
        self.advance_journaled();
        if self.checkpoint_at.is_none() {
            self.checkpoint_at = Some(self.now + self.config.checkpoint_every);
        }
    }

    fn apply_failed(&mut self, reason: String) {
        if self.apply.running {
            self.apply.fail(self.now, self.config.retry);
            self.backlog.apply_again();
            self.halt(reason);
        }
    }

    fn halt(&mut self, reason: String) {
        if self.halted.as_ref() != Some(&reason) {
            self.halted = Some(reason);
            self.tell_halted();
            self.outputs.push_back(TargetOutput::Event(TargetEvent::Halted(self.halted.clone())));
        }
    }

    pub(super) fn recover_from_halt(&mut self) {
        if self.halted.is_some() && self.journal.failures == 0 && self.apply.failures == 0 {
            self.halted = None;
            self.tell_halted();
            self.outputs.push_back(TargetOutput::Event(TargetEvent::Halted(None)));
        }
    }

    fn tell_halted(&mut self) {
        if self.link == Link::Up {
            self.send(&Frame::Halted(Halted { reason: self.halted.clone(), code: HaltCode::Other }));
        }
    }

    fn start_checkpoint(&mut self) {
        let due = self.checkpoint_at.is_some_and(|at| self.now >= at);
        let enough = self.applied_since >= self.config.checkpoint_bytes;
        let wanted = due || enough || self.checkpoint_now;
        if !wanted || self.checkpointing.is_some() || !self.begun {
            return;
        }
        let checkpoint = Checkpoint {
            position: self.position(self.applied),
            mirrored: self.mirrored || self.checkpoint_now,
            scanning: self.scans.is_open(),
            consistent_time: self.consistent_time,
            ..Checkpoint::default()
        };
        self.checkpointing = Some(checkpoint);
        self.outputs.push_back(TargetOutput::Checkpoint(checkpoint));
    }

    fn checkpointed(&mut self, checkpoint: Checkpoint) {
        let asked = self.checkpointing.map(|asked| Checkpoint { position: checkpoint.position, ..asked });
        if asked != Some(checkpoint) {
            return;
        }
        self.checkpointing = None;
        self.checkpoint_now = false;
        self.checkpoint_at = None;
        self.applied_since = 0;
        self.mirrored |= checkpoint.mirrored;
        self.checkpointed = Some(checkpoint.position);
        self.outputs.push_back(TargetOutput::DropJournal(checkpoint.position));
    }
}
