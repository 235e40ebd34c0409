//! What can be asked of a daemon.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stead_model::plan::{
    AddressPlan, CaptureChoice, CheckPlan, Feature, HeartbeatPath, Mode, Order, Rate, ScriptsPlan, ServicePlan,
    SettingsSpec, Span, Takeover,
};
use stead_model::{GroupName, NodeName, RulesSpec, SetName};

use crate::{Failback, Restore};

/// A request. Durations are milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Make an invitation. Answer: `Invite`.
    Invite,
    /// Accept an invitation. Answer: `Joined`.
    Join {
        /// The line that `invite` printed on the other node.
        line: String,
    },
    /// The nodes that this one trusts. Answer: `Nodes`.
    Nodes,
    /// End the trust in a node, on both sides. Refused while connections use it. Answer: `Done`.
    NodeRemove {
        /// The node.
        node: NodeName,
        /// Also where it still keeps or sends something and refuses.
        force: bool,
    },
    /// A node is reached elsewhere from now on. Answer: `Done`.
    NodeAddress {
        /// The node.
        node: NodeName,
        /// Where it listens, first the one to be tried first; not empty.
        addresses: Vec<std::net::SocketAddr>,
    },
    /// A rebuilt machine takes the place of a dead node in the plan. Notices; answer: `Replaced`.
    NodeReplace {
        /// The dead node.
        old: NodeName,
        /// The line that `invite` printed on the machine, or the name of a node that is trusted already.
        new: String,
        /// The replicas' directories are not empty there: a carried copy, or the old disks.
        seeded: bool,
    },
    /// Make a new key for this node and announce it. Answer: `Rotated`.
    RotateKey,
    /// What has to survive the loss of this machine. Answer: `Backup`.
    StateBackup,
    /// The last lines that the daemon logged. Answer: `Log`.
    Log,
    /// Protect paths. Notices, status while the mirror runs; answer: `Protected`.
    Protect(Box<Protect>),
    /// End the protection of a set; the replica stays as it is. Answer: `Done`.
    Unprotect {
        /// The set.
        set: SetName,
        /// Also where the target cannot be told.
        force: bool,
    },
    /// Wait until everything written before is applied on every target. Answer: `Done`.
    Wait {
        /// The set.
        set: SetName,
        /// How long; none: without end.
        timeout_ms: Option<u64>,
    },
    /// The state of everything. Answer: `Status`; when watching, one status event after the other without end.
    Status {
        /// Go on telling.
        watch: bool,
        /// Only what this node knows: no other one is asked.
        #[serde(default)]
        local: bool,
    },
    /// Run a difference mirror. Status while it runs; answer: `Done`.
    Mirror {
        /// The set.
        set: SetName,
    },
    /// Compare replicas with the source. Status while it runs; answer: `Verified`.
    Verify {
        /// The set.
        set: SetName,
        /// Put right what differs.
        repair: bool,
    },
    /// Stop sending; what changes is remembered. Answer: `Done`.
    Pause {
        /// The set.
        set: SetName,
        /// Only to that node; none: to all.
        #[serde(default)]
        on: Option<NodeName>,
    },
    /// Go on after a pause. Answer: `Done`.
    Resume {
        /// The set.
        set: SetName,
        /// Only to that node; none: to all.
        #[serde(default)]
        on: Option<NodeName>,
    },
    /// Limit how fast a set is sent, from now on and in the plan. Answer: `Done`.
    Limit {
        /// The set.
        set: SetName,
        /// Only to that node; none: to all.
        on: Option<NodeName>,
        /// Bytes each second; none: as fast as the line is.
        to: Option<Rate>,
    },
    /// Answer a brake that halted connections of a set. Answer: `Done`.
    AnswerBrake {
        /// The set.
        set: SetName,
        /// Only to that node; none: to all.
        on: Option<NodeName>,
        /// The changes are meant; else they are taken back on the replica.
        accept: bool,
    },
    /// What the last verify of a set found. Answer: `LastVerify`.
    LastVerify {
        /// The set.
        set: SetName,
    },
    /// What is wrong at this node now. Answer: `Alerts`.
    Alerts,
    /// Tell receivers of alerts that something is wrong, and that it is over, though nothing is. Answer: `AlertTested`.
    AlertTest {
        /// Only that one; none: all.
        receiver: Option<String>,
    },
    /// The plan as TOML. Answer: `Plan`.
    PlanShow,
    /// Does the plan still fit the machines? Answer: `Checked`.
    PlanCheck,
    /// What is not kept alike by itself on the two nodes of groups? Answer: `Checklist`.
    Checklist {
        /// Only that group; none: all of which this node is one of the two.
        group: Option<GroupName>,
    },
    /// What would making that the plan change? Refused where it could not be made. Answer: `Compared`.
    PlanCompare {
        /// The plan as TOML.
        text: String,
    },
    /// Make the plan this one: groups that end, then sets, then groups. Answer: `Done`.
    PlanApply {
        /// The plan as TOML.
        text: String,
        /// Only where that is still the plan, as `Compared` told it.
        #[serde(default)]
        over: Option<String>,
    },
    /// Watch sets of another node, of which this one keeps the replicas, and stand in for it: a group of that name is made
    /// or changed. Answer: `Done`.
    Monitor(Box<Monitor>),
    /// Watch that group no longer. Refused while the target stands in. Answer: `Done`.
    Unmonitor {
        /// The group.
        group: GroupName,
    },
    /// Have a group move, or answer what it asks. Notices; answer: `Done`.
    Move {
        /// The group.
        group: GroupName,
        /// How.
        want: Want,
        /// After that long it is not begun any more; of [`Want::Suspend`]: when it ends.
        expires_ms: u64,
    },
    /// Restore the source of a group from the node that stands in for it. Notices, status while it runs; answer:
    /// `Restored`.
    Restore(Box<Restore>),
    /// What would a restore change? Nothing is changed. Answer: `Preview`.
    RestorePreview {
        /// The group.
        group: GroupName,
        /// Only these sets of it; none: all.
        sets: Vec<SetName>,
    },
    /// Compare both sides of a group while they are in use, then have its source serve again. Status while it is compared,
    /// notices; answer: `FailedBack`.
    Failback(Failback),
    /// What happened to groups. Answer: `Timelines`.
    Explain {
        /// Only that one.
        group: Option<GroupName>,
    },
    /// What the watching node would have concluded from the heartbeats that it heard, had the plan said otherwise. Answer:
    /// `Timelines`.
    WhatIf {
        /// The group.
        group: GroupName,
        /// Between two heartbeats; none: as the plan says.
        heartbeat_ms: Option<u64>,
        /// Silence after which a node counts as failed; none: as the plan says.
        timeout_ms: Option<u64>,
    },
    /// What this node alone had when others stood in for it. Answer: `Forks`.
    Forks,
    /// The files of one of them. Answer: `Fork`.
    Fork {
        /// The set.
        set: SetName,
        /// The epoch under which another node stood in.
        epoch: u64,
        /// Where the list goes on; 0: at its beginning.
        from: u64,
    },
    /// Copy them into a directory, each beneath it with its whole path. Answer: `Exported`.
    ForkExport {
        /// The set.
        set: SetName,
        /// The epoch under which another node stood in.
        epoch: u64,
        /// An absolute path, where nothing is or an empty directory.
        to: PathBuf,
    },
    /// Give them up, also what is not kept yet. Answer: `Done`.
    ForkDrop {
        /// The set.
        set: SetName,
        /// The epoch under which another node stood in.
        epoch: u64,
    },
    /// End the daemon. Answer: `Done`.
    Shutdown,
}

