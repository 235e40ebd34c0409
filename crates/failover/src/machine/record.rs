//! What a node remembers of a group, durably.

use serde::{Deserialize, Serialize};
use stead_model::Epoch;

use super::step::Step;
use crate::heartbeat::{Event, Hold};
use crate::ids::NodeId;

/// What is being done, with what is done of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What.
    pub kind: WorkKind,
    /// Why.
    pub event: Event,
    /// Finished steps.
    pub done: Vec<Step>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkKind {
    /// Up to the durable epoch: undone after a crash.
    Claim,
    /// From there on: finished after a crash.
    Takeover,
    /// Taking down in order, for the other node: undone after a crash.
    HandOver,
}

/// All that a node remembers of a group: saved as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The newest epoch that is known here; its writer is the active side, or was.
    pub epoch: Epoch,
    /// Was everything that this node wrote handed over?
    pub clean: bool,
    /// Has it to be restored before it may stand by?
    pub restore: bool,
    /// Was the other node ever heard? Until then its silence tells nothing.
    pub heard: bool,
    /// What is being done.
    pub work: Option<Work>,
    /// What a person holds it in.
    #[serde(default, skip_serializing_if = "is_free")]
    pub hold: Hold,
}

fn is_free(hold: &Hold) -> bool {
    *hold == Hold::None
}

impl Record {
    /// That of a new group, on both nodes: `source` is the active side.
    pub fn new(source: NodeId) -> Record {
        let epoch = Epoch { number: 1, writer: source.0, random: 0 };
        Record { epoch, clean: false, restore: false, heard: false, work: None, hold: Hold::None }
    }

    pub(super) fn is_writer(&self, node: NodeId) -> bool {
        self.epoch.writer == node.0
    }

    /// What that node is to take from another's epoch: is it newer than ours, or the same number by another writer who
    /// goes first?
    pub(super) fn is_beaten_by(&self, other: Epoch) -> bool {
        (other.number, other.writer) > (self.epoch.number, self.epoch.writer)
    }

    /// That one is known from now on.
    pub(super) fn learn(&mut self, me: NodeId, other: Epoch) {
        self.restore |= self.is_writer(me) && !self.clean;
        self.epoch = other;
        self.work = None;
    }
}
