//! The loop that owns the mind of a target, and the replica.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};
use stead_disk::guard::Guard;
use stead_disk::replica::{Policy, Replica};
use stead_model::Sequence;
use stead_model::plan::Mode;
use stead_model::status::ConnectionStatus;
use stead_replication::frame::HaltCode;
use stead_replication::sync::SyncMessage;
use stead_replication::target::{Batch, Checkpoint, Kept, Replay, TargetEvent, TargetInput};
use stead_replication::{Target, TargetOutput};

use super::apply::{Failed, Found};
use super::journal::Job;
use super::level::Level;
use super::receive::Wire;
use super::saved::SavedFile;
use super::{apply, policy, view};
use crate::data::relay::{Origin, Relay};
use crate::peer::PeerStream;
use crate::seam::{DataEvent, Events, Failure, Stop, TargetSpec};
use crate::threads::lock;

/// A cause of work, besides frames.
pub(super) enum Event {
    /// The source connected.
    Incoming(Box<PeerStream>),
    /// A connection ended.
    Lost { generation: u64, reason: String },
    /// What the journal was handed is durable.
    Journaled { last: Sequence },
    /// It is not.
    JournalFailed { reason: String },
    /// The session ends.
    Stop(Stop),
}

/// Where the session's events come from, and where its effects go.
pub(super) struct Wiring {
    pub(super) events: Receiver<Event>,
    pub(super) own_events: Sender<Event>,
    pub(super) jobs: Sender<Job>,
    pub(super) loop_events: Events,
    pub(super) status: Arc<Mutex<ConnectionStatus>>,
    /// Where what is applied is handed on.
    pub(super) relay: Arc<Relay>,
}

const IDLE: Duration = Duration::from_secs(1);
/// Removed objects that are destroyed at once.
const TIDY_OBJECTS: usize = 64;
/// How long what is journaled may take to be applied when the set is no longer protected.
const LEAVE: Duration = Duration::from_secs(50);
/// How long what is journaled may take to be applied when this node is to stand in.
const STAND_IN: Duration = Duration::from_secs(3600);
/// How long it may be halted until it is no image of one instant.
const HALTED: Duration = Duration::from_secs(10);

pub(super) struct Session {
    target: Target,
    replica: Replica,
    guards: Vec<Guard>,
    saved: SavedFile,
    spec: TargetSpec,
    wiring: Wiring,
    wire: Option<Wire>,
    generation: u64,
    lost: Option<String>,
    /// Of a synchronous connection.
    level: Option<Level>,
    stop: Option<Stop>,
    /// The replica is the image of one instant, and no source is followed any more.
    stood_in: bool,
    policy: Policy,
    /// What the records of a batch brought up that was not applied whole.
    found: Found,
    /// Pre-images are wanted and could not be begun.
    unkept: Option<Kept>,
    /// The last good image is to be let go, and that could not be made durable.
    unspoiled: Option<Checkpoint>,
    /// Removed objects wait to be destroyed.
    untidy: bool,
    /// What is applied may repeat what the replica has.
    replaying: bool,
}

impl Session {
    pub(super) fn new(
        target: Target,
        replica: Replica,
        guards: Vec<Guard>,
        saved: SavedFile,
        spec: TargetSpec,
        wiring: Wiring,
    ) -> Session {
        let level = (spec.mode == Mode::Sync).then(|| Level::new(&spec.state_dir));
        let policy = policy::of(&spec.settings);
        Session {
            target,
            replica,
            guards,
            saved,
            spec,
            wiring,
            wire: None,
            generation: 0,
            lost: None,
            level,
            stop: None,
            stood_in: false,
            policy,
            found: Found::default(),
            unkept: None,
            unspoiled: None,
            untidy: true,
            replaying: false,
        }
    }

    pub(super) fn run(mut self) -> Result<(), Failure> {
        self.replica.set_policy(self.policy);
        self.wiring.relay.open();
        self.outputs();
        while self.stop.is_none() {
            self.show();
            self.turn();
        }
        match self.stop {
            Some(Stop::Unprotect | Stop::UnprotectOpen) => self.leave(),
            Some(Stop::StandIn { as_is }) => self.stand_in(as_is),
            Some(Stop::Daemon) | None => Ok(()),
        }
    }

