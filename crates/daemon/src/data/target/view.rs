//! A connection as `status` shows it at the target.

use stead_model::status::{
    Cause, ConnectionStatus, Details, MirrorStatus, Positions, QueueStatus, State, SyncState, SyncStatus, Timestamp,
};
use stead_replication::frame::HaltCode;
use stead_replication::target::TargetView;

use crate::clock::wall_clock;
use crate::data::cause;
use crate::seam::TargetSpec;

/// Before anything is known.
pub(super) fn initial(spec: &TargetSpec) -> ConnectionStatus {
    ConnectionStatus {
        set: spec.set.clone(),
        source: spec.source.clone(),
        target: spec.node.clone(),
        state: State::Disconnected,
        reason: Some("the source has not connected yet".into()),
        since: wall_clock(),
        mirror: MirrorStatus::default(),
        queue: QueueStatus::default(),
        lag_seconds: None,
        consistent_at: None,
        capture: "none".into(),
        epoch: spec.epoch.number,
        positions: Positions::default(),
        details: Details::default(),
    }
}

/// What changed since `status` was made.
pub(super) fn update(status: &mut ConnectionStatus, view: &TargetView, lost: Option<&str>, level: Option<bool>) {
    let state = state(view);
    if state != status.state {
        (status.state, status.since) = (state, wall_clock());
    }
    status.reason = match state {
        State::Halted => view.halted.clone(),
        State::Disconnected => Some(lost.unwrap_or("the source has not connected yet").into()),
        _ => None,
    };
    status.details.cause = match (&view.halted, view.halt_code) {
        (None, _) => None,
        (Some(_), HaltCode::Brake { .. }) => Some(Cause::Brake),
        (Some(reason), HaltCode::Other) => Some(cause::of(reason)),
    };
    status.queue.bytes = view.backlog_bytes as u64;
    status.consistent_at = (view.consistent_time > 0).then_some(Timestamp(view.consistent_time));
    status.details.spoiled = view.spoiled;
    status.positions.journaled = view.journaled;
    status.positions.applied = view.applied;
    if let Some(level) = level {
        let state = if level { SyncState::InSync } else { SyncState::FallenBack };
        let same = status.details.sync.filter(|sync| sync.state == state);
        status.details.sync = same.or_else(|| Some(SyncStatus { state, since: wall_clock() }));
    }
    if view.applied.epoch > 0 {
        status.epoch = view.applied.epoch;
    }
}

fn state(view: &TargetView) -> State {
    match view {
        TargetView { halted: Some(_), .. } => State::Halted,
        TargetView { connected: false, .. } => State::Disconnected,
        TargetView { mirroring: true, .. } => State::Mirroring,
        _ => State::Replicating,
    }
}
