//! Resources that cannot be kept up where they are: the other node asks to take over, in order, so that nothing is lost.
//! Where it does not, they are tried again, each time after a longer while.

use std::time::{Duration, Instant};

use super::requests::Refusal;
use super::{Machine, Policy, State, Step, Turn};
use crate::heartbeat::{Event, Role};
use crate::monitor::Presence;
use crate::planted::{Planted, is_planted};
use crate::resources::Reach;
use crate::timeline::Entry;

/// The last pause is so many times as long as the first.
const GROWTH_MAX: u32 = 8;

/// So often within [`MOVES_WITHIN`] this node takes over from one that cannot serve: what fails everywhere stays where it is.
pub(crate) const MOVES_MAX: u32 = 2;
pub(super) const MOVES_WITHIN: Duration = Duration::from_secs(3_600);

/// This node has the group, and cannot keep its resources up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    /// When they are tried again.
    at: Instant,
    /// How long it was until then.
    pause: Duration,
    /// No node could.
    everywhere: bool,
}

impl Machine {
    /// Has this node the group, and cannot keep its resources up?
    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// They were up and are down, or could not be brought up again.
    pub(super) fn resources_failed(&mut self, reach: Reach, now: Instant) {
        if matches!(self.state, State::Active | State::Raising) {
            self.fails(reach == Reach::Everywhere, now);
        }
    }

    pub(super) fn fails(&mut self, everywhere: bool, now: Instant) {
        let first = self.config.limits.again * 8;
        let pause = self.failing.map_or(first, |failing| (failing.pause * 2).min(first * GROWTH_MAX));
        self.failing = Some(Failing { at: now + pause, pause, everywhere });
        self.tell(Entry::Failing { pause, everywhere });
        self.beat_at = now;
    }

    /// They are up again.
    pub(super) fn recovered(&mut self, now: Instant) {
        if self.failing.take().is_some() {
            self.beat_at = now;
        }
    }

    /// When they are tried again.
    pub(super) fn tries_again_at(&self) -> Option<Instant> {
        let is_free = self.state == State::Active && !self.runner.is_running();
        self.failing.filter(|_| is_free && !is_planted(Planted::FailsForEver)).map(|failing| failing.at)
    }

    pub(super) fn try_resources(&mut self, now: Instant) {
        if self.tries_again_at().is_some_and(|at| now >= at) {
            self.runner.start(vec![(Step::Resources, Turn::Do)], false);
        }
    }

    /// What it tells the others that it is. Where no node could keep them up, nobody is to try.
    pub(super) fn role(&self) -> Role {
        let is_helped = |failing: Failing| !failing.everywhere || is_planted(Planted::MovesInVain);
        match self.state {
            State::Active if self.failing.is_some_and(is_helped) => Role::Failing,
            state => state.role(),
        }
    }

    /// Does the other node say that it cannot serve?
    pub(super) fn peer_fails(&self) -> bool {
        let fails = self.peer.is_some_and(|peer| peer.role == Role::Failing);
        fails && self.monitor.presence() == Presence::Present && !is_planted(Planted::FailsForEver)
    }

    /// Takes over from a node that cannot serve.
    pub(super) fn relieve(&mut self, now: Instant) {
        self.consider_at = now + self.config.monitor.timeout;
        if let Some(refusal) = self.objection() {
            return self.not_taken(refusal);
        }
        if self.config.policy == Policy::Approve {
            self.state = State::Approval;
            return self.tell(Entry::AsksPerson);
        }
        if !self.moves.take(now) && !is_planted(Planted::MovesForEver) {
            return self.not_taken(Refusal::MovedTooOften);
        }
        self.tell(Entry::Relieves);
        self.ask_to_yield(Event::Switchover, false, now);
    }
}
