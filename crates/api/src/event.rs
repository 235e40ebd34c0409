//! What a daemon answers.

use serde::{Deserialize, Serialize};
use stead_model::alert::Alert;
use stead_model::status::{Status, Timestamp, VerifyReport};
use stead_model::{NodeName, SetName};

use crate::Failure;

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Something the operator should know; the request goes on.
    Notice(String),
    /// How it stands with what was asked for.
    Progress(Status),
    /// The request was done. The last event.
    Done(Answer),
    /// The request was not done. The last event.
    Failed(Failure),
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing more to say.
    Done,
    /// The line for `stead join`.
    Invite(String),
    /// The node that is trusted now.
    Joined {
        /// Its name.
        node: NodeName,
        /// Was it trusted before?
        again: bool,
    },
    /// This node first, then its peers by name.
    Nodes(Vec<NodeInfo>),
    /// The set is protected (with `no_wait`: its mirror has begun).
    Protected {
        /// Its name.
        set: SetName,
        /// The connections of the set.
        status: Status,
    },
    /// The state of everything.
    Status(Status),
    /// What was compared; different: exit code 3.
    Verified(VerifyReport),
    /// When the last verify ended and what it found; none: there was none. Different: exit code 3.
    LastVerify(Option<(Timestamp, VerifyReport)>),
    /// What is wrong, the oldest first.
    Alerts(Vec<Alert>),
    /// The plan as TOML.
    Plan(String),
    /// What is wrong; nothing: the plan holds.
    Checked(Vec<CheckFinding>),
}

/// A node of the trust circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: NodeName,
    /// SHA-256 of its certificate, in hexadecimal.
    pub fingerprint: String,
    /// Where it listens.
    pub addresses: Vec<std::net::SocketAddr>,
    /// Does it answer? None for this node itself.
    pub reachable: Option<bool>,
}

/// Something in which plan and machines differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// What the plan says that does not hold, why, and what to do.
    pub text: String,
}