    /// Waits for one cause of work and does it.
    fn turn(&mut self) {
        let now = Instant::now();
        let ask_at = self.level.as_ref().and_then(Level::ask_at);
        let tidy_at = self.untidy.then_some(now);
        let due = self.target.poll_timeout().map(|(at, _)| at).into_iter().chain(ask_at).chain(tidy_at).min();
        let timeout = due.map_or(IDLE, |at| at.saturating_duration_since(now)).min(IDLE);
        let frames = match &self.wire {
            Some(wire) if self.target.wants_frames() => wire.frames.clone(),
            _ => never(),
        };
        let events = self.wiring.events.clone();
        select! {
            recv(events) -> event => if let Ok(event) = event { self.event(event) },
            recv(frames) -> frame => match frame {
                Ok(frame) => self.tell(TargetInput::Received(frame)),
                Err(_) => self.disconnected("the source ended the connection".into()),
            },
            default(timeout) => self.tidy(),
        }
        if self.target.poll_timeout().is_some_and(|(at, _)| at <= Instant::now()) {
            self.target.handle_timeout(Instant::now());
            self.outputs();
        }
        if let Some(question) = self.level.as_mut().and_then(Level::ask) {
            self.tell(TargetInput::Control(question));
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Incoming(stream) => self.incoming(*stream),
            Event::Lost { generation, reason } => {
                if self.wire.as_ref().is_some_and(|wire| wire.generation == generation && wire.frames.is_empty()) {
                    self.disconnected(reason);
                } else if generation == self.generation {
                    self.lost = Some(reason);
                }
            }
            Event::Journaled { last } => self.tell(TargetInput::Journaled { last }),
            Event::JournalFailed { reason } => self.tell(TargetInput::JournalFailed { reason }),
            Event::Stop(how) => self.stop = Some(how),
        }
    }

    fn incoming(&mut self, stream: PeerStream) {
        self.generation += 1;
        match Wire::start(&self.spec.set, self.generation, stream, self.wiring.own_events.clone()) {
            Ok(wire) => {
                self.wire = Some(wire);
                self.tell(TargetInput::Connected);
            }
            Err(failure) => tracing::error!(set = %self.spec.set, %failure, "the source cannot be served"),
        }
    }

    fn disconnected(&mut self, reason: String) {
        tracing::info!(set = %self.spec.set, reason, "the source is gone");
        self.wire = None;
        self.lost = Some(reason);
        self.level.iter_mut().for_each(Level::disconnected);
        self.tell(TargetInput::Disconnected);
    }

    /// The source says something about a synchronous connection.
    fn control(&mut self, bytes: &[u8]) {
        let (Some(level), Some(message)) = (&mut self.level, SyncMessage::decode(bytes)) else { return };
        if let SyncMessage::Want { captured } = message {
            return self.target.handle(TargetInput::Wanted { captured }, Instant::now());
        }
        match level.received(message) {
            Ok(Some(answer)) => self.target.handle(TargetInput::Control(answer), Instant::now()),
            Ok(None) => {}
            Err(failure) => tracing::error!(set = %self.spec.set, %failure, "being level cannot be saved"),
        }
    }

    fn tell(&mut self, input: TargetInput) {
        self.target.handle(input, Instant::now());
        self.outputs();
    }

