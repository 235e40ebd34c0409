//! The plan: what the operator wants, as TOML. Unknown fields are refused. Edits make a new plan; the old one stays as
//! it was.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BadRule, GroupName, NodeName, Rules, RulesSpec, SetName};

pub use alerts::AlertsPlan;
pub use amount::{BadAmount, Bytes, Rate, Span};
pub use difference::{Difference, Kind, differences};
pub use edit::Change;
pub use group::{
    AddressPlan, BadGroup, CheckPlan, FencePlan, GroupPlan, HeartbeatPath, OnFailure, OnLeaseLost, ScriptPlan,
    ScriptsPlan, ServicePlan, Takeover,
};
pub use identity::IdentityPlan;
pub use outside::{DnsKind, DnsPlan, HookPlan};
pub use place::{line_of_address, line_of_resource, line_of_role_file};
pub use receivers::{
    Encryption, MailPlan, Receiver, Receivers, SecretFile, SnmpAuth, SnmpPlan, SnmpPrivacy, SnmpVersion, WebhookPlan,
};
pub use resource::{LookPlan, ResourcePlan};
pub use role_file::{AsActive, RoleFilePlan};
pub use schedule::{BadSchedule, Moments, RateWindow, Window};
pub use schema::schema;
pub use settings::{
    Brake, BrakeSpec, Compression, Count, Current, Limit, Off, OnNoRoom, Orphans, Settings, SettingsSpec, SyncFallback,
    Unlimited,
};
pub use share::{NfsPlan, SambaPlan};
pub use substitute::{substituted, substituted_bytes};
pub use volume::BadVolume;

mod alerts;
mod amount;
mod difference;
mod edit;
mod group;
mod identity;
mod nearest;
mod nodes;
mod outside;
mod place;
mod receivers;
mod resource;
mod role_file;
mod schedule;
mod schema;
mod settings;
mod share;
mod substitute;
mod turn;
mod volume;

/// Version of the plan's format that this build writes and reads.
pub const VERSION: u32 = 1;

/// Everything that is to be protected, as far as this node takes part in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of the format.
    #[schemars(range(min = VERSION, max = VERSION))]
    pub version: u32,
    /// Whom this node tells that something is wrong.
    #[serde(default, skip_serializing_if = "is_default")]
    pub alerts: AlertsPlan,
    /// Where this node's metrics are read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metrics: MetricsPlan,
    /// Settings of the connections that do not say them themselves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub defaults: Defaults,
    /// What is protected.
    #[serde(default, rename = "set", skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetPlan>,
    /// Where to.
    #[serde(default, rename = "connection", skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<ConnectionPlan>,
    /// What is taken over as one.
    #[serde(default, rename = "group", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupPlan>,
}

/// The table `[metrics]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsPlan {
    /// `ADDRESS:PORT` at which `/metrics` answers, without asking who reads; none: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<std::net::SocketAddr>,
}

/// The table `[defaults]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// The settings.
    #[serde(flatten)]
    pub settings: SettingsSpec,
}

/// A replication set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPlan {
    /// Its name, unique among all nodes that trust each other.
    pub name: SetName,
    /// The node whose files they are.
    pub source: NodeName,
    /// The set whose replica on that node it hands on: its stream is relayed, not captured anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<SetName>,
    /// Which driver captures the changes.
    #[serde(default)]
    pub capture: CaptureChoice,
    /// Which order is promised.
    #[serde(default)]
    pub order: Order,
    /// Which names beneath the paths belong to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: RulesSpec,
    /// The protected directories and files. Their places in this list are the root numbers of the stream.
    #[serde(rename = "path")]
    pub paths: Vec<PathPlan>,
}

/// One protected directory or file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathPlan {
    /// Absolute, without `.`, `..` or symlinks.
    pub path: PathBuf,
    /// The file system that it was on when it was protected (`UUID` or `UUID/SUBVOLUME`): another one under the same
    /// path is not the set.
    pub volume: String,
}

/// How changes are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CaptureChoice {
    /// The best driver that works here.
    #[default]
    Auto,
    /// The FUSE mount.
    Mount,
    /// The eBPF probe.
    Probe,
}

/// Which order of writes the replica keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Every write in the order in which it was made.
    #[default]
    Strict,
    /// What a power cut of the source itself would leave.
    Flush,
}

