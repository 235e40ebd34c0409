//! The loop that owns the mind of a source: every cause of work is an [`Event`] or a batch of captured records, every
//! effect an output of the mind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};
use stead_model::Sequence;
use stead_model::status::{ConnectionStatus, Difference, State, VerifyReport};
use stead_replication::frame::{self, DifferenceKind, Frame};
use stead_replication::source::{self, RootConfig, SourceEvent, SourceInput, TargetId, Verified};
use stead_replication::sync::SyncMessage;
use stead_replication::{Encoded, ReadRequest, ReadResult, Source, SourceOutput, Ticket};

use super::bypass::Bypassed;
use super::commands::{Pending, stuck};
use super::drivers::Drivers;
use super::joint::Joint;
use super::level::Levels;
use super::link::Wire;
use super::memory::Memory;
use super::paths::Paths;
use super::queue::QueueDisk;
use super::ring::Captured;
use super::targets::{Targets, Turn};
use super::{settings, view};
use crate::clock::wall_clock;
use crate::seam::{BrakeAnswer, Command, CommandId, DataEvent, Events, Failure, Outcome, SourceSpec, TargetLink};
use crate::threads::{self, lock};

/// A cause of work, besides captured records.
pub(super) enum Event {
    /// A read ended.
    Read { ticket: Ticket, result: ReadResult, captured: u64 },
    /// A connection stands.
    Connected { target: TargetId, wire: Wire },
    /// A frame came.
    Frame { target: TargetId, generation: u64, frame: Frame },
    /// Nothing will come any more.
    Lost { target: TargetId, generation: u64 },
    /// The connection, or the attempt to make one, ended.
    Disconnected { target: TargetId, generation: u64, reason: String },
    /// Somebody asks for something.
    Command(CommandId, Command),
    /// Nobody waits for its end any more.
    Forget(CommandId),
    /// What was written before a wait began has this number, if it could be flushed.
    Flushed(CommandId, Result<u64, String>),
    /// The file systems of the source were synced when capture was at that number.
    Synced(u64),
    /// A body was written to the queue's disk, or not.
    Spilled { first: Sequence, result: Result<(), String> },
    /// A body was read from it, or not.
    Fetched { first: Sequence, result: Result<Vec<u8>, String> },
    /// The plan says something else of the targets; with other rules, the roots.
    Reconfigure { links: Vec<TargetLink>, roots: Option<Vec<RootConfig>> },
    /// The operator answers the mass-change brake.
    Brake { id: CommandId, targets: Vec<TargetId>, answer: BrakeAnswer },
    /// The session ends.
    Stop,
}

/// Where the pump's events come from, and where its effects go.
pub(super) struct Wiring {
    pub(super) events: Receiver<Event>,
    pub(super) own_events: Sender<Event>,
    pub(super) captured: Receiver<Captured>,
    pub(super) requests: Sender<(Ticket, ReadRequest)>,
    pub(super) loop_events: Events,
    pub(super) status: Arc<Mutex<Vec<ConnectionStatus>>>,
    pub(super) drivers: Drivers,
    pub(super) paths: Paths,
    /// Number of the stream.
    pub(super) incarnation: u64,
    /// Where the source keeps what the one after it needs to know.
    pub(super) memory: Option<Memory>,
    /// Where the queue goes beyond memory.
    pub(super) queue: QueueDisk,
    /// How far capture may let go of what was drained.
    pub(super) retain: Option<Arc<AtomicU64>>,
    /// What went past capture.
    pub(super) bypassed: Arc<Mutex<Bypassed>>,
}

/// Shortest time between two looks at the connections for `status`.
const STATUS_EVERY: Duration = Duration::from_millis(20);
/// Longest sleep.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Pump {
    source: Source,
    spec: SourceSpec,
    wiring: Wiring,
    wires: BTreeMap<TargetId, Wire>,
    targets: Targets,
    pending: Pending,
    drains: Drains,
    levels: Levels,
    shown: Instant,
    stopping: bool,
}

/// How far each driver is drained.
struct Drains {
    joint: Arc<Joint>,
    taken: Vec<u64>,
    covered: Vec<u64>,
    reached: u64,
}

