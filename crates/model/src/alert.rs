//! What is wrong, told once when it begins and once when it ends. A mind: statuses and `now` in, raises and clears out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::status::{Cause, ConnectionStatus, MonitorStatus, State, SyncState, Timestamp};
use crate::{NodeName, SetName};

/// What can be wrong with a connection, or with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// It is halted, for another reason than those below.
    Halted,
    /// The mass-change brake halted it and asks.
    Brake,
    /// It is halted because there is no room.
    NoRoom,
    /// Its lag is longer than the plan bears, or it is behind for so long.
    Behind,
    /// It is without a session for longer than the plan bears.
    Disconnected,
    /// It was synchronous and is asynchronous, or blocks the application.
    SyncLost,
    /// The last verify found differences that were not put right.
    Different,
    /// The target has newer data: a person decides.
    RestoreRequired,
    /// A process wrote past the capture.
    Bypassed,
    /// The replica was complete and is the image of no instant now: it cannot stand in.
    NoImage,
    /// The source of a group is silent on every path.
    SourceFailed,
    /// A person has to say whether the target stands in.
    Approval,
    /// The target of a group stands in for its source.
    StandsIn,
    /// The resources of a group cannot be kept up where it is.
    Failing,
    /// A heartbeat path is silent while others live.
    PathDown,
    /// Much comes as heartbeats and is none: forged, replayed, or of nodes that are not known.
    Flood,
    /// A role file of a group was changed by hand since it was put there.
    RoleFileDrift,
    /// Nothing: it is tried whether alerts arrive.
    Test,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is only said.
    Info,
    /// It goes on, in a worse way than it should.
    Warning,
    /// The replica falls behind, nothing would take over, or somebody has to act.
    Critical,
}

impl Severity {
    /// The fixed word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl Wrong {
    /// All that is raised by itself.
    pub const ALL: [Wrong; 17] = [
        Wrong::Halted,
        Wrong::Brake,
        Wrong::NoRoom,
        Wrong::Behind,
        Wrong::Disconnected,
        Wrong::SyncLost,
        Wrong::Different,
        Wrong::RestoreRequired,
        Wrong::Bypassed,
        Wrong::NoImage,
        Wrong::SourceFailed,
        Wrong::Approval,
        Wrong::StandsIn,
        Wrong::Failing,
        Wrong::PathDown,
        Wrong::Flood,
        Wrong::RoleFileDrift,
    ];

    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Wrong::Test => Severity::Info,
            Wrong::Behind | Wrong::SyncLost | Wrong::Different | Wrong::Bypassed => Severity::Warning,
            Wrong::PathDown | Wrong::Flood | Wrong::RoleFileDrift => Severity::Warning,
            _ => Severity::Critical,
        }
    }

    /// The fixed word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Wrong::Halted => "halted",
            Wrong::Brake => "brake",
            Wrong::NoRoom => "no-room",
            Wrong::Behind => "behind",
            Wrong::Disconnected => "disconnected",
            Wrong::SyncLost => "sync-lost",
            Wrong::Different => "different",
            Wrong::RestoreRequired => "restore-required",
            Wrong::Bypassed => "bypassed",
            Wrong::NoImage => "no-image",
            Wrong::SourceFailed => "source-failed",
            Wrong::Approval => "approval",
            Wrong::StandsIn => "stands-in",
            Wrong::Failing => "failing",
            Wrong::PathDown => "path-down",
            Wrong::Flood => "flood",
            Wrong::RoleFileDrift => "role-file-drift",
            Wrong::Test => "test",
        }
    }
}

impl Wrong {
    fn is_of_group(self) -> bool {
        use Wrong::*;
        matches!(self, SourceFailed | Approval | StandsIn | Failing | PathDown | Flood | RoleFileDrift)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What.
    pub wrong: Wrong,
    /// With which set.
    pub set: SetName,
    /// On its way from there.
    pub source: NodeName,
    /// To there.
    pub target: NodeName,
    /// Since when it is told.
    pub since: Timestamp,
    /// What is wrong, for people.
    pub text: String,
}

impl Alert {
    /// What the raise and the clear of one cause have in common, also over restarts: `paris/behind/notes/lyon` where
    /// `paris` tells it.
    pub fn id(&self, teller: &NodeName) -> String {
        format!("{teller}/{}/{}/{}", self.wrong, self.set, self.target)
    }
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edge {
    /// It began.
    Raise,
    /// It ended.
    Clear,
}

impl Edge {
    /// The fixed word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Edge::Raise => "raise",
            Edge::Clear => "clear",
        }
    }
}

