//! What a daemon answers.

use serde::{Deserialize, Serialize};
use stead_model::alert::Alert;
use stead_model::plan::Difference;
use stead_model::status::{Status, Timestamp, VerifyReport};
use stead_model::{GroupName, NodeName, SetName};

use crate::{ChecklistItem, Compared, Failure, Fork, ForkEntry, Preview};

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
    /// The node of that name is in the place of the other one, with these sets.
    Replaced {
        /// Its name.
        node: NodeName,
        /// What it keeps from now on.
        sets: Vec<SetName>,
    },
    /// This node has another key.
    Rotated {
        /// SHA-256 of its new certificate, in hexadecimal.
        fingerprint: String,
        /// Peers that know it.
        told: Vec<NodeName>,
        /// Peers that are told when they are met again, and why they were not.
        untold: Vec<(NodeName, String)>,
    },
    /// The content of a backup file, in hexadecimal.
    Backup(String),
    /// Lines of the daemon's log, the newest last.
    Log(Vec<String>),
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
    /// What became of it at each receiver.
    AlertTested(Vec<TestedReceiver>),
    /// The plan as TOML.
    Plan(String),
    /// In what a plan differs from the one that is.
    Compared {
        /// Nothing: not at all.
        differences: Vec<Difference>,
        /// The one that is, as TOML.
        over: String,
        /// What is not known of the machines, each in a line; it forbids nothing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unknown: Vec<String>,
    },
    /// What is wrong; nothing: the plan holds.
    Checked(Vec<CheckFinding>),
    /// What is not kept alike by itself, group by group; something different: exit code 3.
    Checklist(Vec<ChecklistItem>),
    /// The sets are restored (with `no_wait`: they are on their way).
    Restored {
        /// Sets of the group that have to be restored still.
        left: Vec<SetName>,
    },
    /// What a restore would change, set by set.
    Preview(Vec<Preview>),
    /// The source serves again; what was compared before.
    FailedBack(Vec<Compared>),
    /// What happened to groups, each by the node that tells it.
    Timelines(Vec<Timeline>),
    /// What this node alone had, by set and epoch.
    Forks(Vec<Fork>),
    /// What it alone had of one set.
    Fork {
        /// How far it is kept.
        fork: Fork,
        /// Part of the list.
        entries: Vec<ForkEntry>,
        /// Where the list goes on; none: that was its end.
        next: Option<u64>,
    },
    /// So much was copied.
    Exported {
        /// Files and symlinks.
        files: u64,
        /// Length of their content.
        bytes: u64,
    },
}

/// What a node saw, concluded and did about a group, the oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// The group.
    pub group: GroupName,
    /// Who tells it.
    pub node: NodeName,
    /// Line by line.
    pub entries: Vec<TimelineEntry>,
}

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// When, by the wall clock of the node that tells it.
    pub at: Timestamp,
    /// What, in words.
    pub text: String,
    /// Of a step that ended: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// That step did not come about, or nobody knows whether it did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// Of a step: how long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Of a takeover: how long nobody served, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_ms: Option<u64>,
    /// What a program wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// What became of a test at one receiver of alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedReceiver {
    /// Its name.
    pub name: String,
    /// `command`, `snmp`, `mail` or `webhook`.
    pub kind: String,
    /// Why it was not told; none: it was told both, the raise and its clear.
    pub failed: Option<String>,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
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
    /// When it was first trusted; none where that was not noted, and for this node itself.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// When something was last heard of it since this daemon was started.
    #[serde(default)]
    pub last_heard: Option<Timestamp>,
    /// Streams of sets that stand with it.
    #[serde(default)]
    pub streams: usize,
    /// Version of the protocol that is spoken with it; of this node: the newest that it speaks.
    #[serde(default)]
    pub protocol: Option<u16>,
    /// Sets whose source it is, as far as this node takes part in them.
    #[serde(default)]
    pub source_of: Vec<SetName>,
    /// Sets whose replica it keeps, as far as this node takes part in them.
    #[serde(default)]
    pub target_of: Vec<SetName>,
    /// What the operator should know: an older certificate that is still accepted, a new one that it was not told.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// Something in which plan and machines differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// What the plan says that does not hold, why, and what to do.
    pub text: String,
}
