//! The hands of a node for its resources: the shipped engine keeps them, agents that may fail in every way do what it wants, and
//! the shipped reading of their answers is what it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use stead_model::outcome::To;

use super::agent::{Agent, Ask, Truth};
use super::clock::Micros;
use super::node::{NAMES, Pause};
use super::programs::{Doing, LATER, What};
use super::proofs::{Proofs, Word};
use super::rng::Rng;
use super::world::{Event, MS, World};
use crate::heartbeat::{Hold, Note, Role, Say};
use crate::machine::failing::MOVES_MAX;
use crate::machine::{Action, Input as Told, Outcome, Step, Turn};
use crate::resources::{Goal, Input, LookConfig, Output, Reach, ResourceConfig, Resources, ResourcesConfig};

/// What keeps the resources of a node, as long as its daemon runs.
#[derive(Debug)]
pub(super) struct Keeper {
    engine: Resources,
    /// How often it began anew.
    pub life: u64,
    waiting: Option<u64>,
    pub doing: BTreeMap<u64, Doing>,
    pub count: u64,
    timer: u64,
    pub proofs: Proofs,
    /// No node could keep up what was given up last.
    vain: bool,
    /// The machine knows.
    hopeless: bool,
    relieved: u32,
}

/// An event of a keeper.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeeperEvent {
    /// A program has ended.
    Ended {
        life: u64,
        id: u64,
        number: u64,
    },
    Timer {
        number: u64,
    },
    GaveUp {
        reach: Reach,
    },
    /// A start that a daemon had left running has ended.
    Orphan {
        resource: usize,
        truth: Truth,
        ended_before: u32,
    },
}

impl Keeper {
    pub fn new(config: &ResourcesConfig) -> Keeper {
        Keeper {
            engine: Resources::new(config.clone()).expect("whoever comes later requires whoever came before"),
            life: 0,
            waiting: None,
            doing: BTreeMap::new(),
            count: 0,
            timer: 0,
            proofs: Proofs::new(config),
            vain: false,
            hopeless: false,
            relieved: 0,
        }
    }
}

/// Up to five, of which whoever comes later may require whoever came before.
pub(super) fn random(dice: &mut Rng) -> ResourcesConfig {
    let ms = Duration::from_millis;
    let count = dice.range(1, 6) as usize;
    let look = |interval, timeout, dice: &mut Rng| LookConfig {
        interval: ms(interval),
        timeout: ms(timeout),
        failures: dice.range(1, 4) as u32,
    };
    let mut resource = |at: usize| ResourceConfig {
        requires: (0..at).filter(|_| dice.one_in(3)).collect(),
        start: ms(800),
        stop: ms(800),
        looks: vec![look(1_000, 300, dice), look(3_000, 500, dice)],
        restarts: dice.range(1, 4) as u32,
        within: ms(20_000),
    };
    let resources = (0..count).map(&mut resource).collect();
    ResourcesConfig { resources, at_once: dice.range(1, 5) as usize, again: ms(200) }
}

impl World {
    /// All of them shall be up, or down.
    pub fn keep(&mut self, at: usize, action: &Action) {
        let goal = if action.turn == Turn::Do { Goal::Up } else { Goal::Down };
        if goal == Goal::Up && self.nodes[at].is_lease_over(self.now) {
            return self.kept(at, action.id, Outcome::Failed("the lease is over".into()));
        }
        let Some(keeper) = &mut self.nodes[at].keeper else { return };
        keeper.waiting = Some(action.id);
        keeper.proofs.wanted(goal);
        self.engine(at, Input::Want(goal));
        let is_so = |keeper: &Keeper| keeper.waiting.is_some() && keeper.engine.has_reached(goal);
        if self.nodes[at].keeper.as_ref().is_some_and(is_so) {
            self.reached(at, goal, Outcome::Already);
        }
    }

