//! What a witness has to remember.

use serde::{Deserialize, Serialize};
use stead_model::Epoch;

/// A vote for one node and one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The epoch, with the node as its writer.
    pub epoch: Epoch,
    /// Number of the question that it answered last.
    pub number: u64,
}

/// What a witness remembers of a group, durably: saved as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The newest epoch under which a node asked for a lease and got it.
    pub floor: Epoch,
    /// The vote that was given and is not known to be used or given back. One for each epoch.
    pub vote: Option<Vote>,
}

/// What a node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is the one that is granted to.
    Holds,
    /// It has the vote, and uses it.
    Uses,
    /// It has an epoch that nobody voted for: a person forced it.
    Forces,
    /// That one stands against it.
    Beaten(Epoch),
}

impl Ballot {
    /// Somebody asks for a lease under that epoch.
    pub(super) fn claim(&self, epoch: Epoch) -> Claim {
        let newest = self.vote.map_or(self.floor, |vote| vote.epoch);
        if epoch.number > newest.number {
            Claim::Forces
        } else if !is_same(epoch, newest) {
            Claim::Beaten(newest)
        } else if self.vote.is_some() {
            Claim::Uses
        } else {
            Claim::Holds
        }
    }

    /// Which epoch stands against a vote for that one?
    pub(super) fn objection(&self, epoch: Epoch) -> Option<Epoch> {
        if epoch.number <= self.floor.number {
            return Some(self.floor);
        }
        self.vote.map(|vote| vote.epoch).filter(|voted| voted.writer != epoch.writer || voted.number > epoch.number)
    }

    /// The node stands by under `known`, and uses no vote that it asked for with a lower number.
    pub(super) fn gives_back(&self, writer: [u8; 16], number: u64, known: Epoch) -> bool {
        self.vote
            .is_some_and(|vote| vote.epoch.writer == writer && number > vote.number && known.number < vote.epoch.number)
    }
}

pub(super) fn is_same(one: Epoch, other: Epoch) -> bool {
    (one.number, one.writer) == (other.number, other.writer)
}