impl Pump {
    pub(super) fn new(source: Source, spec: SourceSpec, wiring: Wiring) -> Pump {
        let pending = Pending::default();
        let drains = Drains::new(&wiring.drivers);
        let (targets, levels) = (Targets::default(), Levels::default());
        let (shown, wires) = (Instant::now(), BTreeMap::new());
        Pump { source, spec, wiring, wires, targets, pending, drains, levels, shown, stopping: false }
    }

    pub(super) fn run(mut self) {
        self.reconfigure(&self.spec.targets.clone(), None);
        while !self.stopping {
            self.show();
            self.turn();
        }
        self.pending.end(&self.wiring.loop_events);
    }

    /// Waits for one cause of work and does it.
    fn turn(&mut self) {
        let now = Instant::now();
        let due = self.source.poll_timeout().map(|(at, _)| at).into_iter().chain(self.levels.due()).min();
        let timeout = due.map_or(IDLE, |at| at.saturating_duration_since(now)).min(IDLE);
        let captured = if self.source.wants_captured() { self.wiring.captured.clone() } else { never() };
        let events = self.wiring.events.clone();
        select! {
            recv(captured) -> batch => match batch {
                Ok(batch) => self.captured(batch),
                Err(_) => self.capture_ended(),
            },
            recv(events) -> event => if let Ok(event) = event { self.event(event) },
            default(timeout) => {}
        }
        if self.source.poll_timeout().is_some_and(|(at, _)| at <= Instant::now()) {
            self.source.handle_timeout(Instant::now());
            self.outputs();
        }
        self.turn_levels();
    }

    /// Goes on as the plan now says.
    fn reconfigure(&mut self, links: &[TargetLink], roots: Option<Vec<RootConfig>>) {
        for turn in self.targets.take(links) {
            self.tell(match turn {
                Turn::Added(target) => SourceInput::AddTarget { target },
                Turn::Removed(target) => SourceInput::RemoveTarget { target },
                Turn::Paused(target, true) => SourceInput::Command(source::Command::Pause { target }),
                Turn::Paused(target, false) => SourceInput::Command(source::Command::Resume { target }),
            });
        }
        self.wires.retain(|target, _| self.targets.0.contains_key(target));
        self.tell(SourceInput::Command(source::Command::Configure(settings::of(links))));
        if let Some(roots) = roots {
            self.tell(SourceInput::Command(source::Command::Rules { roots }));
        }
        self.levels.take(self.targets.links());
        self.begin_levels();
    }

    fn begin_levels(&mut self) {
        let begun = self.wiring.drivers.mount().map(|mount| self.levels.begin(mount));
        if let Some(Err(why)) = begun {
            tracing::error!(set = %self.spec.set, why, "the set cannot be synchronous");
            self.levels = Levels::default();
        }
    }

    fn turn_levels(&mut self) {
        let Some(mount) = self.wiring.drivers.mount() else { return };
        for (target, message) in self.levels.turn(&self.source, mount, self.drains.reached) {
            self.tell(SourceInput::Control { target, bytes: message.encode() });
        }
    }

    fn captured(&mut self, batch: Captured) {
        self.drains.taken[batch.driver] = batch.captured;
        self.drains.covered[batch.driver] = batch.time.unwrap_or(self.drains.covered[batch.driver]);
        let (captured, time) = self.drains.now();
        self.tell(SourceInput::Captured { records: batch.records, captured, time });
    }

    /// A number that was asked for just now may be reached already, with nothing more to be drained.
    fn reach(&mut self) {
        let before = self.drains.reached;
        let (captured, time) = self.drains.now();
        if captured > before {
            self.tell(SourceInput::Captured { records: Vec::new(), captured, time });
        }
    }

