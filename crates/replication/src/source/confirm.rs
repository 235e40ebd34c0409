//! How far capture's records are needed no more, and what a sync of the source's file systems covers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stead_model::{FileId, Kind, Record, Sequence};

use super::connection::{STREAM, bit};
use super::{Source, SourceEvent};

/// Places that are remembered to say what a sync covers, and how far they lie apart.
const PLACES_MAX: usize = 4096;
const PLACES_APART: Duration = Duration::from_millis(100);
/// What [`Kind::Sync`] says where the source's file systems completed a sync.
const SYNCED: u32 = 3;

/// Where in the stream capture's numbers came to an end.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: VecDeque<(u64, Sequence)>,
    noted: Option<Instant>,
}

impl Places {
    /// Everything up to that number lies before the next record.
    pub(super) fn note(&mut self, captured: u64, last: Sequence, now: Instant) {
        if self.noted.is_some_and(|at| now < at + PLACES_APART) {
            return;
        }
        self.noted = Some(now);
        self.places.push_back((captured, last));
        if self.places.len() > PLACES_MAX {
            self.places.pop_front();
        }
    }

    /// The last place up to which nothing lies but what came before that number.
    fn until(&self, captured: u64) -> Option<Sequence> {
        let after = self.places.partition_point(|(at, _)| *at <= captured);
        after.checked_sub(1).map(|at| self.places[at].1)
    }
}

impl Source {
    /// A sync completed that began when capture was at that number.
    pub(super) fn synced(&mut self, captured: u64) {
        let Some(until) = self.places.until(captured) else { return };
        let mut record = Record::new(Kind::Sync, FileId::NONE);
        (record.c, record.a) = (SYNCED, until);
        self.emit(&record, STREAM);
    }

    /// Tells how far capture may let go.
    pub(super) fn settle_confirmed(&mut self) {
        let mirrored = self.requests.whole_for() | self.scan.as_ref().map_or(0, |scan| scan.whole_targets());
        let counts = self.connections.iter().filter(|(id, connection)| {
            connection.following && connection.behind.is_none() && mirrored & bit(**id) == 0
        });
        let durable = counts.map(|(_, connection)| connection.durable).min();
        let confirmed = durable.unwrap_or(self.captured_done).min(self.captured_done);
        if confirmed > self.confirmed {
            self.confirmed = confirmed;
            self.event(SourceEvent::Confirmed { captured: confirmed });
        }
    }
}
