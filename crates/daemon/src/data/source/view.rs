//! A connection as `status` shows it.

use stead_model::Position;
use stead_model::status::{BrakeStatus, Cause, ConnectionStatus, Details, Positions, State, Timestamp};
use stead_replication::source::ConnectionView;

use super::targets::Tracked;
use crate::data::{cause, wall_clock};
use crate::seam::SourceSpec;

/// State word and reason of a connection, and since when.
pub(super) struct Since {
    state: State,
    reason: Option<String>,
    at: Timestamp,
}

impl Since {
    pub(super) fn new() -> Since {
        Since { state: State::Disconnected, reason: None, at: wall_clock() }
    }

    /// When the state word became what it is.
    fn of(&mut self, view: &ConnectionView) -> Timestamp {
        if view.state != self.state {
            (self.state, self.at) = (view.state, wall_clock());
        }
        self.reason.clone_from(&view.reason);
        self.at
    }
}

/// The status of one connection.
pub(super) fn status(
    spec: &SourceSpec,
    tracked: &mut Tracked,
    capture: &str,
    incarnation: u64,
    covered: u64,
    view: &ConnectionView,
) -> ConnectionStatus {
    let position = |sequence| Position { epoch: spec.epoch.number, incarnation, sequence };
    let lag = view.oldest_time.map(|oldest| wall_clock().0.saturating_sub(oldest) as f64 / 1e9);
    ConnectionStatus {
        set: spec.set.clone(),
        source: spec.node.clone(),
        target: tracked.link.node.clone(),
        state: view.state,
        reason: view.reason.clone(),
        since: tracked.since.of(view),
        mirror: view.mirror,
        queue: view.queue,
        lag_seconds: Some(lag.unwrap_or(0.0)),
        consistent_at: consistent_at(view, covered),
        capture: capture.into(),
        epoch: spec.epoch.number,
        positions: Positions {
            captured: position(view.captured),
            sent: position(view.sent),
            journaled: position(view.journaled),
            applied: position(view.applied),
        },
        details: details(view),
    }
}

fn details(view: &ConnectionView) -> Details {
    let halted = view.reason.as_deref().filter(|_| view.state == State::Halted);
    let cause = if view.braked.is_some() { Some(Cause::Brake) } else { halted.map(cause::of) };
    let brake = view.braked.map(|deletions| BrakeStatus { halted: true, deletions, rewrites: 0 });
    Details { cause, brake, ..Details::default() }
}

/// Where nothing is under way, the replica is the source as it was when capture was last found empty.
fn consistent_at(view: &ConnectionView, covered: u64) -> Option<Timestamp> {
    let is_level = view.state == State::Replicating && view.oldest_time.is_none() && view.applied == view.captured;
    let time = if is_level { view.consistent_time.max(covered) } else { view.consistent_time };
    (view.consistent_time > 0).then_some(Timestamp(time))
}
