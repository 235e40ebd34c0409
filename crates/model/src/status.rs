//! What is: the state of sets and connections as `stead status` shows it. The field names are fixed: tools read them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{NodeName, Position, SetName};

pub use details::{BrakeStatus, Cause, Details, Gone, SyncState, SyncStatus, VerifySummary};

mod details;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A whole-set copy or a difference mirror is running.
    Mirroring,
    /// Every change goes to the target as it is made.
    Replicating,
    /// The target is more than the queue behind; what changed is remembered and a difference mirror will follow.
    Behind,
    /// Paused on request.
    Paused,
    /// There is no session between source and target.
    Disconnected,
    /// Stopped at a change that cannot go on; the reason says why and it goes on by itself when the cause is gone.
    Halted,
    /// The target has newer data: a person restores before the source may go on.
    RestoreRequired,
}

impl State {
    /// The fixed word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Mirroring => "mirroring",
            State::Replicating => "replicating",
            State::Behind => "behind",
            State::Paused => "paused",
            State::Disconnected => "disconnected",
            State::Halted => "halted",
            State::RestoreRequired => "restore-required",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far the last or the running mirror is. Totals grow while the scan still finds files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorStatus {
    /// Files that are complete on the target.
    pub files_done: u64,
    /// Files to be looked at.
    pub files_total: u64,
    /// Bytes of content sent or found equal.
    pub bytes_done: u64,
    /// Bytes of content to be sent or found equal.
    pub bytes_total: u64,
}

/// What the source still has to send, and to get acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Records.
    pub changes: u64,
    /// Their encoded bytes.
    pub bytes: u64,
    /// How many of these are on the source's disk.
    #[serde(default)]
    pub disk_bytes: u64,
}

/// Watermarks of a connection: `applied ≤ journaled ≤ sent ≤ captured`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Last record that capture delivered.
    pub captured: Position,
    /// Last record sent to the target.
    pub sent: Position,
    /// Last record that is durable in the target's journal.
    pub journaled: Position,
    /// Last record applied to the replica.
    pub applied: Position,
}

/// One connection as every node shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// The replication set.
    pub set: SetName,
    /// Where the data comes from.
    pub source: NodeName,
    /// Where the replica is.
    pub target: NodeName,
    /// What it is doing.
    pub state: State,
    /// Why it is halted, disconnected or behind; for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// The last or the running mirror.
    pub mirror: MirrorStatus,
    /// The source's backlog for this target.
    pub queue: QueueStatus,
    /// How old the oldest change is that the target has not applied, in seconds; none where it is not known.
    pub lag_seconds: Option<f64>,
    /// Of which moment (by the source's clock) the replica is a consistent image; none where it is not one.
    pub consistent_at: Option<Timestamp>,
    /// Which driver captures: `mount`, `probe`, `watch`, or `none` where none runs.
    pub capture: String,
    /// Number of the set's epoch.
    pub epoch: u64,
    /// Evidence for the above.
    #[serde(default)]
    pub positions: Positions,
    /// What there is to say beyond that.
    #[serde(flatten)]
    pub details: Details,
}

/// What `stead status` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node that answers.
    pub node: NodeName,
    /// All connections known to it and to the peers that answered, sorted by set and target.
    pub connections: Vec<ConnectionStatus>,
    /// Monitors; none until groups are watched.
    #[serde(default)]
    pub monitors: Vec<MonitorStatus>,
    /// Peers that did not answer in time: what only they know is unknown.
    #[serde(default)]
    pub unreachable: Vec<NodeName>,
    /// What else the node that answers has to say of itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Datagrams that came as heartbeats and were dropped, by node, way and reason.
    #[serde(default)]
    pub dropped_heartbeats: Vec<DroppedHeartbeats>,
}

/// Datagrams that a node dropped since its daemon started, of one kind and on one way. They change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedHeartbeats {
    /// Which node.
    pub node: NodeName,
    /// Its address at which they came.
    pub at: IpAddr,
    /// From where, as their packets said; none: from many.
    pub from: Option<IpAddr>,
    /// `malformed`, `version`, `other-cluster`, `other-node`, `unknown` (sender), `forged` or `replayed`.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// When the last one came.
    pub last: Timestamp,
}

