//! The thread that runs the mind of the resources.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use stead_failover::machine::Outcome;
use stead_failover::resources::{self as mind, Goal, Input, Output as Wish, Reach, ResourcesConfig};
use stead_resource::service::Manager;
use stead_resource::{Call, Deadline, Done, Output};

use super::act::{Act, End, What};
use super::{Kind, Listeners, Order, Reached};

/// So many are started and stopped at once.
const AT_ONCE: usize = 64;
/// Until a stop that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(3_600);

/// Until it is to end.
pub(super) fn keep<M: Manager + 'static>(
    kinds: Vec<Kind<M>>,
    requires: Vec<Vec<usize>>,
    lease: Deadline,
    listeners: Listeners,
    orders: &Receiver<Order>,
) {
    let resources = kinds.iter().zip(requires).map(|(kind, requires)| kind.config(requires)).collect();
    let config = ResourcesConfig { resources, at_once: AT_ONCE, again: AGAIN };
    match mind::Resources::new(config.clone()) {
        Ok(mind) => Keeper::new(mind, config, kinds, lease, listeners).run(orders),
        Err(why) => (listeners.tell)(format!("the resources are not kept: {why}")),
    }
}

struct Keeper<M> {
    mind: mind::Resources,
    config: ResourcesConfig,
    /// How often it began anew; what was begun before counts no more.
    life: u64,
    maintained: bool,
    kinds: Arc<Vec<Kind<M>>>,
    lease: Deadline,
    listeners: Listeners,
    ended: Sender<End>,
    ends: Receiver<End>,
    running: BTreeMap<u64, Call>,
    waiting: Option<Sender<(Reached, Output)>>,
    changed: bool,
    /// What the programs of each wrote last.
    outputs: Vec<Output>,
}

impl<M: Manager + 'static> Keeper<M> {
    fn new(
        mind: mind::Resources,
        config: ResourcesConfig,
        kinds: Vec<Kind<M>>,
        lease: Deadline,
        listeners: Listeners,
    ) -> Keeper<M> {
        let (ended, ends) = unbounded();
        let outputs = kinds.iter().map(|_| Output::default()).collect();
        Keeper {
            mind,
            config,
            life: 0,
            maintained: false,
            kinds: Arc::new(kinds),
            lease,
            listeners,
            ended,
            ends,
            running: BTreeMap::new(),
            waiting: None,
            changed: false,
            outputs,
        }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        let ends = self.ends.clone();
        loop {
            let wait = self.mind.poll_timeout().map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
            select! {
                recv(orders) -> order => match order {
                    Ok(Order::End) | Err(_) => return self.halt(),
                    Ok(order) => self.order(order),
                },
                recv(ends) -> end => if let Ok(end) = end { self.end(end) },
                default(wait) => self.mind.handle_timeout(Instant::now()),
            }
            self.settle();
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Want(goal, waiting) => {
                (self.waiting, self.changed) = (Some(waiting), false);
                self.mind.handle(Input::Want(goal), Instant::now());
                // What is so already is not told once more.
                if self.mind.has_reached(goal) {
                    self.reached(Ok(Done::Already), Output::default());
                }
            }
            Order::Maintain(maintained) => {
                self.maintained = maintained;
                self.mind.handle(Input::Maintain(maintained), Instant::now());
            }
            Order::Halt => self.halt(),
            Order::End => {}
        }
    }

    /// What is being done is called off, and what any of them is, nobody knows.
    fn halt(&mut self) {
        std::mem::take(&mut self.running).into_values().for_each(|call| call.off());
        self.waiting = None;
        self.life += 1;
        if let Ok(mind) = mind::Resources::new(self.config.clone()) {
            self.mind = mind;
            self.mind.handle(Input::Maintain(self.maintained), Instant::now());
        }
    }

    fn end(&mut self, end: End) {
        if end.life != self.life {
            return;
        }
        self.running.remove(&end.id);
        self.changed |= end.changed;
        self.outputs[end.resource] = end.output;
        self.mind.handle(end.input, Instant::now());
    }

    fn settle(&mut self) {
        while let Some(wish) = self.mind.poll_output() {
            match wish {
                Wish::Do { id, resource, goal, limit } => self.begin(id, resource, What::Become(goal), limit),
                Wish::Look { id, resource, look, limit } => self.begin(id, resource, What::Look(look), limit),
                Wish::Cancel { id } => {
                    self.running.remove(&id).iter().for_each(Call::off);
                }
                Wish::Reached(goal) => self.is_so(goal),
                Wish::Restarts { resource, why } => self.tell(resource, &format!("is restarted: {why}")),
                Wish::GivesUp { resource, why, reach } => self.gives_up(resource, &why, reach),
                Wish::Amiss { resource, what: Some(what) } => self.tell(resource, &what),
                Wish::Amiss { resource, what: None } => self.tell(resource, "is well again"),
            }
        }
    }

    fn begin(&mut self, id: u64, resource: usize, what: What, limit: Duration) {
        let (life, kinds, lease, ended) = (self.life, self.kinds.clone(), self.lease.clone(), self.ended.clone());
        let act = Act { life, id, resource, what, limit, kinds, lease, ended };
        self.running.extend(act.begin().map(|call| (id, call)));
    }

    fn is_so(&mut self, goal: Goal) {
        let done = if self.changed { Done::Changed } else { Done::Already };
        match &self.waiting {
            Some(_) => self.reached(Ok(done), Output::default()),
            None if goal == Goal::Up => (self.listeners.tell)("all resources are up again".into()),
            None => {}
        }
    }

    fn gives_up(&mut self, resource: usize, why: &str, reach: Reach) {
        let text = format!("resource {} cannot be kept up: {why}", self.kinds[resource].name);
        let output = std::mem::take(&mut self.outputs[resource]);
        if self.waiting.is_some() {
            return self.reached(Err(Outcome::given_up(text, reach)), output);
        }
        let written = output.text();
        let more = if written.trim().is_empty() { String::new() } else { format!("; it wrote: {}", written.trim()) };
        (self.listeners.tell)(format!("{text}{more}"));
        (self.listeners.failed)(reach);
    }

    fn reached(&mut self, reached: Reached, output: Output) {
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.send((reached, output));
        }
    }

    fn tell(&self, resource: usize, what: &str) {
        (self.listeners.tell)(format!("resource {}: {what}", self.kinds[resource].name));
    }
}
