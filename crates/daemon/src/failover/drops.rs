//! What came as a heartbeat and was dropped, for people and programs. Shared with the loop.

use std::time::{Duration, Instant};

use stead_failover::heartbeat::{Came, Dropped, Drops, Flood};
use stead_model::NodeName;
use stead_model::status::{DroppedHeartbeats, Timestamp};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the watcher dropped until it last looked.
#[derive(Default)]
pub(crate) struct Seen {
    dropped: Vec<Dropped>,
    flood: Option<Flood>,
    at: Option<Instant>,
}

impl Seen {
    /// Looks at them, unless it did just now: what is dropped may come fast.
    pub(super) fn look(&mut self, drops: &Drops, now: Instant) {
        if self.at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_EVERY) {
            *self = Seen { dropped: drops.list().collect(), flood: drops.flood(now), at: Some(now) };
        }
    }

    /// With times by the wall clock, which shows `wall` at `now`.
    pub(super) fn statuses(&self, node: &NodeName, now: Instant, wall: Timestamp) -> Vec<DroppedHeartbeats> {
        let ago = |last: Instant| now.saturating_duration_since(last).as_nanos() as u64;
        let status = |one: &Dropped| DroppedHeartbeats {
            node: node.clone(),
            at: one.came.at,
            from: one.came.from,
            reason: one.reason.into(),
            count: one.count,
            last: Timestamp(wall.0.saturating_sub(ago(one.last))),
        };
        self.dropped.iter().map(status).collect()
    }

    /// The flood that lasts, for people.
    pub(super) fn flood(&self) -> Option<String> {
        self.flood.as_ref().map(text)
    }
}

/// A flood in words.
pub(super) fn text(Flood { count, came: Came { at, from }, why }: &Flood) -> String {
    let from = from.map_or_else(|| "many addresses".into(), |from| from.to_string());
    format!("{count} datagrams that came as heartbeats were dropped, the last from {from} at {at}: {why}")
}
