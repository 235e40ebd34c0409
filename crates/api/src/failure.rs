//! Why a request was not done.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which exit code a failure becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// It was tried and did not work, or is refused.
    Failed,
    /// The request itself makes no sense.
    Usage,
    /// The answer is "no".
    No,
    /// There is no daemon.
    NoDaemon,
    /// The time was up.
    TimedOut,
}

/// What happened, why, and what to do about it: three short texts without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Failure {
    /// Which exit code it becomes.
    pub kind: FailureKind,
    /// What was not done.
    pub what: String,
    /// Why; may be empty.
    pub why: String,
    /// What the operator can do; may be empty.
    pub remedy: String,
}

impl Failure {
    /// A failure of kind [`FailureKind::Failed`].
    pub fn new(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::Failed, what: what.into(), why: why.into(), remedy: remedy.into() }
    }

    /// The same failure with another kind.
    pub fn kind(self, kind: FailureKind) -> Failure {
        Failure { kind, ..self }
    }

    /// The exit code of the command that ends with it.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            FailureKind::Failed => 1,
            FailureKind::Usage => 2,
            FailureKind::No => 3,
            FailureKind::NoDaemon => 4,
            FailureKind::TimedOut => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n{}", self.remedy) }
    }
}
