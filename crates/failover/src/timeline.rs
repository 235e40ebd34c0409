//! What `stead explain` prints: what was seen, what was concluded, each step with its duration and outcome. The caller
//! puts the time to each entry when it takes it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::heartbeat::{Event, Hold, No};
use crate::machine::{Outcome, Refusal, Step, Turn};

/// One line of a timeline. Its text is [`fmt::Display`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// The other node is heard.
    Heard,
    /// A quarter of the time-out is gone.
    Late,
    /// All of it is gone.
    Silent(Duration),
    /// It is not known whether the other node lives.
    Unknown,
    /// A path is silent, or lives again.
    Path {
        /// Its number.
        path: u32,
        /// Is it silent?
        down: bool,
    },
    /// This process did not run.
    Stalled(Duration),
    /// The other node goes down in order.
    Leaves,
    /// The other node is heard and does not serve.
    NotServing(Duration),
    /// A takeover is being considered.
    Confirming {
        /// Why.
        event: Event,
        /// Under which epoch.
        epoch: u64,
    },
    /// A person has to approve it.
    AsksPerson,
    /// It does not come about.
    NotTaken(Refusal),
    /// The witness votes for it.
    Vote,
    /// The witness does not.
    NoVote(No),
    /// The epoch is durable: from here on the takeover is finished, whatever happens.
    Committed(u64),
    /// What was begun before a restart and had no durable epoch is undone.
    Undone(Event),
    /// What was begun before a restart is finished.
    Resumed(Event),
    /// A step has ended.
    Step {
        /// Which.
        step: Step,
        /// Which way.
        turn: Turn,
        /// How long it took.
        took: Duration,
        /// What became of it.
        outcome: Outcome,
    },
    /// This node serves.
    Active {
        /// Under which epoch.
        epoch: u64,
        /// How long after it began to be brought about.
        took: Duration,
        /// Of a takeover: since the other node was last heard, or was asked to hand over.
        outage: Option<Duration>,
    },
    /// Its resources cannot be kept up.
    Failing {
        /// When they are tried again here.
        pause: Duration,
        /// No node could.
        everywhere: bool,
    },
    /// The other node cannot keep its resources up, and is asked to hand over.
    Relieves,
    /// A person holds it in that, or no longer.
    Held(Hold),
    /// The lease is over.
    Lapsed,
    /// Another node has a newer epoch.
    Superseded(u64),
    /// The other node asks to take over in order.
    HandingOver(Event),
    /// Everything was handed over.
    HandedOver,
    /// The other node did not take it.
    NotTakenOver,
    /// Everything is taken down.
    Down,
    /// This node stands by.
    Standby,
    /// This node has to be restored.
    RestoreRequired,
    /// Another node is in the place of the other one.
    PeerReplaced,
    /// A person asked for something.
    Request {
        /// Its number.
        id: u64,
        /// What for.
        what: String,
    },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Heard => f.write_str("the other node is heard"),
            Entry::Late => f.write_str("the other node is late"),
            Entry::Silent(by) => write!(f, "the other node is silent on every path for {}", Short(*by)),
            Entry::Unknown => f.write_str("it is not known whether the other node lives"),
            Entry::Path { path, down: true } => write!(f, "path {path} is silent while others live"),
            Entry::Path { path, down: false } => write!(f, "path {path} lives again"),
            Entry::Stalled(by) => write!(f, "this process stalled for {}: the count begins anew", Short(*by)),
            Entry::Leaves => f.write_str("the other node goes down in order"),
            Entry::NotServing(by) => write!(f, "the other node is heard and does not serve for {}", Short(*by)),
            Entry::Confirming { event, epoch } => write!(f, "{}: confirming, for epoch {epoch}", event.as_str()),
            Entry::AsksPerson => f.write_str("a person has to approve the takeover"),
            Entry::NotTaken(why) => write!(f, "no takeover: {why}"),
            Entry::Vote => f.write_str("the witness agrees"),
            Entry::NoVote(no) => write!(f, "the witness does not agree: {}", words(*no)),
            Entry::Committed(epoch) => write!(f, "epoch {epoch} is durable: the point of no return"),
            Entry::Undone(event) => write!(f, "{} had no durable epoch before the restart: undone", event.as_str()),
            Entry::Resumed(event) => {
                write!(f, "{} had a durable epoch before the restart: to be finished", event.as_str())
            }
            Entry::Step { step, turn, took, outcome } => {
                let undo = if *turn == Turn::Undo { "undo " } else { "" };
                write!(f, "{undo}{step}: {outcome} ({})", Short(*took))
            }
            Entry::Active { epoch, took, outage: None } => {
                write!(f, "active under epoch {epoch}, after {}", Short(*took))
            }
            Entry::Active { epoch, took, outage: Some(outage) } => {
                write!(f, "active under epoch {epoch}, after {}; outage {}", Short(*took), Short(*outage))
            }
            Entry::Failing { pause, everywhere: false } => write!(
                f,
                "the resources cannot be kept up here: the other node may take over, else they are tried again in {}",
                Short(*pause)
            ),
            Entry::Failing { pause, everywhere: true } => {
                write!(f, "the resources cannot be kept up on any node: they are tried again in {}", Short(*pause))
            }
            Entry::Relieves => f.write_str("the other node cannot keep its resources up: it is asked to hand over"),
            Entry::Held(Hold::None) => f.write_str("neither offline nor in maintenance any more"),
            Entry::Held(Hold::Offline) => f.write_str("offline: everything is down until a person says otherwise"),
            Entry::Held(Hold::Maintenance) => {
                f.write_str("in maintenance: watched, and nothing is done about what is seen")
            }
            Entry::Lapsed => f.write_str("the lease is over: everything is taken down"),
            Entry::Superseded(epoch) => write!(f, "the other node has epoch {epoch}: everything stays down here"),
            Entry::HandingOver(event) => write!(f, "{}: handing over", event.as_str()),
            Entry::HandedOver => f.write_str("handed over: nothing serves here"),
            Entry::NotTakenOver => f.write_str("the other node did not take over: going on here"),
            Entry::Down => f.write_str("everything is down"),
            Entry::Standby => f.write_str("standing by"),
            Entry::RestoreRequired => f.write_str("restore required"),
            Entry::PeerReplaced => f.write_str("another node is in the place of the other one"),
            Entry::Request { id, what } => write!(f, "request {id}: {what}"),
        }
    }
}

fn words(no: No) -> &'static str {
    match no {
        No::Seen => "it hears the active side",
        No::Waiting => "what it granted has to lapse",
        No::Silent => "it started not long ago",
        No::Other => "a newer epoch or another candidate stands against it",
        No::Unable => "it cannot now",
    }
}

/// A duration as people read it.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms @ ..1_000 => write!(f, "{ms} ms"),
            _ => write!(f, "{:.2} s", self.0.as_secs_f64()),
        }
    }
}
