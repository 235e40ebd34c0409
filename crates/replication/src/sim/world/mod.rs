//! Source, wires and targets, and the events between them.

mod checks;
mod disk;
mod faults;
mod source;
mod target;
mod trace;
mod wires;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use stead_model::{Epoch, Rules, RulesSpec};

use self::source::source_config;
use self::target::target_config;
use super::operations::operate;
use super::replica::Replica;
use super::rng::Rng;
use super::tree::Tree;
use crate::frame::{Changes, Decoder};
use crate::read::{ReadRequest, ReadResult, Ticket};
use crate::source::{Source, SourceInput, TargetId, Verified};
use crate::target::{Checkpoint, Kept, OnNoRoom, Recovery, Target};

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
    /// Restarts of the source that could go on from the one before.
    pub warm: u64,
    /// Replicas that stood in.
    pub stood_in: u64,
    /// Times that one was rolled back for it.
    pub rolled_back: u64,
    /// Times that the brake halted.
    pub braked: u64,
    /// Times that what came was undone.
    pub undone: u64,
    /// Power cuts of the source.
    pub source_cuts: u64,
    /// Bodies that were read back from the queue's disk.
    pub fetched: u64,
    /// Writes and reads of it that failed, and reads that brought something else.
    pub disk_faults: u64,
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
    RolledBack(TargetId, u64),
    StandIn(TargetId),
    Return(TargetId, u64),
    TargetTimer(TargetId),
    Connect(TargetId),
    Cut(TargetId),
    CutHalf(TargetId),
    Crash(TargetId),
    RestartSource,
    CutSource,
    Sync,
    Synced(u64, u64),
    Answer(TargetId),
    Ask,
    Spilled(u64, u64),
    Fetched(u64, u64),
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
    /// So many times slower than others.
    slow: u64,
    process: u64,
    to_target: Wire,
    to_source: Wire,
    decoder: Decoder,
    source_decoder: Decoder,
    journal: Vec<Changes>,
    /// The run of capture that the last entry of the journal names.
    capture: u64,
    writing: Option<(Vec<Changes>, u64, u64)>,
    /// The image that pre-images lead back to.
    kept: Option<(Kept, Replica)>,
    on_no_room: OnNoRoom,
    removals_max: Option<u64>,
    /// It was the source at one instant once.
    had_point: bool,
    /// It was told to stand in; until then it has to.
    standing: Option<u64>,
    applying: VecDeque<crate::target::Batch>,
    checkpoint: Option<Checkpoint>,
    checkpointing: Option<(Checkpoint, Replica)>,
    durable: Replica,
    epoch: Option<Epoch>,
    timer: Option<Instant>,
    fails: u64,
    /// Where the source was when it was as the replica is now, if it ever was.
    at_point: Option<u64>,
    /// What was told to be durable, and where the stream began.
    acknowledged: Option<(u64, u64)>,
    stream_begin: Option<(u64, u64)>,
    /// The incarnation of the last frame that came.
    followed: u64,
}

struct Reading {
    request: ReadRequest,
    begun: Option<ReadResult>,
    captured: u64,
    ended: bool,
}

/// What outlives the source: what capture and the memory hold.
#[derive(Default)]
struct Retained {
    /// Which run of capture it is.
    run: u64,
    /// What was drained and not confirmed, and what of it is handed in again.
    drained: VecDeque<(u64, Vec<u8>)>,
    again: VecDeque<(u64, Vec<u8>)>,
    /// The source was told that there is nothing more.
    told: bool,
    released: u64,
    memory: BTreeMap<u64, Vec<u8>>,
}

