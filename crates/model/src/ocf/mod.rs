//! What an agent by the standard of the Open Cluster Framework means by how it ends: the one reading of it, for the hand that
//! runs agents and for the simulation of the mind that has them run.
//!
//! The table is in `docs/operating/resources.md`, and read from there by a test of `failover`.

mod code;

use std::fmt::Display;

pub use code::{Code, Reach};

use crate::End;
use crate::outcome::{Failure, State};

/// How a resource is, by its agent's own look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It serves.
    Running {
        /// It may fail soon.
        degraded: bool,
    },
    /// It does not, by evidence, and did not fail.
    Stopped,
    /// It failed, by evidence.
    Failed {
        /// In the agent's words.
        why: String,
        /// How far that reaches.
        reach: Reach,
    },
    /// Nothing is proven; why.
    Unknown(String),
}

/// What its look tells. `reason`: what it says of that by itself.
pub fn seen(agent: &dyn Display, end: &End, reason: &str) -> Seen {
    let End::Exited(code) = end else { return Seen::Unknown(format!("{agent} {end}")) };
    match Code::of(*code) {
        Code::Success | Code::Promoted => Seen::Running { degraded: false },
        Code::Degraded | Code::DegradedPromoted => Seen::Running { degraded: true },
        Code::NotRunning => Seen::Stopped,
        code => Seen::Failed { why: format!("{agent} says {code}{reason}"), reach: code.reach() },
    }
}

/// What it is before and after a start or a stop, by its look. What its program needs is not installed on a standby without
/// the file system that has it: that is stopped, or nothing could ever be stopped there.
pub fn state(agent: &dyn Display, end: &End, reason: &str) -> State {
    if *end == End::Exited(NOT_INSTALLED) {
        return State::Stopped;
    }
    match seen(agent, end, reason) {
        Seen::Running { .. } => State::Started,
        Seen::Stopped => State::Stopped,
        Seen::Failed { why, .. } | Seen::Unknown(why) => State::Unknown(why),
    }
}

const NOT_INSTALLED: i32 = 5;

/// What it says of a start, a stop or another action that it was asked for.
///
/// # Errors
/// It did not do it.
pub fn told(agent: &dyn Display, action: &str, end: &End, reason: &str) -> Result<(), Failure> {
    let code = match end {
        End::Exited(0) => return Ok(()),
        End::Exited(code) => Code::of(*code),
        End::TimedOut { limit, .. } => return Err(Failure::TimedOut(*limit)),
        End::NotStarted(_) => return Err(Failure::Unusable(format!("{agent} {end}"))),
        End::Killed(_) | End::Cancelled { .. } => {
            return Err(Failure::Unknown(format!("{agent}, asked for {action}, {end}")));
        }
    };
    let why = format!("{agent} answers {action} with {code}{reason}");
    Err(match code.reach() {
        Reach::Now => Failure::Failed(why),
        Reach::Node => Failure::Unusable(why),
        Reach::Everywhere => Failure::Misconfigured(why),
    })
}
