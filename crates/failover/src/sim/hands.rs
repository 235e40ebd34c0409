//! The hands of a node: actions, and the watchdog that does not depend on the daemon.

use std::time::Duration;

use super::node::{NAMES, Pause};
use super::world::{Event, MS, World};
use crate::machine::{Action, Input, Lease, Outcome, Step, Turn};

impl World {
    pub fn lease(&mut self, at: usize, lease: Lease) {
        let node = &mut self.nodes[at];
        // What goes down in order needs no watchdog before its old end.
        if lease == Lease::None && matches!(node.lease, Lease::Until(_)) {
            return;
        }
        node.lease = lease;
        self.guard(at);
    }

    pub fn guard(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.watch += 1;
        let Lease::Until(until) = node.lease else { return };
        let budget = self.setup.times().stop_budget.as_micros() as u64;
        let takes = if self.setup.scripted || self.rng.one_in(2) { budget } else { self.rng.below(budget) };
        let (number, when) = (node.watch, node.clock.when(until + Duration::from_micros(takes), self.now));
        self.at(when, Event::Watchdog { node: at, number });
    }

    /// The watchdog does not depend on the daemon.
    pub fn watchdog(&mut self, at: usize, number: u64) {
        let node = &mut self.nodes[at];
        let runs = !matches!(node.pause, Some(Pause::Host | Pause::Frozen));
        if node.watch == number && runs && node.has_any() {
            node.strike();
            self.log(NAMES[at], format_args!("# the watchdog takes everything down"));
        }
    }

    pub fn act(&mut self, at: usize, action: Action) {
        self.checker.report.actions += 1;
        if let Some(other) = self.nodes[at].action.replace(action) {
            self.fail(format!("{} begins {:?} beside {:?}", NAMES[at], action.step, other.step));
        }
        if action.step == Step::RoleFiles {
            let node = &mut self.nodes[at];
            node.put_back = if action.turn == Turn::Undo { node.put_back + 1 } else { 0 };
        }
        if action.step == Step::Resources && self.kit.is_some() {
            return self.keep(at, &action);
        }
        let (outcome, takes) =
            self.setup.outcome(&action, self.now < self.faults_until && !self.setup.calm, &mut self.rng);
        let boot = self.nodes[at].boot;
        if let Some(takes) = takes {
            self.after(takes, Event::Acted { node: at, boot, id: action.id, outcome });
        }
    }

    pub fn cancel(&mut self, at: usize, id: u64) {
        let Some(action) = self.nodes[at].action.take_if(|action| action.id == id) else { return };
        if action.step == Step::Resources && self.kit.is_some() {
            return self.halt_keeper(at);
        }
        if self.rng.one_in(2) {
            self.take_effect(at, &action);
        }
    }

    pub fn acted(&mut self, at: usize, boot: u32, id: u64, outcome: Outcome) {
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
        let outcome = if action.step == Step::HandOver { self.hand_over(at, outcome) } else { outcome };
        self.checker.outcome(at, action.step, &outcome);
        if action.step == Step::Resources && !outcome.is_good() {
            self.hears_of_failure(at);
        }
        self.hand_in(at, Input::Done { id, outcome });
    }

    fn hand_over(&mut self, at: usize, outcome: Outcome) -> Outcome {
        if !outcome.is_good() {
            return outcome;
        }
        let other = 1 - at;
        let follows = self.nodes[other].is_running() && self.nodes[other].record.epoch == self.nodes[at].record.epoch;
        if !follows || !self.net.is_joined(at, other) {
            return Outcome::Failed("the other node does not follow".into());
        }
        self.nodes[other].written = self.nodes[at].written;
        outcome
    }

    fn switch_files(&mut self, at: usize, turn: Turn, over: bool) -> bool {
        if turn == Turn::Do && over {
            return false;
        }
        let node = &mut self.nodes[at];
        node.role_files = turn == Turn::Do;
        true
    }

    fn has_its_files(&mut self, at: usize) {
        if self.setup.role_files && !self.nodes[at].role_files {
            self.fail(format!("{} starts a service with the files of who stands by", NAMES[at]));
        }
    }

    /// Nothing is brought up past the lease.
    pub fn take_effect(&mut self, at: usize, action: &Action) -> bool {
        let over = self.nodes[at].is_lease_over(self.now);
        if action.step == Step::RoleFiles {
            return self.switch_files(at, action.turn, over);
        }
        if matches!(action.step, Step::Service(_)) && action.turn == Turn::Do && !over {
            self.has_its_files(at);
        }
        let up = &mut self.nodes[at].up;
        let is_up = matches!(action.step, Step::Capture | Step::Address(_) | Step::Service(_) | Step::Resources);
        up.retain(|step| *step != action.step);
        if is_up && action.turn == Turn::Do {
            if over {
                return false;
            }
            up.push(action.step);
        }
        true
    }
}
