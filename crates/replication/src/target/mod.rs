//! The target half: checks that the stream continues, has it journaled, acknowledged and applied.
//!
//! ```text
//!   frame ──► checked ──► journal (one group at a time) ──► ack ──► apply (one group at a time) ──► ack
//!                              unjournaled batches pass by, in order
//! ```
//! Watermarks: applied ≤ journaled ≤ received. An unjournaled batch counts as journaled once it is applied: the source
//! keeps it until then. Nothing is applied beyond the last consistent point that was journaled, so that the replica
//! always is the source at one instant, or can be made so from the journal. A scan has to go beyond: then that point is
//! made durable first, and pre-images of it are kept until the next one is reached.
//!
//! Where a stream ends and another one begins, what is durable stays and is applied before: the journal is one row over
//! all streams, so that after a power cut everything comes again that the replica was compared with.

mod api;
mod apply;
mod backlog;
mod checkpoint;
mod images;
mod journal;
mod runs;
mod scans;
mod session;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stead_model::Epoch;

pub use api::*;
use backlog::{Backlog, Item};
use checkpoint::Checkpoints;
use images::Images;
use runs::{At, Runs};
use scans::Scans;

use crate::frame::{Ack, Frame, HaltCode, Halted, Holds, VERSION_MIN};
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

    /// There is nothing to try now: no timer has to wake it.
    fn rest(&mut self) {
        if !is_planted(Planted::NoRest) {
            self.retry_at = None;
        }
    }

    fn fail(&mut self, now: Instant, (shortest, longest): (Duration, Duration)) {
        let wait = (shortest * 2u32.pow(self.failures.min(16))).min(longest);
        *self = Turn { running: false, failures: self.failures + 1, retry_at: Some(now + wait) };
    }
}

/// What has to be done once everything of the streams before is applied. Then a checkpoint follows.
#[derive(Clone, Copy, Debug)]
struct Books {
    /// The last place of them.
    at: At,
    /// What the source had not synced proves nothing.
    doubts: bool,
    /// The journal may hold what was never received.
    resets: bool,
    /// That is done, and the checkpoint is awaited.
    closed: bool,
}

/// What is known of the source's capture: which run, and up to which number everything is contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Captured {
    capture: u64,
    number: u64,
}

impl Captured {
    fn follow(&mut self, item: &Item, capture: u64) {
        if item.signs.lost || item.signs.begins.is_some() || item.unjournaled {
            *self = Captured::default();
        } else if let Some(number) = item.captured.filter(|_| capture > 0) {
            *self = Captured { capture, number };
        }
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
    /// Which stream is followed: epoch and incarnation, and the run of capture that its numbers are of.
    stream: Option<(u64, u64)>,
    capture: u64,
    writer: u32,
    runs: Runs,
    backlog: Backlog,
    scans: Scans,
    /// Something of the stream came, so that its numbers are known.
    begun: bool,
    /// The stream may go on after what was received.
    resumable: bool,
    received: At,
    journaled: At,
    applied: At,
    /// Up to here the journal held batches at the last start: they may be applied already, and then by halves overwritten
    /// with older ones, until the last of them is applied again.
    replay_until: At,
    /// What is received may repeat what came before it, until a consistent point.
    repeating: bool,
    /// Up to here batches may be applied: the last consistent point that is durable.
    consistent_journaled: At,
    captured_journaled: Captured,
    captured_applied: Captured,
    images: Images,
    /// There is a replica, and a checkpoint covers its first mirror.
    mirrored: bool,
    /// A first mirror ended, and no checkpoint covers it.
    first_ended: bool,
    partial: bool,
    journal: Turn,
    /// What has to be done between two streams, before the journal is written again.
    books: Option<Books>,
    /// The journal is not written before the next checkpoint.
    journal_waits: bool,
    /// Up to which number of capture the source waits. `None`: it never says so, and everything is in a hurry.
    wanted: Option<u64>,
    /// Until when more may gather for one sync of the journal.
    gathers_until: Option<Instant>,
    apply: Turn,
    halted: Option<String>,
    /// So many removals wait to be accepted.
    braked: Option<u64>,
    /// The next end of a scan may remove what it wants.
    accepted: bool,
    checkpoints: Checkpoints,
    told: Option<Ack>,
    heard: Instant,
    spoke: Instant,
}

impl Target {
    /// A target with what it held when it stopped; applies what the journal holds at once.
    pub fn recover(config: TargetConfig, recovery: Recovery, now: Instant) -> Target {
        let mut target = Target::empty(config, now);
        target.epoch = recovery.epoch;
        target.writer = recovery.epoch.map_or(0, |epoch| crate::frame::writer_check(&epoch));
        target.partial = recovery.partial || !recovery.journal.is_empty();
        // What goes before a finished first mirror is of no use.
        if let Some(checkpoint) = recovery.checkpoint.filter(|checkpoint| checkpoint.mirrored) {
            target.recover_from(checkpoint, recovery.kept, recovery.capture, recovery.journal);
        }
        target.turn();
        target
    }