/// A set and one of its targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionPlan {
    /// The set.
    pub set: SetName,
    /// The node that keeps the replica.
    pub target: NodeName,
    /// The route: `ADDRESS:PORT` of the target to use; none: any that it listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<std::net::SocketAddr>,
    /// The same for the other way, while the target stands in: `ADDRESS:PORT` of the source.
    #[serde(default, rename = "return-route", skip_serializing_if = "Option::is_none")]
    pub return_route: Option<std::net::SocketAddr>,
    /// When a write of the application returns.
    #[serde(default)]
    pub mode: Mode,
    /// What the target's file system cannot hold and the operator agreed to go without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Feature>,
    /// Paused on request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub paused: bool,
    /// How it is run.
    #[serde(flatten)]
    pub settings: SettingsSpec,
    /// Where each path of the set goes.
    pub mapping: Vec<Mapping>,
}

/// Asynchronous or synchronous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The application never waits for the network.
    #[default]
    Async,
    /// fsync and its like return when the target has everything before them durable.
    Sync,
}

/// Something that a file system may be unable to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Feature {
    /// Extended attributes (`user.*`).
    Xattrs,
    /// POSIX access control lists.
    Acls,
}

/// Where one path of the set goes on the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// A path of the set.
    pub from: PathBuf,
    /// The replica's path on the target.
    pub to: PathBuf,
    /// The file system that it is on there, as a path of the set has it; needed where the target may stand in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
}

