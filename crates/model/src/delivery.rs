//! What is told to whom, and when: raises and clears go in, messages for receivers come out. A mind: it is given the
//! time and what became of a message, and never waits.
//!
//! * A receiver is told of each raise once, and of its clear once, under the same [id](Notice::id).
//! * What begins within a short time goes out as one message, where the receiver takes several.
//! * A receiver gets no more messages than its limit. What waits meanwhile is condensed to what has changed for it, and
//!   the number of what was left out is told afterwards.
//! * A message that does not arrive is tried again, at growing intervals, for so often and so long. Then it is given up:
//!   with the next event the receiver is told what is wrong by then, and how much it missed.
//! * Whoever is new is told what is wrong already.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use message::{Message, Notice};
use outbox::Outbox;

mod message;
mod outbox;
mod pace;
mod planted;

/// How a receiver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a message waits for more that goes with it.
    pub gather: Duration,
    /// Events that one message holds.
    pub batch_max: usize,
    /// Messages in a minute.
    pub per_minute: u32,
}

/// Everything that is to be told. What is kept of it outlives the process: events that wait, and what each receiver knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deliveries {
    /// What is wrong, by id.
    raised: BTreeMap<String, Notice>,
    receivers: BTreeMap<String, Outbox>,
    #[serde(skip)]
    policies: BTreeMap<String, Policy>,
}

/// What became of a message that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is tried again after that time.
    Again(Duration),
    /// It is given up, with so many events.
    GivenUp(u64),
}

impl Deliveries {
    /// From now on these receivers are told, and no others. Is anything else than before?
    pub fn set_receivers(&mut self, policies: &BTreeMap<String, Policy>, now: Instant) -> bool {
        if self.policies == *policies && self.receivers.keys().eq(policies.keys()) {
            return false;
        }
        self.receivers.retain(|name, _| policies.contains_key(name));
        for (name, policy) in policies {
            let outbox = self.receivers.entry(name.clone());
            outbox.or_insert_with(|| Outbox::knowing_nothing(&self.raised)).begin(policy, now);
        }
        self.policies = policies.clone();
        true
    }

    /// That is so from now on.
    pub fn tell(&mut self, notice: &Notice, now: Instant) {
        notice.apply_to(&mut self.raised);
        for (name, outbox) in &mut self.receivers {
            if let Some(policy) = self.policies.get(name) {
                outbox.add(notice, &self.raised, policy, now);
            }
        }
    }

    /// A message that is to be sent now; its receiver gets no other one until it was said what [became](Self::arrived)
    /// of it.
    pub fn poll_message(&mut self, now: Instant) -> Option<Message> {
        self.receivers.iter_mut().find_map(|(name, outbox)| {
            let policy = self.policies.get(name)?;
            let (notices, held_back) = outbox.take(&self.raised, policy, now)?;
            Some(Message { receiver: name.clone(), notices, held_back })
        })
    }

    /// When there may be a message to be sent; none: not before something else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let at = |(name, outbox): (&String, &Outbox)| outbox.due(self.policies.get(name)?);
        self.receivers.iter().filter_map(at).min()
    }

    /// The message for that receiver arrived.
    pub fn arrived(&mut self, receiver: &str, now: Instant) {
        if let Some(outbox) = self.receivers.get_mut(receiver) {
            outbox.arrived(now);
        }
    }

    /// The message for that receiver did not arrive; none: there is no such receiver any more.
    pub fn failed(&mut self, receiver: &str, now: Instant) -> Option<Fate> {
        self.receivers.get_mut(receiver)?.failed(now)
    }

    /// Events that wait for a receiver, and those that it was not told and will be told the number of.
    pub fn backlog(&self, receiver: &str) -> (usize, u64) {
        self.receivers.get(receiver).map_or((0, 0), Outbox::backlog)
    }
}

#[cfg(test)]
#[path = "delivery/tests.rs"]
mod tests;
