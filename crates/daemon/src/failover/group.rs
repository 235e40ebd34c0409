//! One group as the watcher runs it: its mind, its hands, and who waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use stead_api::{Failure, FailureKind, TimelineEntry};
use stead_failover::heartbeat::{Event, Heartbeat, Hold, Note, Say};
use stead_failover::machine::{Answer, Fitness, Lease, Refusal, Request, State, Step, Turn, Want};
use stead_failover::monitor::replay;
use stead_failover::resources::Reach;
use stead_failover::{
    Ballot, Config, Entry, GroupId, Input, Machine, MonitorConfig, MonitorInput, NodeId, Output, Record, Witness,
    WitnessConfig, WitnessInput, WitnessOutput,
};
use stead_model::plan::GroupPlan;
use stead_model::status::{MonitorStatus, Timestamp};
use stead_model::{Epoch, NodeName};
use tracing::info;

use super::config::{group_id, node_id};
use super::hands::{Hands, Job as HandsJob, JobEnd};
use super::kept::{GroupDir, Job, LINES_MAX};
use super::lease::LeaseFile;
use super::outside::{Outside, Teller};
use super::words;
use crate::clock::wall_clock;
use crate::threads::lock;

/// Heartbeats that are remembered.
const RECORDED_MAX: usize = 100_000;

/// The way back to whoever asked for something.
pub(crate) type Answerer = Box<dyn Fn(Reply) + Send>;

/// The timeline of a group, shared with the loop.
pub(crate) type Lines = Arc<Mutex<VecDeque<TimelineEntry>>>;

/// What is told to whoever asked.
pub(crate) enum Reply {
    /// It was begun.
    Begun,
    /// It is done.
    Done,
    /// It is not; the last reply.
    Failed(Failure),
    /// It is not, as the other node could not hand over: that one knows why. The last reply.
    NotHandedOver(Failure),
}

/// How a group is to be run on this node.
pub(crate) struct Setup {
    pub(crate) plan: GroupPlan,
    pub(crate) dir: GroupDir,
    pub(crate) part: Part,
    /// It was just made.
    pub(crate) is_new: bool,
}

/// This node's part in a group.
pub(crate) enum Part {
    /// One of its two nodes.
    Node { config: Box<Config>, record: Record, hands: Hands, lease: LeaseFile, teller: Teller },
    /// Its witness.
    Witness { config: WitnessConfig, ballot: Option<Ballot> },
}

enum Mind {
    Machine(Box<Machine>, Arms),
    Witness(Box<Witness>),
}

/// What acts for a machine: its hands, and what the watchdog is told.
struct Arms {
    hands: Hands,
    lease: LeaseFile,
    teller: Teller,
    /// None: the plan has no registrations.
    outside: Option<Outside>,
}

/// A group that is run.
pub(super) struct Group {
    pub(super) plan: GroupPlan,
    id: GroupId,
    dir: GroupDir,
    mind: Mind,
    /// How the group came to that epoch here.
    moved: Option<(u64, Event)>,
    /// Under which epoch the other node was fenced.
    fenced: Option<u64>,
    /// What programs of the last step wrote.
    output: Option<String>,
    requests: u64,
    answers: BTreeMap<u64, Answerer>,
    pub(super) lines: Lines,
    /// Epochs of records that are on their way to the disk.
    saving: VecDeque<(u64, Epoch)>,
    /// The epoch that the loop knows, and one that it is told when nothing of the group is being taken down.
    known: Option<Epoch>,
    untold: Option<Epoch>,
    role: Option<(NodeId, Note)>,
    /// Do its hands leave the resources alone, as they were told?
    maintained: bool,
    /// Heartbeats of the other node that were heard lately.
    recorded: VecDeque<(Instant, MonitorInput)>,
}

/// What a group wants of the watcher.
#[derive(Default)]
pub(super) struct Wants {
    pub(super) notes: Vec<(NodeId, Note)>,
    /// The newest epoch, which is durable: whose the sets are.
    pub(super) epoch: Option<Epoch>,
}

