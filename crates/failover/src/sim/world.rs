//! The nodes of one group, their lines and disks, on virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::checker::{Checker, Report};
use super::clock::{Clock, Micros};
use super::net::{Codec, Datagram, Net};
use super::node::{Mind, NAMES, Node, Pause, Saving, id, index};
use super::rng::Rng;
use super::setup::Setup;
use crate::heartbeat::{NOTES_MAX, Note, Say};
use crate::lease::{Witness, WitnessInput, WitnessOutput};
use crate::machine::{
    Action, Answer, Fitness, Input, Lease, Machine, Outcome, Output, Record, Request, State, Step, Turn, Want,
};
use crate::timeline::Entry;

pub(super) const MS: Micros = 1_000;

/// What happens at some time.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Deliver { to: usize, datagram: Datagram },
    Timer { node: usize, number: u64 },
    Watchdog { node: usize, number: u64 },
    Saved { node: usize, boot: u32, number: u64 },
    Acted { node: usize, boot: u32, id: u64, outcome: Outcome },
    Start { node: usize },
    Resume { node: usize },
    Person { node: usize, want: Want },
    Care,
    Fault,
    Isolate { at: usize },
    Mend { from: usize, to: usize },
    Heal,
}

pub(super) struct World {
    pub now: Micros,
    pub rng: Rng,
    pub setup: Setup,
    pub nodes: [Node; 3],
    pub net: Net,
    pub checker: Checker,
    /// Faults come until then.
    pub faults_until: Micros,
    queue: BinaryHeap<Reverse<(Micros, u64)>>,
    events: BTreeMap<u64, Event>,
    count: u64,
    codecs: Option<[Codec; 3]>,
    waiting: BTreeMap<(usize, u32, u64), Micros>,
    requests: u64,
    wrong: Option<String>,
    pub trace: Option<String>,
}

impl World {
    pub fn new(setup: Setup, mut rng: Rng, trace: bool) -> World {
        let origin = Instant::now();
        let nodes = std::array::from_fn(|at| new_node(&setup, at, origin, &mut rng));
        let codecs = setup.with_bytes.then(|| std::array::from_fn(|at| Codec::new(at, 0)));
        let mut world = World {
            now: 0,
            rng,
            nodes,
            net: Net::new(),
            checker: Checker::new(setup.witness),
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
            Event::Start { node } => self.start(node),
            Event::Resume { node } => self.resume(node),
            Event::Person { node, want } => _ = self.want(node, want),
            Event::Care => self.care(),
            Event::Fault => self.fault(),
            Event::Isolate { at } if self.now < self.faults_until => self.isolate(at),
            Event::Isolate { .. } => {}
            Event::Mend { from, to } => self.mend(from, to),
            Event::Heal => self.heal(),
        }
    }

    fn wrong(&mut self, what: String) {
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
        node.started = now;
        node.mind = Some(if at == 2 {
            Mind::Witness(Box::new(Witness::new(self.setup.witness(), node.ballot, now)))
        } else {
            let config = self.setup.config(at, node.boot);
            Mind::Machine(Box::new(Machine::new(config, node.record.clone(), now)))
        });
        node.asked = node.record.clone();
        if let Some(codecs) = &mut self.codecs {
            codecs[at] = Codec::new(at, node.boot);
        }
        self.log(NAMES[at], format_args!("# starts"));
        self.tell_fitness(at);
        self.drain(at);
    }

    /// Hands something to a node's mind, where it runs.
    fn hand_in(&mut self, at: usize, input: Input) {
        let now = self.nodes[at].clock.read(self.now);
        if let Some(Mind::Machine(machine)) = &mut self.nodes[at].mind {
            machine.handle(input, now);
        }
        self.drain(at);
    }

