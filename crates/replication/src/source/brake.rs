//! The mass-change brake: a target is not sent more deletions or rewrites than the limit; it halts and asks.

use super::{RootConfig, Source, TargetId};

impl Source {
    /// Goes on with what the brake halted at.
    pub(super) fn accept(&mut self, target: TargetId) {
        let _ = target;
    }

    /// The target takes back what was applied in the brake's window.
    pub(super) fn undo(&mut self, target: TargetId) {
        let _ = target;
    }

    /// The set has other rules.
    pub(super) fn other_rules(&mut self, roots: Vec<RootConfig>) {
        let _ = roots;
    }
}