impl Group {
    pub(super) fn new(setup: Setup, now: Instant) -> Group {
        let Setup { plan, dir, part, is_new } = setup;
        let mind = match part {
            Part::Node { config, record, hands, lease, teller } => {
                let outside = outside(&plan, &dir, &teller, record.epoch.number);
                let mut machine = Machine::new(*config, record, now);
                if is_new {
                    machine.is_new(now);
                }
                Mind::Machine(Box::new(machine), Arms { hands, lease, teller, outside })
            }
            Part::Witness { config, ballot } => {
                let mut witness = Witness::new(config, ballot, now);
                if is_new {
                    witness.is_new(now);
                }
                Mind::Witness(Box::new(witness))
            }
        };
        Group {
            id: group_id(&plan.name),
            lines: Arc::new(Mutex::new(dir.timeline())),
            plan,
            dir,
            mind,
            moved: None,
            fenced: None,
            output: None,
            requests: 0,
            answers: BTreeMap::new(),
            saving: VecDeque::new(),
            known: None,
            untold: None,
            role: None,
            maintained: false,
            recorded: VecDeque::new(),
        }
    }

    /// Goes on by another plan, without a pause; gives the setup back where that cannot be.
    pub(super) fn change(&mut self, setup: Setup, now: Instant) -> Option<Setup> {
        let goes_on = match (&mut self.mind, &setup.part) {
            (Mind::Machine(machine, _), Part::Node { config, .. }) => machine.reconfigure(**config, now),
            (Mind::Witness(witness), Part::Witness { config, .. }) => witness.reconfigure(config),
            _ => false,
        };
        if !goes_on {
            return Some(setup);
        }
        self.plan = setup.plan;
        if let (Mind::Machine(machine, arms), Part::Node { hands, .. }) = (&mut self.mind, setup.part) {
            hands.lease(machine.lease());
            match &arms.outside {
                Some(outside) => outside.change(&self.plan),
                None => {
                    arms.outside = outside(&self.plan, &self.dir, &arms.teller, machine.record().epoch.number);
                    arms.outside.iter().for_each(|outside| outside.lease(machine.lease()));
                }
            }
            end_apart(std::mem::replace(&mut arms.hands, hands));
            self.maintained = false;
        }
        None
    }

    /// Runs no longer; what is being done is called off.
    pub(super) fn end(self) {
        if let Mind::Machine(_, arms) = self.mind {
            end_apart(arms.hands);
        }
    }

    /// A heartbeat of another node was taken.
    pub(super) fn heard(&mut self, heartbeat: &Heartbeat, now: Instant) {
        let (from, path, leaving) = (heartbeat.from, heartbeat.path, heartbeat.leaving);
        if !heartbeat.notes.iter().any(|note| note.group == self.id) {
            return;
        }
        let is_node = self.is_node(from);
        if let Mind::Machine(machine, _) = &mut self.mind
            && is_node
        {
            machine.handle(Input::Heard { path, leaving }, now);
            if self.recorded.len() >= RECORDED_MAX {
                self.recorded.pop_front();
            }
            self.recorded.push_back((now, MonitorInput::Heard { path, leaving }));
        }
        for note in heartbeat.notes.iter().filter(|note| note.group == self.id).copied() {
            match &mut self.mind {
                Mind::Machine(machine, _) => machine.handle(Input::Note { from, note }, now),
                Mind::Witness(witness) => witness.handle(WitnessInput::Note { from, note }, now),
            }
        }
    }

    fn is_node(&self, node: NodeId) -> bool {
        [&self.plan.source, &self.plan.target].into_iter().any(|name| node_id(name) == node)
    }

    pub(super) fn replica(&mut self, fitness: Fitness, now: Instant) {
        self.input(Input::Replica(fitness), now);
    }

    /// Its resources were up and cannot be kept up.
    pub(super) fn resources_failed(&mut self, reach: Reach, now: Instant) {
        self.input(Input::ResourcesFailed(reach), now);
    }

    /// An action of the hands has ended.
    pub(super) fn ended(&mut self, end: JobEnd, now: Instant) {
        if end.cancelled {
            return;
        }
        self.output = Some(end.output).filter(|output| !output.is_empty());
        self.input(Input::Done { id: end.id, outcome: end.outcome }, now);
    }