    fn empty(config: TargetConfig, now: Instant) -> Target {
        Target {
            config,
            now,
            outputs: VecDeque::new(),
            link: Link::Down,
            version: VERSION_MIN,
            epoch: None,
            greeting: None,
            stream: None,
            capture: 0,
            writer: 0,
            runs: Runs::default(),
            backlog: Backlog::default(),
            scans: Scans::default(),
            begun: false,
            resumable: false,
            received: 0,
            journaled: 0,
            applied: 0,
            replay_until: 0,
            repeating: false,
            consistent_journaled: 0,
            captured_journaled: Captured::default(),
            captured_applied: Captured::default(),
            images: Images::default(),
            mirrored: false,
            first_ended: false,
            partial: false,
            journal: Turn::default(),
            books: None,
            journal_waits: false,
            wanted: None,
            gathers_until: None,
            apply: Turn::default(),
            halted: None,
            braked: None,
            accepted: false,
            checkpoints: Checkpoints::default(),
            told: None,
            heard: now,
            spoke: now,
        }
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
            TargetInput::NoRoom { reason } => self.no_room(reason),
            TargetInput::Braked { removals } => self.brake(removals),
            TargetInput::Checkpointed(checkpoint) => self.checkpointed(checkpoint),
            TargetInput::CheckpointFailed { reason } => self.checkpoint_failed(reason),
            TargetInput::StandIn => self.stand_in(),
            TargetInput::RolledBack(result) => self.rolled_back(result),
            TargetInput::EpochSaved(epoch) => self.epoch_saved(epoch),
            TargetInput::Control(bytes) => self.send(&Frame::Control(bytes)),
            TargetInput::Wanted { captured } => self.wanted = self.wanted.max(Some(captured)),
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
        let retries = [self.journal, self.apply, self.checkpoints.turn].into_iter();
        let retry = retries.filter_map(|turn| Some((turn.retry_at?, TargetTimer::Retry)));
        let gathered = self.gathers_until.map(|at| (at, TargetTimer::Journal));
        let others = [self.checkpoints.due(), self.link_due(), gathered];
        retry.chain(others.into_iter().flatten()).min_by_key(|(at, _)| *at)
    }

    /// May frames be read from the connection? Not while too much waits to be applied.
    pub fn wants_frames(&self) -> bool {
        self.link == Link::Greeting || self.backlog.bytes() < self.config.backlog_bytes_max
    }

    /// The target as it is.
    pub fn view(&self) -> TargetView {
        TargetView {
            connected: self.link == Link::Up,
            halted: self.halted.clone(),
            halt_code: self.halt_code(),
            journaled: self.runs.position(self.journaled),
            applied: self.runs.position(self.applied),
            consistent_time: self.images.time,
            kept: self.images.kept.is_some(),
            spoiled: self.images.is_spoiled(),
            backlog_bytes: self.backlog.bytes(),
            mirroring: self.scans.is_open(),
            rests_at_point: self.images.kept.is_none()
                && self.images.is_at(self.applied)
                && self.backlog.first().is_none(),
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

    /// Works off all that can be: called after every input.
    fn turn(&mut self) {
        self.welcome();
        self.rewind();
        self.start_checkpoint();
        self.start_journal();
        self.start_apply();
        // What is applied next may need a checkpoint first.
        self.start_checkpoint();
        self.acknowledge();
        assert!(self.applied <= self.journaled, "applied is at most journaled");
        assert!(self.journaled <= self.received, "journaled is at most received");
    }

    fn halt(&mut self, reason: String) {
        if self.halted.as_ref() != Some(&reason) {
            self.halted = Some(reason);
            self.tell_halted();
            self.event(TargetEvent::Halted(self.halted.clone()));
        }
    }

    fn recover_from_halt(&mut self) {
        let failures = [self.journal, self.apply, self.checkpoints.turn].iter().any(|turn| turn.failures > 0);
        if self.halted.is_some() && !failures && self.braked.is_none() {
            self.halted = None;
            self.tell_halted();
            self.event(TargetEvent::Halted(None));
        }
    }

    fn halt_code(&self) -> HaltCode {
        self.braked.map_or(HaltCode::Other, |removals| HaltCode::Brake { removals })
    }

    fn tell_halted(&mut self) {
        if self.link == Link::Up {
            self.send(&Frame::Halted(Halted { reason: self.halted.clone(), code: self.halt_code() }));
        }
    }
}

#[cfg(test)]
mod tests;
