//! The programs of agents: each is run in the phases of the shipped procedure, and how it ends is read as the hands read it.

use std::time::Duration;

use stead_model::outcome::{Done, Failure, To, conclude};
use stead_model::{End, ocf};

use super::agent::{Ask, Play, Truth};
use super::clock::Micros;
use super::keeper::KeeperEvent;
use super::node::NAMES;
use super::proofs::{Word, of_look, of_start};
use super::world::{Event, MS, World};
use crate::resources::{Input, Reach};

/// A look that hangs counts as failed by the engine's own limit, before the hand's.
pub(super) const LATER: Micros = 1_000 * MS;
/// A clock that is wrong by 1 % has a limit come earlier.
const CLOCK_WRONG: Micros = 20 * MS;
const AGENT: &str = "ocf:stead:Model";

/// What is to be done with a resource.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Become(To),
    Look(Ask),
}

/// How far it is.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    First,
    Told,
    Last(Result<(), Failure>, Word),
}

#[derive(Clone, Debug)]
pub(super) struct Doing {
    pub resource: usize,
    pub what: What,
    phase: Phase,
    limit: Micros,
    pub until: Micros,
    play: Play,
    number: u64,
}

impl World {
    pub fn run(&mut self, at: usize, id: u64, resource: usize, what: What, limit: Micros) {
        let play = Play { end: None, takes: 0, truth: Truth::Down };
        let until = self.now + limit;
        let doing = Doing { resource, what, phase: Phase::First, limit, until, play, number: 0 };
        self.go_on(at, id, doing);
    }

    /// Has the program of this phase run.
    fn go_on(&mut self, at: usize, id: u64, mut doing: Doing) {
        let ask = doing.asks();
        let faulty = if self.now < self.faults_until { self.agents_fail } else { 0 };
        let left = doing.until.saturating_sub(self.now).max(1);
        let node = &mut self.nodes[at];
        // Whoever runs programs ends first what another one before had left running.
        node.orphans_ended += 1;
        doing.play = node.agents[doing.resource].play(ask, left, faulty, &mut self.dice);
        self.checker.report.answers |= ask.bit(doing.play.end.as_ref());
        self.checker.report.asked += 1;
        let (boot, takes) = (node.boot, doing.play.takes);
        let Some(keeper) = &mut node.keeper else { return };
        keeper.count += 1;
        doing.number = keeper.count;
        let event = KeeperEvent::Ended { life: keeper.life, id, number: doing.number };
        let ends = doing.play.end.is_some();
        keeper.doing.insert(id, doing);
        if ends {
            self.after(takes, Event::Keeper { node: at, boot, event });
        }
    }

    pub fn program_ended(&mut self, at: usize, life: u64, id: u64, number: u64) {
        let Some(keeper) = self.nodes[at].keeper.as_mut().filter(|keeper| keeper.life == life) else { return };
        if keeper.doing.get(&id).is_none_or(|doing| doing.number != number) {
            return;
        }
        let Some(doing) = keeper.doing.remove(&id) else { return };
        let Some(end) = doing.play.end.clone() else { return };
        if !self.takes_hold(at, &doing) {
            return self.finish(at, id, &doing, Err(Failure::Cancelled), Word::Bad(Reach::Now));
        }
        self.log(NAMES[at], format_args!("# {} answers {:?} with {end:?}", doing.resource, doing.asks()));
        match doing.what {
            What::Look(_) => self.looked(at, id, &doing, &end),
            What::Become(to) => self.stepped(at, id, doing, to, &end),
        }
    }

    fn looked(&mut self, at: usize, id: u64, doing: &Doing, end: &End) {
        if let Some(keeper) = &mut self.nodes[at].keeper {
            keeper.proofs.said(doing.resource, of_look(Some(end)), true);
        }
        self.engine(at, Input::Looked { id, seen: ocf::seen(&AGENT, end, "").into() });
    }