/// How long what is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Lag.
    pub behind: Duration,
    /// Being without a session.
    pub disconnected: Duration,
}

/// What a node looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looked<'a> {
    /// All its connections.
    pub connections: &'a [ConnectionStatus],
    /// The groups that it watches, each with the first of its sets.
    pub groups: &'a [(SetName, MonitorStatus)],
    /// Of what it takes part in, what is told where it drops much that comes as heartbeats; and that, for people.
    pub flood: Option<&'a OfGroup>,
    /// Groups of which role files were changed by hand, and which; none: they were not looked at yet.
    pub drifted: Option<&'a [OfGroup]>,
}

/// What is told of a group in which the node takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfGroup {
    /// A set of it.
    pub set: SetName,
    /// Its source.
    pub source: NodeName,
    /// Its target.
    pub target: NodeName,
    /// For people.
    pub text: String,
}

/// What is wrong now: kept from one look to the next, and over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Raised(Vec<Alert>);

impl Raised {
    /// What is wrong, the oldest first.
    pub fn list(&self) -> &[Alert] {
        &self.0
    }

    /// Says what began and what ended since the last look. What is not known to have ended goes on: a connection that is
    /// still `planned` but has no status yet keeps its alerts.
    pub fn look(
        &mut self,
        Looked { connections, groups, flood, drifted }: Looked<'_>,
        planned: impl Fn(&SetName, &NodeName) -> bool,
        patience: Patience,
        now: Timestamp,
    ) -> Vec<(Edge, Alert)> {
        let mut wrong: BTreeMap<_, _> = BTreeMap::new();
        for connection in connections {
            for (what, text) in wrongs(connection, patience, now) {
                wrong.insert((what, connection.set.clone(), connection.target.clone()), (&connection.source, text));
            }
        }
        for (set, group) in groups {
            for (what, text) in wrongs_of_group(group) {
                wrong.insert((what, set.clone(), group.target.clone()), (&group.source, text));
            }
        }
        let flood = flood.into_iter().map(|told| (Wrong::Flood, told));
        let drift = drifted.into_iter().flatten().map(|told| (Wrong::RoleFileDrift, told));
        for (what, OfGroup { set, source, target, text }) in flood.chain(drift) {
            wrong.insert((what, set.clone(), target.clone()), (source, text.clone()));
        }
        let goes_on = |alert: &Alert| {
            if alert.wrong == Wrong::RoleFileDrift {
                return drifted.is_none();
            }
            if alert.wrong.is_of_group() {
                return false;
            }
            let status = connections.iter().find(|c| c.set == alert.set && c.target == alert.target);
            status.map_or_else(|| planned(&alert.set, &alert.target), |status| may_last(alert.wrong, status, patience))
        };
        let mut told = Vec::new();
        self.0.retain_mut(|alert| {
            let key = (alert.wrong, alert.set.clone(), alert.target.clone());
            let lasts = match wrong.remove(&key) {
                Some((_, text)) => {
                    alert.text = text;
                    true
                }
                None => goes_on(alert),
            };
            if !lasts {
                told.push((Edge::Clear, alert.clone()));
            }
            lasts
        });
        for ((what, set, target), (source, text)) in wrong {
            let alert = Alert { wrong: what, set, source: source.clone(), target, since: now, text };
            self.0.push(alert.clone());
            told.push((Edge::Raise, alert));
        }
        told
    }
}

/// What is wrong with a group.
fn wrongs_of_group(group: &MonitorStatus) -> Vec<(Wrong, String)> {
    let MonitorStatus { source, target, .. } = group;
    let why = group.remark.as_ref().map_or(String::new(), |remark| format!("; {remark}"));
    let mut all = Vec::new();
    match group.state.as_str() {
        "failed" => all.push((Wrong::SourceFailed, format!("{source} is silent on every path{why}"))),
        "failed-over" => all.push((Wrong::StandsIn, format!("{target} stands in for {source}{why}"))),
        _ => {}
    }
    if group.is_failing() {
        all.push((Wrong::Failing, format!("its resources cannot be kept up where it is{why}")));
    }
    if group.doing == "approval" {
        let text = format!("{source} does not serve: a person has to say whether {target} stands in{why}");
        all.push((Wrong::Approval, text));
    }
    let down: Vec<_> = group.paths.iter().filter_map(|path| path.strip_suffix(" down")).collect();
    if !down.is_empty() {
        all.push((Wrong::PathDown, format!("no heartbeats over {} while others live", down.join(", "))));
    }
    all
}

