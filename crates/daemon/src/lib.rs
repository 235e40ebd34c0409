//! The daemon: one process for each node. It owns the state directory, the plan and the trust between nodes, answers
//! the command line, and starts the sessions that move the data. The one place where minds and hands meet.
//!
//! ```text
//!   stead … ── api.sock ─┐                    ┌─ jobs: what asks peers or walks trees
//!   peers ── TLS 1.3 ────┼─ Event ─ loop ─────┤
//!   data path ───────────┘   (one owner)      └─ DataPlane: sessions of the sets
//! ```
//! Threads hand the loop closed [`event::Event`]s over one bounded channel; `select` is the only place where it waits,
//! `apply` is synchronous.

mod api_server;
mod apply;
pub mod barrier;
mod check;
mod clock;
mod compare;
mod data;
pub mod estimate;
mod event;
mod failover;
mod forks;
mod gather;
mod job;
mod journal;
mod life;
mod log;
mod metrics;
pub mod names;
mod node;
mod notify;
pub mod peer;
mod protect;
pub mod seam;
mod start;
mod state;
#[cfg(test)]
mod test_values;
mod threads;

pub use check::receivers;
pub use failover::watchdog::watchdog;
pub use start::{Options, PORT, run};
pub use state::restore::{Restored, restore};
pub use state::take_backup;
