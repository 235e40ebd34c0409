//! The side that serves: comes up when it is granted to, goes down when it is not, and hands over in order.

use std::time::Instant;

use super::requests::Refusal;
use super::{Machine, Saved, State, Step, Then, Turn, Work, WorkKind};
use crate::heartbeat::{Event, Hold, No, Note, Say};
use crate::planted::{Planted, is_planted};
use crate::timeline::Entry;

impl Machine {
    /// What is to be done about what a restart left.
    pub(super) fn recover(&mut self, now: Instant) {
        match self.record.work.as_ref().map(|work| (work.kind, work.event)) {
            Some((WorkKind::Takeover, event)) => self.tell(Entry::Resumed(event)),
            Some((_, event)) => {
                self.tell(Entry::Undone(event));
                self.record.work = None;
                self.save(Saved::Nothing);
            }
            None => {}
        }
        if !self.record.is_writer(self.config.me) {
            self.fall(Then::Standby, now);
        } else if is_planted(Planted::ServeAtBoot) {
            self.raise(now);
        }
        self.advance(now);
    }

    /// Does a lease bound what it does?
    pub(super) fn is_leased(&self) -> bool {
        self.config.witness.is_some() && !self.unleased && !is_planted(Planted::ServeAtBoot)
    }

    pub(super) fn may_serve(&self, now: Instant) -> bool {
        !self.is_leased() || self.holder.is_held(now)
    }

    pub(super) fn lapses_at(&self) -> Option<Instant> {
        self.holder.until().filter(|_| self.state.needs_lease() && self.is_leased())
    }

    /// Past its lease nothing goes on.
    pub(super) fn lapse(&mut self, now: Instant) {
        if self.lapses_at().is_some_and(|at| now >= at) {
            self.tell(Entry::Lapsed);
            self.fall(Then::Down(Some(now)), now);
        }
    }

    /// Brings everything up: all of a takeover that is not done yet, or what the active side has.
    pub(super) fn raise(&mut self, now: Instant) {
        let resources = self.config.resources;
        let steps = match &self.record.work {
            Some(work) if work.kind == WorkKind::Takeover => {
                let mut steps = resources.takeover(work.event);
                steps.retain(|(step, _)| step.is_lost_by_a_restart() || !work.done.contains(step));
                steps
            }
            _ => resources.raise(),
        };
        self.cancel();
        self.failing = None;
        (self.state, self.work_since, self.record.clean) = (State::Raising, now, false);
        self.runner.start(steps, true);
        self.save(Saved::Released);
    }

    /// Takes everything down at once.
    pub(super) fn fall(&mut self, then: Then, now: Instant) {
        self.holder.forget();
        (self.unleased, self.failing) = (false, None);
        if self.record.work.as_ref().is_some_and(|work| work.kind == WorkKind::HandOver) {
            self.record.work = None;
        }
        let falls = matches!(self.state, State::Falling(_));
        self.state = State::Falling(then);
        if !falls {
            self.cancel();
            self.work_since = now;
            self.runner.start(self.config.resources.fall(), false);
        }
    }

    /// Takes everything down in order.
    pub(super) fn close(&mut self, now: Instant) {
        self.cancel();
        self.failing = None;
        (self.state, self.work_since) = (State::Closing { retry: None }, now);
        self.runner.start(self.config.resources.close(), false);
    }

    /// It stands by, and has the files for that put in place.
    pub(super) fn put_files_back(&mut self, now: Instant) {
        self.cancel();
        (self.state, self.work_since) = (State::Falling(Then::Standby), now);
        self.runner.start(vec![(Step::RoleFiles, Turn::Undo)], false);
    }

    /// Everything is down, and another node is the writer.
    pub(super) fn stand_by(&mut self, now: Instant) {
        // The replica may have become fit while what was up went down.
        if self.record.restore && self.unfit().is_none() {
            self.record.restore = false;
            self.save(Saved::Nothing);
        }
        let required = self.record.restore;
        self.state = if required { State::RestoreRequired } else { State::Standby };
        self.granter.open();
        self.consider_at = now;
        self.tell(if required { Entry::RestoreRequired } else { Entry::Standby });
    }

