//! The nodes of one group, their lines and disks, on virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::agent::Agent;
use super::checker::{Checker, Report};
use super::clock::{Clock, Micros};
use super::keeper::{self, Keeper, KeeperEvent};
use super::net::{Codec, Datagram, Net};
use super::node::{Mind, NAMES, Node, Saving, id, index};
use super::rng::Rng;
use super::setup::Setup;
use crate::heartbeat::{Hold, NOTES_MAX, Note, Say};
use crate::ids::NodeId;
use crate::lease::{Ballot, Witness, WitnessInput, WitnessOutput};
use crate::machine::{Answer, Fitness, Input, Lease, Machine, Outcome, Output, Record, Request, State, Step, Want};
use crate::resources::ResourcesConfig;
use crate::timeline::Entry;

pub(super) const MS: Micros = 1_000;
/// Makes other dice of a seed.
const DICE: u64 = 0x0cf0_0cf0;

/// How long nobody may serve after a single fault: a time-out of 5 s, then leases that lapse, then the steps.
const OUTAGE_MAX: Micros = 10_000 * MS;

/// What happens at some time.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Deliver { to: usize, datagram: Datagram },
    Timer { node: usize, number: u64 },
    Watchdog { node: usize, number: u64 },
    Saved { node: usize, boot: u32, number: u64 },
    Acted { node: usize, boot: u32, id: u64, outcome: Outcome },
    Keeper { node: usize, boot: u32, event: KeeperEvent },
    Start { node: usize },
    Resume { node: usize },
    Kill { node: usize },
    Person { node: usize, want: Want },
    Care,
    Fault,
    Isolate { at: usize },
    Mend { from: usize, to: usize },
    Heal,
}

pub(super) struct World {
    pub now: Micros,
    /// When somebody served last.
    served_at: Micros,
    pub rng: Rng,
    /// Those of the agents, so that what else happens goes as it always went.
    pub dice: Rng,
    /// The resources that have agents.
    pub kit: Option<ResourcesConfig>,
    /// One in so many answers of an agent is a fault.
    pub agents_fail: u64,
    pub setup: Setup,
    pub nodes: [Node; 3],
    pub net: Net,
    pub checker: Checker,
    /// Faults come until then.
    pub faults_until: Micros,
    queue: BinaryHeap<Reverse<(Micros, u64)>>,
    events: BTreeMap<u64, Event>,
    count: u64,
    pub codecs: Option<[Codec; 3]>,
    waiting: BTreeMap<(usize, u32, u64), Micros>,
    requests: u64,
    pub wrong: Option<String>,
    pub trace: Option<String>,
}

impl World {
    pub fn new(setup: Setup, mut rng: Rng, trace: bool) -> World {
        let origin = Instant::now();
        let nodes = std::array::from_fn(|at| new_node(&setup, at, origin, &mut rng));
        let mut dice = Rng::new(setup.agents.unwrap_or_default() ^ DICE);
        let kit = setup.agents.map(|_| keeper::random(&mut dice));
        let codecs = setup.with_bytes.then(|| std::array::from_fn(|at| Codec::new(at, 0)));
        let mut world = World {
            now: 0,
            served_at: 0,
            rng,
            agents_fail: dice.range(2, 30),
            dice,
            kit,
            nodes,
            net: Net::new(),
            checker: Checker::new(setup.witness && !setup.forces),
            faults_until: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            count: 0,
            codecs,
            waiting: BTreeMap::new(),
            requests: 0,
            wrong: None,
            trace: trace.then(String::new),
            setup,
        };
        (0..world.node_count()).for_each(|node| world.at(1, Event::Start { node }));
        world.at(500 * MS, Event::Care);
        world
    }

    fn node_count(&self) -> usize {
        if self.setup.witness { 3 } else { 2 }
    }

    pub fn at(&mut self, at: Micros, event: Event) {
        self.count += 1;
        self.queue.push(Reverse((at, self.count)));
        self.events.insert(self.count, event);
    }

