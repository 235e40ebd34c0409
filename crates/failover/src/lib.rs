//! The mind of failover: who is alive, who may serve, and what is done about it. Values and `now` in, values out: no
//! input or output, no clock, no runtime.
//!
//! `now` is an [`Instant`](std::time::Instant) that stands for CLOCK_BOOTTIME: it goes on while the machine sleeps.

pub mod heartbeat;
mod ids;
pub mod lease;
pub mod machine;
pub mod monitor;
#[cfg_attr(not(any(test, feature = "sim")), allow(dead_code, reason = "bugs are planted by the simulation only"))]
mod planted;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod timeline;

pub use heartbeat::{Heartbeat, Note, Receiver, Say, Sender};
pub use ids::{ClusterId, GroupId, NodeId};
pub use lease::{Ballot, Times, Witness, WitnessConfig, WitnessInput, WitnessOutput};
pub use machine::{Config, Input, Machine, Output, Record};
pub use monitor::{Monitor, MonitorConfig, MonitorInput, MonitorOutput, Presence, Watch};
pub use timeline::Entry;