    /// Look, act, look again.
    fn stepped(&mut self, at: usize, id: u64, doing: Doing, to: To, end: &End) {
        let resource = doing.resource;
        if !matches!(doing.phase, Phase::Told)
            && let Some(keeper) = &mut self.nodes[at].keeper
        {
            keeper.proofs.shown(resource, end);
        }
        match doing.phase.clone() {
            Phase::First if to.is(&ocf::state(&AGENT, end, "")) => {
                self.finish(at, id, &doing, Ok(Done::Already), Word::Well);
            }
            Phase::First if to == To::Start && self.nodes[at].is_lease_over(self.now) => {
                self.finish(at, id, &doing, Err(Failure::Cancelled), Word::Bad(Reach::Now));
            }
            Phase::First => self.go_on(at, id, Doing { phase: Phase::Told, ..doing }),
            Phase::Told => {
                let told = ocf::told(&AGENT, doing.asks().word(), end, "");
                let word = of_start(Some(end).filter(|end| **end != End::Exited(0)));
                self.go_on(at, id, Doing { phase: Phase::Last(told, word), ..doing });
            }
            Phase::Last(told, word) => {
                let limit = Duration::from_micros(doing.limit);
                let result = conclude(to, &ocf::state(&AGENT, end, ""), told, limit, false);
                self.finish(at, id, &doing, result, word);
            }
        }
    }

    fn finish(&mut self, at: usize, id: u64, doing: &Doing, result: Result<Done, Failure>, word: Word) {
        if matches!(doing.what, What::Become(To::Stop)) {
            self.stopped(at, doing.resource, result.is_ok());
        }
        if let Some(keeper) = &mut self.nodes[at].keeper {
            keeper.proofs.said(doing.resource, if result.is_ok() { Word::Well } else { word }, false);
        }
        self.engine(at, Input::Done { id, ended: result.into() });
    }

    /// What does not stop twice in a row is ended by force, where that can be.
    fn stopped(&mut self, at: usize, resource: usize, well: bool) {
        let can_be_forced = !self.dice.one_in(4);
        let agent = &mut self.nodes[at].agents[resource];
        agent.failed_stops = if well { 0 } else { agent.failed_stops + 1 };
        if agent.failed_stops >= 2 && can_be_forced {
            agent.end();
        }
    }

    pub fn cancel_program(&mut self, at: usize, id: u64) {
        let Some(keeper) = &mut self.nodes[at].keeper else { return };
        let Some(doing) = keeper.doing.remove(&id) else { return };
        if self.now + CLOCK_WRONG >= doing.until.saturating_sub(LATER) {
            keeper.proofs.said(doing.resource, Word::Bad(Reach::Now), matches!(doing.what, What::Look(_)));
        }
        if matches!(doing.what, What::Become(To::Stop)) {
            self.stopped(at, doing.resource, false);
        }
        self.called_off(at, &doing);
    }

    /// What was begun may have come about, or not.
    pub fn called_off(&mut self, at: usize, doing: &Doing) {
        if self.dice.one_in(2) {
            self.takes_hold(at, doing);
        }
    }

    /// Nothing is brought up past the lease.
    fn takes_hold(&mut self, at: usize, doing: &Doing) -> bool {
        let over = self.nodes[at].is_lease_over(self.now);
        let agent = &mut self.nodes[at].agents[doing.resource];
        let is_told = matches!(doing.phase, Phase::Told);
        if matches!(doing.what, What::Become(To::Start)) && is_told && over {
            return false;
        }
        // A stop brings nothing back that was ended meanwhile.
        if is_told && (agent.is_there() || matches!(doing.what, What::Become(To::Start))) {
            agent.become_(doing.play.truth);
        }
        let denies = !is_told && matches!(doing.play.end, Some(End::Exited(5 | 7)));
        agent.excused |= denies && agent.is_there();
        true
    }
}

impl Doing {
    /// What its start is to leave of which resource.
    pub fn starts(&self) -> Option<(Truth, usize)> {
        (self.asks() == Ask::Start).then_some((self.play.truth, self.resource))
    }

    fn asks(&self) -> Ask {
        match (self.what, &self.phase) {
            (What::Look(ask), _) => ask,
            (What::Become(To::Start), Phase::Told) => Ask::Start,
            (What::Become(To::Stop), Phase::Told) => Ask::Stop,
            (What::Become(_), _) => Ask::Quick,
        }
    }
}

impl Ask {
    fn word(self) -> &'static str {
        if self == Ask::Start { "start" } else { "stop" }
    }
}