    /// Nobody waits any more: what is being done is called off, and nothing is known.
    pub fn halt_keeper(&mut self, at: usize) {
        let Some(config) = &self.kit else { return };
        let Ok(engine) = Resources::new(config.clone()) else { return };
        let Some(keeper) = &mut self.nodes[at].keeper else { return };
        let doing = std::mem::take(&mut keeper.doing);
        (keeper.waiting, keeper.life, keeper.hopeless) = (None, keeper.life + 1, false);
        (keeper.engine, keeper.proofs) = (engine, Proofs::new(config));
        doing.into_values().for_each(|doing| self.called_off(at, &doing));
        self.maintain(at);
    }

    /// Its daemon has died. A program that it had running may go on.
    pub fn lose_keeper(&mut self, at: usize) {
        let keeper = self.nodes[at].keeper.take();
        let doing = keeper.map(|keeper| keeper.doing).unwrap_or_default();
        for doing in doing.into_values() {
            if self.dice.one_in(2) { self.called_off(at, &doing) } else { self.orphan(at, &doing) }
        }
    }

    fn orphan(&mut self, at: usize, doing: &Doing) {
        let node = &self.nodes[at];
        let (boot, ended_before) = (node.boot, node.orphans_ended);
        if let Some((truth, resource)) = doing.starts() {
            let takes = self.dice.below(12_000 * MS);
            let event = KeeperEvent::Orphan { resource, truth, ended_before };
            self.after(takes, Event::Keeper { node: at, boot, event });
        }
    }

    fn orphan_ends(&mut self, at: usize, resource: usize, truth: Truth, ended_before: u32) {
        let node = &mut self.nodes[at];
        if node.orphans_ended == ended_before {
            node.agents[resource].become_(truth);
            self.log(NAMES[at], format_args!("# an orphan of {resource} leaves it {truth:?}"));
        }
    }

    pub fn maintain(&mut self, at: usize) {
        let maintained = self.nodes[at].asked.hold == Hold::Maintenance;
        if let Some(keeper) = &mut self.nodes[at].keeper {
            keeper.proofs.maintain(maintained);
        }
        self.engine(at, Input::Maintain(maintained));
    }

    pub fn keeper_event(&mut self, at: usize, boot: u32, event: KeeperEvent) {
        if let KeeperEvent::Orphan { resource, truth, ended_before } = event {
            return self.orphan_ends(at, resource, truth, ended_before);
        }
        let node = &mut self.nodes[at];
        if node.boot != boot || node.keeper.is_none() {
            return;
        }
        if node.pause.is_some() {
            return self.after(20 * MS, Event::Keeper { node: at, boot, event });
        }
        match event {
            KeeperEvent::Ended { life, id, number } => self.program_ended(at, life, id, number),
            KeeperEvent::Timer { number } => self.keeper_timer(at, number),
            KeeperEvent::GaveUp { reach } => {
                self.hears_of_failure(at);
                self.nodes[at].up.retain(|step| *step != Step::Resources);
                self.hand_in(at, Told::ResourcesFailed(reach));
            }
            KeeperEvent::Orphan { .. } => {}
        }
    }

    /// One of a node's resources dies, or its agent is of no use for a while.
    pub fn strike_agent(&mut self) {
        let Some(config) = &self.kit else { return };
        let resource = self.dice.below(config.resources.len() as u64) as usize;
        let (node, everywhere) = (self.dice.below(2) as usize, self.dice.one_in(8));
        match self.dice.below(3) {
            0 => (0..2).filter(|at| everywhere || *at == node).for_each(|at| {
                self.nodes[at].agents[resource].sicken(&mut self.dice, everywhere);
            }),
            _ => self.nodes.iter_mut().filter(|node| !node.agents.is_empty()).for_each(|node| {
                node.agents[resource].die(&mut self.dice);
            }),
        }
    }

