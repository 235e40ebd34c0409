//! What waits for one receiver, and what it knows.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::pace::Pace;
use super::planted::{self, Planted};
use super::{Fate, Notice, Policy};
use crate::alert::Edge;

/// Events that wait; beyond that they are condensed to what changed for the receiver.
pub(super) const WAITING_MAX: usize = 1000;

type Notices = BTreeMap<String, Notice>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Outbox {
    waiting: VecDeque<Notice>,
    /// What it was told is wrong, by id.
    told: Notices,
    /// Clears that were left out, of what it was told.
    owed: Notices,
    /// Events that were left out and not told of.
    held_back: u64,
    /// What waited was given up: with the next event it is told how things are then.
    is_given_up: bool,
    #[serde(skip)]
    run: Run,
}

/// What a restart forgets.
#[derive(Clone, Debug, Default, PartialEq)]
struct Run {
    /// So many of the first that wait are on their way, and that many are told to be held back.
    sent: Option<(usize, u64)>,
    /// Until then it is gathered.
    gather_until: Option<Instant>,
    /// The limit held something up.
    is_limited: bool,
    pace: Pace,
}

impl Outbox {
    /// For a receiver that has to be told all that is wrong.
    pub(super) fn knowing_nothing(raised: &Notices) -> Outbox {
        let mut waiting: Vec<_> = raised.values().cloned().collect();
        waiting.sort_by_key(|notice| notice.number);
        Outbox { waiting: waiting.into(), ..Outbox::default() }
    }

    /// A process begins, or the policy is another.
    pub(super) fn begin(&mut self, policy: &Policy, now: Instant) {
        self.run.gather_until = Some(now + policy.gather);
    }

    pub(super) fn backlog(&self) -> (usize, u64) {
        (self.waiting.len(), self.held_back)
    }

    pub(super) fn add(&mut self, notice: &Notice, raised: &Notices, policy: &Policy, now: Instant) {
        let was_empty = self.waiting.is_empty();
        if self.is_given_up {
            self.count(1);
            self.settle_owed(notice);
            self.catch_up(raised);
            self.is_given_up = false;
        } else if (notice.event == Edge::Raise) == self.will_know(notice) {
            self.count(1);
        } else {
            self.waiting.push_back(notice.clone());
        }
        if self.waiting.len() > WAITING_MAX {
            self.condense(raised);
        }
        if was_empty {
            self.begin(policy, now);
        }
    }

    /// When a message may go; none: there is nothing to be told, or one is on its way.
    pub(super) fn due(&self, policy: &Policy) -> Option<Instant> {
        let is_idle = self.waiting.is_empty() && (self.held_back == 0 || self.is_given_up);
        if is_idle || self.run.sent.is_some() {
            return None;
        }
        self.run.gather_until.max(self.run.pace.free_at(policy.per_minute))
    }

    /// The events of a message that goes now, and how many are told to be held back.
    pub(super) fn take(&mut self, raised: &Notices, policy: &Policy, now: Instant) -> Option<(Vec<Notice>, u64)> {
        let due = self.due(policy)?;
        if due > now {
            let limited = self.run.pace.free_at(policy.per_minute).is_some_and(|free| free > now);
            self.run.is_limited |= limited;
            return None;
        }
        if std::mem::take(&mut self.run.is_limited) {
            self.condense(raised);
        }
        let count = self.waiting.len().min(policy.batch_max.max(1));
        if count == 0 && self.held_back == 0 {
            return None;
        }
        self.run.pace.goes(policy.per_minute, now);
        self.run.sent = Some((count, self.held_back));
        Some((self.waiting.iter().take(count).cloned().collect(), self.held_back))
    }

    pub(super) fn arrived(&mut self, now: Instant) {
        let Some((count, held_back)) = self.run.sent.take() else { return };
        for notice in self.waiting.drain(..count).collect::<Vec<_>>() {
            self.owed.remove(&notice.id());
            notice.apply_to(&mut self.told);
        }
        self.held_back = self.held_back.saturating_sub(held_back);
        self.run.pace.done();
        self.run.gather_until = Some(now);
    }

    pub(super) fn failed(&mut self, now: Instant) -> Option<Fate> {
        self.run.sent.take()?;
        if let Some(again) = self.run.pace.again(now) {
            return Some(again);
        }
        self.run.pace.done();
        let dropped = self.leave_out(0);
        self.is_given_up = true;
        Some(Fate::GivenUp(dropped))
    }
}

impl Outbox {
    /// What the receiver takes for wrong once the first so many of what waits have arrived.
    fn view(&self, count: usize) -> Notices {
        let mut view = self.told.clone();
        self.waiting.iter().take(count).for_each(|notice| notice.apply_to(&mut view));
        view
    }

    /// Will the receiver take that for wrong once all that waits has arrived?
    fn will_know(&self, notice: &Notice) -> bool {
        let last = self.waiting.iter().rev().find(|waiting| waiting.is_about(notice));
        last.map_or_else(|| self.told.contains_key(&notice.id()), |last| last.event == Edge::Raise)
    }

    /// Has nothing wait but what makes a difference for the receiver.
    fn condense(&mut self, raised: &Notices) {
        self.leave_out(self.run.sent.map_or(0, |(count, _)| count));
        self.catch_up(raised);
    }

    /// Takes out what waits behind the first so many.
    fn leave_out(&mut self, keep: usize) -> u64 {
        let dropped = self.waiting.split_off(keep);
        self.count(dropped.len() as u64);
        dropped.iter().for_each(|notice| self.settle_owed(notice));
        dropped.len() as u64
    }

    fn settle_owed(&mut self, notice: &Notice) {
        if planted::is(Planted::LeftOutIsTold) {
            notice.apply_to(&mut self.told);
        }
        if notice.event == Edge::Clear && !planted::is(Planted::ClearsAreForgotten) {
            self.owed.insert(notice.id(), notice.clone());
        }
    }

    /// Has what is wrong wait as far as it does not know it, and what is over as far as it takes it for wrong.
    fn catch_up(&mut self, raised: &Notices) {
        let view = self.view(self.waiting.len());
        self.owed.retain(|id, _| view.contains_key(id));
        let over = self.owed.iter().filter(|(id, _)| !raised.contains_key(*id)).map(|(_, notice)| notice);
        let begun = raised.iter().filter(|(id, _)| !view.contains_key(*id)).map(|(_, notice)| notice);
        let mut missing: Vec<_> = over.chain(begun).cloned().collect();
        missing.sort_by_key(|notice| notice.number);
        self.held_back = self.held_back.saturating_sub(missing.len() as u64);
        self.waiting.extend(missing);
    }

    fn count(&mut self, left_out: u64) {
        if !planted::is(Planted::NotCounted) {
            self.held_back += left_out;
        }
    }
}
