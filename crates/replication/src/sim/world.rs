//! Source, wires and targets, and the events between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use stead_model::record::{Kind, Record};
use stead_model::{Epoch, Rules, RulesSpec};

use super::operations::operate;
use super::replica::Replica;
use super::rng::Rng;
use super::tree::Tree;
use crate::frame::{Changes, Decoder, Encoded, Frame};
use crate::read::{ReadRequest, ReadResult, Ticket};
use crate::source::{
    Command, Compression, RootConfig, Source, SourceConfig, SourceEvent, SourceInput, SourceOutput, TargetId, Verified,
};
use crate::target::{Checkpoint, Recovery, Target, TargetConfig, TargetInput, TargetOutput};

/// Events after which a run counts as one that does not come to rest.
const EVENTS_MAX: u64 = 300_000;

/// What a run did, for those who want to see that it did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Operations of the application.
    pub operations: u64,
    /// Consistent points that were compared.
    pub points: u64,
    /// Events.
    pub events: u64,
    /// Disconnections, crashes and restarts.
    pub faults: u64,
    /// Verifies that ended.
    pub verifies: u64,
    /// Marks that ended.
    pub marks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Operate,
    Drain,
    ReadBegin(Ticket),
    ReadEnd(Ticket),
    ReadDone(Ticket),
    SourceTimer,
    ToTarget(TargetId, u64),
    ToSource(TargetId, u64),
    Journaled(TargetId, u64),
    Applied(TargetId, u64),
    Checkpointed(TargetId, u64),
    EpochSaved(TargetId, u64),
    TargetTimer(TargetId),
    Connect(TargetId),
    Cut(TargetId),
    Crash(TargetId),
    RestartSource,
    Ask,
}

/// One side of a connection: bytes on their way.
#[derive(Debug, Default)]
struct Wire {
    bytes: VecDeque<Vec<u8>>,
    last: u64,
}

struct Node {
    target: Target,
    replica: Replica,
    connection: u64,
    connected: bool,
    process: u64,
    to_target: Wire,
    to_source: Wire,
    decoder: Decoder,
    source_decoder: Decoder,
    journal: Vec<Changes>,
    writing: Option<(Vec<Changes>, u64)>,
    applying: VecDeque<crate::target::Batch>,
    checkpoint: Option<Checkpoint>,
    checkpointing: Option<(Checkpoint, Replica)>,
    durable: Replica,
    epoch: Option<Epoch>,
    timer: Option<Instant>,
    replay_until: u64,
    fails: u64,
    /// Where the source was when it was as the replica is now, if it ever was.
    at_point: Option<u64>,
    /// What was told to be durable of the present stream.
    acknowledged: u64,
    stream_begin: Option<u64>,
}

struct Reading {
    request: ReadRequest,
    begun: Option<ReadResult>,
    captured: u64,
    ended: bool,
}

struct World {
    rng: Rng,
    now: u64,
    zero: Instant,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    tree: Tree,
    source: Source,
    incarnation: u64,
    rules: Rules,
    nodes: BTreeMap<TargetId, Node>,
    reading: BTreeMap<Ticket, Reading>,
    source_timer: Option<Instant>,
    operations_left: u64,
    quiet: bool,
    lossy: bool,
    clean: bool,
    marks: BTreeMap<u64, u64>,
    next_id: u64,
    verified: BTreeMap<u64, Result<Verified, String>>,
    corrupted: bool,
    trace: bool,
    report: Report,
}

fn hash(bytes: &[u8]) -> u128 {
    let step = |sum: u128, byte: &u8| (sum ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step) ^ bytes.len() as u128
}

/// Runs one seed to its end.
///
/// # Errors
/// What a checker found.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut world = World::new(seed);
    world.live()?;
    world.rest()?;
    world.verify()?;
    Ok(world.report)
}