/// What is wrong with a connection. A pause is asked for, so nothing that follows from it is wrong.
fn wrongs(connection: &ConnectionStatus, patience: Patience, now: Timestamp) -> Vec<(Wrong, String)> {
    let mut all = Vec::new();
    let reason = connection.reason.clone().unwrap_or_else(|| connection.state.to_string());
    let lasted = Duration::from_nanos(now.0.saturating_sub(connection.since.0));
    match (connection.state, connection.details.cause) {
        (State::Halted, Some(Cause::Brake)) => all.push((Wrong::Brake, reason)),
        (State::Halted, Some(Cause::NoRoom)) => all.push((Wrong::NoRoom, reason)),
        (State::Halted, _) => all.push((Wrong::Halted, reason)),
        (State::RestoreRequired, _) => all.push((Wrong::RestoreRequired, reason)),
        (State::Disconnected, _) if lasted >= patience.disconnected => all.push((Wrong::Disconnected, reason)),
        _ => {}
    }
    if is_late(connection, patience, lasted) {
        let lag = connection.lag_seconds.map_or_else(|| "longer than that".into(), |lag| format!("{lag:.0} s"));
        all.push((Wrong::Behind, format!("what is on {} is {lag} behind", connection.target)));
    }
    match connection.details.sync.map(|sync| sync.state) {
        Some(SyncState::FallenBack) => {
            all.push((Wrong::SyncLost, "it was synchronous and is asynchronous until the target has caught up".into()));
        }
        Some(SyncState::Blocked) => all.push((Wrong::SyncLost, "the application waits for the target".into())),
        _ => {}
    }
    if let Some(verified) = connection.details.verified.filter(|verified| verified.different > verified.repaired) {
        let text = format!("{} differences between replica and source", verified.different - verified.repaired);
        all.push((Wrong::Different, text));
    }
    if connection.details.spoiled {
        let text = format!(
            "the replica is the source at no instant until it is mirrored: {} cannot stand in",
            connection.target
        );
        all.push((Wrong::NoImage, text));
    }
    if connection.details.bypassing_writes > 0 {
        let file = connection.details.bypassed.as_ref().map_or(String::new(), |file| format!(", last of {file}"));
        all.push((Wrong::Bypassed, format!("{} writes past the capture{file}", connection.details.bypassing_writes)));
    }
    all
}

/// Is there no evidence yet that it ended? A connection without a session says nothing about what halted it, and what
/// was late is so until it is well within what is borne.
fn may_last(wrong: Wrong, connection: &ConnectionStatus, patience: Patience) -> bool {
    let state = connection.state;
    match wrong {
        Wrong::Disconnected => state == State::Disconnected,
        Wrong::Halted | Wrong::Brake | Wrong::NoRoom | Wrong::RestoreRequired | Wrong::SyncLost => {
            state == State::Disconnected
        }
        Wrong::Behind => {
            let lag = connection.lag_seconds.is_some_and(|lag| lag > patience.behind.as_secs_f64() / 2.0);
            matches!(state, State::Disconnected | State::Behind | State::Mirroring)
                || state == State::Replicating && lag
        }
        Wrong::Different | Wrong::Bypassed | Wrong::NoImage | Wrong::Test => false,
        // Of groups: told for as long as it is seen.
        Wrong::SourceFailed | Wrong::Approval | Wrong::StandsIn | Wrong::Failing => false,
        Wrong::PathDown | Wrong::Flood | Wrong::RoleFileDrift => false,
    }
}

fn is_late(connection: &ConnectionStatus, patience: Patience, lasted: Duration) -> bool {
    let lag = connection.lag_seconds.is_some_and(|lag| lag > patience.behind.as_secs_f64());
    match connection.state {
        State::Replicating => lag,
        State::Behind => lag || lasted > patience.behind,
        _ => false,
    }
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;