    /// Are all up here, and none there, but where an agent lied that it is gone?
    pub fn is_kept(&self, at: usize) -> bool {
        let is_up = |agent: &Agent| agent.truth == Truth::Up;
        let has_reached = |keeper: &Keeper| keeper.engine.has_reached(Goal::Up);
        let (here, there) = (&self.nodes[at], &self.nodes[1 - at]);
        let is_so = here.keeper.as_ref().is_some_and(has_reached) && here.agents.iter().all(is_up);
        is_so && !there.agents.iter().any(|agent| agent.is_there() && !agent.excused)
    }

    /// Never are some of them on both, but where an agent lied that it is gone, or the watchdog cannot end it.
    pub fn check_agents(&mut self) {
        if !self.setup.witness || self.setup.forces || self.kit.is_none() {
            return;
        }
        let is_excused = self.nodes.iter().any(|node| self.now < node.excused_until);
        let has = |at: usize| {
            let runs = !matches!(self.nodes[at].pause, Some(Pause::Host | Pause::Frozen));
            runs && self.nodes[at].agents.iter().any(|agent| agent.is_there() && !agent.excused)
        };
        if !is_excused && has(0) && has(1) {
            self.fail("both have resources of the group".into());
        }
    }

    /// Who cannot serve for a reason that is the same everywhere does not ask for help.
    pub fn check_call_for_help(&mut self, at: usize, note: &Note) {
        let is_hopeless = self.nodes[at].keeper.as_ref().is_some_and(|keeper| keeper.hopeless);
        if matches!(note.say, Say::Role(Role::Failing, _)) && is_hopeless {
            self.fail(format!("{} asks for help where nobody can help", NAMES[at]));
        }
    }

    /// It takes over from a node that cannot serve.
    pub fn check_relief(&mut self, at: usize) {
        let Some(keeper) = &mut self.nodes[at].keeper else { return };
        keeper.relieved += 1;
        if keeper.relieved > MOVES_MAX {
            self.fail(format!("{} relieves the other one without end", NAMES[at]));
        }
    }

    /// The machine is told that they cannot be kept up.
    pub fn hears_of_failure(&mut self, at: usize) {
        self.nodes[at].keeper.iter_mut().for_each(|keeper| keeper.hopeless = keeper.vain);
    }

    pub fn engine(&mut self, at: usize, input: Input) {
        let now = self.nodes[at].clock.read(self.now);
        if let Some(keeper) = &mut self.nodes[at].keeper {
            keeper.engine.handle(input, now);
        }
        self.do_as_wanted(at);
    }

    fn keeper_timer(&mut self, at: usize, number: u64) {
        let now = self.nodes[at].clock.read(self.now);
        let Some(keeper) = self.nodes[at].keeper.as_mut().filter(|keeper| keeper.timer == number) else { return };
        keeper.engine.handle_timeout(now);
        self.do_as_wanted(at);
    }

    fn do_as_wanted(&mut self, at: usize) {
        while let Some(wish) = self.nodes[at].keeper.as_mut().and_then(|keeper| keeper.engine.poll_output()) {
            let now = self.now;
            let checked = self.nodes[at].keeper.as_mut().map_or(Ok(()), |it| it.proofs.engine_says(&wish, now));
            if let Err(wrong) = checked {
                self.fail(format!("{}: {wrong}", NAMES[at]));
            }
            self.wish(at, wish);
        }
        self.check_ends(at);
        self.arm_keeper(at);
    }

    fn arm_keeper(&mut self, at: usize) {
        let (now, late) = (self.now, self.dice.below(500));
        let node = &mut self.nodes[at];
        let Some(keeper) = &mut node.keeper else { return };
        let Some(due) = keeper.engine.poll_timeout() else { return };
        keeper.timer += 1;
        let event = KeeperEvent::Timer { number: keeper.timer };
        let (boot, when) = (node.boot, node.clock.when(due, now));
        self.at(when + late, Event::Keeper { node: at, boot, event });
    }

