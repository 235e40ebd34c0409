//! How a program ended.

use std::fmt;
use std::time::Duration;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that this process did not send.
    Killed(i32),
    /// Its time was over; it was ended.
    TimedOut {
        /// The limit.
        limit: Duration,
        /// Processes that not even SIGKILL ended within a second: they wait for a device, mostly.
        unkillable: usize,
    },
    /// It was called off; it was ended.
    Cancelled {
        /// As above.
        unkillable: usize,
    },
    /// It was not started; why.
    NotStarted(String),
}

impl End {
    /// Did it end by itself, and say success?
    pub fn is_success(&self) -> bool {
        *self == End::Exited(0)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(f, "ended with code {code}"),
            End::Killed(signal) => write!(f, "was ended by signal {signal}"),
            End::TimedOut { limit, unkillable: 0 } => write!(f, "was not done within {limit:?} and was ended"),
            End::TimedOut { limit, unkillable } => {
                write!(f, "was not done within {limit:?}, and {unkillable} of its processes cannot be ended")
            }
            End::Cancelled { unkillable: 0 } => f.write_str("was called off and was ended"),
            End::Cancelled { unkillable } => {
                write!(f, "was called off, and {unkillable} of its processes cannot be ended")
            }
            End::NotStarted(why) => write!(f, "was not started: {why}"),
        }
    }
}