/// One watched group as every node shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// Name of the group.
    pub group: String,
    /// The watched node.
    pub source: NodeName,
    /// The node that watches it.
    pub target: NodeName,
    /// The sets that go with it.
    #[serde(default)]
    pub sets: Vec<SetName>,
    /// `online`, `late`, `failed` or `failed-over`.
    pub state: String,
    /// Seconds until it counts as failed.
    pub time_to_fail_seconds: f64,
    /// Its heartbeat paths, as `10.0.0.1=10.0.0.2`, with ` down` behind one that is silent.
    pub paths: Vec<String>,
    /// The node that has the newest epoch.
    #[serde(default)]
    pub active: Option<NodeName>,
    /// Whose view this is: of its two nodes the target, or the source where the target says nothing.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// What that node does: `standby`, `confirming`, `raising`, `active`, …
    #[serde(default)]
    pub doing: String,
    /// What the other node says that it is: `active`, `standby`, `restore-required`, …
    #[serde(default)]
    pub other: Option<String>,
    /// This node has it, and cannot keep its resources up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failing: bool,
    /// What a person holds it in: `offline` or `maintenance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Number of the newest epoch.
    #[serde(default)]
    pub epoch: u64,
    /// Why nothing is done, or what a person has to do.
    #[serde(default)]
    pub remark: Option<String>,
}

impl MonitorStatus {
    /// Whose view this is, also where a node of before did not say so.
    pub fn told_by(&self) -> &NodeName {
        self.node.as_ref().unwrap_or(&self.target)
    }

    /// Does whoever has it say that its resources cannot be kept up there?
    pub fn is_failing(&self) -> bool {
        self.failing || self.other.as_deref() == Some("failing")
    }
}

/// One thing in which replica and source differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Path on the target, with bytes that are not UTF-8 shown as U+FFFD.
    pub path: String,
    /// What differs: `missing`, `extra`, `content`, `attributes`, …
    pub what: String,
    /// Was it put right?
    pub repaired: bool,
}

/// What a verify found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Files compared.
    pub files: u64,
    /// Bytes of content compared.
    pub bytes: u64,
    /// How many differences there were.
    pub different: u64,
    /// The first of them (at most 1,000).
    pub differences: Vec<Difference>,
}

/// A moment: nanoseconds since 1970, written as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(pub u64);

/// Text that is not a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time like 2026-11-20T07:15:00.000Z")]
pub struct BadTimestamp(String);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let milliseconds = self.0 / 1_000_000 % 1_000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
    }
}

impl FromStr for Timestamp {
    type Err = BadTimestamp;
    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        parse_timestamp(text).ok_or_else(|| BadTimestamp(text.into()))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = BadTimestamp;
    fn try_from(text: String) -> Result<Self, BadTimestamp> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> String {
        time.to_string()
    }
}

fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let shape: Vec<u8> = text.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b }).collect();
    if shape != b"0000-00-00T00:00:00.000Z" {
        return None;
    }
    let number = |from: usize, len: usize| text[from..from + len].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second, milliseconds) = (number(11, 2)?, number(14, 2)?, number(17, 2)?, number(20, 3)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp(seconds.checked_mul(1_000_000_000)?.checked_add(milliseconds * 1_000_000)?))
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_back_as_they_were_written() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
            (1_795_158_900_250_000_000, "2026-11-20T07:15:00.250Z"),
            (4_107_542_399_999_000_000, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(nanoseconds).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(nanoseconds)));
        }
        for bad in
            ["", "2026-11-20", "2026-13-20T07:15:00.250Z", "2026-11-20T07:15:00.250+", "9999-99-99T99:99:99.999Z"]
        {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn state_words_are_those_that_tools_read() {
        use State::*;
        let all = [Mirroring, Replicating, Behind, Paused, Disconnected, Halted, RestoreRequired];
        let words: Vec<_> = all.iter().map(|s| s.as_str()).collect();
        assert_eq!(
            words,
            ["mirroring", "replicating", "behind", "paused", "disconnected", "halted", "restore-required"]
        );
    }
}
