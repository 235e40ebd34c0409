//! What the plan says about each connection, for the one source of them all.

use stead_model::plan;
use stead_replication::source::{Brake, Compression, Settings};

use crate::seam::TargetLink;

/// Limits of the queue and of the brake: there is one queue for all targets, so the largest limit holds for it; of the
/// brakes the strictest.
pub(super) fn of(targets: &[TargetLink]) -> Settings {
    let queue = targets.iter().map(|target| target.settings.queue_limit).max();
    let disk = targets.iter().map(|target| target.settings.queue_disk).max();
    let default = Settings::default();
    Settings {
        queue_bytes_max: queue.map_or(default.queue_bytes_max, |bytes| bytes.try_into().unwrap_or(usize::MAX)),
        queue_disk_bytes_max: disk.unwrap_or(default.queue_disk_bytes_max),
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