/// Why a plan cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PlanError {
    #[error("the plan is not well-formed: {0}")]
    Syntax(String),
    #[error("the plan has version {0}, and this build reads version {VERSION}; use a newer build of Stead")]
    Version(u32),
    #[error("set {0} is in the plan twice")]
    DuplicateSet(SetName),
    #[error("set {0} names no path")]
    NoPath(SetName),
    #[error("set {set}: {path} {why}", path = path.display())]
    Path { set: SetName, path: PathBuf, why: &'static str },
    #[error("{path} of set {set} is already protected as {other_path} of set {other}", path = path.display(),
        other_path = other_path.display())]
    Overlap { set: SetName, path: PathBuf, other: SetName, other_path: PathBuf },
    #[error("set {set}: {error}")]
    Rule { set: SetName, error: BadRule },
    #[error("set {set}: {error}")]
    Volume { set: SetName, error: BadVolume },
    #[error("there is no set {0} in the plan")]
    UnknownSet(SetName),
    #[error("set {0} has two connections to {1}")]
    DuplicateConnection(SetName, NodeName),
    #[error("set {0} is connected to its own source {1}")]
    Loop(SetName, NodeName),
    #[error("set {set} → {target}: the mapping does not say where {path} goes", path = path.display())]
    Unmapped { set: SetName, target: NodeName, path: PathBuf },
    #[error("set {set} → {target}: the mapping names {path}, which is no path of the set", path = path.display())]
    MappedUnknown { set: SetName, target: NodeName, path: PathBuf },
    #[error("on {target}, {path} of set {set} and {other_path} of set {other} would be inside each other",
        path = path.display(), other_path = other_path.display())]
    ReplicaOverlap { target: NodeName, set: SetName, path: PathBuf, other: SetName, other_path: PathBuf },
    #[error("set {set}: {mode} mode needs capture by mount")]
    SyncNeedsMount { set: SetName, mode: &'static str },
    #[error("set {set} → {target}: {why}")]
    Setting { set: SetName, target: NodeName, why: &'static str },
    #[error("the plan's defaults: {0}")]
    Default(&'static str),
    #[error("the plan's alerts: {0}")]
    Alerts(&'static str),
    #[error("the plan's alerts: {kind} receiver {name}: {why}")]
    Receiver { kind: &'static str, number: usize, name: String, field: &'static str, why: String },
    #[error("set {0} has no connection to {1}")]
    UnknownConnection(SetName, NodeName),
    #[error("set {set} relays set {relay}, {why}")]
    Relay { set: SetName, relay: SetName, why: &'static str },
    #[error("group {0} is in the plan twice")]
    DuplicateGroup(GroupName),
    #[error("there is no group {0} in the plan")]
    UnknownGroup(GroupName),
    #[error("set {0} goes with no group, along which it could be turned round")]
    NoGroup(SetName),
    #[error("set {set} → {target}: the mapping of {path} does not name the volume that the replica is on", path = path.display())]
    NoVolume { set: SetName, target: NodeName, path: PathBuf },
    #[error("group {group}: {error}")]
    Group { group: GroupName, error: Box<BadGroup> },
    #[error("{of}: {field} is {node}, which is no node that is trusted here{question}")]
    Stranger { of: String, field: &'static str, node: NodeName, question: String },
    #[error("line {line}: {error}")]
    At { line: usize, error: Box<PlanError> },
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            version: VERSION,
            alerts: AlertsPlan::default(),
            metrics: MetricsPlan::default(),
            defaults: Defaults::default(),
            sets: Vec::new(),
            connections: Vec::new(),
            groups: Vec::new(),
        }
    }
}

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// The first thing that is wrong with it, with its line.
    pub fn parse(text: &str) -> Result<Plan, PlanError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let syntax = |e: toml::de::Error| {
            let question = nearest::question(e.message()).unwrap_or_default();
            PlanError::Syntax(format!("{}{question}", e.to_string().trim_end()))
        };
        let head: Head = toml::from_str(text).map_err(syntax)?;
        if head.version != VERSION {
            return Err(PlanError::Version(head.version).in_text(text));
        }
        let plan: Plan = toml::from_str(text).map_err(syntax)?;
        plan.check().map_err(|e| e.in_text(text))?;
        Ok(plan)
    }

    /// The plan as TOML; [`Plan::parse`] gives it back.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plans hold nothing that TOML cannot")
    }

    /// The set of that name.
    pub fn set(&self, name: &SetName) -> Option<&SetPlan> {
        self.sets.iter().find(|set| set.name == *name)
    }

    /// Addresses that go with groups, also by agents.
    pub fn moving(&self) -> BTreeSet<IpAddr> {
        let of_agents = |resource: &ResourcePlan| -> Vec<IpAddr> {
            resource.parameters.values().filter_map(|value| value.parse().ok()).collect()
        };
        let of = |group: &GroupPlan| -> Vec<IpAddr> {
            let own = group.addresses.iter().filter_map(AddressPlan::ip);
            own.chain(group.resources.iter().flat_map(of_agents)).collect()
        };
        self.groups.iter().flat_map(of).collect()
    }

    /// The other nodes of all groups in which that one takes part.
    pub fn partners(&self, node: &NodeName) -> BTreeSet<NodeName> {
        let groups = self.groups.iter().filter(|group| group.has(node));
        let nodes = groups.flat_map(|group| [Some(&group.source), Some(&group.target), group.witness.as_ref()]);
        nodes.flatten().filter(|other| *other != node).cloned().collect()
    }

    /// The group of that name.
    pub fn group(&self, name: &GroupName) -> Option<&GroupPlan> {
        self.groups.iter().find(|group| group.name == *name)
    }

    /// The group that the set goes with.
    pub fn group_of(&self, set: &SetName) -> Option<&GroupPlan> {
        self.groups.iter().find(|group| group.sets.contains(set))
    }

    /// The connections of that set.
    pub fn connections_of<'a>(&'a self, set: &'a SetName) -> impl Iterator<Item = &'a ConnectionPlan> {
        self.connections.iter().filter(move |connection| connection.set == *set)
    }

    /// How a connection is run: what it says itself, else the plan's defaults, else Stead's.
    pub fn settings_of(&self, connection: &ConnectionPlan) -> Settings {
        connection.settings.or(&self.defaults.settings).settings()
    }

    fn check(&self) -> Result<(), PlanError> {
        let mut names = BTreeSet::new();
        for set in &self.sets {
            if !names.insert(&set.name) {
                return Err(PlanError::DuplicateSet(set.name.clone()));
            }
            set.check()?;
        }
        self.alerts.check()?;
        self.defaults.settings.check().map_err(PlanError::Default)?;
        self.check_roots()?;
        self.check_connections()?;
        self.check_relays()?;
        self.check_replicas()?;
        self.check_groups()
    }

    /// A root inside another one of the same source is right only where it is another file system mounted there.
    fn check_roots(&self) -> Result<(), PlanError> {
        let roots: Vec<_> = self.sets.iter().flat_map(|set| set.paths.iter().map(move |path| (set, path))).collect();
        for (at, (set, path)) in roots.iter().enumerate() {
            for (other, other_path) in &roots[..at] {
                let apart = set.source != other.source || !overlap(&path.path, &other_path.path);
                let nested_mount = path.path != other_path.path && path.volume != other_path.volume;
                if !apart && !nested_mount {
                    return Err(PlanError::Overlap {
                        set: set.name.clone(),
                        path: path.path.clone(),
                        other: other.name.clone(),
                        other_path: other_path.path.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn check_connections(&self) -> Result<(), PlanError> {
        let mut seen = BTreeSet::new();
        for connection in &self.connections {
            let set = self.set(&connection.set).ok_or_else(|| PlanError::UnknownSet(connection.set.clone()))?;
            if !seen.insert((&connection.set, &connection.target)) {
                return Err(PlanError::DuplicateConnection(connection.set.clone(), connection.target.clone()));
            }
            connection.check(set)?;
        }
        Ok(())
    }

    /// What is handed on must be kept where it is handed on, and not run in a circle.
    fn check_relays(&self) -> Result<(), PlanError> {
        for set in &self.sets {
            let Some(relay) = &set.relay else { continue };
            let bad = |why| Err(PlanError::Relay { set: set.name.clone(), relay: relay.clone(), why });
            if *relay == set.name {
                return bad("which is itself");
            }
            if self.connections_of(&set.name).any(|c| c.mode == Mode::Sync) {
                return bad("and cannot be synchronous: what is applied here was answered on that set's source before");
            }
            if set.capture != CaptureChoice::Auto || set.order != Order::Strict {
                return bad("and is captured in that set's way and order, not in one of its own");
            }
            if self.comes_back(set) {
                return bad("and comes back to itself: a chain begins with a set that relays none");
            }
            let Some(origin) = self.set(relay) else { continue };
            let Some(kept) = self.connections_of(relay).find(|c| c.target == set.source) else {
                return bad("whose replica its source does not keep");
            };
            if self.connections_of(&set.name).any(|c| c.target == origin.source) {
                return bad("and would hand it back to that set's source");
            }
            if !set.paths.iter().all(|path| kept.mapping.iter().any(|m| m.to == path.path)) {
                return bad("and names a path that is no replica of it");
            }
        }
        Ok(())
    }

    /// Does the chain towards its origin lead to the set again?
    fn comes_back(&self, set: &SetPlan) -> bool {
        let next = |at: &&SetPlan| at.relay.as_ref().and_then(|relay| self.set(relay));
        let mut chain = std::iter::successors(Some(set), next).skip(1).take(self.sets.len());
        chain.any(|at| at.name == set.name)
    }

    fn check_replicas(&self) -> Result<(), PlanError> {
        let replicas: Vec<_> =
            self.connections.iter().flat_map(|c| c.mapping.iter().map(move |m| (c, &m.to))).collect();
        for (at, (connection, path)) in replicas.iter().enumerate() {
            for (other, other_path) in &replicas[..at] {
                if connection.target == other.target && overlap(path, other_path) {
                    return Err(PlanError::ReplicaOverlap {
                        target: connection.target.clone(),
                        set: connection.set.clone(),
                        path: path.to_path_buf(),
                        other: other.set.clone(),
                        other_path: other_path.to_path_buf(),
                    });
                }
            }
        }
        Ok(())
    }
}

impl SetPlan {
    fn check(&self) -> Result<(), PlanError> {
        if self.paths.is_empty() {
            return Err(PlanError::NoPath(self.name.clone()));
        }
        for path in &self.paths {
            check_path(&self.name, &path.path)?;
            path.volume_id().map_err(|error| PlanError::Volume { set: self.name.clone(), error })?;
        }
        Rules::new(&self.rules).map_err(|error| PlanError::Rule { set: self.name.clone(), error })?;
        Ok(())
    }
}

impl ConnectionPlan {
    /// Where that path of the set goes.
    pub fn replica_of(&self, path: &Path) -> Option<&Path> {
        self.mapping.iter().find(|m| m.from == path).map(|m| m.to.as_path())
    }

    fn check(&self, set: &SetPlan) -> Result<(), PlanError> {
        if self.target == set.source {
            return Err(PlanError::Loop(self.set.clone(), self.target.clone()));
        }
        if self.mode == Mode::Sync && set.capture == CaptureChoice::Probe {
            return Err(PlanError::SyncNeedsMount { set: self.set.clone(), mode: "sync" });
        }
        self.settings.check().map_err(|why| PlanError::Setting {
            set: self.set.clone(),
            target: self.target.clone(),
            why,
        })?;
        for path in &set.paths {
            if self.replica_of(&path.path).is_none() {
                let (set, target) = (self.set.clone(), self.target.clone());
                return Err(PlanError::Unmapped { set, target, path: path.path.clone() });
            }
        }
        for Mapping { from, to, volume } in &self.mapping {
            check_path(&self.set, to)?;
            if let Some(volume) = volume {
                volume::check(volume).map_err(|error| PlanError::Volume { set: self.set.clone(), error })?;
            }
            if !set.paths.iter().any(|path| path.path == *from) {
                let (set, target) = (self.set.clone(), self.target.clone());
                return Err(PlanError::MappedUnknown { set, target, path: from.clone() });
            }
        }
        Ok(())
    }
}

/// Is one of the paths the other, or inside it?
pub fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn check_path(set: &SetName, path: &Path) -> Result<(), PlanError> {
    let bad = |why| Err(PlanError::Path { set: set.clone(), path: path.into(), why });
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() {
        return bad("is not absolute");
    }
    if !plain || path.as_os_str().len() != path.components().collect::<PathBuf>().as_os_str().len() {
        return bad("holds '.', '..' or a doubled or trailing '/'");
    }
    if path.parent().is_none() { bad("is the root directory, which cannot be protected as a whole") } else { Ok(()) }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
