//! A connection as `status` shows it.

use std::time::Instant;

use stead_model::Position;
use stead_model::clock::later;
use stead_model::status::{BrakeStatus, Cause, ConnectionStatus, Details, Positions, State, Timestamp};
use stead_replication::source::{Braked, ConnectionView};

use super::targets::Tracked;
use crate::clock::wall_clock;
use crate::data::cause;
use crate::data::relay::Origin;
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

/// When a replica was last seen level with its source, as long as that says more than the stream's own points.
#[derive(Default)]
pub(super) struct LastLevel {
    at: u64,
    /// The consistent point that it came after; an earlier one than that shows that the replica went back.
    point: u64,
}

impl LastLevel {
    /// The source at which instant the replica is, or can be brought back to; `None`: none.
    fn consistent_at(&mut self, view: &ConnectionView, covered: u64) -> Option<Timestamp> {
        let point = view.consistent_time;
        if point < self.point {
            *self = LastLevel::default();
        }
        let mut at = if point == self.point { self.at } else { point.max(self.at) };
        let is_level = view.state == State::Replicating && view.oldest_time.is_none() && view.applied == view.captured;
        if is_level {
            at = later(at, covered);
            *self = LastLevel { at, point };
        }
        (point > 0).then_some(Timestamp(at))
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
    let consistent_at = tracked.level.consistent_at(view, covered);
    ConnectionStatus {
        set: spec.set.clone(),
        source: spec.node.clone(),
        target: tracked.link.node.clone(),
        state: view.state,
        reason: view.reason.clone(),
        since: tracked.since.of(view),
        mirror: view.mirror,
        queue: view.queue,
        lag_seconds: lag(view, consistent_at).map(|oldest| tracked.lag.seconds(oldest, wall_clock().0, Instant::now())),
        consistent_at,
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

/// What is handed on is no newer, and no more whole, than what is received of `origin`.
pub(super) fn hand_on(status: &mut ConnectionStatus, origin: Option<&Origin>, now: Timestamp) {
    if status.state != State::Replicating {
        return;
    }
    let (state, reason) = match origin {
        Some(origin) if origin.state == State::Replicating && status.consistent_at.is_some() => return,
        Some(origin) if origin.state == State::Replicating => {
            (State::Mirroring, format!("waiting for a consistent point from {}", origin.source))
        }
        Some(origin) if origin.state == State::Mirroring => {
            (waiting(status), format!("waiting for the mirror from {}", origin.source))
        }
        Some(origin) => {
            let why = origin.reason.as_deref().unwrap_or_default();
            (State::Behind, format!("what comes from {} is {}: {why}", origin.source, origin.state))
        }
        None => (State::Behind, "the replica that is handed on is not open yet".into()),
    };
    (status.state, status.reason) = (state, Some(reason));
    let age = |at: Timestamp| now.0.saturating_sub(at.0) as f64 / 1e9;
    status.lag_seconds = status.consistent_at.map(age);
}

fn waiting(status: &ConnectionStatus) -> State {
    if status.consistent_at.is_none() { State::Mirroring } else { State::Behind }
}

/// When the oldest change was made that the replica lacks, or `None` in it: it lacks none; where that is yet to be found,
/// when its image was. `None`: what it lacks is not known.
fn lag(view: &ConnectionView, consistent_at: Option<Timestamp>) -> Option<Option<u64>> {
    let dirty = view.behind.as_ref().is_some_and(|behind| behind.dirty != Some(0));
    match view.oldest_time {
        _ if !view.following => None,
        _ if dirty || view.awaits_scan => Some(Some(consistent_at?.0)),
        oldest => Some(oldest),
    }
}

fn details(view: &ConnectionView) -> Details {
    let halted = view.reason.as_deref().filter(|_| view.state == State::Halted);
    let cause = if view.braked.is_some() { Some(Cause::Brake) } else { halted.map(cause::of) };
    let status = |Braked { deletions, rewrites }| BrakeStatus { halted: true, deletions, rewrites };
    let brake = view.braked.map(status);
    Details { cause, brake, ..Details::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::status::{MirrorStatus, QueueStatus};

    fn view(state: State, consistent_time: u64) -> ConnectionView {
        ConnectionView {
            state,
            reason: None,
            mirror: MirrorStatus::default(),
            queue: QueueStatus::default(),
            following: true,
            awaits_scan: false,
            oldest_time: None,
            consistent_time,
            captured: 7,
            sent: 7,
            journaled: 7,
            applied: 7,
            durable: 7,
            behind: None,
            braked: None,
        }
    }

    #[test]
    fn the_time_of_the_image_goes_back_only_with_the_image() {
        let mut level = LastLevel::default();
        let mut at = |state, point, covered| level.consistent_at(&view(state, point), covered).map(|time| time.0);
        assert_eq!(at(State::Mirroring, 0, 50), None);
        assert_eq!(at(State::Replicating, 100, 200), Some(200));
        assert_eq!(at(State::Paused, 100, 900), Some(200));
        assert_eq!(at(State::Disconnected, 250, 900), Some(250));
        assert_eq!(at(State::Mirroring, 40, 900), Some(40), "it was rolled back");
        assert_eq!(at(State::Mirroring, 0, 900), None, "it was spoiled");
        assert_eq!(at(State::Mirroring, 40, 900), Some(40));
        let day = 86_400_000_000_000;
        assert_eq!(at(State::Replicating, day, 2 * day), Some(2 * day));
        assert_eq!(at(State::Replicating, day, 7), Some(7), "the clock was set back");
        assert_eq!(at(State::Paused, day, 9), Some(7));
        assert_eq!(at(State::Replicating, 8, 9), Some(9));
    }

    #[test]
    fn what_is_handed_on_is_as_old_as_what_is_received() {
        let origin = |state, reason: &str| Origin {
            source: "paris".parse().unwrap(),
            state,
            reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        };
        let told = |origin: Option<Origin>, consistent_at: Option<u64>| {
            let mut status = status_of(State::Replicating, consistent_at.map(Timestamp));
            hand_on(&mut status, origin.as_ref(), Timestamp(9_000_000_000));
            (status.state, status.reason.unwrap_or_default(), status.lag_seconds)
        };
        let at = Some(2_000_000_000);
        assert_eq!(told(Some(origin(State::Replicating, "")), at), (State::Replicating, String::new(), Some(0.0)));
        assert_eq!(told(Some(origin(State::Replicating, "")), None).0, State::Mirroring);
        let waits = "waiting for the mirror from paris";
        assert_eq!(told(Some(origin(State::Mirroring, "")), at), (State::Behind, waits.into(), Some(7.0)));
        assert_eq!(told(Some(origin(State::Mirroring, "")), None), (State::Mirroring, waits.into(), None));
        let (state, reason, lag) = told(Some(origin(State::Disconnected, "no route")), at);
        assert_eq!((state, lag), (State::Behind, Some(7.0)));
        assert!(reason.contains("paris") && reason.contains("no route"), "{reason}");
    }

    fn status_of(state: State, consistent_at: Option<Timestamp>) -> ConnectionStatus {
        ConnectionStatus {
            set: "notes".parse().unwrap(),
            source: "lyon".parse().unwrap(),
            target: "metz".parse().unwrap(),
            state,
            reason: None,
            since: Timestamp(1),
            mirror: MirrorStatus::default(),
            queue: QueueStatus::default(),
            lag_seconds: Some(0.0),
            consistent_at,
            capture: "relay".into(),
            epoch: 1,
            positions: Positions::default(),
            details: Details::default(),
        }
    }

    #[test]
    fn what_is_behind_lags_as_much_as_its_image_is_old() {
        let image = Some(Timestamp(2_000_000_000));
        let mut view = view(State::Paused, 1);
        assert_eq!(lag(&view, image), Some(None));
        let since = std::time::Instant::now();
        view.behind = Some(stead_replication::source::BehindView { since, dirty: Some(0) });
        assert_eq!(lag(&view, image), Some(None), "nothing was changed since it was paused");
        view.behind = Some(stead_replication::source::BehindView { since, dirty: Some(3) });
        assert_eq!(lag(&view, image), Some(Some(2_000_000_000)));
        assert_eq!(lag(&view, None), None);
        (view.behind, view.awaits_scan) = (None, true);
        assert_eq!(lag(&view, image), Some(Some(2_000_000_000)), "it is paused or halted amid a mirror");
        view.following = false;
        assert_eq!(lag(&view, image), None);
    }
}
