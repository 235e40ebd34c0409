//! The states of a group on one node.
//!
//! ```text
//!                         ┌───────────── lease over, or a step failed for good ────────────┐
//!                         ▾                                                                │
//!   start ─ writer ─▸  Down ── granted ──▸ Raising ── all up ──▸ Active ── asked ──▸ HandingOver
//!     │                   ▴                   ▴  ▴                                         │ all handed over
//!     │                   │                   │  └────── could not ────────────────────────┤
//!     │                Falling ◂── newer      │                                            ▾
//!     │                   │        epoch      │ epoch durable          not taken ◂──── Yielded ── newer epoch ─┐
//!   other ──▸ Falling ────┤                   │                          (Down)                                │
//!                         │               Committing                                                           │
//!                         ▾                   ▴ nothing stands against it                                      │
//!   RestoreRequired ──▸ Standby ◂─────────────┼────────────────────────────────────────────────────────────────┘
//!      restored           │                   │
//!                         ├── silent ──▸ Confirming ──▸ Fencing
//!                         │                ▴   ▴
//!                         ├── silent ──▸ Approval  (a person is asked)
//!                         └── planned ─▸ Asking    (the other node hands over)
//! ```
//! Whatever precedes *Committing* goes back to Standby when it fails; whatever follows it ends in Active, or in Down and
//! another try. A person has it go offline from Active through *Closing* to Down. Only the writer of the newest durable epoch
//! is ever in the upper row.

use std::time::Instant;

use stead_model::Epoch;

use crate::heartbeat::{Event, Role};

/// What a node waits for before it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Await {
    /// One of the reference addresses.
    References,
    /// The agreement of the witness.
    Vote,
    /// The end of the lease that the other node was granted.
    Lapse,
    /// A lease, from the other node or the witness.
    Grant,
}

/// What is to become of a node that takes everything down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It keeps its epoch, and serves again when it is granted to; `None`: when a person says so.
    Down(Option<Instant>),
    /// It stands by, or has to be restored, as its record says.
    Standby,
}

/// A takeover that is being confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Why.
    pub event: Event,
    /// The epoch that it is to have.
    pub epoch: Epoch,
    /// A person wants it.
    pub asked: bool,
    /// Whatever stands against it.
    pub force: bool,
    /// The other node has handed over.
    pub yielded: bool,
    /// The witness agreed.
    pub vote: bool,
    /// The reference addresses answered, or there are none.
    pub references: bool,
    /// When it began.
    pub since: Instant,
    /// Since when nobody serves, as far as it is known.
    pub outage_since: Instant,
    /// When it is given up.
    pub until: Instant,
    /// Number of the question to the other node; 0: none was asked.
    pub number: u64,
}

/// What the group is doing on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Newest epoch, not serving. Asks for a lease from `retry` on; `None`: waits for a person. `unsure`: something may still
    /// be up from before the start.
    Down {
        /// From when on it asks.
        retry: Option<Instant>,
        /// Since when something may be up.
        unsure: Option<Instant>,
    },
    /// Brings everything up.
    Raising,
    /// Serves.
    Active,
    /// Takes everything down in order, for that question of the other node.
    HandingOver {
        /// Its number.
        number: u64,
    },
    /// Handed over; waits for the other node to take it.
    Yielded {
        /// The other node's question.
        number: u64,
        /// Own number of the yield.
        own: u64,
        /// When it goes on by itself.
        until: Instant,
    },
    /// Takes everything down in order, as a person wants; its lease goes on meanwhile.
    Closing {
        /// As that of [`State::Down`], which follows.
        retry: Option<Instant>,
    },
    /// Takes everything down at once.
    Falling(Then),
    /// Keeps the replica, watches.
    Standby,
    /// Waits for a person.
    Approval,
    /// Waits for the other node to hand over.
    Asking(Claim),
    /// Asks witness and references.
    Confirming(Claim),
    /// Fences.
    Fencing(Claim),
    /// Waits for the epoch to be durable.
    Committing(Claim),
    /// Has data that another node went past.
    RestoreRequired,
}

impl State {
    /// What it tells the others that it is.
    pub fn role(&self) -> Role {
        match self {
            State::Down { .. } => Role::Down,
            State::Active => Role::Active,
            State::Raising | State::HandingOver { .. } | State::Yielded { .. } => Role::Moving,
            State::Closing { .. } | State::Falling(Then::Down(_)) => Role::Moving,
            State::RestoreRequired => Role::RestoreRequired,
            _ => Role::Standby,
        }
    }

    /// Does something of the group run here that needs a lease?
    pub fn needs_lease(&self) -> bool {
        matches!(self, State::Raising | State::Active | State::HandingOver { .. } | State::Closing { .. })
    }

    /// Does it stand by, with no takeover on its way?
    pub fn is_idle(&self) -> bool {
        matches!(self, State::Standby | State::Approval | State::RestoreRequired | State::Falling(Then::Standby))
    }

    /// The takeover that is on its way and can still be given up.
    pub fn claim(&self) -> Option<&Claim> {
        match self {
            State::Asking(claim) | State::Confirming(claim) | State::Fencing(claim) => Some(claim),
            _ => None,
        }
    }
}
