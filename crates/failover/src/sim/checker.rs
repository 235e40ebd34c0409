//! What must never be, looked at after every event.

use std::collections::BTreeMap;

use stead_model::Epoch;

use super::clock::Micros;
use super::node::{NAMES, Node};
use crate::heartbeat::Event;
use crate::machine::{Outcome, Record, Step, WorkKind};

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events of the simulation.
    pub events: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Epochs that became durable.
    pub epochs: u64,
    /// Times that a node had handed over everything.
    pub planned: u64,
    /// Actions that were begun.
    pub actions: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Times that both served since a clock had stood still: what the older one writes then is fork data.
    pub frozen_forks: u64,
    /// Times that a node had to be restored.
    pub restores: u64,
    /// Times that an agent was asked for something.
    pub asked: u64,
    /// What was asked of agents together with how they ended: a bit each.
    pub answers: u64,
    /// Times that a resource was restarted.
    pub restarts: u64,
    /// Times that one was given up.
    pub given_up: u64,
    /// Microseconds in which one node served, of those of the whole.
    pub served: u64,
    /// Microseconds of the whole.
    pub lasted: u64,
}

impl std::ops::Add for Report {
    type Output = Report;

    fn add(self, other: Report) -> Report {
        Report {
            events: self.events + other.events,
            faults: self.faults + other.faults,
            epochs: self.epochs + other.epochs,
            planned: self.planned + other.planned,
            actions: self.actions + other.actions,
            requests: self.requests + other.requests,
            frozen_forks: self.frozen_forks + other.frozen_forks,
            restores: self.restores + other.restores,
            asked: self.asked + other.asked,
            answers: self.answers | other.answers,
            restarts: self.restarts + other.restarts,
            given_up: self.given_up + other.given_up,
            served: self.served + other.served,
            lasted: self.lasted + other.lasted,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Checker {
    pub report: Report,
    witnessed: bool,
    owners: BTreeMap<u64, Epoch>,
    served_to: u64,
    forked: bool,
    served_at: Option<(usize, Epoch)>,
    unsure: [bool; 3],
}

impl Checker {
    pub fn new(witnessed: bool) -> Checker {
        Checker { witnessed, ..Checker::default() }
    }

    /// Never two, never an older one after a newer one.
    pub fn serving(&mut self, nodes: &[Node; 3], now: Micros) -> Result<(), String> {
        let (paris, lyon) = (nodes[0].serves(), nodes[1].serves());
        if !(self.witnessed && paris && lyon) {
            self.forked = false;
            return if paris && lyon { Ok(()) } else { self.newest(nodes, now) };
        }
        if nodes.iter().all(|node| now >= node.excused_until) {
            return Err("both serve".into());
        }
        self.report.frozen_forks += u64::from(!self.forked);
        self.forked = true;
        Ok(())
    }

    fn newest(&mut self, nodes: &[Node; 3], now: Micros) -> Result<(), String> {
        let Some(at) = (0..2).find(|at| nodes[*at].serves()) else { return Ok(()) };
        let epoch = nodes[at].record.epoch;
        let again = self.served_at == Some((at, epoch));
        self.served_at = Some((at, epoch));
        if again || !self.witnessed {
            return Ok(());
        }
        if epoch.number < self.served_to && now >= nodes[at].excused_until {
            return Err(format!("{} serves under epoch {} after {}", NAMES[at], epoch.number, self.served_to));
        }
        self.served_to = self.served_to.max(epoch.number);
        Ok(())
    }

    /// A record is durable: no epoch has two writers, nor one writer twice.
    pub fn durable(&mut self, record: &Record) -> Result<(), String> {
        let Some(other) = self.owners.insert(record.epoch.number, record.epoch) else {
            self.report.epochs += u64::from(record.epoch.number > 1);
            return Ok(());
        };
        if self.witnessed && other != record.epoch {
            return Err(format!("epoch {} twice: {other:?}, {:?}", record.epoch.number, record.epoch));
        }
        Ok(())
    }

    pub fn outcome(&mut self, node: usize, step: Step, outcome: &Outcome) {
        if step == Step::References {
            self.unsure[node] = !outcome.is_good();
        }
    }

    /// A node wants to save that: an epoch of its own follows only from what is known.
    /// `written`: what it has and what the other one has.
    pub fn saves(&mut self, node: usize, before: &Record, record: &Record, written: [u64; 2]) -> Result<(), String> {
        let claims = |record: &Record| record.work.as_ref().is_some_and(|work| work.kind == WorkKind::Claim);
        if claims(record) && !claims(before) {
            self.unsure[node] = false;
        }
        let commits = record.epoch.number > before.epoch.number && record.work.is_some();
        let planned = record.work.as_ref().is_some_and(|work| work.event != Event::Failover);
        if commits && planned && written[0] != written[1] {
            return Err(format!("{} is handed {} of {} writes", NAMES[node], written[0], written[1]));
        }
        if commits && self.unsure[node] {
            return Err(format!("{} takes over without knowing that it is not cut off", NAMES[node]));
        }
        Ok(())
    }
}