    fn outputs(&mut self) {
        while let Some(output) = self.target.poll_output() {
            match output {
                TargetOutput::Send(frame) => {
                    if let Some(wire) = &self.wire {
                        wire.answer(frame);
                    }
                }
                TargetOutput::Journal { frames, last, capture } => self.job(Job::Append { frames, last, capture }),
                TargetOutput::DropJournal(position) => self.job(Job::Drop(position)),
                TargetOutput::ResetJournal => {
                    self.found = Found::default();
                    self.job(Job::Reset);
                }
                TargetOutput::Apply(batches) => self.apply(&batches),
                TargetOutput::Checkpoint(checkpoint) => self.checkpoint(checkpoint),
                TargetOutput::SaveEpoch(epoch) => match self.saved.save_epoch(epoch) {
                    Ok(()) => self.target.handle(TargetInput::EpochSaved(epoch), Instant::now()),
                    Err(failure) => {
                        tracing::error!(set = %self.spec.set, %failure, "the epoch cannot be saved");
                        self.wire = None;
                        self.target.handle(TargetInput::Disconnected, Instant::now());
                    }
                },
                TargetOutput::Close(reason) => {
                    tracing::info!(set = %self.spec.set, %reason, "the connection is ended");
                    self.wire = None;
                    self.lost = Some(reason.to_string());
                    self.target.handle(TargetInput::Disconnected, Instant::now());
                }
                TargetOutput::Spoil(checkpoint) => {
                    if let Err(why) = self.spoil(checkpoint) {
                        tracing::error!(set = %self.spec.set, why, "the last good image is not let go yet");
                        self.unspoiled = Some(checkpoint);
                    }
                }
                TargetOutput::Doubt => self.doubt(),
                TargetOutput::KeepPreImages(kept) => self.keep_images(kept),
                TargetOutput::DropPreImages => self.drop_images(),
                TargetOutput::RollBack(_) => {
                    self.saved.give_room();
                    let rolled = self.replica.roll_back().map(drop).map_err(|e| e.to_string());
                    self.wiring.relay.lose();
                    self.target.handle(TargetInput::RolledBack(rolled), Instant::now());
                }
                TargetOutput::PutBack => {
                    let put_back = self.put_back();
                    self.wiring.relay.lose();
                    self.target.handle(TargetInput::RolledBack(put_back), Instant::now());
                }
                TargetOutput::Event(event) => self.happened(event),
            }
        }
    }

    fn job(&self, job: Job) {
        if self.wiring.jobs.send(job).is_err() {
            tracing::error!(set = %self.spec.set, "the journal's thread is gone");
        }
    }

    fn apply(&mut self, batches: &[Batch]) {
        if let Err(failure) = self.saved.save_begun() {
            return self.target.handle(TargetInput::ApplyFailed { reason: failure.to_string() }, Instant::now());
        }
        let unspoiled = self.unspoiled.and_then(|checkpoint| self.spoil(checkpoint).err());
        if let Some(reason) = unspoiled.or_else(|| self.unkept.and_then(|kept| self.try_to_keep(kept).err())) {
            return self.target.handle(TargetInput::NoRoom { reason }, Instant::now());
        }
        for batch in batches {
            if batch.replay != Replay::No {
                self.replay(true);
            }
            let input = self.apply_one(batch);
            let failed = !matches!(input, TargetInput::Applied { .. });
            if !failed && batch.replay == Replay::Last {
                self.replay(false);
            }
            self.target.handle(input, Instant::now());
            if failed {
                return;
            }
        }
    }

    fn apply_one(&mut self, batch: &Batch) -> TargetInput {
        self.limit_removals(batch.removals_max);
        self.replica.set_tap(self.wiring.relay.begin());
        let applied = apply::apply(&mut self.replica, batch, &mut self.found);
        self.hand_on(batch, applied.is_ok());
        match applied {
            Ok(()) => {
                let Found { needs, differences } = std::mem::take(&mut self.found);
                TargetInput::Applied { last: batch.position.sequence, needs, differences }
            }
            Err(Failed::NoRoom(reason)) => TargetInput::NoRoom { reason },
            Err(Failed::Braked(removals)) => TargetInput::Braked { removals },
            Err(Failed::Full(reason)) => {
                self.make_room();
                TargetInput::ApplyFailed { reason }
            }
            Err(Failed::Other(reason)) => TargetInput::ApplyFailed { reason },
        }
    }

    /// A batch that failed is applied again, one that repeats may be about what died: neither can be told as it is.
    fn hand_on(&mut self, batch: &Batch, is_applied: bool) {
        let relay = &self.wiring.relay;
        if !is_applied || batch.replay != Replay::No {
            relay.lose();
        }
        let point = batch.consistent.filter(|_| is_applied && batch.replay != Replay::Amid);
        relay.end(self.replica.tapped(point.is_some()), point);
    }