    fn capture_ended(&mut self) {
        let set = self.spec.set.clone();
        let remedy = "Look at capture.log in the set's state directory";
        let failure = Failure::new("changes were not seen any more", "its capture ended", remedy);
        self.wiring.loop_events.send(DataEvent::Ended(set, failure));
        self.stopping = true;
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Read { ticket, result, captured } => {
                self.tell(SourceInput::Read { ticket, result, captured });
                self.reach();
            }
            Event::Connected { target, wire } => {
                self.wires.insert(target, wire);
                self.tell(SourceInput::Connected { target });
            }
            Event::Frame { target, generation, frame } => {
                if self.is_present(target, generation) {
                    self.tell(SourceInput::Received { target, frame });
                }
            }
            Event::Lost { target, generation } => {
                if self.is_present(target, generation) {
                    self.wires.remove(&target);
                }
            }
            Event::Disconnected { target, generation, reason } => {
                if self.wires.get(&target).is_none_or(|wire| wire.generation == generation) {
                    self.wires.remove(&target);
                    self.tell(SourceInput::Disconnected { target, reason });
                }
            }
            Event::Reconfigure { links, roots } => self.reconfigure(&links, roots),
            Event::Brake { id, targets, answer } => self.answer_brake(id, &targets, answer),
            Event::Command(id, command) => self.command(id, command),
            Event::Forget(id) => {
                self.pending.forget(id);
                self.tell(SourceInput::Command(source::Command::Unmark { id }));
            }
            Event::Flushed(id, captured) => self.flushed(id, captured),
            Event::Synced(captured) => self.tell(SourceInput::Synced { captured }),
            Event::Spilled { first, result } => self.tell(SourceInput::Spilled { first, result }),
            Event::Fetched { first, result } => self.tell(SourceInput::Fetched { first, result }),
            Event::Stop => self.stopping = true,
        }
    }

    fn is_present(&self, target: TargetId, generation: u64) -> bool {
        self.wires.get(&target).is_some_and(|wire| wire.generation == generation)
    }

    fn tell(&mut self, input: SourceInput) {
        self.source.handle(input, Instant::now());
        self.outputs();
    }

    fn outputs(&mut self) {
        self.wiring.queue.flush();
        while let Some(output) = self.source.poll_output() {
            match output {
                SourceOutput::Read(ticket, request) => {
                    if self.wiring.requests.send((ticket, request)).is_err() {
                        self.stopping = true;
                    }
                }
                SourceOutput::Send { target, frame } => self.send(target, frame),
                SourceOutput::Close { target, reason } => {
                    tracing::info!(set = %self.spec.set, target, %reason, "the connection is ended");
                    self.wires.remove(&target);
                }
                SourceOutput::Remember { part, bytes } => {
                    self.wiring.memory.iter_mut().for_each(|memory| memory.remember(part, &bytes));
                }
                SourceOutput::ForgetBefore { part } => {
                    self.wiring.memory.iter().for_each(|memory| memory.forget_before(part));
                }
                SourceOutput::Spill { first, body } => self.wiring.queue.spill(first, body),
                SourceOutput::Fetch { first } => self.wiring.queue.fetch(first),
                SourceOutput::ForgetSpilled { firsts } => self.wiring.queue.forget(firsts),
                SourceOutput::Event(event) => self.happened(event),
            }
        }
    }

    fn send(&mut self, target: TargetId, frame: Encoded) {
        let sent = self.wires.get(&target).map(|wire| wire.frames.try_send(frame));
        if matches!(sent, Some(Err(_))) {
            self.wires.remove(&target);
        }
    }

    fn command(&mut self, id: CommandId, command: Command) {
        if let (Command::Wait | Command::Mirror | Command::Verify { .. }, Some(failure)) = (&command, self.stuck()) {
            let result = Err(failure);
            return self.wiring.loop_events.send(DataEvent::CommandDone { id, result });
        }
        match command {
            Command::Wait => self.wait(id),
            Command::Mirror => {
                self.pending.add_mirror(id, self.targets.ids().into_iter());
                self.each_target(|target| source::Command::Mirror { target });
            }
            Command::Verify { repair, content } => {
                self.pending.add_verify(id);
                self.tell(SourceInput::Command(source::Command::Verify { repair, content, id }));
            }
            Command::Pause => self.each_target_done(id, |target| source::Command::Pause { target }),
            Command::Resume => self.each_target_done(id, |target| source::Command::Resume { target }),
        }
    }

    fn answer_brake(&mut self, id: CommandId, targets: &[TargetId], answer: BrakeAnswer) {
        let command = |target| match answer {
            BrakeAnswer::Accept => source::Command::AcceptDeletions { target },
            BrakeAnswer::Undo => source::Command::Undo { target },
            BrakeAnswer::GoOn => source::Command::Resume { target },
        };
        let meant: Vec<_> = targets.iter().copied().filter(|target| self.may_answer(*target, answer)).collect();
        if meant.is_empty() && answer != BrakeAnswer::GoOn {
            let why = "the mass-change brake has halted none of these connections";
            let remedy =
                "What was taken back goes on with: stead resume SET, without an option; else look at: stead status";
            let failure = Failure::new("nothing was changed", why, remedy);
            return self.wiring.loop_events.send(DataEvent::CommandDone { id, result: Err(failure) });
        }
        // It may end at once, where the target is not connected.
        if answer == BrakeAnswer::Undo {
            self.pending.add_undo(id, &meant);
        }
        meant.iter().for_each(|target| self.tell(SourceInput::Command(command(*target))));
        if answer != BrakeAnswer::Undo {
            self.wiring.loop_events.send(DataEvent::CommandDone { id, result: Ok(Outcome::Done) });
        }
    }

    fn may_answer(&self, target: TargetId, answer: BrakeAnswer) -> bool {
        match answer {
            BrakeAnswer::GoOn => !self.targets.links().any(|(id, link)| id == target && link.paused),
            _ => self.source.view(target).is_some_and(|view| view.braked.is_some()),
        }
    }

    /// Why waiting for the connections would be in vain.
    fn stuck(&self) -> Option<Failure> {
        let mut views = self.targets.ids().into_iter().filter_map(|target| Some((target, self.source.view(target)?)));
        let (target, view) = views.find(|(_, view)| is_stopped(view.state))?;
        let why = view.reason.as_deref().unwrap_or_default();
        Some(stuck(&self.spec.set, self.targets.name(target), view.state, why))
    }

    fn each_target(&mut self, command: impl Fn(TargetId) -> source::Command) {
        for target in self.targets.ids() {
            self.tell(SourceInput::Command(command(target)));
        }
    }

    fn each_target_done(&mut self, id: CommandId, command: impl Fn(TargetId) -> source::Command) {
        self.each_target(command);
        self.wiring.loop_events.send(DataEvent::CommandDone { id, result: Ok(Outcome::Done) });
    }

    /// Flushing may take long and fills the ring, which this thread empties: another thread does it.
    fn wait(&mut self, id: CommandId) {
        self.pending.add_wait(id);
        let events = self.wiring.own_events.clone();
        let started = self.wiring.drivers.again().and_then(|drivers| {
            threads::spawn(&format!("{}-flush", self.spec.set), move || {
                let _ = events.send(Event::Flushed(id, flush(drivers)));
            })
        });
        if let Err(failure) = started {
            self.pending.done(id, Err(failure), &self.wiring.loop_events);
        }
    }

    fn flushed(&mut self, id: CommandId, captured: Result<u64, String>) {
        if !self.pending.has_wait(id) {
            return;
        }
        match captured {
            Ok(captured) => {
                self.tell(SourceInput::Command(source::Command::Mark { id, captured }));
                self.reach();
            }
            Err(why) => {
                let failure = Failure::new("what was written cannot be flushed", why, "Look at the capture's log");
                self.pending.done(id, Err(failure), &self.wiring.loop_events);
            }
        }
    }

    fn happened(&mut self, event: SourceEvent) {
        let set = self.spec.set.clone();
        let events = self.wiring.loop_events.clone();
        match event {
            SourceEvent::State { target, state, reason } => {
                let target = self.targets.name(target).to_owned();
                let why = reason.unwrap_or_default();
                tracing::info!(%set, %target, %state, why, "the connection's state");
                if is_stopped(state) {
                    self.pending.stopped(&stuck(&set, &target, state, &why), &events);
                }
                self.look();
                events.send(DataEvent::StateChanged(set));
            }
            SourceEvent::Mirrored { targets, whole, counts } => {
                tracing::info!(%set, targets, whole, files = counts.files, bytes = counts.bytes, sent = counts.sent, "mirrored");
                if whole {
                    self.pending.mirrored(targets, &events);
                }
            }
            SourceEvent::ScanEnded(why) => tracing::warn!(%set, why, "a scan was broken off"),
            SourceEvent::Verified { id, result } => {
                let result = result.map(|found| Outcome::Verified(self.report(found)));
                let result = result.map_err(|why| {
                    Failure::new("verify was broken off", why, "Try again when the connection is replicating")
                });
                self.pending.done(id, result, &events);
            }
            SourceEvent::Marked { id } => self.pending.done(id, Ok(Outcome::Done), &events),
            SourceEvent::Unreadable { file, reason } => tracing::error!(%set, %file, reason, "a file cannot be read"),
            SourceEvent::Superseded { epoch } => events.send(DataEvent::EpochSeen(set, epoch)),
            SourceEvent::Confirmed { captured } => {
                self.wiring.retain.iter().for_each(|retain| retain.store(captured, Relaxed));
            }
            SourceEvent::Control { target, bytes } => {
                if let Some(message) = SyncMessage::decode(&bytes) {
                    self.levels.received(target, message);
                }
            }
            SourceEvent::Undone { target, result } => self.pending.undone(target, result, &events),
        }
    }

    fn report(&self, found: Verified) -> VerifyReport {
        let differences = found.differences.iter().map(|(_, difference, repaired)| Difference {
            path: self.wiring.paths.of(difference),
            what: what(difference).into(),
            repaired: *repaired,
        });
        VerifyReport {
            files: found.counts.files,
            bytes: found.counts.bytes,
            different: found.different,
            differences: differences.collect(),
        }
    }

    /// Looks at the connections for `status`, but not too often.
    fn show(&mut self) {
        if self.shown.elapsed() >= STATUS_EVERY || self.wiring.events.is_empty() && self.wiring.captured.is_empty() {
            self.look();
        }
    }

    fn look(&mut self) {
        self.shown = Instant::now();
        let (capture, (_, covered)) = (self.wiring.drivers.names(), self.drains.now());
        let mut all = Vec::with_capacity(self.targets.0.len());
        for (target, tracked) in &mut self.targets.0 {
            let Some(view) = self.source.view(*target) else { continue };
            let mut status = view::status(&self.spec, tracked, capture, self.wiring.incarnation, covered, &view);
            if let Some(relay) = self.wiring.drivers.relay() {
                view::hand_on(&mut status, relay.origin().as_ref(), wall_clock());
            }
            status.details.sync = self.levels.status(*target);
            let bypassed = lock(&self.wiring.bypassed);
            (status.details.bypassing_writes, status.details.bypassed) = (bypassed.count, bypassed.last.clone());
            all.push(status);
        }
        *lock(&self.wiring.status) = all;
    }
}

impl Drains {
    fn new(drivers: &Drivers) -> Drains {
        let none = vec![0; drivers.count()];
        Drains { joint: drivers.joint(), taken: none.clone(), covered: none, reached: 0 }
    }

    /// The number that is reached, and the time before which everything captured is covered.
    fn now(&mut self) -> (u64, u64) {
        self.reached = self.joint.reached(&self.taken);
        (self.reached, self.covered.iter().copied().min().unwrap_or_default())
    }
}

/// Does it need something from outside to go on?
fn is_stopped(state: State) -> bool {
    matches!(state, State::Halted | State::Paused | State::RestoreRequired)
}

fn flush(mut drivers: Drivers) -> Result<u64, String> {
    drivers.flush().map_err(|e| e.to_string())?;
    Ok(drivers.captured())
}

fn what(difference: &frame::Difference) -> &'static str {
    match difference.kind {
        DifferenceKind::Missing => "missing",
        DifferenceKind::Extra => "extra",
        DifferenceKind::Attributes => "attributes",
        DifferenceKind::Content => "content",
    }
}
