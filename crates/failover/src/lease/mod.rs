//! Leases: who may serve, and until when.
//!
//! ```text
//!   holder    ask ──┐                          lease         stop budget
//!                   ├───────────────────────────────────────┤─────────┤ certainly quiet
//!   granter         └─▸ grant ├───────────────────────── wait ────────────────┤ may agree to a takeover
//! ```
//! The holder counts from when it *sent* the question, the granter from when it answered, which is later. With two clocks
//! that are each at most 1 % wrong, the holder is quiet before the granter's wait is over ([`Times`]). Only an
//! acknowledged grant prolongs a lease. A granter that was restarted does not know what it granted, and is silent for a
//! full wait. [`Witness`] is a third node that grants to the active side and votes for those who want to be.

mod ballot;
mod granter;
mod holder;
mod times;
mod witness;

pub use ballot::{Ballot, Vote};
pub(crate) use granter::Granter;
pub(crate) use holder::Holder;
pub use times::{BadTimes, Times};
pub use witness::{Witness, WitnessConfig, WitnessInput, WitnessOutput, WitnessTimer};

#[cfg(test)]
mod tests;
