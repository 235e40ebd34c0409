//! Values that tests begin with.

use stead_model::status::{ConnectionStatus, Details, MirrorStatus, Positions, QueueStatus, State, Timestamp};

pub(crate) fn connection(set: &str, source: &str, target: &str) -> ConnectionStatus {
    ConnectionStatus {
        set: set.parse().unwrap(),
        source: source.parse().unwrap(),
        target: target.parse().unwrap(),
        state: State::Replicating,
        reason: None,
        since: Timestamp(0),
        mirror: MirrorStatus::default(),
        queue: QueueStatus::default(),
        lag_seconds: Some(0.0),
        consistent_at: None,
        capture: "mount".into(),
        epoch: 1,
        positions: Positions::default(),
        details: Details::default(),
    }
}