    fn wish(&mut self, at: usize, wish: Output) {
        match wish {
            Output::Do { id, resource, goal, limit } => self.begin(at, id, resource, goal, limit),
            Output::Look { id, resource, look, limit } => {
                let what = What::Look(if look == 0 { Ask::Quick } else { Ask::Deep });
                self.run(at, id, resource, what, limit.as_micros() as Micros + LATER);
            }
            Output::Cancel { id } => self.cancel_program(at, id),
            Output::Reached(goal) => self.reached(at, goal, Outcome::Done),
            Output::GivesUp { resource, why, reach } => self.given_up(at, resource, &why, reach),
            Output::Restarts { resource, why } => {
                self.checker.report.restarts += 1;
                self.log(NAMES[at], format_args!("# restarts {resource}: {why}"));
            }
            Output::Amiss { resource, what } => {
                self.log(NAMES[at], format_args!("# {resource}: {}", what.as_deref().unwrap_or("is well again")));
            }
        }
    }

    fn reached(&mut self, at: usize, goal: Goal, outcome: Outcome) {
        self.log(NAMES[at], format_args!("# all are {goal:?}"));
        let waiting = self.nodes[at].keeper.as_mut().and_then(|keeper| keeper.waiting.take());
        if let Some(id) = waiting {
            self.kept(at, id, outcome);
        }
    }

    fn given_up(&mut self, at: usize, resource: usize, why: &str, reach: Reach) {
        self.checker.report.given_up += 1;
        self.log(NAMES[at], format_args!("# gives {resource} up ({reach:?}): {why}"));
        let Some(keeper) = &mut self.nodes[at].keeper else { return };
        // As the standard has it, not as the engine tells it.
        keeper.vain = keeper.proofs.word(resource) == Word::Bad(Reach::Everywhere);
        match keeper.waiting.take() {
            Some(id) => self.kept(at, id, Outcome::given_up(why.into(), reach)),
            None => {
                let (boot, event) = (self.nodes[at].boot, KeeperEvent::GaveUp { reach });
                self.after(MS, Event::Keeper { node: at, boot, event });
            }
        }
    }

    fn kept(&mut self, at: usize, id: u64, outcome: Outcome) {
        let boot = self.nodes[at].boot;
        self.after(1, Event::Acted { node: at, boot, id, outcome });
    }

    fn begin(&mut self, at: usize, id: u64, resource: usize, goal: Goal, limit: Duration) {
        let is_free = |keeper: &Keeper| {
            !keeper.doing.values().any(|other| other.resource == resource && matches!(other.what, What::Become(_)))
        };
        if !self.nodes[at].keeper.as_ref().is_some_and(is_free) {
            self.fail(format!("{}: two things are done with {resource} at once", NAMES[at]));
        }
        let begins = self.nodes[at].keeper.as_mut().map_or(Ok(()), |keeper| keeper.proofs.begins(resource, goal));
        if let Err(wrong) = begins {
            self.fail(format!("{}: {wrong}", NAMES[at]));
        }
        let to = if goal == Goal::Up { To::Start } else { To::Stop };
        self.run(at, id, resource, What::Become(to), limit.as_micros() as Micros);
    }

    /// Each has an end.
    pub fn check_ends(&mut self, at: usize) {
        let now = self.now;
        let is_late = |doing: &&Doing| now > doing.until + 15_000 * MS;
        let late = self.nodes[at].keeper.as_ref().and_then(|keeper| keeper.doing.values().find(is_late));
        if let Some(doing) = late {
            let resource = doing.resource;
            self.fail(format!("{}: what is done with {resource} does not end", NAMES[at]));
        }
        let Some(keeper) = &self.nodes[at].keeper else { return };
        let stops = keeper.doing.values().any(|doing| matches!(doing.what, What::Become(To::Stop)));
        if let Err(wrong) = keeper.proofs.is_undone(stops) {
            self.fail(format!("{}: {wrong}", NAMES[at]));
        }
    }
}
