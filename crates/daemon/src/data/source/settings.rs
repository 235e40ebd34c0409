//! What the plan says about each connection, for the one source of them all.

use stead_model::plan;
use stead_replication::source::{Brake, Compression, Settings};

use crate::seam::TargetLink;

/// Memory that a queue has at least where it goes to disk: a few batches of 1 MiB.
const MEMORY_MIN_WITH_DISK: u64 = 4 << 20;

/// Limits of the queue and of the brake: there is one queue for all targets, so the largest limit holds for it; of the
/// brakes the strictest.
pub(super) fn of(targets: &[TargetLink]) -> Settings {
    let disk = targets.iter().map(|target| target.settings.queue_disk).max().unwrap_or_default();
    let memory_min = if disk > 0 { MEMORY_MIN_WITH_DISK } else { 0 };
    let queue = targets.iter().map(|target| target.settings.queue_limit.max(memory_min)).max();
    let default = Settings::default();
    Settings {
        queue_bytes_max: queue.map_or(default.queue_bytes_max, |bytes| bytes.try_into().unwrap_or(usize::MAX)),
        queue_disk_bytes_max: disk,
        brake: brake(targets).unwrap_or(default.brake),
        ..default
    }
}

/// Batches are packed once for all targets: not where one of them wants none.
pub(super) fn compression(targets: &[TargetLink]) -> Compression {
    let off = targets.iter().any(|target| target.settings.compression == plan::Compression::Off);
    if off { Compression::Off } else { Compression::Adaptive }
}

fn brake(targets: &[TargetLink]) -> Option<Brake> {
    let brakes = || targets.iter().map(|target| target.settings.brake);
    Some(Brake {
        deletions_max: brakes().filter_map(|brake| brake.deletions).min().unwrap_or(0),
        rewrites_max: brakes().filter_map(|brake| brake.rewrites).min(),
        window: brakes().map(|brake| brake.window).max()?,
    })
}