/// What a person wants of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// That the target serves, the source being dead.
    Failover {
        /// Whatever stands against it.
        force: bool,
    },
    /// That the node that stands by serves, nothing lost.
    Switchover,
    /// That the source serves again, nothing lost.
    Failback,
    /// Yes to what was asked.
    Approve,
    /// That nothing is taken over by itself for a while.
    Suspend,
    /// That it is again.
    Resume,
    /// That everything is taken down and stays so.
    Offline,
    /// That it serves again.
    Online,
    /// That it is watched and nothing is done about what is seen; or no longer.
    Maintain {
        /// Does it begin?
        on: bool,
    },
}

/// All options of `stead monitor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// Name of the group.
    pub group: GroupName,
    /// The node that is watched; none: the source of the sets.
    pub source: Option<NodeName>,
    /// The sets that go with it.
    pub sets: Vec<SetName>,
    /// The third node that grants and votes.
    pub witness: Option<NodeName>,
    /// Who decides.
    pub takeover: Takeover,
    /// Between two heartbeats.
    pub heartbeat: Option<Span>,
    /// Silence after which a node counts as failed.
    pub timeout: Option<Span>,
    /// How long the restored source has to be well until it takes back by itself; none: a person says when.
    pub switch_back: Option<Span>,
    /// Addresses of which one has to answer before a takeover.
    pub references: Vec<std::net::IpAddr>,
    /// Heartbeat paths.
    pub paths: Vec<HeartbeatPath>,
    /// The server's addresses.
    pub addresses: Vec<AddressPlan>,
    /// What serves.
    pub services: Vec<ServicePlan>,
    /// What else has to look well.
    pub checks: Vec<CheckPlan>,
    /// Programs that are run before and after.
    pub scripts: ScriptsPlan,
}

/// All options of `stead protect`. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Protect {
    /// What to protect.
    pub paths: Vec<PathBuf>,
    /// The node that is to keep the replica.
    pub on: NodeName,
    /// Name of the set; none: after the first path.
    pub set: Option<SetName>,
    /// Which names beneath the paths.
    pub rules: RulesSpec,
    /// Where paths go that do not go to the same path.
    pub map: Vec<MapArg>,
    /// Asynchronous or synchronous.
    pub mode: Mode,
    /// The capture driver.
    pub capture: CaptureChoice,
    /// Which order is promised.
    pub order: Order,
    /// The target's address to use.
    pub route: Option<std::net::SocketAddr>,
    /// What to go without where the target's file system cannot hold it.
    pub without: Vec<Feature>,
    /// The replica may go into a directory that is not empty.
    pub into_non_empty: bool,
    /// What would be deleted there was seen and agreed to.
    pub yes: bool,
    /// Return once it runs, not once the mirror is done.
    pub no_wait: bool,
    /// The replica was filled from a carried copy: only what differs is sent. What is there may stay.
    #[serde(default)]
    pub seeded: bool,
    /// Paused from the start.
    #[serde(default)]
    pub paused: bool,
    /// How the connection is run.
    #[serde(default)]
    pub settings: SettingsSpec,
}

/// `--map SRC=DST`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapArg {
    /// A path of the set.
    pub from: PathBuf,
    /// Its path on the target.
    pub to: PathBuf,
}
