//! How a group is run on one of its nodes.

use std::time::Duration;

use super::step::Step;
use crate::ids::{GroupId, NodeId};
use crate::lease::{BadTimes, Times};
use crate::monitor::{BadMonitor, MonitorConfig};

/// Who decides that the standby takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The machine, with a witness; without one it asks a person.
    Automatic,
    /// A person confirms.
    Approve,
    /// The machine, also without a witness: two nodes that do not hear each other may both serve.
    UnsafeTwoNode,
}

/// What follows when a script of the plan fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is told, and the next step follows.
    GoOn,
    /// Everything is taken down; a person says when to try again.
    Stop,
    /// Everything is taken down, and tried again later.
    Undo,
}

/// What there is to bring up, in the order of the plan. Indexes are the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Is there a fence for the other node?
    pub fence: bool,
    /// Are there reference addresses?
    pub references: bool,
    /// Is capture mounted on the replica, to know what changes meanwhile?
    pub capture: bool,
    /// How many addresses.
    pub addresses: u16,
    /// Are there files that are others while a node serves? They are switched as one.
    pub role_files: bool,
    /// How many services.
    pub services: u16,
    /// Are there resources that depend on each other? They are brought up and down as one, and keep an order of their own.
    pub resources: bool,
    /// Script before a failover or switchover, on the node that takes over.
    pub pre_failover: Option<OnFailure>,
    /// Script after it.
    pub post_failover: Option<OnFailure>,
    /// Script before a failback, on the node that hands over.
    pub pre_failback: Option<OnFailure>,
    /// Script after it, on the node that takes over.
    pub post_failback: Option<OnFailure>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Asking the reference addresses.
    pub references: Duration,
    /// Fencing and asking whether it is.
    pub fence: Duration,
    /// Applying the journal up to the last consistent point.
    pub drain: Duration,
    /// Each script.
    pub script: Duration,
    /// Mounting or unmounting capture, adding or removing an address, switching role files.
    pub resource: Duration,
    /// Starting or stopping a service.
    pub service: Duration,
    /// Starting or stopping all resources that depend on each other.
    pub resources: Duration,
    /// Bringing the last changes to the other node and proving it equal.
    pub hand_over: Duration,
    /// Telling people.
    pub tell: Duration,
    /// Asking witness and references, all in all.
    pub confirm: Duration,
    /// A switchover or failback, until the other node has handed over.
    pub planned: Duration,
    /// How often a step is tried.
    pub tries: u32,
    /// Between two tries of a step; eight times as long between two tries of the whole.
    pub again: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits {
            references: seconds(2),
            fence: seconds(30),
            drain: seconds(60),
            script: seconds(60),
            resource: seconds(5),
            service: seconds(60),
            resources: seconds(600),
            hand_over: seconds(60),
            tell: seconds(10),
            confirm: seconds(15),
            planned: seconds(180),
            tries: 3,
            again: seconds(1),
        }
    }
}

impl Limits {
    pub(super) fn of(&self, step: Step) -> Duration {
        match step {
            Step::References => self.references,
            Step::Fence => self.fence,
            Step::Drain => self.drain,
            Step::Script(_) => self.script,
            Step::Capture | Step::RoleFiles | Step::Address(_) => self.resource,
            Step::Service(_) => self.service,
            Step::Resources => self.resources,
            Step::HandOver => self.hand_over,
            Step::Tell => self.tell,
        }
    }
}

/// A group on one of its two nodes.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which group.
    pub group: GroupId,
    /// This node.
    pub me: NodeId,
    /// The other one.
    pub peer: NodeId,
    /// That of the two which is the source by the plan.
    pub home: NodeId,
    /// The third one, where there is one.
    pub witness: Option<NodeId>,
    /// How the other one is watched.
    pub monitor: MonitorConfig,
    /// Leases; the same on all nodes of the group.
    pub times: Times,
    /// Who decides.
    pub policy: Policy,
    /// What there is to bring up.
    pub resources: Resources,
    /// How long things may take.
    pub limits: Limits,
    /// Is a set of the group synchronous? Then a takeover without a person needs proof that nothing is lost.
    pub synchronous: bool,
    /// Number of this start of the daemon: durably higher each time, below 2³².
    pub run: u32,
}

/// What is wrong with a [`Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    /// How the node is watched.
    #[error(transparent)]
    Monitor(#[from] BadMonitor),
    /// The times of its leases.
    #[error(transparent)]
    Times(#[from] BadTimes),
    /// The nodes are not different ones, or the source is none of the two.
    #[error("a group needs two nodes, one of which is its source, and its witness has to be another one")]
    Nodes,
    /// Nothing could be confirmed within its limit.
    #[error("a wait of {wait:?} for leases is longer than the limit of {confirm:?} for confirming a failure")]
    Confirm {
        /// The wait.
        wait: Duration,
        /// The limit.
        confirm: Duration,
    },
}

impl Config {
    /// Can it be safe, and can it work?
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), BadConfig> {
        self.monitor.check()?;
        if self.witness.is_some() {
            self.times.check(self.monitor.interval)?;
        }
        let pair = [self.me, self.peer];
        if self.me == self.peer || !pair.contains(&self.home) || self.witness.is_some_and(|node| pair.contains(&node)) {
            return Err(BadConfig::Nodes);
        }
        let (wait, confirm) = (self.times.wait, self.limits.confirm);
        if wait > confirm { Err(BadConfig::Confirm { wait, confirm }) } else { Ok(()) }
    }

    /// May it take over without asking a person?
    pub fn is_automatic(&self) -> bool {
        match self.policy {
            Policy::Automatic => self.witness.is_some(),
            Policy::Approve => false,
            Policy::UnsafeTwoNode => true,
        }
    }
}