    fn limit_removals(&mut self, removals_max: Option<u64>) {
        if self.policy.removals_max != removals_max {
            self.policy.removals_max = removals_max;
            self.replica.set_policy(self.policy);
        }
    }

    /// What was removed lately makes room for what has to be written.
    fn make_room(&mut self) {
        if self.replica.removed().names > 0 {
            tracing::warn!(set = %self.spec.set, "the disk is full: what was removed lately cannot be put back any more");
            self.replica.set_policy(policy::bare(self.policy));
            while matches!(self.replica.tidy(TIDY_OBJECTS), Ok(true)) {}
            self.replica.set_policy(self.policy);
        }
    }

    /// Destroys a little of what was removed and is not needed any more; not while the brake asks about it.
    fn tidy(&mut self) {
        if self.target.view().halt_code != HaltCode::Other {
            self.untidy = false;
            return;
        }
        self.untidy = self.replica.tidy(TIDY_OBJECTS).unwrap_or_else(|error| {
            tracing::warn!(set = %self.spec.set, %error, "what was removed stays in the holding directory");
            false
        });
    }

    fn put_back(&mut self) -> Result<(), String> {
        let Some(since) = self.replica.removed().since else {
            tracing::info!(set = %self.spec.set, "nothing was removed lately: there is nothing to put back");
            return Ok(());
        };
        let undone = self.replica.undo_removals(since).map_err(|e| e.to_string())?;
        tracing::info!(set = %self.spec.set, names = undone.names, left = undone.left, "put back what was removed lately");
        Ok(())
    }

    /// The source's machine went down: what came since its last completed sync proves nothing.
    fn doubt(&mut self) {
        let since = self.replica.generation().saturating_sub(1);
        let files = self.replica.doubt_since(since);
        tracing::info!(set = %self.spec.set, files, "files in doubt: the source's machine went down");
    }

    fn keep_images(&mut self, kept: Kept) {
        if let Err(reason) = self.try_to_keep(kept) {
            tracing::warn!(set = %self.spec.set, reason, "the last good image cannot be kept");
            self.unkept = Some(kept);
        }
    }

    fn try_to_keep(&mut self, kept: Kept) -> Result<(), String> {
        self.replica.keep_images(kept.position).map_err(|e| e.to_string())?;
        self.saved.save_kept(Some(kept)).map_err(|e| e.to_string())?;
        self.unkept = None;
        Ok(())
    }

    /// There is no image of one instant any more: that is durable before the way back to it goes.
    fn spoil(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
        self.unkept = None;
        self.saved.spoil(checkpoint).map_err(|e| e.to_string())?;
        self.unspoiled = None;
        self.drop_images();
        Ok(())
    }

    fn drop_images(&mut self) {
        self.unkept = None;
        let dropped = self.saved.save_kept(None).map_err(|e| e.to_string());
        if let Err(why) = dropped.and_then(|()| self.replica.drop_images().map_err(|e| e.to_string())) {
            tracing::error!(set = %self.spec.set, why, "what was kept of the last good image stays");
        }
        self.untidy = true;
    }

    /// What repeats has records about files that died later.
    fn replay(&mut self, replaying: bool) {
        if self.replaying == replaying {
            return;
        }
        self.replaying = replaying;
        if let Err(e) = self.replica.set_replaying(replaying) {
            tracing::error!(set = %self.spec.set, error = %e, "what the replay left over stays");
        }
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        let input = match self.checkpointed(checkpoint) {
            Ok(durable) => TargetInput::Checkpointed(durable),
            Err(reason) => TargetInput::CheckpointFailed { reason },
        };
        self.target.handle(input, Instant::now());
    }