    fn deliver(&mut self, at: usize, datagram: Datagram) {
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

    fn timer(&mut self, at: usize, number: u64) {
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
                return self.wrong(format!("{} does not stop", NAMES[at]));
            }
        }
        for (to, notes) in letters.iter().enumerate().filter(|(_, notes)| !notes.is_empty()) {
            notes.chunks(NOTES_MAX).for_each(|notes| self.send(at, to, notes));
        }
        self.arm(at);
    }

    fn arm(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(due) = node.mind.as_ref().and_then(Mind::poll_timeout) else { return };
        let late = if self.rng.one_in(20) { self.rng.below(50 * MS) } else { self.rng.below(500) };
        node.timer += 1;
        let (number, when) = (node.timer, node.clock.when(due, self.now));
        self.at(when + late, Event::Timer { node: at, number });
    }

    fn send(&mut self, from: usize, to: usize, notes: &[Note]) {
        let shared: Rc<[Note]> = notes.into();
        for path in 0..Net::paths(from, to) {
            let datagram = match &mut self.codecs {
                Some(codecs) => codecs[from].encode(to, path as u32, notes),
                None => Datagram::Plain { from, path: path as u32, leaving: false, notes: shared.clone() },
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
                    self.wrong(format!("the witness tells a vote for {:?}, and has {voted:?} durably", note.epoch));
                }
                if early && matches!(note.say, Say::Grant(_) | Say::Vote(_)) {
                    self.wrong(format!("the witness says {:?} although it started not long ago", note.say));
                }
                Some((index(to), note))
            }
            WitnessOutput::Save { number, ballot } => {
                self.save(at, number, Saving::Ballot(ballot));
                None
            }
        }
    }

    /// What a node says of its epoch is durable.
    fn check_word(&mut self, at: usize, note: &Note) {
        let of_its_own = matches!(note.say, Say::Role(_) | Say::Ask { .. } | Say::Grant(_) | Say::Yield | Say::Yielded);
        if of_its_own && note.epoch != self.nodes[at].record.epoch {
            self.wrong(format!("{} says {:?} under an epoch that is not durable", NAMES[at], note.say));
        }
    }

    fn save_record(&mut self, at: usize, number: u64, record: Record) {
        let before = std::mem::replace(&mut self.nodes[at].asked, record.clone());
        if let Err(wrong) = self.checker.saves(at, &before, &record) {
            self.wrong(wrong);
        }
        self.save(at, number, Saving::Record(record));
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
    fn persist(&mut self, at: usize, number: u64) {
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
            self.wrong(wrong);
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

    fn lease(&mut self, at: usize, lease: Lease) {
        let node = &mut self.nodes[at];
        // What goes down in order needs no watchdog before its old end.
        if lease == Lease::None && matches!(node.lease, Lease::Until(_)) {
            return;
        }
        node.lease = lease;
        self.guard(at);
    }

    fn guard(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Lease::Until(until) = node.lease else { return };
        node.watch += 1;
        let budget = self.setup.times().stop_budget.as_micros() as u64;
        let takes = if self.setup.scripted || self.rng.one_in(2) { budget } else { self.rng.below(budget) };
        let (number, when) = (node.watch, node.clock.when(until + Duration::from_micros(takes), self.now));
        self.at(when, Event::Watchdog { node: at, number });
    }

    /// The watchdog does not depend on the daemon.
    fn watchdog(&mut self, at: usize, number: u64) {
        let node = &mut self.nodes[at];
        if node.watch == number && !matches!(node.pause, Some(Pause::Host | Pause::Frozen)) {
            if !node.up.is_empty() {
                node.up.clear();
                self.log(NAMES[at], format_args!("# the watchdog takes everything down"));
            }
        }
    }

    fn act(&mut self, at: usize, action: Action) {
        self.checker.report.actions += 1;
        if let Some(other) = self.nodes[at].action.replace(action) {
            self.wrong(format!("{} begins {:?} beside {:?}", NAMES[at], action.step, other.step));
        }
        let (outcome, takes) = self.setup.outcome(&action, self.now < self.faults_until, &mut self.rng);
        let boot = self.nodes[at].boot;
        if let Some(takes) = takes {
            self.after(takes, Event::Acted { node: at, boot, id: action.id, outcome });
        }
    }

    fn cancel(&mut self, at: usize, id: u64) {
        if let Some(action) = self.nodes[at].action.take_if(|action| action.id == id)
            && self.rng.one_in(2)
        {
            self.take_effect(at, &action);
        }
    }

    fn acted(&mut self, at: usize, boot: u32, id: u64, outcome: Outcome) {
        let node = &mut self.nodes[at];
        if node.boot != boot || node.action.is_none_or(|action| action.id != id) || node.mind.is_none() {
            return;
        }
        if node.pause.is_some() {
            return self.after(20 * MS, Event::Acted { node: at, boot, id, outcome });
        }
        let action = self.nodes[at].action.take().expect("checked above");
        let unknown = matches!(outcome, Outcome::Unknown(_)) && self.rng.one_in(2);
        let outcome = if (outcome.is_good() || unknown) && !self.take_effect(at, &action) {
            Outcome::Failed("the lease is over".into())
        } else {
            outcome
        };
        self.checker.outcome(at, action.step, &outcome);
        self.hand_in(at, Input::Done { id, outcome });
    }

    /// Nothing is brought up past the lease.
    fn take_effect(&mut self, at: usize, action: &Action) -> bool {
        let over = self.nodes[at].is_lease_over(self.now);
        let up = &mut self.nodes[at].up;
        let is_up = matches!(action.step, Step::Capture | Step::Address(_) | Step::Service(_));
        up.retain(|step| *step != action.step);
        if is_up && action.turn == Turn::Do {
            if over {
                return false;
            }
            up.push(action.step);
        }
        true
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
            self.wrong(format!("request {request} is answered twice"));
        }
    }

    fn told(&mut self, at: usize, entry: &Entry) {
        self.log(NAMES[at], format_args!("{entry}"));
        if *entry == Entry::AsksPerson && self.setup.person_answers {
            self.after(1_000 * MS, Event::Person { node: at, want: Want::Approve });
        }
        if *entry == Entry::HandedOver {
            self.checker.report.planned += 1;
        }
    }

    pub fn crash(&mut self, at: usize, of_host: bool) {
        let kept = if self.setup.scripted { u64::MAX } else { self.rng.below(4) };
        let kept = self.nodes[at].saving.iter().map(|(number, _)| *number).nth(kept as usize);
        if let Some(number) = kept {
            self.persist(at, number);
        }
        if let Some(action) = self.nodes[at].action.take()
            && self.rng.one_in(2)
        {
            self.take_effect(at, &action);
        }
        let node = &mut self.nodes[at];
        (node.mind, node.pause) = (None, None);
        node.clock.freeze(false, self.now);
        node.saving.clear();
        node.inbox.clear();
        if of_host {
            node.up.clear();
            node.lease = Lease::None;
        }
        if !self.setup.scripted {
            self.log(NAMES[at], format_args!("# {}", if of_host { "loses power" } else { "its daemon is killed" }));
        }
    }

    pub fn pause(&mut self, at: usize, pause: Pause) {
        let node = &mut self.nodes[at];
        if node.mind.is_none() || node.pause.is_some() {
            return;
        }
        node.pause = Some(pause);
        if pause == Pause::Frozen {
            node.clock.freeze(true, self.now);
        }
        self.log(NAMES[at], format_args!("# pauses: {pause:?}"));
    }

    pub fn resume(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(pause) = node.pause.take() else { return };
        node.clock.freeze(false, self.now);
        if pause == Pause::Frozen {
            node.excused_until = self.now + 10_000 * MS;
        } else if node.is_lease_over(self.now) {
            node.up.clear();
        }
        let inbox: VecDeque<_> = std::mem::take(&mut node.inbox);
        self.log(NAMES[at], format_args!("# goes on"));
        self.guard(at);
        let timer_first = self.rng.one_in(2);
        if timer_first {
            self.run_timer(at);
        }
        inbox.into_iter().for_each(|datagram| self.deliver(at, datagram));
        self.run_timer(at);
    }

    fn run_timer(&mut self, at: usize) {
        let number = self.nodes[at].timer;
        let due = self.nodes[at].mind.as_ref().and_then(Mind::poll_timeout);
        if due.is_some_and(|due| self.nodes[at].clock.read(self.now) >= due) {
            self.timer(at, number);
        } else {
            self.arm(at);
        }
    }

    /// Replication and restore, as far as this simulation has them: a replica follows the active side that it hears.
    fn care(&mut self) {
        self.after(500 * MS, Event::Care);
        for at in 0..2 {
            let other = 1 - at;
            let active = self.nodes[other].machine().is_some_and(|machine| *machine.state() == State::Active);
            let (mine, theirs) = (self.nodes[at].record.epoch, self.nodes[other].record.epoch);
            let both = self.nodes[at].is_running() && self.nodes[other].is_running();
            if !(active && both && mine == theirs && self.net.is_joined(at, other)) {
                continue;
            }
            let node = &mut self.nodes[at];
            let begun = *node.restored_at.get_or_insert(self.now + if node.record.restore { 2_000 * MS } else { 0 });
            if self.now >= begun {
                (node.fit, node.restored_at) = (Some(mine.number), None);
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
        (0..2).any(|at| is(at, State::Active) && self.nodes[at].serves() && is(1 - at, State::Standby))
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

    /// Its daemon goes down in order: it says so for a while, then it is gone.
    #[cfg(test)]
    pub fn leave(&mut self, at: usize) {
        if let Some(codecs) = &mut self.codecs {
            codecs[at].leave();
        }
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
        up: Vec::new(),
        lease: Lease::None,
        timer: 0,
        watch: 0,
        fit: (at == 1).then_some(1),
        unfit_until: 0,
        restored_at: None,
        excused_until: 0,
    }
}
