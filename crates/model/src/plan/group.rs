//! A group: what of a server is taken over as one, who watches it, and how.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::Span;
use super::outside::{DnsPlan, HookPlan};
use super::resource::ResourcePlan;
use super::role_file::RoleFilePlan;
use crate::{GroupName, NodeName, SetName};

pub use check::BadGroup;

mod check;
mod parts;
mod role_files;

/// Longest that those who granted a lease wait where the plan does not say: a takeover is confirmed within that.
const WAIT_USUAL_MAX: Duration = Duration::from_secs(15);

/// The table `[[group]]` of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GroupPlan {
    /// Its name, unique among all nodes that trust each other.
    pub name: GroupName,
    /// The node that serves where nothing happened.
    pub source: NodeName,
    /// The node that watches it and stands in for it.
    pub target: NodeName,
    /// The third node that grants and votes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<NodeName>,
    /// Who decides that the target takes over.
    #[serde(default)]
    pub takeover: Takeover,
    /// Between two heartbeats, 10 ms to 60 s; none: 500 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Span>,
    /// Silence after which a node counts as failed, 30 ms to 1 h, at least three heartbeats; none: 3 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How long those who granted a lease wait before they agree to a takeover, 30 ms to 15 s; none: as long as the
    /// time-out, but no longer than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// What becomes of changes of its sets past the lease, where the group has a witness.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub on_lease_lost: OnLeaseLost,
    /// How long the restored source has to be well until it takes back by itself, 10 s to 7 d; none: a person says when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_back: Option<Span>,
    /// Addresses, mostly of gateways, of which one has to answer before a takeover; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<IpAddr>,
    /// The replication sets that go with it, all between its two nodes: from source to target, or turned round while the
    /// target stands in.
    pub sets: Vec<SetName>,
    /// Heartbeat paths, at most 16; none: one over the addresses at which the nodes know each other.
    #[serde(default, rename = "path", skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<HeartbeatPath>,
    /// The server's addresses, brought up in this order.
    #[serde(default, rename = "address", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressPlan>,
    /// What serves, started in this order.
    #[serde(default, rename = "service", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServicePlan>,
    /// What serves in an order of its own, is looked at and restarted: started after the services, stopped before them.
    #[serde(default, rename = "resource", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourcePlan>,
    /// Files that are of each node alone and switched when it begins and ends to serve.
    #[serde(default, rename = "role-file", skip_serializing_if = "Vec::is_empty")]
    pub role_files: Vec<RoleFilePlan>,
    /// What else has to look well before the source counts as serving.
    #[serde(default, rename = "check", skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckPlan>,
    /// Records of the DNS that hold where it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<DnsPlan>,
    /// Who is told when it has moved.
    #[serde(default, rename = "hook", skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookPlan>,
    /// Programs that are run before and after.
    #[serde(default, skip_serializing_if = "ScriptsPlan::is_empty")]
    pub scripts: ScriptsPlan,
    /// What turns the other node off.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fence: BTreeMap<NodeName, FencePlan>,
}

/// Who decides that the target takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Takeover {
    /// Stead, with a witness; without one a person.
    #[default]
    Automatic,
    /// A person confirms.
    Approve,
    /// Stead, also without a witness: two nodes that do not hear each other may both serve.
    UnsafeTwoNode,
}

/// What becomes of changes past the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnLeaseLost {
    /// They wait until the lease is prolonged, or the capture ends.
    #[default]
    SuspendIo,
    /// They are refused: the file system is read-only.
    Stop,
}

/// One way of heartbeats between the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HeartbeatPath {
    /// The source's address.
    pub source: IpAddr,
    /// The target's address.
    pub target: IpAddr,
}

/// An address of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AddressPlan {
    /// With the length of its network: `10.0.0.100/24`.
    #[schemars(regex(pattern = "^[0-9A-Fa-f:.]+/[0-9]{1,3}$"))]
    pub address: String,
    /// The interface; none: the one that has an address in that network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Another interface of the same machine, to which it goes where its own has no carrier any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_interface: Option<String>,
    /// It goes in the place of the host's own, not beside it.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub replace: bool,
    /// It is taken also where somebody else answers for it.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub take: bool,
}

/// A service: a unit of systemd, or three commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServicePlan {
    /// Name of the unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Starts it: program with its absolute path, and arguments; no shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<String>,
    /// Stops it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Its code tells: 0 running, 3 stopped, else not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    /// How long starting and stopping may take, at most 1 h; none: 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// A check, one of the four kinds. Of a group: while it fails, the source counts as not serving although its node lives. Of a
