//! Nodes that die, stop, sleep and go on.

use std::collections::VecDeque;

use super::node::{Mind, NAMES, Pause};
use super::world::{MS, World};
use crate::machine::Lease;

impl World {
    /// Its daemon goes down in order, and says so.
    pub fn leave(&mut self, at: usize) {
        self.nodes[at].leaving = true;
        if let Some(codecs) = &mut self.codecs {
            codecs[at].leave();
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
        self.lose_keeper(at);
        let node = &mut self.nodes[at];
        (node.mind, node.pause) = (None, None);
        node.clock.freeze(false, self.now);
        node.saving.clear();
        node.inbox.clear();
        if of_host {
            node.end_all();
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
            node.strike();
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
}