struct World {
    retained: Retained,
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
    /// The machine of the source went down without a sync.
    unclean: bool,
    disk: disk::QueueDisk,
    /// The source says what it waits for.
    waits: bool,
    trace: bool,
    report: Report,
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

fn rules(choice: u64) -> Rules {
    let spec = match choice {
        0 | 1 => RulesSpec::default(),
        2 => RulesSpec { exclude: vec!["*.t".into()], ..RulesSpec::default() },
        _ => RulesSpec { exclude: vec!["*.t".into(), "a/sub".into(), "/d".into()], ..RulesSpec::default() },
    };
    Rules::new(&spec).expect("good globs")
}

fn hash(bytes: &[u8]) -> u128 {
    let step = |sum: u128, byte: &u8| (sum ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step) ^ bytes.len() as u128
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let rules = rules(seed % 4);
        let mut tree = Tree::new(rules.clone());
        (0..rng.below(60)).for_each(|_| operate(&mut tree, &mut rng));
        tree.ring.clear();
        let zero = Instant::now();
        let source = Source::new(source_config(1, &rules, &tree, seed), zero);
        let targets = if rng.one_in(4) { 2 + TargetId::from(rng.one_in(3)) } else { 1 };
        let operations_left = 20 + rng.below(150);
        let mut world = World {
            retained: Retained { run: 1, ..Retained::default() },
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
            unclean: false,
            disk: disk::QueueDisk::new(seed),
            waits: seed % 6 == 1,
            trace: std::env::var_os("STEAD_TRACE").is_some(),
            report: Report::default(),
            rng,
        };
        let captured = world.tree.captured;
        world.input(SourceInput::Captured { records: Vec::new(), captured, time: captured });
        for target in 0..targets {
            let on_no_room = if world.rng.one_in(4) { OnNoRoom::Spoil } else { OnNoRoom::Halt };
            let removals_max = if world.rng.one_in(3) { Some(1 + world.rng.below(3)) } else { None };
            let node = Node {
                target: Target::recover(target_config(target, on_no_room, removals_max), Recovery::default(), zero),
                replica: Replica::new(hash),
                connection: 0,
                connected: false,
                slow: if targets > 1 && world.rng.one_in(4) { 4 } else { 1 },
                process: 0,
                to_target: Wire::default(),
                to_source: Wire::default(),
                decoder: Decoder::new(),
                source_decoder: Decoder::new(),
                journal: Vec::new(),
                capture: 0,
                kept: None,
                on_no_room,
                removals_max,
                had_point: false,
                standing: None,
                writing: None,
                applying: VecDeque::new(),
                checkpoint: None,
                checkpointing: None,
                durable: Replica::new(hash),
                epoch: None,
                timer: None,
                fails: 0,
                at_point: None,
                acknowledged: None,
                stream_begin: None,
                followed: 0,
            };
            world.nodes.insert(target, node);
            world.input(SourceInput::AddTarget { target });
            let at = if target == 0 { 5 } else { world.rng.below(40_000) };
            world.after(at, Event::Connect(target));
        }
        world.after(1, Event::Operate);
        world.after(10, Event::Drain);
        world.after(300, Event::Ask);
        world.after(3_000, Event::Sync);
        world
    }

    fn now(&self) -> Instant {
        self.zero + Duration::from_micros(self.now)
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + delay, self.count, event)));
    }

    fn step(&mut self) -> Result<(), String> {
        let Some(Reverse((at, _, event))) = self.events.pop() else {
            return Err(format!("nothing goes on: {}", self.describe()));
        };
        self.now = self.now.max(at);
        self.report.events += 1;
        use Event::{Answer, Connect, Crash, Cut, CutHalf, CutSource, RestartSource, StandIn};
        let fault = matches!(
            event,
            Connect(_) | Cut(_) | CutHalf(_) | Crash(_) | RestartSource | CutSource | StandIn(_) | Answer(_)
        );
        if self.trace && fault {
            println!("== {} {event:?}", self.now);
        }
        match event {
            Event::Operate => self.operate(),
            Event::Drain => self.drain(),
            Event::ReadBegin(ticket) => self.read_begin(ticket),
            Event::ReadEnd(ticket) => self.read_end(ticket),
            Event::ReadDone(ticket) => self.read_done(ticket),
            Event::SourceTimer => self.source_due()?,
            Event::ToTarget(target, connection) => self.deliver_to_target(target, connection),
            Event::ToSource(target, connection) => self.deliver_to_source(target, connection),
            Event::Journaled(target, process) => self.journaled(target, process),
            Event::Applied(target, process) => self.applied(target, process)?,
            Event::Checkpointed(target, process) => self.checkpointed(target, process),
            Event::EpochSaved(target, process) => self.epoch_saved(target, process),
            Event::RolledBack(target, process) => self.rolled_back(target, process),
            Event::StandIn(target) => self.stand_in(target),
            Event::Return(target, process) if self.nodes[&target].process == process => self.crash(target)?,
            Event::Return(..) => {}
            Event::TargetTimer(target) => self.target_due(target)?,
            Event::Connect(target) => self.connect(target),
            Event::Cut(target) => self.cut(target, "cut"),
            Event::CutHalf(target) => self.cut_half(target),
            Event::Crash(target) => self.crash(target)?,
            Event::RestartSource => self.restart_source(),
            Event::CutSource => self.cut_source(),
            Event::Sync => self.sync_source(),
            Event::Synced(incarnation, captured) => self.synced_source(incarnation, captured),
            Event::Answer(target) => self.answer(target),
            Event::Ask => self.ask(),
            Event::Spilled(incarnation, first) => self.spilled(incarnation, first),
            Event::Fetched(incarnation, first) => self.fetched(incarnation, first),
        }
        self.drain_source()?;
        let targets: Vec<TargetId> = self.nodes.keys().copied().collect();
        targets.into_iter().try_for_each(|target| self.drain_target(target))
    }
}
