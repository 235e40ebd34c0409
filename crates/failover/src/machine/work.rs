//! Steps and their outcomes.

use std::time::Instant;

use super::requests::Refusal;
use super::runner::Current;
use super::{Action, Event, Machine, OnFailure, Outcome, Output, Saved, State, Step, Then};
use crate::heartbeat::{No, Say};
use crate::planted::{Planted, is_planted};
use crate::timeline::Entry;

impl Machine {
    /// Begins the next step, where one may begin.
    pub(super) fn advance(&mut self, now: Instant) {
        // Ends: each state is followed by at most a few others that have nothing to do.
        while self.runner.finished() {
            self.finished(now);
        }
        if self.state == State::Raising && !self.may_serve(now) {
            return;
        }
        let limits = self.config.limits;
        if let Some(Current { id, step, turn, .. }) = self.runner.next(|step| limits.of(step), now) {
            let (event, epoch) = (self.event(), self.record.epoch);
            let action = Action { id, step, turn, limit: limits.of(step), event, epoch };
            self.outputs.push_back(Output::Do(action));
        }
    }

    fn event(&self) -> Event {
        let claimed = self.state.claim().map(|claim| claim.event);
        claimed.or(self.record.work.as_ref().map(|work| work.event)).unwrap_or(Event::Failover)
    }

    pub(super) fn done(&mut self, id: u64, outcome: Outcome, now: Instant) {
        if let Some(current) = self.runner.end(id) {
            self.ended(current, outcome, now);
        }
    }

    pub(super) fn time_out_step(&mut self, now: Instant) {
        let Some(current) = self.runner.overdue(now) else { return };
        self.outputs.push_back(Output::Cancel { id: current.id });
        self.runner.end(current.id);
        self.ended(current, Outcome::Unknown("no outcome within its limit".into()), now);
    }

    fn ended(&mut self, current: Current, outcome: Outcome, now: Instant) {
        let Current { step, turn, since, .. } = current;
        let took = now.saturating_duration_since(since);
        self.tell(Entry::Step { step, turn, took, outcome: outcome.clone() });
        let passes = is_planted(Planted::UnknownActs) && matches!(outcome, Outcome::Unknown(_));
        if outcome.is_good() || passes { self.succeeded(step) } else { self.failed(current, &outcome, now) }
    }

    fn succeeded(&mut self, step: Step) {
        self.runner.succeeded();
        if step == Step::Resources {
            self.recovered(self.now);
        }
        if let State::Confirming(claim) = &mut self.state {
            claim.references |= step == Step::References;
        } else if let Some(work) = self.record.work.as_mut().filter(|work| !work.done.contains(&step)) {
            work.done.push(step);
            self.save(Saved::Nothing);
        }
    }

    fn failed(&mut self, current: Current, outcome: &Outcome, now: Instant) {
        match self.state {
            State::Confirming(_) => self.give_up(Refusal::Isolated, now),
            State::Fencing(_) => self.give_up(Refusal::NotFenced, now),
            State::HandingOver { number } => self.failed_to_hand_over(current, number, now),
            State::Raising => self.failed_to_raise(current, outcome, now),
            State::Active => self.fails(outcome.is_hopeless(), now),
            State::Closing { .. } | State::Falling(_) if current.step == Step::RoleFiles => {
                self.try_or_go_on(current, now)
            }
            // There is no way around it.
            _ => _ = self.again(current, now),
        }
    }

    /// Tries the step again after a while. Returns how often it was tried.
    fn again(&mut self, current: Current, now: Instant) -> u32 {
        self.runner.again(current.step, current.turn, now + self.config.limits.again)
    }

    /// Files that cannot be put back are told: a node that for want of a copy could neither hand over nor stand by nor be
    /// restored would be worse.
    fn try_or_go_on(&mut self, current: Current, now: Instant) {
        if !self.runner.gives_up(self.config.limits.tries) {
            self.again(current, now);
        }
    }

    fn failed_to_hand_over(&mut self, current: Current, number: u64, now: Instant) {
        if current.step == Step::RoleFiles {
            return self.try_or_go_on(current, now);
        }
        if self.passes_over(current.step) || self.again(current, now) < self.config.limits.tries {
            return;
        }
        self.say(self.config.peer, number, self.durable, Say::NotYielded(No::Unable));
        self.keep(now);
    }

    fn failed_to_raise(&mut self, current: Current, outcome: &Outcome, now: Instant) {
        let later = now + self.config.limits.again * 8;
        let policy = match current.step {
            Step::Script(hook) => self.config.resources.on_failure(hook),
            Step::Tell => OnFailure::GoOn,
            // They were tried often enough, and were undone: the other node is to try.
            Step::Resources => {
                self.fails(outcome.is_hopeless(), now);
                OnFailure::GoOn
            }
            _ if self.again(current, now) < self.config.limits.tries => return,
            _ => OnFailure::Undo,
        };
        match policy {
            OnFailure::GoOn => {}
            OnFailure::Stop => self.fall_back(None, now),
            OnFailure::Undo => self.fall_back(Some(later), now),
        }
    }

    fn fall_back(&mut self, retry: Option<Instant>, now: Instant) {
        self.pending_failed(Refusal::StepFailed);
        self.fall(Then::Down(retry), now);
    }

    fn passes_over(&self, step: Step) -> bool {
        matches!(step, Step::Script(hook) if self.config.resources.on_failure(hook) == OnFailure::GoOn)
    }
}
