//! What a thing that is started and stopped is, and what came of having it so.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::Mac;

/// A success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The call changed something.
    Changed,
    /// There was nothing to change.
    Already,
}

/// What a resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Started,
    /// It does not serve, by evidence.
    Stopped,
    /// Neither is proven; why.
    Unknown(String),
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Somebody else answered for the address; nothing was changed.
    #[error("{address} is held by {holder}: fence the holder, or give the address up there")]
    AddressHeld {
        /// The address that was to be taken.
        address: IpAddr,
        /// Hardware address of who answered.
        holder: Mac,
    },
    /// It cannot work as it was given; nothing was changed.
    #[error("{0}")]
    Unusable(String),
    /// It can be meant nowhere as it was given; nothing was changed.
    #[error("{0}")]
    Misconfigured(String),
    /// It was not done in time. What runs on, or was half done, is not known.
    #[error("not done within {0:?}")]
    TimedOut(Duration),
    /// It was called off; nothing was changed.
    #[error("called off")]
    Cancelled,
    /// It was tried and did not succeed.
    #[error("{0}")]
    Failed(String),
    /// It was tried, and what it is now is not known.
    #[error("not known what it is now: {0}")]
    Unknown(String),
}

impl Failure {
    /// One word for programs and tables.
    pub fn word(&self) -> &'static str {
        match self {
            Failure::AddressHeld { .. } => "address-held",
            Failure::Unusable(_) => "unusable",
            Failure::Misconfigured(_) => "misconfigured",
            Failure::TimedOut(_) => "timed-out",
            Failure::Cancelled => "cancelled",
            Failure::Failed(_) => "failed",
            Failure::Unknown(_) => "unknown",
        }
    }

    /// Returns a closure for `map_err`: what could not be done.
    pub fn at<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Failure {
        move |cause| Failure::Failed(format!("cannot {what}: {cause}"))
    }
}

/// What it shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// It serves.
    Start,
    /// It does not.
    Stop,
}

impl To {
    /// Is it that?
    pub fn is(self, state: &State) -> bool {
        *state == if self == To::Start { State::Started } else { State::Stopped }
    }

    fn word(self) -> &'static str {
        if self == To::Start { "started" } else { "stopped" }
    }
}

/// What came of telling it to be so within that limit, by what it is after that: its own word is no evidence.
/// `called_off`: while it changed.
///
/// # Errors
/// It is not so.
pub fn conclude(
    to: To,
    is: &State,
    told: Result<(), Failure>,
    limit: Duration,
    called_off: bool,
) -> Result<Done, Failure> {
    match (is, told) {
        (is, _) if to.is(is) => Ok(Done::Changed),
        _ if called_off => Err(Failure::Unknown("called off while it changed".into())),
        (_, Err(Failure::TimedOut(_))) => Err(Failure::TimedOut(limit)),
        (_, Err(why)) => Err(why),
        (State::Unknown(why), Ok(())) => Err(Failure::Unknown(why.clone())),
        (_, Ok(())) => Err(Failure::Failed(format!("it was told, but is not {}", to.word()))),
    }
}