/// resource: a deep check, done where it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckPlan {
    /// A connection to it can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<std::net::SocketAddr>,
    /// `http://ADDRESS:PORT/PATH` answers with a code from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// With `http`: what the page has to hold; with `dns`: what a record of the answer has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// A mail server there greets, names what it can and says goodbye (SMTP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<std::net::SocketAddr>,
    /// A server of mailboxes there greets, names what it can and says goodbye (IMAP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imap: Option<std::net::SocketAddr>,
    /// A name server there answers `question` from what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<std::net::SocketAddr>,
    /// With `dns`: a name and a kind of record, as `www.example.org A`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Program with its absolute path, and arguments; ends with 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Between two checks, 100 ms to 1 h; none: 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// How long one may take, at most 1 h; none: 5 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How many have to fail, one after the other, at most 1000; none: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

/// The table `[group.scripts]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ScriptsPlan {
    /// On the node that takes over, before anything is brought up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_failover: Option<ScriptPlan>,
    /// There, when all is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_failover: Option<ScriptPlan>,
    /// On the node that hands over, before anything is taken down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_failback: Option<ScriptPlan>,
    /// On the node that takes back, when all is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_failback: Option<ScriptPlan>,
}

impl CheckPlan {
    /// The name and the kind of record that a name server is asked for; none: there is no question, or it is none.
    pub fn question(&self) -> Option<(&str, &str)> {
        const KINDS: [&str; 9] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"];
        let (name, kind) = self.question.as_deref()?.split_once(' ')?;
        let is_name = !name.is_empty() && name.len() <= 254 && name.bytes().all(|byte| byte.is_ascii_graphic());
        (is_name && KINDS.contains(&kind)).then_some((name, kind))
    }

    /// Between two checks: 10 s where the plan does not say.
    pub fn interval(&self) -> Duration {
        self.interval.map_or(Duration::from_secs(10), |span| span.0)
    }

    /// How long one may take: 5 s where the plan does not say.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(5), |span| span.0)
    }

    /// How many have to fail, one after the other: 3 where the plan does not say.
    pub fn failures(&self) -> u32 {
        self.failures.unwrap_or(3)
    }
}

impl ScriptsPlan {
    /// The same commands, with the time-outs and policies that `old` has for those that are the same.
    pub fn with_details_of(&self, old: &ScriptsPlan) -> ScriptsPlan {
        let merged = |new: &Option<ScriptPlan>, old: &Option<ScriptPlan>| match (new, old) {
            (Some(new), Some(old)) if new.command == old.command => Some(old.clone()),
            _ => new.clone(),
        };
        ScriptsPlan {
            pre_failover: merged(&self.pre_failover, &old.pre_failover),
            post_failover: merged(&self.post_failover, &old.post_failover),
            pre_failback: merged(&self.pre_failback, &old.pre_failback),
            post_failback: merged(&self.post_failback, &old.post_failback),
        }
    }

    fn is_empty(&self) -> bool {
        *self == ScriptsPlan::default()
    }
}

/// A script hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ScriptPlan {
    /// Program with its absolute path, and arguments; no shell.
    pub command: Vec<String>,
    /// How long it may run, at most 1 h; none: 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// What follows when it fails.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What follows when a script fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is told, and the next step follows.
    #[default]
    GoOn,
    /// Everything is taken down; a person says when to try again.
    Stop,
    /// Everything is taken down, and tried again later.
    Undo,
}

/// A fence agent for one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FencePlan {
    /// Program, with its path or found in `PATH`, and arguments, as `fence_ipmilan`.
    pub agent: Vec<String>,
    /// Its parameters, as `ip` and `plug`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// A file of further `name=value` lines, for passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_file: Option<PathBuf>,
    /// How long it may take, at most 1 h; none: 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

impl GroupPlan {
    /// Between two heartbeats: 500 ms where the plan does not say.
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat.map_or(Duration::from_millis(500), |span| span.0)
    }

    /// Silence after which a node counts as failed: 3 s where the plan does not say.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(3), |span| span.0)
    }

    /// How long those who granted wait before they agree to a takeover.
    pub fn wait(&self) -> Duration {
        self.wait.map_or(self.timeout().min(WAIT_USUAL_MAX), |span| span.0)
    }

    /// The other one of its two nodes; none: the node is none of them.
    pub fn other(&self, node: &NodeName) -> Option<&NodeName> {
        match node {
            node if *node == self.source => Some(&self.target),
            node if *node == self.target => Some(&self.source),
            _ => None,
        }
    }

    /// Does the node take part, as one of the two or as the witness?
    pub fn has(&self, node: &NodeName) -> bool {
        self.other(node).is_some() || self.witness.as_ref() == Some(node)
    }
}