fn source_config(incarnation: u64, rules: &Rules, tree: &Tree, seed: u64) -> SourceConfig {
    let roots = vec![RootConfig { file: tree.root, rules: rules.clone(), index: 0 }];
    let set = "notes".parse().expect("a good name");
    let node = "paris".parse().expect("a good name");
    let mut config = SourceConfig::new(set, node, roots, epoch(), incarnation);
    config.chunk_bytes_max = 16;
    config.small_bytes_max = 8;
    config.entries_max = 3;
    config.reads_max = 3;
    config.difference_block = 4;
    config.verify_block = 8;
    config.window_bytes_max = if seed.is_multiple_of(3) { 3_000 } else { 1 << 20 };
    config.queue_bytes_max = if seed.is_multiple_of(5) { 8_000 } else { 1 << 20 };
    config.compression = if seed.is_multiple_of(2) { Compression::Adaptive } else { Compression::Off };
    config
}

fn epoch() -> Epoch {
    Epoch { number: 3, writer: [7; 16], random: 5 }
}

fn target_config() -> TargetConfig {
    let mut config = TargetConfig::new("notes".parse().expect("a good name"), "lyon".parse().expect("a good name"));
    config.group_bytes_max = 2_000;
    config.checkpoint_bytes = 20_000;
    config.checkpoint_every = Duration::from_secs(1);
    config
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let spec = match seed % 4 {
            0 | 1 => RulesSpec::default(),
            2 => RulesSpec { exclude: vec!["*.t".into()], ..RulesSpec::default() },
            _ => RulesSpec { exclude: vec!["*.t".into(), "a/sub".into(), "/d".into()], ..RulesSpec::default() },
        };
        let rules = Rules::new(&spec).expect("good globs");
        let mut tree = Tree::new(rules.clone());
        (0..rng.below(60)).for_each(|_| operate(&mut tree, &mut rng));
        tree.ring.clear();
        let zero = Instant::now();
        let source = Source::new(source_config(1, &rules, &tree, seed), zero);
        let targets = if rng.one_in(4) { 2 } else { 1 };
        let operations_left = 20 + rng.below(150);
        let mut world = World {
            now: 0,
            zero,
            events: BinaryHeap::new(),
            count: 0,
            tree,
            source,
            incarnation: 1,
            rules,
            nodes: BTreeMap::new(),
            reading: BTreeMap::new(),
            source_timer: None,
            operations_left,
            quiet: false,
            lossy: rng.one_in(3),
            clean: rng.one_in(3),
            marks: BTreeMap::new(),
            next_id: 0,
            verified: BTreeMap::new(),
            corrupted: false,
            trace: std::env::var_os("STEAD_TRACE").is_some(),
            report: Report::default(),
            rng,
        };
        let captured = world.tree.captured;
        world.input(SourceInput::Captured { records: Vec::new(), captured, time: captured });
        for target in 0..targets {
            let node = Node {
                target: Target::recover(target_config(), Recovery::default(), zero),
                replica: Replica::new(hash),
                connection: 0,
                connected: false,
                process: 0,
                to_target: Wire::default(),
                to_source: Wire::default(),
                decoder: Decoder::new(),
                source_decoder: Decoder::new(),
                journal: Vec::new(),
                writing: None,
                applying: VecDeque::new(),
                checkpoint: None,
                checkpointing: None,
                durable: Replica::new(hash),
                epoch: None,
                timer: None,
                replay_until: 0,
                fails: 0,
                at_point: None,
                acknowledged: 0,
                stream_begin: None,
            };
            world.nodes.insert(target, node);
            world.input(SourceInput::AddTarget { target });
            let at = if target == 0 { 5 } else { world.rng.below(40_000) };
            world.after(at, Event::Connect(target));
        }
        world.after(1, Event::Operate);
        world.after(10, Event::Drain);
        world.after(300, Event::Ask);
        world
    }

    fn now(&self) -> Instant {
        self.zero + Duration::from_micros(self.now)
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + delay, self.count, event)));
    }

    /// The application works, faults come.
    fn live(&mut self) -> Result<(), String> {
        while self.operations_left > 0 {
            self.step()?;
        }
        Ok(())
    }

    /// No more faults: everything has to become equal.
    fn rest(&mut self) -> Result<(), String> {
        self.quiet = true;
        let targets: Vec<TargetId> = self.nodes.keys().copied().collect();
        targets.into_iter().for_each(|target| self.input(SourceInput::Command(Command::Resume { target })));
        self.ask_mark();
        for _ in 0..EVENTS_MAX {
            if self.is_at_rest() {
                return self.check_rest();
            }
            self.step()?;
        }
        Err(format!("it does not come to rest: {}", self.describe()))
    }

    fn describe(&self) -> String {
        let views: Vec<_> = self.nodes.keys().map(|target| self.source.view(*target)).collect();
        let targets: Vec<_> = self.nodes.values().map(|node| node.target.view()).collect();
        let source = format!("{:?}", self.source);
        let scan = source.find("jobs: ").map_or("", |at| &source[at..source.len().min(at + 3_000)]);
        for node in self.nodes.values().filter(|_| self.trace) {
            println!("{:?}", node.target);
        }
        format!("{views:?} {targets:?} marks {:?} ring {} {scan}", self.marks, self.tree.ring.len())
    }

    fn is_at_rest(&self) -> bool {
        let still = |target: &TargetId| {
            self.source.view(*target).is_some_and(|view| {
                view.state == stead_model::status::State::Replicating && view.applied == view.captured
            })
        };
        self.tree.ring.is_empty() && self.marks.is_empty() && self.nodes.keys().all(still) && !self.verify_runs()
    }

    fn verify_runs(&self) -> bool {
        self.verified.values().any(|result| result == &Err("running".into()))
    }

    fn check_rest(&mut self) -> Result<(), String> {
        let image = self.tree.image();
        for (target, node) in &self.nodes {
            if !self.corrupted
                && let Some(difference) = image.difference(&node.replica.image())
            {
                return Err(format!("target {target} differs at rest:\n  {difference}"));
            }
        }
        Ok(())
    }

    /// At rest a verify finds nothing, or what was changed, which is then put right.
    fn verify(&mut self) -> Result<(), String> {
        let choice = self.rng.below(1000);
        let corrupted = self.rng.one_in(2) && self.nodes.get_mut(&0).is_some_and(|node| node.replica.corrupt(choice));
        let found = self.verify_once(corrupted)?;
        if corrupted && found == 0 {
            let difference = self.tree.image().difference(&self.nodes[&0].replica.image());
            return Err(format!("a verify does not find what was changed behind its back: {difference:?}"));
        }
        if !corrupted && found > 0 {
            return Err(format!("a verify at rest finds {found} differences: {:?}", self.verified));
        }
        if corrupted && self.verify_once(false)? > 0 {
            return Err(format!("a repair did not put it right: {:?}", self.verified));
        }
        self.check_rest()
    }

    fn verify_once(&mut self, repair: bool) -> Result<u64, String> {
        self.verified.clear();
        let id = self.ask_verify(repair);
        for _ in 0..EVENTS_MAX {
            if let Some(Ok(found)) = self.verified.get(&id) {
                let different = found.different;
                return if self.is_at_rest() { Ok(different) } else { self.settle().map(|()| different) };
            }
            self.step()?;
        }
        Err(format!("a verify does not end: {}", self.describe()))
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..EVENTS_MAX {
            if self.is_at_rest() {
                return Ok(());
            }
            self.step()?;
        }
        Err(format!("it does not come to rest after a verify: {}", self.describe()))
    }

    fn ask_mark(&mut self) {
        self.next_id += 1;
        let (id, captured) = (self.next_id, self.tree.captured);
        self.marks.insert(id, captured);
        self.input(SourceInput::Command(Command::Mark { id, captured }));
    }

    fn ask_verify(&mut self, repair: bool) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.verified.insert(id, Err("running".into()));
        self.input(SourceInput::Command(Command::Verify { repair, id }));
        id
    }

    fn step(&mut self) -> Result<(), String> {
        let Some(Reverse((at, _, event))) = self.events.pop() else {
            return Err(format!("nothing goes on: {}", self.describe()));
        };
        self.now = self.now.max(at);
        self.report.events += 1;
        if self.trace && matches!(event, Event::Connect(_) | Event::Cut(_) | Event::Crash(_) | Event::RestartSource) {
            println!("== {} {event:?}", self.now);
        }
        match event {
            Event::Operate => self.operate(),
            Event::Drain => self.drain(),
            Event::ReadBegin(ticket) => self.read_begin(ticket),
            Event::ReadEnd(ticket) => self.read_end(ticket),
            Event::ReadDone(ticket) => self.read_done(ticket),
            Event::SourceTimer => self.source_due(),
            Event::ToTarget(target, connection) => self.deliver_to_target(target, connection),
            Event::ToSource(target, connection) => self.deliver_to_source(target, connection),
            Event::Journaled(target, process) => self.journaled(target, process),
            Event::Applied(target, process) => self.applied(target, process)?,
            Event::Checkpointed(target, process) => self.checkpointed(target, process),
            Event::EpochSaved(target, process) => self.epoch_saved(target, process),
            Event::TargetTimer(target) => self.target_due(target),
            Event::Connect(target) => self.connect(target),
            Event::Cut(target) => self.cut(target, "cut"),
            Event::Crash(target) => self.crash(target)?,
            Event::RestartSource => self.restart_source(),
            Event::Ask => self.ask(),
        }
        self.drain_source()?;
        let targets: Vec<TargetId> = self.nodes.keys().copied().collect();
        targets.into_iter().try_for_each(|target| self.drain_target(target))
    }

    fn operate(&mut self) {
        if self.operations_left == 0 {
            return;
        }
        for _ in 0..=self.rng.below(3) {
            operate(&mut self.tree, &mut self.rng);
        }
        self.report.operations += 1;
        self.operations_left -= 1;
        if !self.clean && self.rng.one_in(25) {
            self.fault();
        }
        let delay = self.rng.below(600);
        self.after(delay, Event::Operate);
    }

    fn fault(&mut self) {
        let targets: Vec<TargetId> = self.nodes.keys().copied().collect();
        let target = *self.rng.pick(&targets).expect("there is one");
        self.report.faults += 1;
        let event = match self.rng.below(6) {
            0..=2 => Event::Cut(target),
            3..=4 => Event::Crash(target),
            _ => Event::RestartSource,
        };
        self.after(0, event);
        if self.rng.one_in(4) {
            let node = self.nodes.get_mut(&target).expect("picked from them");
            node.fails = 1 + self.rng.below(4);
        }
    }

    fn ask(&mut self) {
        if self.operations_left == 0 {
            return;
        }
        let target = self.rng.below(self.nodes.len() as u64) as TargetId;
        match self.rng.below(9) {
            2 => self.input(SourceInput::Command(Command::Mirror { target })),
            3 => self.input(SourceInput::Command(Command::Pause { target })),
            4 => self.input(SourceInput::Command(Command::Resume { target })),
            0 if !self.lossy => drop(self.ask_verify(false)),
            1 => {
                let dirs = self.tree.dirs();
                if let Some(dir) = self.rng.pick(&dirs).copied().filter(|_| self.lossy) {
                    self.tree.lose_subtree(dir);
                }
            }
            _ => self.ask_mark(),
        }
        let delay = 500 + self.rng.below(6_000);
        self.after(delay, Event::Ask);
    }

    fn drain(&mut self) {
        let delay = if self.quiet { 50 } else { self.rng.below(400) };
        self.after(delay, Event::Drain);
        if !self.source.wants_captured() || self.tree.ring.is_empty() {
            return;
        }
        let count = 1 + self.rng.below(6) as usize;
        let (lose, whole) = (self.lossy && !self.quiet && self.rng.one_in(12), self.rng.one_in(3));
        let (records, captured) = self.tree.drain(count, lose, whole);
        if self.trace {
            print!("++ {} captured until {captured}\n{}", self.now, show(&records));
        }
        self.input(SourceInput::Captured { records, captured, time: captured });
    }

    fn input(&mut self, input: SourceInput) {
        let now = self.now();
        self.source.handle(input, now);
    }

    fn drain_source(&mut self) -> Result<(), String> {
        while let Some(output) = self.source.poll_output() {
            match output {
                SourceOutput::Read(ticket, request) => {
                    self.reading.insert(ticket, Reading { request, begun: None, captured: 0, ended: false });
                    let delay = self.rng.below(300);
                    self.after(delay, Event::ReadBegin(ticket));
                }
                SourceOutput::Send { target, frame } => self.send_to_target(target, frame),
                SourceOutput::Close { target, reason } => self.cut(target, &reason.to_string()),
                SourceOutput::Event(event) => self.source_event(event)?,
            }
        }
        let due = self.source.poll_timeout().map(|(at, _)| at);
        if due != self.source_timer {
            self.source_timer = due;
            if let Some(at) = due {
                let delay = at.saturating_duration_since(self.now()).as_micros() as u64;
                self.after(delay, Event::SourceTimer);
            }
        }
        Ok(())
    }

    fn source_due(&mut self) {
        self.source_timer = None;
        if self.source.poll_timeout().is_some_and(|(at, _)| at <= self.now()) {
            let now = self.now();
            self.source.handle_timeout(now);
        }
    }

    fn source_event(&mut self, event: SourceEvent) -> Result<(), String> {
        match event {
            SourceEvent::Marked { id } => {
                let Some(captured) = self.marks.remove(&id) else { return Err("a mark ends twice".into()) };
                self.report.marks += 1;
                self.check_mark(captured)
            }
            SourceEvent::Verified { id, result } => {
                self.report.verifies += 1;
                if let Ok(found) = &result
                    && found.different > 0
                    && !self.quiet
                {
                    return Err(format!("a verify of a live set finds {found:?}"));
                }
                self.verified.insert(id, result);
                Ok(())
            }
            SourceEvent::Unreadable { file, reason } => Err(format!("{file} is unreadable: {reason}")),
            SourceEvent::Superseded { .. } => Err("an epoch that nobody raised".into()),
            _ => Ok(()),
        }
    }

    /// Everything up to the mark is on every replica: it is the source at that change or a later one.
    fn check_mark(&self, captured: u64) -> Result<(), String> {
        for (target, node) in &self.nodes {
            let short = |at: &u64| *at < captured && self.tree.history[at] != self.tree.history[&captured];
            if let Some(at) = node.at_point.filter(short) {
                return Err(format!("a wait for {captured} ended, but target {target} is at {at}"));
            }
        }
        Ok(())
    }

    fn read_begin(&mut self, ticket: Ticket) {
        let Some(reading) = self.reading.get_mut(&ticket) else { return };
        reading.begun = Some(self.tree.read_begin(&reading.request));
        let delay = self.rng.below(300);
        self.after(delay, Event::ReadEnd(ticket));
    }

    fn read_end(&mut self, ticket: Ticket) {
        let Some(reading) = self.reading.get_mut(&ticket) else { return };
        // An event of a read of the source before its restart has nothing to end.
        let Some(begun) = reading.begun.take() else { return };
        reading.begun = Some(self.tree.read_end(&reading.request, begun, hash));
        reading.captured = self.tree.captured;
        reading.ended = true;
        let delay = self.rng.below(300);
        self.after(delay, Event::ReadDone(ticket));
    }

    fn read_done(&mut self, ticket: Ticket) {
        if !self.reading.get(&ticket).is_some_and(|reading| reading.ended) {
            return;
        }
        let Some(reading) = self.reading.remove(&ticket) else { return };
        let result = reading.begun.expect("it was begun");
        self.input(SourceInput::Read { ticket, result, captured: reading.captured });
    }

    fn send_to_target(&mut self, target: TargetId, frame: Encoded) {
        let delay = self.rng.below(200);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connected) else { return };
        node.to_target.bytes.push_back(frame.to_vec());
        node.to_target.last = node.to_target.last.max(now + delay) + 1;
        let (at, connection) = (node.to_target.last, node.connection);
        self.after(at - now, Event::ToTarget(target, connection));
    }

    fn send_to_source(&mut self, target: TargetId, frame: Encoded) {
        let delay = self.rng.below(200);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connected) else { return };
        node.to_source.bytes.push_back(frame.to_vec());
        node.to_source.last = node.to_source.last.max(now + delay) + 1;
        let (at, connection) = (node.to_source.last, node.connection);
        self.after(at - now, Event::ToSource(target, connection));
    }

    fn deliver_to_target(&mut self, target: TargetId, connection: u64) {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connection == connection) else { return };
        if !node.connected {
            return;
        }
        if !node.target.wants_frames() {
            return self.after(100, Event::ToTarget(target, connection));
        }
        let bytes = node.to_target.bytes.pop_front().expect("one event for each piece");
        node.decoder.push(&bytes);
        while let Some(frame) = node.decoder.next().expect("the source encodes frames") {
            node.target.handle(TargetInput::Received(frame), now);
        }
    }

    fn deliver_to_source(&mut self, target: TargetId, connection: u64) {
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connection == connection) else { return };
        if !node.connected {
            return;
        }
        let bytes = node.to_source.bytes.pop_front().expect("one event for each piece");
        node.source_decoder.push(&bytes);
        let mut frames = Vec::new();
        while let Some(frame) = node.source_decoder.next().expect("the target encodes frames") {
            frames.push(frame);
        }
        frames.into_iter().for_each(|frame| self.input(SourceInput::Received { target, frame }));
    }

    fn connect(&mut self, target: TargetId) {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&target).filter(|node| !node.connected) else { return };
        node.connection += 1;
        node.connected = true;
        (node.to_target, node.to_source) = (Wire::default(), Wire::default());
        (node.decoder, node.source_decoder) = (Decoder::new(), Decoder::new());
        node.target.handle(TargetInput::Connected, now);
        self.input(SourceInput::Connected { target });
    }

    fn cut(&mut self, target: TargetId, reason: &str) {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connected) else { return };
        node.connected = false;
        node.connection += 1;
        node.target.handle(TargetInput::Disconnected, now);
        self.input(SourceInput::Disconnected { target, reason: reason.into() });
        let delay = self.rng.below(8_000);
        self.after(delay, Event::Connect(target));
    }

    fn drain_target(&mut self, target: TargetId) -> Result<(), String> {
        loop {
            let node = self.nodes.get_mut(&target).expect("targets stay");
            let Some(output) = node.target.poll_output() else { break };
            let process = node.process;
            match output {
                TargetOutput::Send(frame) => {
                    if let Ok(Frame::Ack(ack)) = Frame::decode(&header(&frame.header), frame.to_vec().into()) {
                        // The first one of a stream only says where it began.
                        let begun = *node.stream_begin.get_or_insert(ack.journaled);
                        if ack.journaled > begun {
                            node.acknowledged = node.acknowledged.max(ack.journaled);
                        }
                    }
                    self.send_to_source(target, frame);
                }
                TargetOutput::Journal { frames, last } => {
                    let changes = frames.into_iter().map(|frame| match Frame::decode(&header(&frame), frame.clone()) {
                        Ok(Frame::Changes(changes)) => changes,
                        other => panic!("the journal is handed {other:?}"),
                    });
                    node.writing = Some((changes.collect(), last));
                    let delay = self.rng.below(400);
                    self.after(delay, Event::Journaled(target, process));
                }
                TargetOutput::Apply(batches) => {
                    node.applying.extend(batches);
                    let delay = self.rng.below(400);
                    self.after(delay, Event::Applied(target, process));
                }
                TargetOutput::Checkpoint(checkpoint) => {
                    node.checkpointing = Some((checkpoint, node.replica.clone()));
                    let delay = self.rng.below(1_000);
                    self.after(delay, Event::Checkpointed(target, process));
                }
                TargetOutput::DropJournal(position) => node.journal.retain(|changes| {
                    let header = changes.header;
                    (header.epoch, header.incarnation) != (position.epoch, position.incarnation)
                        || header.last > position.sequence
                }),
                TargetOutput::ResetJournal => {
                    node.journal.clear();
                    (node.acknowledged, node.stream_begin) = (0, None);
                }
                TargetOutput::SaveEpoch(epoch) => {
                    node.epoch = Some(epoch);
                    let delay = self.rng.below(300);
                    self.after(delay, Event::EpochSaved(target, process));
                }
                TargetOutput::Close(reason) => self.cut(target, &reason.to_string()),
                TargetOutput::Event(_) => {}
            }
        }
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        let due = node.target.poll_timeout().map(|(at, _)| at);
        if due != node.timer {
            node.timer = due;
            if let Some(at) = due {
                let delay = at.saturating_duration_since(now).as_micros() as u64;
                self.after(delay, Event::TargetTimer(target));
            }
        }
        Ok(())
    }

    fn target_due(&mut self, target: TargetId) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        node.timer = None;
        if node.target.poll_timeout().is_some_and(|(at, _)| at <= now) {
            node.target.handle_timeout(now);
        }
    }

    fn journaled(&mut self, target: TargetId, process: u64) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process != process {
            return;
        }
        let Some((frames, last)) = node.writing.take() else { return };
        if node.fails > 0 && !self.quiet {
            node.fails -= 1;
            return node.target.handle(TargetInput::JournalFailed { reason: "no room".into() }, now);
        }
        node.journal.extend(frames);
        node.target.handle(TargetInput::Journaled { last }, now);
    }

    fn applied(&mut self, target: TargetId, process: u64) -> Result<(), String> {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process != process {
            return Ok(());
        }
        let Some(batch) = node.applying.pop_front() else { return Ok(()) };
        if node.fails > 0 && !self.quiet {
            node.fails -= 1;
            node.applying.clear();
            node.target.handle(TargetInput::ApplyFailed { reason: "no room".into() }, now);
            return Ok(());
        }
        let (needs, differences) = node.replica.apply(&batch.records);
        if self.trace {
            let consistent = batch.consistent;
            println!("-- {} target {target} applies to {} {consistent:?}", self.now, batch.position);
            print!("{}", show(&batch.records));
            needs.iter().for_each(|need| println!("   needs {need:?}"));
        }
        let last = batch.position.sequence;
        let replaying = last <= node.replay_until;
        node.at_point = batch.consistent.filter(|_| !replaying);
        if node.replica.replaying && !replaying {
            node.replica.replayed();
        }
        node.target.handle(TargetInput::Applied { last, needs, differences }, now);
        if !node.applying.is_empty() {
            let delay = self.rng.below(200);
            self.after(delay, Event::Applied(target, process));
        }
        match batch.consistent.filter(|_| !replaying && !self.corrupted) {
            Some(time) => self.check_point(target, time),
            None => Ok(()),
        }
    }

    /// The replica is the source at exactly that change.
    fn check_point(&mut self, target: TargetId, time: u64) -> Result<(), String> {
        self.report.points += 1;
        let Some(then) = self.tree.history.get(&time) else { return Err(format!("there is no change {time}")) };
        let image = self.nodes[&target].replica.image();
        match then.difference(&image) {
            Some(difference) if !self.quiet || self.verified.is_empty() => {
                Err(format!("target {target} is not the source at its consistent point {time}:\n  {difference}"))
            }
            _ => Ok(()),
        }
    }

    fn checkpointed(&mut self, target: TargetId, process: u64) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process != process {
            return;
        }
        let Some((checkpoint, replica)) = node.checkpointing.take() else { return };
        node.durable = replica;
        node.checkpoint = Some(checkpoint);
        node.target.handle(TargetInput::Checkpointed(checkpoint), now);
    }

    fn epoch_saved(&mut self, target: TargetId, process: u64) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process == process
            && let Some(epoch) = node.epoch
        {
            node.target.handle(TargetInput::EpochSaved(epoch), now);
        }
    }

    /// Power is cut: what was not synced may be there or not.
    fn crash(&mut self, target: TargetId) -> Result<(), String> {
        self.cut(target, "power cut");
        let now = self.now();
        let kept = self.rng.one_in(2);
        let node = self.nodes.get_mut(&target).expect("targets stay");
        node.process += 1;
        if !kept {
            node.replica = node.durable.clone();
        }
        node.replica.replaying = true;
        (node.writing, node.checkpointing) = (None, None);
        node.applying.clear();
        node.at_point = None;
        let recovery = Recovery {
            epoch: node.epoch,
            checkpoint: node.checkpoint,
            partial: !node.replica.is_empty(),
            journal: node.journal.clone(),
        };
        node.target = Target::recover(target_config(), recovery, now);
        let journaled = node.target.view().journaled;
        node.replay_until = journaled.sequence;
        node.timer = None;
        let mirrored = node.checkpoint.is_some_and(|checkpoint| checkpoint.mirrored);
        let acknowledged = node.acknowledged;
        if mirrored && journaled.sequence < acknowledged {
            return Err(format!("target {target} acknowledged {acknowledged}, and has {journaled} after a power cut"));
        }
        Ok(())
    }

    /// The source's daemon is restarted: what it had drained and not sent is gone with it.
    fn restart_source(&mut self) {
        let targets: Vec<TargetId> = self.nodes.keys().copied().collect();
        targets.iter().for_each(|target| self.cut(*target, "source restarts"));
        self.incarnation += 1;
        self.reading.clear();
        let config = source_config(self.incarnation, &self.rules, &self.tree, self.count);
        self.source = Source::new(config, self.now());
        self.source_timer = None;
        self.tree.ring.clear();
        let captured = self.tree.captured;
        self.input(SourceInput::Captured { records: Vec::new(), captured, time: captured });
        targets.iter().for_each(|target| self.input(SourceInput::AddTarget { target: *target }));
        self.verified.retain(|_, result| result.is_ok());
        let marks: Vec<_> = self.marks.clone().into_iter().collect();
        marks.into_iter().for_each(|(id, captured)| {
            self.input(SourceInput::Command(Command::Mark { id, captured }));
        });
    }
}

fn header(frame: &[u8]) -> crate::frame::Header {
    let bytes = frame.first_chunk().expect("frames have a header");
    crate::frame::decode_header(bytes).expect("the source encodes headers")
}

fn show(bytes: &[u8]) -> String {
    let records = stead_model::record::records(bytes).flatten();
    let line = |record: Record<'_>| {
        let name = String::from_utf8_lossy(record.name).into_owned();
        let kind: Kind = record.kind;
        let (sequence, file, parent, a, b, c) =
            (record.sequence, record.file, record.parent, record.a, record.b, record.c);
        let name2 = String::from_utf8_lossy(record.name2).into_owned();
        let (parent2, victim, len) = (record.names.parent2, record.names.victim, record.data.len());
        let size = record.attr.size;
        format!(
            "   {sequence} {kind:?} {file} {parent}/{name:?} a={a} b={b} c={c} {parent2}/{name2:?} victim={victim} data={len} size={size}\n"
        )
    };
    records.map(line).collect()
}