    pub(super) fn asked_to_yield(&mut self, note: Note, event: Event, now: Instant) {
        let asked = note.number;
        match &mut self.state {
            State::Active if note.epoch == self.durable => self.hand_over(asked, event, now),
            State::HandingOver { number } => *number = asked.max(*number),
            State::Yielded { number, own, .. } => {
                *number = asked.max(*number);
                let (number, own) = (*number, *own);
                self.say_yielded(number, own);
            }
            _ => self.say(self.config.peer, asked, self.durable, Say::NotYielded(No::Unable)),
        }
    }

    fn hand_over(&mut self, number: u64, event: Event, now: Instant) {
        self.cancel();
        self.failing = None;
        self.tell(Entry::HandingOver(event));
        self.record.work = Some(Work { kind: WorkKind::HandOver, event, done: Vec::new() });
        (self.state, self.work_since) = (State::HandingOver { number }, now);
        self.runner.start(self.config.resources.hand_over(event), true);
        self.save(Saved::Released);
    }

    /// That everything was handed over is durable.
    pub(super) fn handed_over(&mut self, now: Instant) {
        let State::HandingOver { number } = self.state else { return };
        let own = self.next_number();
        self.holder.forget();
        self.state = State::Yielded { number, own, until: now + self.config.limits.confirm };
        self.tell(Entry::HandedOver);
        self.say_yielded(number, own);
    }

    /// The other node does not hand over, or does not take over.
    pub(super) fn not_yielded(&mut self, asked: u64, now: Instant) {
        match self.state {
            State::Asking(claim) if claim.number == asked => self.give_up(Refusal::NotHandedOver, now),
            State::Yielded { number, .. } if number == asked => self.go_on(now),
            State::HandingOver { number } if number == asked => self.keep(now),
            _ => {}
        }
    }

    /// It handed over and nobody took it: it asks for a lease again.
    pub(super) fn go_on(&mut self, now: Instant) {
        self.tell(Entry::NotTakenOver);
        self.state = State::Down { retry: Some(now), unsure: None };
        self.beat_at = now;
    }

    /// It could not hand over, or need not any more: what it took down comes up again.
    pub(super) fn keep(&mut self, now: Instant) {
        self.tell(Entry::NotTakenOver);
        self.record.work = None;
        self.raise(now);
    }

    /// All steps of what was being done are done.
    pub(super) fn finished(&mut self, now: Instant) {
        match self.state {
            State::Raising => self.is_up(now),
            State::HandingOver { .. } => {
                (self.record.clean, self.record.work) = (true, None);
                self.save(Saved::HandedOver);
            }
            State::Closing { retry } | State::Falling(Then::Down(retry)) => {
                self.holder.forget();
                self.unleased = false;
                let retry = retry.filter(|_| self.record.hold != Hold::Offline);
                self.state = State::Down { retry, unsure: None };
                self.tell(Entry::Down);
                if self.record.hold == Hold::Offline {
                    self.pending_done();
                }
            }
            State::Falling(Then::Standby) => self.stand_by(now),
            State::Fencing(claim) => self.commit(claim, now),
            _ => {}
        }
    }

    fn is_up(&mut self, now: Instant) {
        self.state = State::Active;
        if self.record.work.take().is_some() {
            self.save(Saved::Nothing);
        }
        let took = now.saturating_duration_since(self.work_since);
        let outage = self.outage_since.take().map(|since| now.saturating_duration_since(since));
        self.tell(Entry::Active { epoch: self.record.epoch.number, took, outage });
        match self.failing {
            Some(_) => self.pending_failed(Refusal::StepFailed),
            None => self.pending_done(),
        }
        self.beat_at = now;
    }

    /// Ends what is being done, in whatever step it is.
    pub(super) fn cancel(&mut self) {
        if let Some(id) = self.runner.stop() {
            self.outputs.push_back(super::Output::Cancel { id });
        }
    }
}
