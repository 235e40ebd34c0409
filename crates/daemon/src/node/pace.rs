//! How fast a connection gets on, by positions that moved.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stead_model::status::{ConnectionStatus, Gone, State};

/// Over which time a rate is taken.
const WINDOW: Duration = Duration::from_secs(30);
/// Shortest time that says anything.
const WINDOW_MIN: Duration = Duration::from_secs(2);

/// Looks at one connection, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<Look>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    at: Instant,
    state: State,
    /// Bytes of the mirror that are done.
    mirrored: u64,
    /// Changes that are applied.
    applied: u64,
    /// Changes that wait.
    waiting: u64,
}

impl Pace {
    /// Looks again. What was seen in another state, or before a mirror or a stream began anew, says nothing more.
    pub(super) fn look(&mut self, status: &ConnectionStatus, now: Instant) {
        let look = Look {
            at: now,
            state: status.state,
            mirrored: status.mirror.bytes_done,
            applied: status.positions.applied.sequence,
            waiting: status.queue.changes,
        };
        let anew =
            |last: &Look| last.state != look.state || last.mirrored > look.mirrored || last.applied > look.applied;
        if self.0.back().is_some_and(anew) {
            self.0.clear();
        }
        self.0.push_back(look);
        while self.0.len() > 2 && now.saturating_duration_since(self.0[0].at) > WINDOW {
            self.0.pop_front();
        }
    }

    /// Fills in how fast it goes, what is left, and what would be missing if the source died now.
    pub(super) fn describe(&self, status: &mut ConnectionStatus) {
        let mirroring = status.state == State::Mirroring;
        let mean = status.queue.bytes as f64 / status.queue.changes.max(1) as f64;
        if let Some((seconds, first, last)) = self.span() {
            let done = match mirroring {
                true => (last.mirrored - first.mirrored) as f64,
                false => (last.applied - first.applied) as f64 * mean,
            };
            let shrinks = match mirroring {
                true => done,
                false => first.waiting.saturating_sub(last.waiting) as f64 * mean,
            };
            let left = left(status);
            status.details.rate = (done > 0.0).then_some(done / seconds);
            status.details.left_seconds =
                left.filter(|left| *left > 0 && shrinks > 0.0).map(|left| left as f64 * seconds / shrinks);
        }
        status.details.left_bytes = left(status).filter(|left| *left > 0);
        status.details.if_source_died = Some(gone(status));
    }

    fn span(&self) -> Option<(f64, Look, Look)> {
        let (first, last) = (*self.0.front()?, *self.0.back()?);
        let lasted = last.at.saturating_duration_since(first.at);
        (lasted >= WINDOW_MIN).then_some((lasted.as_secs_f64(), first, last))
    }
}

/// What is left: as the data path says it, else of the mirror, else of the backlog.
fn left(status: &ConnectionStatus) -> Option<u64> {
    match status.state {
        _ if status.details.left_bytes.is_some() => status.details.left_bytes,
        State::Mirroring => Some(status.mirror.bytes_total.saturating_sub(status.mirror.bytes_done)),
        State::Behind => None,
        _ => Some(status.queue.bytes),
    }
}

/// What would be missing if the source died now.
fn gone(status: &ConnectionStatus) -> Gone {
    let bytes = match status.state {
        State::Replicating => Some(status.queue.bytes),
        State::Mirroring => left(status),
        _ => status.details.left_bytes.or((status.queue.bytes > 0).then_some(status.queue.bytes)),
    };
    Gone { bytes, seconds: status.lag_seconds }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_values::connection;

    fn status(state: State, mirrored: u64, applied: u64, waiting: u64) -> ConnectionStatus {
        let mut status = connection("notes", "paris", "lyon");
        (status.state, status.mirror.bytes_done, status.mirror.bytes_total) = (state, mirrored, 1_000);
        (status.positions.applied.sequence, status.queue.changes, status.queue.bytes) =
            (applied, waiting, waiting * 10);
        status
    }

    fn described(looks: &[ConnectionStatus], every: u64) -> ConnectionStatus {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for (at, look) in looks.iter().enumerate() {
            pace.look(look, start + Duration::from_secs(at as u64 * every));
        }
        let mut last = looks.last().unwrap().clone();
        pace.describe(&mut last);
        last
    }

    #[test]
    fn a_mirror_takes_what_is_left_at_the_rate_at_which_bytes_were_done() {
        let looks = [0, 100, 200].map(|done| status(State::Mirroring, done, 0, 0));
        let details = described(&looks, 2).details;
        assert_eq!((details.rate, details.left_bytes, details.left_seconds), (Some(50.0), Some(800), Some(16.0)));
    }

    #[test]
    fn a_backlog_that_does_not_shrink_has_no_end() {
        let grows = [(0, 100), (10, 110), (20, 120)].map(|(applied, n)| status(State::Replicating, 0, applied, n));
        let details = described(&grows, 2).details;
        assert_eq!((details.rate, details.left_seconds), (Some(50.0), None));
        let shrinks = [(0, 100), (30, 90), (60, 80)].map(|(applied, n)| status(State::Replicating, 0, applied, n));
        assert_eq!(described(&shrinks, 2).details.left_seconds, Some(16.0));
    }

    #[test]
    fn what_does_not_move_has_no_rate_whatever_the_state_says() {
        let looks = [0; 3].map(|_| status(State::Mirroring, 300, 0, 0));
        let details = described(&looks, 20).details;
        assert_eq!((details.rate, details.left_seconds, details.left_bytes), (None, None, Some(700)));
    }

    #[test]
    fn a_stream_that_began_anew_is_not_compared_with_the_one_before() {
        let looks = [500, 100].map(|applied| status(State::Replicating, 0, applied, 7));
        let details = described(&looks, 10).details;
        assert_eq!(details.rate, None);
        assert_eq!(details.if_source_died, Some(Gone { bytes: Some(70), seconds: Some(0.0) }));
    }
}
