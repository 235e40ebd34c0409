//! What a connection has to say beyond its state word. Everything here may be missing: then it is not known, or does not
//! apply.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// What there is to say about a connection beyond its state word; in JSON these stand among its other fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// What kind of thing halted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What the operator can do about the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Until when it is paused, where a schedule says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// Bytes each second that it may send now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Bytes each second that went on in the last while, by positions that moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Bytes that are left of the mirror, or of the backlog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_bytes: Option<u64>,
    /// How long that takes at the present rate, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_seconds: Option<f64>,
    /// What would be missing if the source died now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_source_died: Option<Gone>,
    /// How a synchronous connection stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncStatus>,
    /// The mass-change brake, where it counts or has halted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brake: Option<BrakeStatus>,
    /// The replica was complete, and is the image of no instant until a mirror has ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spoiled: bool,
    /// Writes that went past the capture, since the daemon started.
    #[serde(skip_serializing_if = "is_zero")]
    pub bypassing_writes: u64,
    /// One of the files of the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypassed: Option<String>,
    /// The last comparison of replica and source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerifySummary>,
}

/// What kind of thing halts a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The mass-change brake: it asks.
    Brake,
    /// A disk or a quota is full.
    NoRoom,
    /// The target may not write there, or its file system is read-only.
    Denied,
    /// A name or a size that the target's file system cannot hold.
    TooLong,
    /// The source's directory is not the one that was protected: empty, unmounted, or another file system.
    WrongVolume,
    /// The set could not be started.
    NotStarted,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// What would be missing on the replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gone {
    /// Bytes of changes; none: at least what a mirror has not sent, which is not counted yet.
    pub bytes: Option<u64>,
    /// The time that they go back, in seconds; none: not known.
    pub seconds: Option<f64>,
}

/// How a synchronous connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// What it does.
    pub state: SyncState,
    /// Since when.
    pub since: Timestamp,
}

/// What a synchronous connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncState {
    /// What is confirmed to the application is durable on the target.
    InSync,
    /// It is asynchronous until the target has caught up.
    FallenBack,
    /// The application waits for the target.
    Blocked,
}

impl SyncState {
    /// The fixed word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            SyncState::InSync => "in-sync",
            SyncState::FallenBack => "fallen-back",
            SyncState::Blocked => "blocked",
        }
    }
}

/// What the brake has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeStatus {
    /// Has it halted the connection?
    pub halted: bool,
    /// Entries deleted within the window.
    pub deletions: u64,
    /// Files rewritten within the window.
    pub rewrites: u64,
}

/// A comparison of replica and source that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySummary {
    /// When it ended.
    pub at: Timestamp,
    /// Files compared.
    pub files: u64,
    /// Bytes compared.
    pub bytes: u64,
    /// Differences found.
    pub different: u64,
    /// Differences that were put right.
    pub repaired: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