    pub(super) fn saved(&mut self, number: u64, now: Instant) {
        match &mut self.mind {
            Mind::Machine(machine, _) => machine.handle(Input::Saved { number }, now),
            Mind::Witness(witness) => witness.handle(WitnessInput::Saved { number }, now),
        }
        while let Some((_, epoch)) = self.saving.pop_front_if(|(saved, _)| *saved <= number) {
            self.untold = Some(epoch).filter(|epoch| self.known != Some(*epoch));
        }
    }

    pub(super) fn request(&mut self, want: Want, expires: Duration, answer: Answerer, now: Instant) {
        if matches!(self.mind, Mind::Witness(_)) {
            let remedy = format!("Ask {} or {}", self.plan.source, self.plan.target);
            let why = "this node is only its witness";
            return answer(Reply::Failed(Failure::new(self.not_moved(), why, remedy)));
        }
        self.requests += 1;
        self.answers.insert(self.requests, answer);
        self.input(Input::Request(Request { id: self.requests, want, expires: now + expires }), now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.mind {
            Mind::Machine(machine, arms) => {
                arms.lease.beat();
                machine.handle_timeout(now);
            }
            Mind::Witness(witness) => witness.handle_timeout(now),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.mind {
            Mind::Machine(machine, _) => machine.poll_timeout().map(|(at, _)| at),
            Mind::Witness(witness) => witness.poll_timeout().map(|(at, _)| at),
        }
    }

    /// What it last said that it is: said once more when the daemon goes down in order.
    pub(super) fn last_role(&self) -> Option<(NodeId, Note)> {
        self.role
    }

    /// Does what the mind wants, in its order.
    pub(super) fn settle(&mut self, kept: &Sender<Job>, wants: &mut Wants) {
        while let Some(output) = self.poll_output() {
            match output {
                Output::Send { to, note } => {
                    if let Say::Role(..) = note.say {
                        self.role = Some((to, note));
                    }
                    wants.notes.push((to, note));
                }
                Output::Save { number, record } => {
                    self.saving.push_back((number, record.epoch));
                    self.keep(kept, number, false, serde_json::to_vec(&record));
                }
                Output::Lease(lease) => self.lease(lease),
                Output::Do(action) => self.act(action),
                Output::Cancel { id } => self.with_hands(|hands| hands.cancel(id)),
                Output::Answer { request, answer } => self.answer(request, answer),
                Output::Tell(entry) => self.tell(&entry, kept),
            }
        }
        self.settle_witness(kept, wants);
        self.settle_hands();
        self.settle_outside();
        // While services still write, their set stays what it is.
        let falls = self.machine().is_some_and(|machine| matches!(machine.state(), State::Falling(_)));
        if let Some(epoch) = self.untold.take_if(|_| !falls) {
            self.known = Some(epoch);
            wants.epoch = Some(epoch);
        }
    }

    fn settle_hands(&mut self) {
        let maintained = self.machine().is_some_and(|machine| machine.record().hold == Hold::Maintenance);
        if maintained != self.maintained {
            self.maintained = maintained;
            self.with_hands(|hands| hands.maintain(maintained));
        }
    }

    /// Others hear of where the group is from whoever serves, and from nobody else.
    fn settle_outside(&self) {
        if let Mind::Machine(machine, Arms { outside: Some(outside), .. }) = &self.mind {
            let (epoch, serves) = (machine.record().epoch.number, matches!(machine.state(), State::Active));
            let event = self.moved.filter(|(moved, _)| *moved == epoch).map(|(_, event)| event);
            outside.serves(serves.then_some((epoch, event)));
        }
    }

    fn settle_witness(&mut self, kept: &Sender<Job>, wants: &mut Wants) {
        while let Mind::Witness(witness) = &mut self.mind
            && let Some(output) = witness.poll_output()
        {
            match output {
                WitnessOutput::Send { to, note } => wants.notes.push((to, note)),
                WitnessOutput::Save { number, ballot } => {
                    self.keep(kept, number, true, serde_json::to_vec(&ballot));
                }
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        match &mut self.mind {
            Mind::Machine(machine, _) => machine.poll_output(),
            Mind::Witness(_) => None,
        }
    }

    fn input(&mut self, input: Input, now: Instant) {
        if let Mind::Machine(machine, _) = &mut self.mind {
            machine.handle(input, now);
        }
    }

    fn with_hands(&self, act: impl FnOnce(&Hands)) {
        if let Mind::Machine(_, arms) = &self.mind {
            act(&arms.hands);
        }
    }

    fn lease(&self, lease: Lease) {
        if let Mind::Machine(_, arms) = &self.mind {
            arms.lease.set(lease);
            arms.hands.lease(lease);
            arms.outside.iter().for_each(|outside| outside.lease(lease));
        }
    }

    /// Everything is down, by evidence: the watchdog has nothing to do.
    fn all_is_down(&self) {
        if let Mind::Machine(_, arms) = &self.mind {
            arms.lease.clear();
        }
    }

    fn act(&mut self, action: stead_failover::machine::Action) {
        if action.step == Step::Tell {
            self.moved = Some((action.epoch.number, action.event));
        }
        let fenced = self.fenced == Some(action.epoch.number);
        let reason = format!("{} of group {}", action.event.as_str(), self.plan.name);
        self.with_hands(|hands| hands.perform(HandsJob { action, fenced, reason }));
    }

    fn keep(&self, kept: &Sender<Job>, number: u64, is_ballot: bool, bytes: serde_json::Result<Vec<u8>>) {
        let bytes = bytes.expect("records and ballots are plain values");
        let _ = kept.send(Job::Mind { dir: self.dir.clone(), group: self.plan.name.clone(), number, is_ballot, bytes });
    }

    fn tell(&mut self, entry: &Entry, kept: &Sender<Job>) {
        let output = match entry {
            Entry::Step { .. } => self.output.take(),
            _ => None,
        };
        if matches!(entry, Entry::Down | Entry::Standby | Entry::RestoreRequired | Entry::HandedOver) {
            self.all_is_down();
        }
        if let Entry::Resumed(event) = entry {
            self.moved = self.machine().map(|machine| (machine.record().epoch.number, *event));
        }
        if let Entry::Step { step: Step::Fence, turn: Turn::Do, outcome, .. } = entry
            && outcome.is_good()
        {
            self.fenced = self.machine().map(|machine| machine.record().epoch.number + 1);
        }
        self.add(words::line(entry, &self.plan, output, wall_clock()), kept);
    }

    /// Adds words to the timeline.
    pub(super) fn say(&mut self, text: &str, kept: &Sender<Job>) {
        self.add(words::plain(text, wall_clock()), kept);
    }

    pub(super) fn add(&mut self, line: TimelineEntry, kept: &Sender<Job>) {
        info!("group {}: {}", self.plan.name, line.text);
        let _ = kept.send(Job::Line { dir: self.dir.clone(), entry: Box::new(line.clone()) });
        let mut lines = lock(&self.lines);
        lines.push_back(line);
        if lines.len() > LINES_MAX {
            lines.pop_front();
        }
    }

    fn answer(&mut self, request: u64, answer: Answer) {
        let Some(reply) = self.answers.get(&request) else { return };
        match answer {
            Answer::Accepted => return reply(Reply::Begun),
            Answer::Done => reply(Reply::Done),
            Answer::Failed(why @ Refusal::NotHandedOver) => {
                reply(Reply::NotHandedOver(self.refused(why, FailureKind::Failed)));
            }
            Answer::Refused(why) => reply(Reply::Failed(self.refused(why, FailureKind::No))),
            Answer::Failed(why) => reply(Reply::Failed(self.refused(why, FailureKind::Failed))),
        }
        self.answers.remove(&request);
    }

    fn refused(&self, why: Refusal, kind: FailureKind) -> Failure {
        let remedy = format!("Look at: stead explain {}, and at stead status", self.plan.name);
        Failure::new(self.not_moved(), why.to_string(), remedy).kind(kind)
    }

    fn not_moved(&self) -> String {
        format!("group {} was not moved", self.plan.name)
    }

    pub(super) fn machine(&self) -> Option<&Machine> {
        match &self.mind {
            Mind::Machine(machine, _) => Some(machine),
            Mind::Witness(_) => None,
        }
    }

    /// What would have been concluded from what was heard, by that configuration.
    pub(super) fn what_if(&self, monitor: MonitorConfig, now: Instant) -> Vec<TimelineEntry> {
        let Some((from, _)) = self.recorded.front() else { return Vec::new() };
        let recorded: Vec<_> = self.recorded.iter().copied().collect();
        let told = replay(monitor, &recorded, *from, now);
        let wall = wall_clock();
        let at = |at: Instant| Timestamp(wall.0.saturating_sub(now.saturating_duration_since(at).as_nanos() as u64));
        told.into_iter().map(|(when, output)| words::concluded(output, &self.plan, at(when))).collect()
    }

    /// How it stands, as this node says it.
    pub(super) fn status(&self, me: &NodeName, now: Instant) -> Option<MonitorStatus> {
        let machine = self.machine()?;
        let plan = &self.plan;
        let path = |number: u32| {
            let down = if machine.is_path_down(number) { " down" } else { "" };
            format!("{}{down}", words::path_name(number, plan))
        };
        let paths = u32::try_from(plan.paths.len().max(1)).unwrap_or(u32::MAX);
        let writer = machine.record().epoch.writer;
        let active = [&plan.source, &plan.target].into_iter().find(|node| node_id(node).0 == writer);
        Some(MonitorStatus {
            group: plan.name.to_string(),
            source: plan.source.clone(),
            target: plan.target.clone(),
            sets: plan.sets.clone(),
            state: machine.word().into(),
            time_to_fail_seconds: machine.time_to_fail(now).map_or(0.0, |left| left.as_secs_f64()),
            paths: (0..paths).map(path).collect(),
            active: active.cloned(),
            node: Some(me.clone()),
            doing: words::doing(machine.state(), machine.record().hold).into(),
            failing: machine.is_failing(),
            hold: words::hold(machine.record().hold).map(Into::into),
            other: machine.peer_role().map(|role| words::role(role).into()),
            epoch: machine.record().epoch.number,
            remark: self.remark(machine, me, now),
        })
    }

    fn remark(&self, machine: &Machine, me: &NodeName, now: Instant) -> Option<String> {
        match machine.record().hold {
            Hold::None => {}
            Hold::Offline => return Some(format!("offline until: stead group online {}", self.plan.name)),
            Hold::Maintenance => {
                return Some(format!("in maintenance until: stead group maintenance {} off", self.plan.name));
            }
        }
        if machine.is_failing() {
            return Some(format!("its resources cannot be kept up here: stead explain {}", self.plan.name));
        }
        if let Some(awaited) = machine.awaits(now) {
            return Some(words::awaited(awaited, &self.plan, me));
        }
        match words::doing(machine.state(), Hold::None) {
            "approval" => Some(format!("a person has to approve the takeover: stead approve {}", self.plan.name)),
            "restore-required" => Some(format!("it has to be restored first: stead restore {}", self.plan.name)),
            _ => machine.refusal().map(|why| format!("no takeover: {why}")).or_else(|| self.untold_remark()),
        }
    }

    fn untold_remark(&self) -> Option<String> {
        let Mind::Machine(_, Arms { outside: Some(outside), .. }) = &self.mind else { return None };
        Some(outside.pending()).filter(|all| !all.is_empty()).map(|all| format!("not told yet: {}", all.join("; ")))
    }
}

/// Those of a plan that has some; without them the group goes on all the same.
fn outside(plan: &GroupPlan, dir: &GroupDir, teller: &Teller, epoch: u64) -> Option<Outside> {
    if plan.dns.is_empty() && plan.hooks.is_empty() {
        return None;
    }
    let started = Outside::start(plan, dir, teller, epoch);
    started.inspect_err(|failure| tracing::error!("group {}: {failure}", plan.name)).ok()
}

/// The end of hands waits for what they do, and the watcher waits for nobody.
fn end_apart(hands: Hands) {
    let ended = std::thread::Builder::new().name("hands-end".into()).spawn(move || drop(hands));
    ended.map(drop).unwrap_or_else(|e| tracing::warn!("hands end where nobody waits for them: {e}"));
}
