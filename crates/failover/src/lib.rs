//! The mind of failover: who is alive, who may serve, and what is done about it. Values and `now` in, values out: no
//! input or output, no clock, no runtime.
//!
//! `now` is an [`Instant`](std::time::Instant) that stands for CLOCK_BOOTTIME: it goes on while the machine sleeps.
//!
//! [`Sender`] and [`Receiver`] are a node's heartbeats to and from all its peers. Each group has a [`Machine`] on its two
//! nodes and, where there is one, a [`Witness`] on a third; [`Resources`] keeps what is up on the node that serves, and
//! [`Outside`] what others know of it. These have
//! the same four calls: `handle`, `handle_timeout`, `poll_output`, `poll_timeout`.
//!
//! The caller's duties:
//! 1. hand every datagram to [`Receiver::receive`] and what it refuses to [`Drops`](heartbeat::Drops); tell the machine of a
//!    group that the other node was heard, then each of the notes about that group, in their order; tell a witness its notes;
//! 2. after each `handle` or `handle_timeout`, take outputs until there are none, and do them in that order; notes to the
//!    same node may share one datagram, and each goes over every path to it at once;
//! 3. ask `poll_timeout` then, and call `handle_timeout` when that instant has come, with what the clock shows then and not
//!    what it should show: being late is how an own stall is noticed;
//! 4. give each start of the daemon a higher number, durably, for [`Sender::new`] and [`Config::run`](Config);
//! 5. keep what is to be saved, and hand it in at the next start, exactly; see [`machine`] for what else a machine needs.

pub mod heartbeat;
mod ids;
pub mod lease;
pub mod machine;
pub mod monitor;
pub mod outside;
#[cfg_attr(not(any(test, feature = "sim")), allow(dead_code, reason = "bugs are planted by the simulation only"))]
mod planted;
pub mod resources;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod timeline;

pub use heartbeat::{Heartbeat, Note, Receiver, Say, Sender};
pub use ids::{ClusterId, GroupId, NodeId};
pub use lease::{Ballot, Times, Witness, WitnessConfig, WitnessInput, WitnessOutput};
pub use machine::{Config, Input, Machine, Output, Record};
pub use monitor::{Monitor, MonitorConfig, MonitorInput, MonitorOutput, Presence, Watch};
pub use outside::Outside;
pub use resources::{Resources, ResourcesConfig};
pub use timeline::Entry;
