//! What is told to the keeper of resources, and what it wants done.

use std::time::Duration;

use stead_model::ocf;
pub use stead_model::ocf::Reach;
use stead_model::outcome::{Done, Failure};

/// What all of them shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Up.
    Up,
    /// Down.
    Down,
}

/// What became of a start or a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is so.
    Good,
    /// It is not so, or nobody knows; why, and how far that reaches.
    Bad(String, Reach),
}

impl From<Result<Done, Failure>> for Ended {
    fn from(result: Result<Done, Failure>) -> Ended {
        match result {
            Ok(_) => Ended::Good,
            Err(why @ Failure::Misconfigured(_)) => Ended::Bad(why.to_string(), Reach::Everywhere),
            Err(why @ Failure::Unusable(_)) => Ended::Bad(why.to_string(), Reach::Node),
            Err(why) => Ended::Bad(why.to_string(), Reach::Now),
        }
    }
}

/// What a look told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It serves.
    Good,
    /// It serves, and may fail soon; why.
    Degraded(String),
    /// It does not, by evidence; why, and how far that reaches.
    Bad(String, Reach),
    /// Nothing; why.
    Unknown(String),
}

impl From<ocf::Seen> for Seen {
    fn from(seen: ocf::Seen) -> Seen {
        match seen {
            ocf::Seen::Running { degraded: false } => Seen::Good,
            ocf::Seen::Running { degraded: true } => Seen::Degraded("its agent says that it is degraded".into()),
            ocf::Seen::Stopped => Seen::Bad("it does not run".into(), Reach::Now),
            ocf::Seen::Failed { why, reach } => Seen::Bad(why, reach),
            ocf::Seen::Unknown(why) => Seen::Unknown(why),
        }
    }
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// All of them shall be that.
    Want(Goal),
    /// They are watched, and nothing is done about what is seen; or no longer.
    Maintain(bool),
    /// A start or a stop has ended.
    Done {
        /// Its number.
        id: u64,
        /// How.
        ended: Ended,
    },
    /// A look has ended.
    Looked {
        /// Its number.
        id: u64,
        /// What it told.
        seen: Seen,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start it or stop it, then say [`Input::Done`]; what is so already is good.
    Do {
        /// Number of the action.
        id: u64,
        /// Which one.
        resource: usize,
        /// What it is to be.
        goal: Goal,
        /// How long that may take.
        limit: Duration,
    },
    /// Look at it, then say [`Input::Looked`].
    Look {
        /// Number of the look.
        id: u64,
        /// Which one.
        resource: usize,
        /// Which of its looks.
        look: usize,
        /// How long that may take.
        limit: Duration,
    },
    /// Kill the start, the stop or the look of that number; nobody waits for its end.
    Cancel {
        /// Its number.
        id: u64,
    },
    /// All of them are what they shall be. Told once for each time that it becomes so.
    Reached(Goal),
    /// A resource is restarted.
    Restarts {
        /// Which one.
        resource: usize,
        /// Why.
        why: String,
    },
    /// A resource cannot be kept up here: all go down now.
    GivesUp {
        /// Which one.
        resource: usize,
        /// Why.
        why: String,
        /// How far that reaches.
        reach: Reach,
    },
    /// Something is amiss, and nothing is done about it: a stop that fails, a look that tells nothing, a service that may
    /// fail soon, a failure in maintenance. Told when it begins; `None`: it is over.
    Amiss {
        /// Which one.
        resource: usize,
        /// What.
        what: Option<String>,
    },
}