    /// The replica may have to stay with an earlier position.
    fn checkpointed(&mut self, asked: Checkpoint) -> Result<Checkpoint, String> {
        let begun = self.replica.begin_checkpoint(asked.position).map_err(|e| e.to_string())?;
        let durable = Checkpoint { position: begun.position(), ..asked };
        begun.run().map_err(|e| e.to_string())?;
        self.saved.save_checkpoint(durable).map_err(|e| e.to_string())?;
        Ok(durable)
    }

    fn happened(&mut self, event: TargetEvent) {
        let set = &self.spec.set;
        match event {
            TargetEvent::Halted(Some(reason)) => tracing::error!(%set, reason, "halted"),
            TargetEvent::Halted(None) => tracing::info!(%set, "goes on"),
            TargetEvent::Refused(why) => tracing::warn!(%set, %why, "a source was refused"),
            TargetEvent::Welcomed { epoch, resume } => {
                self.level.iter_mut().for_each(Level::connected);
                let resume = resume.map_or("anew".into(), |position| position.to_string());
                tracing::info!(%set, epoch = epoch.number, resume, "the source is welcome");
            }
            TargetEvent::StoodIn { position, consistent_time } => {
                tracing::info!(%set, %position, consistent_time, "the replica is the source at that instant");
                self.stood_in = true;
            }
            TargetEvent::Spoiled(reason) => tracing::error!(%set, reason, "the replica is no image of one instant"),
            TargetEvent::Control(bytes) => return self.control(&bytes),
        }
        self.show();
        self.wiring.loop_events.send(DataEvent::StateChanged(self.spec.set.clone()));
    }

    fn show(&self) {
        let level = self.level.as_ref().map(Level::is_level);
        let view = self.target.view();
        let mut status = lock(&self.wiring.status);
        view::update(&mut status, &view, self.lost.as_deref(), level);
        let (source, state, reason) = (self.spec.source.clone(), status.state, status.reason.clone());
        drop(status);
        self.wiring.relay.say(Origin { source, state, reason });
        if view.rests_at_point {
            self.wiring.relay.rests(view.consistent_time);
        }
    }

    /// Makes the replica the image of the last instant that is here whole, or leaves it as it is, under its guard.
    fn stand_in(mut self, as_is: bool) -> Result<(), Failure> {
        let deadline = Instant::now() + STAND_IN;
        let halted = self.become_image(|halted_for| halted_for > HALTED || Instant::now() >= deadline);
        if !self.stood_in && !as_is {
            let what = format!("the replica of set {} did not become the image of one instant", self.spec.set);
            let why = halted.unwrap_or_else(|| "what is journaled was not applied".into());
            return Err(Failure::new(what, why, "Look at: stead status"));
        }
        self.release()
    }

    /// Applies what leads to that instant; returns why it is halted, where it gives up.
    fn become_image(&mut self, gives_up: impl Fn(Duration) -> bool) -> Option<String> {
        self.wire = None;
        self.tell(TargetInput::Disconnected);
        self.tell(TargetInput::StandIn);
        let mut goes_on = Instant::now();
        loop {
            let halted = self.target.view().halted;
            if halted.is_none() {
                goes_on = Instant::now();
            }
            if self.stood_in || gives_up(goes_on.elapsed()) {
                return halted;
            }
            self.show();
            self.turn();
        }
    }

    /// Makes the replica the image of the last instant that is here whole, and leaves a plain tree without a guard.
    fn leave(mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + LEAVE;
        self.become_image(|_| Instant::now() >= deadline);
        if !self.stood_in {
            let halted = self.target.view().halted.map_or(String::new(), |why| format!(": {why}"));
            tracing::error!(set = %self.spec.set, "the replica is left as it is, which is the source at no instant{halted}");
        }
        self.release()
    }

    /// Leaves a plain tree without a guard.
    fn release(self) -> Result<(), Failure> {
        let set = self.spec.set.clone();
        let failed = |what: &str, why: String| {
            Failure::new(format!("the replica of set {set} {what}"), why, "Look at its file system")
        };
        self.replica.release().map_err(|e| failed("cannot be finished", e.to_string()))?;
        self.guards.into_iter().try_for_each(Guard::lift).map_err(|e| failed("stays read-only", e.to_string()))
    }
}
