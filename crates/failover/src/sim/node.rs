//! One node: its clock, its disk, its process and what runs on it.

use std::collections::VecDeque;
use std::time::Instant;

use super::agent::Agent;
use super::clock::{Clock, Micros};
use super::keeper::Keeper;
use super::net::Datagram;
use crate::ids::NodeId;
use crate::lease::{Ballot, Witness};
use crate::machine::{Action, Lease, Machine, Record, Step};

/// Who they are, by index.
pub(super) const NAMES: [&str; 3] = ["paris", "lyon", "witness"];

pub(super) fn id(node: usize) -> NodeId {
    NodeId([node as u8 + 1; 16])
}

pub(super) fn index(node: NodeId) -> usize {
    usize::from(node.0[0] - 1)
}

/// The mind that a node runs.
#[derive(Debug)]
pub(super) enum Mind {
    Machine(Box<Machine>),
    Witness(Box<Witness>),
}

impl Mind {
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Mind::Machine(machine) => machine.poll_timeout().map(|(at, _)| at),
            Mind::Witness(witness) => witness.poll_timeout().map(|(at, _)| at),
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        match self {
            Mind::Machine(machine) => machine.handle_timeout(now),
            Mind::Witness(witness) => witness.handle_timeout(now),
        }
    }
}

/// What does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The daemon is stopped; its watchdog, the services and the clock go on.
    Daemon,
    /// All of the machine sleeps; its clock goes on.
    Host,
    /// All of the machine is frozen, and its clock too.
    Frozen,
}

/// What is saved and not durable yet.
#[derive(Clone, Debug)]
pub(super) enum Saving {
    Record(Record),
    Ballot(Ballot),
}

#[derive(Debug)]
pub(super) struct Node {
    pub clock: Clock,
    pub mind: Option<Mind>,
    pub boot: u32,
    pub started: Instant,
    pub pause: Option<Pause>,
    pub inbox: VecDeque<Datagram>,
    pub record: Record,
    pub ballot: Option<Ballot>,
    /// What it wanted saved last.
    pub asked: Record,
    pub saving: VecDeque<(u64, Saving)>,
    pub action: Option<Action>,
    /// Its daemon says that it goes down in order.
    pub leaving: bool,
    pub up: Vec<Step>,
    /// What its resources are in truth; none: they are one step that goes as it is told.
    pub agents: Vec<Agent>,
    /// Counts when the programs were ended that daemons before this one had left running.
    pub orphans_ended: u32,
    /// What keeps those.
    pub keeper: Option<Keeper>,
    /// Are the files there that are there while it serves?
    pub role_files: bool,
    /// How often it was told to put them back since.
    pub put_back: u32,
    pub lease: Lease,
    /// Number of the timer or watchdog event that counts.
    pub timer: u64,
    pub watch: u64,
    /// How often it wrote, or what it has of that.
    pub written: u64,
    pub fit: Option<u64>,
    pub unfit_until: Micros,
    pub restored_at: Option<Micros>,
    /// Until when a frozen clock may still excuse it.
    pub excused_until: Micros,
}

impl Node {
    pub fn machine(&self) -> Option<&Machine> {
        match &self.mind {
            Some(Mind::Machine(machine)) => Some(machine),
            _ => None,
        }
    }

    pub fn is_running(&self) -> bool {
        self.mind.is_some() && self.pause.is_none()
    }

    /// Does somebody get an answer from it?
    pub fn serves(&self) -> bool {
        self.up.contains(&Step::Address(0)) && !matches!(self.pause, Some(Pause::Host | Pause::Frozen))
    }

    /// Does its service write?
    pub fn writes(&self) -> bool {
        self.serves() && self.up.contains(&Step::Service(0))
    }

    /// Is anything of the group there?
    pub fn has_any(&self) -> bool {
        !self.up.is_empty() || self.agents.iter().any(Agent::is_there)
    }

    /// The watchdog takes everything down.
    pub fn strike(&mut self) {
        self.up.clear();
        self.orphans_ended += 1;
        self.agents.iter_mut().for_each(Agent::strike);
    }

    /// Nothing of the group is left.
    pub fn end_all(&mut self) {
        self.up.clear();
        self.orphans_ended += 1;
        self.agents.iter_mut().for_each(Agent::end);
    }

    pub fn is_lease_over(&self, at: Micros) -> bool {
        match self.lease {
            Lease::None => true,
            Lease::Unlimited => false,
            Lease::Until(until) => self.clock.read(at) >= until,
        }
    }
}
