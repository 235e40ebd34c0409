//! What is told to the keeper of registrations, and what it wants done.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::heartbeat::Event;

/// A registration of a group elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Which one, across restarts and other plans: of all that it says.
    pub key: u64,
    /// Does it hold where the group is, so that it has to be right however the group came here? Else it tells of moves.
    pub holds: bool,
    /// How long telling it may take.
    pub limit: Duration,
}

/// What was told under an epoch: saved as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The newest under which this node served.
    pub epoch: u64,
    /// How the group came here; none: nobody knows any more.
    pub event: Option<Event>,
    /// Keys of the registrations that are done.
    pub done: BTreeSet<u64>,
}

impl Told {
    /// That of a group which has no registrations yet, or is new: nothing moved to that epoch. What holds has to be right.
    pub fn begin(epoch: u64, registrations: &[Registration]) -> Told {
        let moot = registrations.iter().filter(|registration| !registration.holds);
        Told { epoch, event: None, done: moot.map(|registration| registration.key).collect() }
    }
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// This node serves.
    Serves {
        /// Under which epoch.
        epoch: u64,
        /// How that came; none: nobody knows any more, or nothing moved.
        event: Option<Event>,
    },
    /// It no longer does.
    Ceases,
    /// Everything up to that [`Output::Save`] is durable.
    Saved {
        /// Its number.
        number: u64,
    },
    /// A registration was told, or not; why.
    Done {
        /// Number of the action.
        id: u64,
        /// What came of it.
        ended: Result<(), String>,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Save it, then say [`Input::Saved`].
    Save {
        /// Numbers go up.
        number: u64,
        /// What to save, in the place of everything saved before.
        told: Told,
    },
    /// Tell it, then say [`Input::Done`]; what is so already is good.
    Tell {
        /// Number of the action.
        id: u64,
        /// Which one.
        registration: usize,
        /// Under which epoch this node serves.
        epoch: u64,
        /// How the group came here.
        event: Option<Event>,
        /// How long that may take.
        limit: Duration,
    },
    /// Call it off; nobody waits for its end, and it must not act any more.
    Cancel {
        /// Its number.
        id: u64,
    },
    /// It is told, durably.
    Did {
        /// Which one.
        registration: usize,
        /// After how many tries that failed.
        failed: u32,
        /// How long that took all in all.
        after: Duration,
    },
    /// It is not told yet. Said once for each reason.
    Fails {
        /// Which one.
        registration: usize,
        /// Why.
        why: String,
        /// When it is tried again.
        again: Duration,
    },
}
