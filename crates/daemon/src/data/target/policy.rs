//! What the plan wants of a replica.

use std::time::Duration;

use stead_disk::replica::{Orphans, Policy, TrashLimits};
use stead_model::plan::{self, Settings};

/// What was removed can be put back for that long at least.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// So many names where the brake has no limit.
const NAMES: u64 = 10_000;
/// So many bytes.
const BYTES: u64 = 16 << 30;

/// What is removed is kept for as long as the brake may halt on account of it, and twice as many names as it lets pass.
pub(super) fn of(settings: &Settings) -> Policy {
    let trash = TrashLimits {
        seconds_max: (settings.brake.window * 2).max(KEPT_FOR).as_secs(),
        objects_max: settings.brake.deletions.unwrap_or(NAMES).saturating_mul(2),
        bytes_max: BYTES,
    };
    let orphans = match settings.orphans {
        plan::Orphans::Delete => Orphans::Delete,
        plan::Orphans::Aside => Orphans::MoveAside,
        plan::Orphans::Keep => Orphans::Keep,
    };
    Policy { removals_max: settings.brake.deletions, orphans, trash, ..Policy::default() }
}

/// The same, with nothing kept that can go.
pub(super) fn bare(policy: Policy) -> Policy {
    Policy { trash: TrashLimits::default(), ..policy }
}
