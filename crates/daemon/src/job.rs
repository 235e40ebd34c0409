//! Work beside the loop: what asks peers or walks trees runs on a thread of its own, on values it was given, and comes
//! back as an event.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::SyncSender;
use std::thread;

use stead_api::{Compared, Failback, Failure};
use stead_model::plan::{ConnectionPlan, Plan, SetPlan};
use stead_model::status::Timestamp;
use stead_model::{Epoch, GroupName, NodeName, SetName};
use tracing::error;

use crate::api_server::Responder;
use crate::apply::Steps;
use crate::event::Event;
use crate::forks;
use crate::node::{Applying, Drifted, Grouped, Resettled, StoodIn};
use crate::peer::listen::Caller;
use crate::peer::messages::{ReplicaAsk, ReplicaChange, Tell};
use crate::state::peers::Peer;
use crate::state::replaced::Successor;

/// What came out of a job that the loop has to act on.
pub(crate) enum JobDone {
    /// `join`: the other side trusts this node now; trust it too.
    Joined { peer: Peer, responder: Responder },
    /// `node remove`: the node was told to forget this one, or why not.
    Forgotten { node: NodeName, force: bool, told: Result<(), Failure>, responder: Responder },
    /// Peers were told this node's new certificate, or why not. A client waits for it, or nobody does.
    KeyTold { told: Vec<(NodeName, Result<(), Failure>)>, responder: Option<Responder> },
    /// `node replace`: the new machine keeps the replicas now, or why not.
    Replaced { replacement: Box<Replacement>, result: Result<(), Failure>, responder: Responder },
    /// `protect`: the target keeps the replica now, or why not.
    Protected { set: SetName, result: Result<Box<Kept>, Failure>, responder: Responder, then: Then },
    /// The directories of a replica were made (those lists), or why not.
    ReplicaMade {
        ask: Box<ReplicaAsk>,
        from: Caller,
        result: Result<Vec<std::path::PathBuf>, Failure>,
        reply: SyncSender<Result<Tell, Failure>>,
    },
    /// The targets were told that these sets are no longer protected; the rest is next.
    Released { sets: Vec<SetName>, responder: Responder, rest: Rest },
    /// `plan apply`: the nodes of its groups can take their addresses, or why not.
    Examined { applying: Applying, over: Option<String>, result: Result<(), Failure>, responder: Responder },
    /// `plan apply`: the targets were told what changes for them, but for those, for that reason.
    Changing {
        steps: Box<Steps>,
        wanted: Box<Plan>,
        applying: Applying,
        untold: BTreeMap<(SetName, NodeName), Failure>,
        responder: Responder,
    },
    /// `unprotect`: those who work in the set were named; it ends nevertheless.
    Named { set: SetName, responder: Responder },
    /// A target was told how its set is run.
    Told(Box<ReplicaChange>),
    /// The alert command ended.
    AlertTold,
    /// The role files of groups at rest were looked at.
    DriftLooked { found: Vec<Drifted> },
    /// A receiver was told, or why not.
    Delivered { receiver: String, result: Result<(), String> },
    /// A peer told its half of the secret for heartbeats, or why not.
    Exchanged { peer: NodeName, told: Result<Tell, Failure> },
    /// `failback`: both sides were compared where it serves, or why not.
    Compared { options: Failback, result: Result<Vec<Compared>, Failure>, responder: Responder },
    /// `failback --then stop`: the source serves again.
    WentBack { group: GroupName, responder: Responder },
    /// `restore --map` and `--to`: the replicas have new places, or why not.
    Resettled { sets: Vec<SetName>, result: Result<Box<Resettled>, Failure>, responder: Responder },
    /// A node knows that another one is in its place.
    ReplacedTold(Successor),
    /// `monitor`: the other nodes take part in the group now, or why not; the rest of that plan is next.
    Grouped { result: Result<Box<Grouped>, Failure>, responder: Responder, then: Option<Applying> },
    /// `unmonitor`: the other nodes know that a group has ended; the rest of that plan is next.
    Ungrouped { responder: Responder, then: Option<Applying> },
    /// A check of a group's service ended; what spoke against it.
    Checked { group: GroupName, at: usize, failed: Option<String> },
    /// Replicas became images of one instant, or not.
    StoodIn(Box<StoodIn>),
    /// The node that stood in said since when something is missing there; none: nothing is.
    ForkPoint { key: forks::Key, told: Result<Option<Timestamp>, Failure> },
    /// What only this node had of a set is kept aside, or why not.
    Kept { key: forks::Key, result: Result<forks::store::Kept, Failure> },
}

/// A machine that takes the place of a node.
pub(crate) struct Replacement {
    pub(crate) old: NodeName,
    /// None where it did not come so far that the machine trusts this node.
    pub(crate) peer: Option<Peer>,
    pub(crate) sets: Vec<SetName>,
    /// The replicas were filled from a copy.
    pub(crate) seeded: bool,
}

/// What follows a `protect`.
pub(crate) struct Then {
    /// Do not wait for the first mirror.
    pub(crate) no_wait: bool,
    /// What is to be done next, instead of waiting.
    pub(crate) rest: Rest,
}

/// What is to be done next.
#[derive(Default)]
pub(crate) struct Rest {
    /// Sets that are to be protected.
    pub(crate) sets: Vec<stead_api::Protect>,
    /// Then a plan is applied further.
    pub(crate) plan: Option<Applying>,
}

impl Rest {
    /// Is there nothing?
    pub(crate) fn is_none(&self) -> bool {
        self.sets.is_empty() && self.plan.is_none()
    }
}

/// A set that its target is ready for.
pub(crate) struct Kept {
    pub(crate) set: SetPlan,
    pub(crate) connection: ConnectionPlan,
    pub(crate) dirs: Vec<bool>,
    pub(crate) epoch: Epoch,
    /// The set runs already: this is another target of it.
    pub(crate) joins: bool,
    /// The replica was filled from a carried copy.
    pub(crate) seeded: bool,
}

/// Runs something that may panic, which is then a failure like any other: the client hears of it.
pub(crate) fn guarded<T>(what: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Failure::new(what, "the daemon ran into a fault of its own", "Its log says where; please report it"))
    })
}

/// Runs the work and hands its result to the loop; none: it told everyone itself.
pub(crate) fn spawn(events: &SyncSender<Event>, work: impl FnOnce() -> Option<JobDone> + Send + 'static) {
    let events = events.clone();
    let run = move || {
        if let Some(done) = work() {
            let _ = events.send(Event::Job(Box::new(done)));
        }
    };
    if let Err(e) = thread::Builder::new().name("stead-job".into()).spawn(run) {
        error!("no thread for a job: {e}");
    }
}