    pub fn after(&mut self, delay: Micros, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Goes on until that time.
    pub fn run_until(&mut self, until: Micros) -> Result<(), String> {
        while let Some(Reverse((at, number))) = self.queue.peek().copied().filter(|next| next.0.0 <= until) {
            self.queue.pop();
            let event = self.events.remove(&number).expect("queued once");
            self.pass(at);
            self.happen(event);
            self.check_agents();
            self.checker.report.events += 1;
            self.checker.serving(&self.nodes, self.now)?;
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
        }
        self.pass(until);
        Ok(())
    }

    fn pass(&mut self, to: Micros) {
        if self.nodes.iter().any(Node::serves) {
            self.checker.report.served += to - self.now;
            self.served_at = to;
        } else if self.setup.calm && to - self.served_at > OUTAGE_MAX {
            self.fail("nobody serves for too long after a single fault".into());
        }
        self.checker.report.lasted += to - self.now;
        self.now = to;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, datagram } => self.deliver(to, datagram),
            Event::Timer { node, number } => self.timer(node, number),
            Event::Watchdog { node, number } => self.watchdog(node, number),
            Event::Saved { node, boot, number } => self.saved(node, boot, number),
            Event::Acted { node, boot, id, outcome } => self.acted(node, boot, id, outcome),
            Event::Keeper { node, boot, event } => self.keeper_event(node, boot, event),
            Event::Start { node } => self.start(node),
            Event::Resume { node } => self.resume(node),
            Event::Kill { node } => self.kill(node, false),
            Event::Person { node, want } => _ = self.want(node, want),
            Event::Care => self.care(),
            Event::Fault => self.fault(),
            Event::Isolate { at } if self.now < self.faults_until => self.isolate(at),
            Event::Isolate { .. } => {}
            Event::Mend { from, to } => self.mend(from, to),
            Event::Heal => self.heal(),
        }
    }

    pub fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub fn log(&mut self, who: &str, what: std::fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>8.3} {who}: {what}", self.now as f64 / 1e6);
        }
    }

    fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.mind.is_some() {
            return;
        }
        node.boot += 1;
        let now = node.clock.read(self.now);
        (node.started, node.leaving) = (now, false);
        node.mind = Some(if at == 2 {
            Mind::Witness(Box::new(Witness::new(self.setup.witness(), node.ballot, now)))
        } else {
            let config = self.setup.config(at, node.boot);
            Mind::Machine(Box::new(Machine::new(config, node.record.clone(), now)))
        });
        node.asked = node.record.clone();
        if let Some(config) = self.kit.as_ref().filter(|_| at < 2) {
            node.keeper = Some(Keeper::new(config));
            node.agents.resize_with(config.resources.len(), Agent::new);
        }
        if let Some(codecs) = &mut self.codecs {
            codecs[at] = Codec::new(at, node.boot);
        }
        self.log(NAMES[at], format_args!("# starts"));
        self.tell_fitness(at);
        self.drain(at);
    }

    /// Hands something to a node's mind, where it runs.
    pub fn hand_in(&mut self, at: usize, input: Input) {
        let now = self.nodes[at].clock.read(self.now);
        if let Some(Mind::Machine(machine)) = &mut self.nodes[at].mind {
            machine.handle(input, now);
        }
        self.drain(at);
    }

    pub fn deliver(&mut self, at: usize, datagram: Datagram) {
        let node = &mut self.nodes[at];
        match node.pause {
            _ if node.mind.is_none() => return,
            Some(_) if node.inbox.len() < 50 => return node.inbox.push_back(datagram),
            Some(_) => return,
            None => {}
        }
        let (from, path, leaving, notes) = match datagram {
            Datagram::Plain { from, path, leaving, notes } => (from, path, leaving, notes),
            Datagram::Bytes(bytes) => {
                let codec = &mut self.codecs.as_mut().expect("bytes come of a codec")[at];
                let Some(heartbeat) = codec.decode(&bytes) else { return };
                (index(heartbeat.from), heartbeat.path, heartbeat.leaving, heartbeat.notes.into())
            }
        };
        let now = node.clock.read(self.now);
        match node.mind.as_mut().expect("checked above") {
            Mind::Machine(machine) => {
                if from == 1 - at {
                    machine.handle(Input::Heard { path, leaving }, now);
                }
                notes.iter().for_each(|note| machine.handle(Input::Note { from: id(from), note: *note }, now));
            }
            Mind::Witness(witness) => {
                notes.iter().for_each(|note| witness.handle(WitnessInput::Note { from: id(from), note: *note }, now));
            }
        }
        self.drain(at);
    }

    pub fn timer(&mut self, at: usize, number: u64) {
        let node = &mut self.nodes[at];
        if node.timer != number || !node.is_running() {
            return;
        }
        let now = node.clock.read(self.now);
        node.mind.as_mut().expect("it runs").handle_timeout(now);
        self.drain(at);
    }

    /// Does what a mind wants done, until it wants nothing.
    pub fn drain(&mut self, at: usize) {
        let mut letters: [Vec<Note>; 3] = Default::default();
        for turn in 0.. {
            let said = match &mut self.nodes[at].mind {
                Some(Mind::Machine(machine)) => machine.poll_output().map(|output| self.output(at, output)),
                Some(Mind::Witness(witness)) => witness.poll_output().map(|output| self.witness_output(at, output)),
                None => None,
            };
            let Some(letter) = said else { break };
            if let Some((to, note)) = letter {
                letters[to].push(note);
            }
            if turn > 1_000 {
                return self.fail(format!("{} does not stop", NAMES[at]));
            }
        }
        for (to, notes) in letters.iter().enumerate().filter(|(_, notes)| !notes.is_empty()) {
            notes.chunks(NOTES_MAX).for_each(|notes| self.send(at, to, notes));
        }
        self.arm(at);
    }

    pub fn arm(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(due) = node.mind.as_ref().and_then(Mind::poll_timeout) else { return };
        let late =
            if !self.setup.scripted && self.rng.one_in(20) { self.rng.below(50 * MS) } else { self.rng.below(500) };
        node.timer += 1;
        let (number, when) = (node.timer, node.clock.when(due, self.now));
        self.at(when + late, Event::Timer { node: at, number });
    }

    fn send(&mut self, from: usize, to: usize, notes: &[Note]) {
        let (shared, leaving): (Rc<[Note]>, bool) = (notes.into(), self.nodes[from].leaving);
        for path in 0..Net::paths(from, to) {
            let datagram = match &mut self.codecs {
                Some(codecs) => codecs[from].encode(to, path as u32, notes),
                None => Datagram::Plain { from, path: path as u32, leaving, notes: shared.clone() },
            };
            for delay in self.net.delays(from, to, path, &mut self.rng) {
                self.after(delay, Event::Deliver { to, datagram: datagram.clone() });
            }
        }
    }

    fn output(&mut self, at: usize, output: Output) -> Option<(usize, Note)> {
        match output {
            Output::Send { to, note } => {
                self.check_word(at, &note);
                return Some((index(to), note));
            }
            Output::Save { number, record } => self.save_record(at, number, record),
            Output::Lease(lease) => self.lease(at, lease),
            Output::Do(action) => self.act(at, action),
            Output::Cancel { id } => self.cancel(at, id),
            Output::Answer { request, answer } => self.answered(at, request, answer),
            Output::Tell(entry) => self.told(at, &entry),
        }
        None
    }

    fn witness_output(&mut self, at: usize, output: WitnessOutput) -> Option<(usize, Note)> {
        match output {
            WitnessOutput::Send { to, note } => {
                let node = &self.nodes[at];
                let early = node.clock.read(self.now) < node.started + self.setup.times().wait;
                let voted = node.ballot.and_then(|ballot| ballot.vote).map(|vote| vote.epoch);
                if matches!(note.say, Say::Vote(_)) && voted != Some(note.epoch) {
                    self.fail(format!("the witness tells a vote for {:?}, and has {voted:?} durably", note.epoch));
                }
                if early && matches!(note.say, Say::Grant(_) | Say::Vote(_)) {
                    self.fail(format!("the witness says {:?} although it started not long ago", note.say));
                }
                Some((index(to), note))
            }
            WitnessOutput::Save { number, ballot } => {
                self.check_given_back(&ballot);
                self.save(at, number, Saving::Ballot(ballot));
                None
            }
        }
    }

    /// No vote is taken back that a candidate is about to use.
    fn check_given_back(&mut self, ballot: &Ballot) {
        let Some(Mind::Witness(_)) = &self.nodes[2].mind else { return };
        let before = self.nodes[2].saving.back().and_then(|(_, saving)| match saving {
            Saving::Ballot(ballot) => Some(*ballot),
            Saving::Record(_) => None,
        });
        let before = before.or(self.nodes[2].ballot).and_then(|ballot| ballot.vote);
        let Some(vote) = before.filter(|vote| ballot.vote.is_none() && ballot.floor != vote.epoch) else { return };
        let state = self.nodes[index(NodeId(vote.epoch.writer))].machine().map(|machine| *machine.state());
        let uses = match state {
            Some(State::Confirming(claim) | State::Fencing(claim)) => claim.vote && claim.epoch == vote.epoch,
            Some(State::Committing(claim)) => claim.epoch == vote.epoch,
            _ => false,
        };
        if uses && !self.setup.forces {
            self.fail(format!("the vote for {:?} is taken back while it is used", vote.epoch));
        }
    }

    /// What a node says of its epoch is durable.
    fn check_word(&mut self, at: usize, note: &Note) {
        let of_its_own =
            matches!(note.say, Say::Role(..) | Say::Ask { .. } | Say::Grant(_) | Say::Yield | Say::Yielded);
        self.check_call_for_help(at, note);
        if of_its_own && note.epoch != self.nodes[at].record.epoch {
            self.fail(format!("{} says {:?} under an epoch that is not durable", NAMES[at], note.say));
        }
    }

    fn save_record(&mut self, at: usize, number: u64, record: Record) {
        let before = std::mem::replace(&mut self.nodes[at].asked, record.clone());
        let data = self.setup.forces || self.now < self.nodes[1 - at].excused_until;
        let written = [self.nodes[at].written, self.nodes[1 - at].written];
        let checked = self.checker.saves(at, &before, &record, if data { [0, 0] } else { written });
        if let Err(wrong) = checked {
            self.fail(wrong);
        }
        self.save(at, number, Saving::Record(record));
        self.maintain(at);
    }

    fn save(&mut self, at: usize, number: u64, saving: Saving) {
        self.nodes[at].saving.push_back((number, saving));
        let takes = if self.setup.scripted {
            5 * MS
        } else if self.rng.one_in(if self.setup.slow_disk { 3 } else { 30 }) {
            self.rng.below(800 * MS)
        } else {
            self.rng.below(15 * MS)
        };
        let boot = self.nodes[at].boot;
        self.after(takes, Event::Saved { node: at, boot, number });
    }

    /// The disk has everything up to that number.
    pub fn persist(&mut self, at: usize, number: u64) {
        let node = &mut self.nodes[at];
        while let Some((_, saving)) = node.saving.pop_front_if(|(saved, _)| *saved <= number) {
            match saving {
                Saving::Record(record) => {
                    if record.restore && !node.record.restore {
                        self.checker.report.restores += 1;
                    }
                    node.record = record;
                }
                Saving::Ballot(ballot) => node.ballot = Some(ballot),
            }
        }
        if at < 2
            && node.record.epoch.writer == id(at).0
            && let Err(wrong) = self.checker.durable(&node.record)
        {
            self.fail(wrong);
        }
    }

    fn saved(&mut self, at: usize, boot: u32, number: u64) {
        if self.nodes[at].boot != boot || self.nodes[at].mind.is_none() {
            return;
        }
        if self.nodes[at].pause.is_some() {
            return self.after(10 * MS, Event::Saved { node: at, boot, number });
        }
        self.persist(at, number);
        let now = self.nodes[at].clock.read(self.now);
        match &mut self.nodes[at].mind {
            Some(Mind::Machine(machine)) => machine.handle(Input::Saved { number }, now),
            Some(Mind::Witness(witness)) => witness.handle(WitnessInput::Saved { number }, now),
            None => {}
        }
        self.drain(at);
    }

    pub fn want(&mut self, at: usize, want: Want) -> u64 {
        self.requests += 1;
        let id = self.requests;
        let node = &self.nodes[at];
        if node.machine().is_some() && node.is_running() {
            let expires = node.clock.read(self.now) + Duration::from_secs(5);
            self.waiting.insert((at, node.boot, id), self.now);
            self.hand_in(at, Input::Request(Request { id, want, expires }));
        }
        id
    }

    fn answered(&mut self, at: usize, request: u64, answer: Answer) {
        self.log(NAMES[at], format_args!("request {request}: {}", words(answer)));
        let boot = self.nodes[at].boot;
        if answer == Answer::Accepted {
            return;
        }
        self.checker.report.requests += 1;
        if self.waiting.remove(&(at, boot, request)).is_none() {
            self.fail(format!("request {request} is answered twice"));
        }
    }

    fn told(&mut self, at: usize, entry: &Entry) {
        self.log(NAMES[at], format_args!("{entry}"));
        let is_asked = self.waiting.keys().any(|(node, ..)| *node == at);
        if matches!(entry, Entry::Confirming { .. }) && self.nodes[at].asked.hold == Hold::Offline && !is_asked {
            self.fail(format!("{} takes over what a person took offline", NAMES[at]));
        }
        if *entry == Entry::AsksPerson && self.setup.person_answers {
            self.after(1_000 * MS, Event::Person { node: at, want: Want::Approve });
        }
        if *entry == Entry::Standby && self.nodes[at].role_files && self.nodes[at].put_back < 3 {
            self.fail(format!("{} stands by with the files of who serves", NAMES[at]));
        }
        if *entry == Entry::Relieves {
            self.check_relief(at);
        }
        if *entry == Entry::HandedOver {
            self.checker.report.planned += 1;
        }
    }

    /// Replication and restore, as far as this simulation has them: a replica follows the active side that it hears.
    fn care(&mut self) {
        self.after(500 * MS, Event::Care);
        self.nodes.iter_mut().filter(|node| node.writes()).for_each(|node| node.written += 1);
        for at in 0..2 {
            let other = 1 - at;
            let active = self.nodes[other].machine().is_some_and(|machine| *machine.state() == State::Active);
            let (mine, theirs) = (self.nodes[at].record.epoch, self.nodes[other].record.epoch);
            let both = self.nodes[at].is_running() && self.nodes[other].is_running();
            if !(active && both && mine == theirs && self.net.is_joined(at, other)) {
                continue;
            }
            let written = self.nodes[other].written;
            let node = &mut self.nodes[at];
            let begun = *node.restored_at.get_or_insert(self.now + if node.record.restore { 2_000 * MS } else { 0 });
            if self.now >= begun {
                (node.fit, node.restored_at, node.written) = (Some(mine.number), None, written);
                self.tell_fitness(at);
            }
        }
    }

    pub fn tell_fitness(&mut self, at: usize) {
        let node = &self.nodes[at];
        let (Some(epoch), true) = (node.fit, node.is_running()) else { return };
        let halted = self.now < node.unfit_until;
        let fitness = Fitness { epoch, mirrored: true, consistent: true, halted, spoiled: false, in_sync: true };
        self.hand_in(at, Input::Replica(fitness));
    }

    /// One serves, the other one stands by.
    pub fn is_settled(&self) -> bool {
        let is = |at: usize, state: State| self.nodes[at].machine().is_some_and(|machine| *machine.state() == state);
        let is_kept = |at: usize| self.kit.is_none() || self.is_kept(at);
        let has_all = |at: usize| !self.setup.resources || self.nodes[at].up.contains(&Step::Resources) && is_kept(at);
        (0..2).any(|at| is(at, State::Active) && self.nodes[at].serves() && has_all(at) && is(1 - at, State::Standby))
    }

    pub fn end(mut self) -> Result<Report, String> {
        let (now, nodes) = (self.now, &self.nodes);
        let long = |since: Micros| now.saturating_sub(since) > 45_000 * MS;
        let left = self.waiting.iter().find(|((at, boot, _), since)| nodes[*at].boot == *boot && long(**since));
        if let Some(((at, _, id), _)) = left {
            return Err(format!("{}: request {id} is not answered", NAMES[*at]));
        }
        Ok(std::mem::take(&mut self.checker.report))
    }

    pub fn start_again(&mut self, at: usize, delay: Micros) {
        self.after(delay, Event::Start { node: at });
    }

    pub fn all_nodes(&self) -> std::ops::Range<usize> {
        0..self.node_count()
    }
}

fn words(answer: Answer) -> String {
    match answer {
        Answer::Accepted => "accepted".into(),
        Answer::Done => "done".into(),
        Answer::Refused(why) => format!("refused: {why}"),
        Answer::Failed(why) => format!("failed: {why}"),
    }
}

fn new_node(setup: &Setup, at: usize, origin: Instant, rng: &mut Rng) -> Node {
    let (local, rate) = if setup.scripted {
        (0, 1_000_000)
    } else {
        (rng.below(1_000_000_000), [990_000, 1_010_000, rng.range(990_000, 1_010_001)][rng.below(3) as usize])
    };
    let record = Record::new(id(0));
    Node {
        clock: Clock::new(origin, local, rate),
        mind: None,
        boot: 0,
        started: origin,
        pause: None,
        inbox: VecDeque::new(),
        asked: record.clone(),
        record,
        ballot: None,
        saving: VecDeque::new(),
        action: None,
        leaving: false,
        up: Vec::new(),
        agents: Vec::new(),
        orphans_ended: 0,
        keeper: None,
        role_files: false,
        put_back: 0,
        lease: Lease::None,
        timer: 0,
        watch: 0,
        written: 0,
        fit: (at == 1).then_some(1),
        unfit_until: 0,
        restored_at: None,
        excused_until: 0,
    }
}
