//! Where the target of one set and the source of another meet: what is applied to a replica is handed on to the set that
//! relays it, in groups that end where the replica is its source at one instant.
//!
//! ```text
//!   target's session:   begin ─▸ (a batch is applied) ─▸ end, with a point or without
//!                                     │ told by the replica's tap
//!   relay's reader:              drain, up to the last point
//! ```
//! Nothing here waits for the reader: what finds no room is dropped, and everything is compared instead. A number is taken
//! before a batch is applied, and reached when the group of that batch is drained: so a read of the replica amid a batch
//! knows which changes it may have seen.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stead_disk::replica::Tapped;
use stead_model::record::flags;
use stead_model::status::State;
use stead_model::{FileId, Kind, NodeName, Record};

use crate::clock::wall_clock;
use crate::threads::lock;

/// Bytes of changes between two points; beyond, everything is compared.
const OPEN_BYTES_MAX: usize = 16 << 20;
/// Bytes of groups that wait for the reader.
const READY_BYTES_MAX: usize = 64 << 20;

/// What is handed on of one replica.
#[derive(Default)]
pub(super) struct Relay {
    passing: Mutex<Passing>,
    ready: Condvar,
}

/// How the set does whose replica is handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) source: NodeName,
    pub(super) state: State,
    pub(super) reason: Option<String>,
}

/// Who reads: a later one takes the stream over.
pub(super) type ReaderId = u64;

#[derive(Default)]
struct Passing {
    readers: ReaderId,
    /// Who is to be told.
    reader: Option<ReaderId>,
    applying: bool,
    /// Number of the last batch, or of something else that changed the replica.
    head: u64,
    open: Open,
    /// The replica is its source at that instant, nanoseconds since 1970.
    point: Option<u64>,
    ready: VecDeque<Group>,
    ready_bytes: usize,
    /// What was drained last.
    drained: u64,
    covered: u64,
    dropped_bytes: u64,
    origin: Option<Origin>,
}

/// What came since the last point.
#[derive(Default)]
struct Open {
    records: Vec<u8>,
    lost: Vec<(FileId, bool)>,
    whole: bool,
    /// When the first change of it began, by this machine's clock, as the ctimes are: nanoseconds since 1970.
    since: Option<u64>,
}

struct Group {
    records: Vec<u8>,
    since: u64,
    number: u64,
    time: u64,
}

impl Relay {
    /// A session of the replica begins: what it applies may repeat what is there.
    pub(super) fn open(&self) {
        let mut passing = lock(&self.passing);
        passing.applying = false;
        passing.change();
        passing.open.lose_all();
    }

    /// A batch is about to be applied. Is anybody to be told of it?
    pub(super) fn begin(&self) -> bool {
        let mut passing = lock(&self.passing);
        passing.applying = true;
        passing.change();
        passing.reader.is_some()
    }

    /// It was applied, or in part. `point`: the source's time, where the replica is the source at one instant now.
    pub(super) fn end(&self, told: Tapped, point: Option<u64>) {
        let mut passing = lock(&self.passing);
        passing.applying = false;
        passing.take(told);
        self.reach(passing, point);
    }

    /// The replica became another in a way that nothing tells.
    pub(super) fn lose(&self) {
        let mut passing = lock(&self.passing);
        passing.change();
        passing.open.lose_all();
    }

    /// The replica rests where it is the source at one instant.
    pub(super) fn rests(&self, time: u64) {
        let passing = lock(&self.passing);
        if passing.point.is_none() && !passing.applying {
            self.reach(passing, Some(time));
        }
    }

    /// How the set does.
    pub(super) fn say(&self, origin: Origin) {
        let mut passing = lock(&self.passing);
        if passing.origin.as_ref() != Some(&origin) {
            passing.origin = Some(origin);
        }
    }

    /// How the set does; `None`: no session of it has told yet.
    pub(super) fn origin(&self) -> Option<Origin> {
        lock(&self.passing).origin.clone()
    }

    /// Somebody wants to be told of everything that is applied from now on.
    pub(super) fn attach(&self) -> ReaderId {
        let mut passing = lock(&self.passing);
        passing.readers += 1;
        passing.reader = Some(passing.readers);
        let since = passing.open.since;
        passing.forget();
        // Nobody listens to what is being applied at this moment.
        (passing.open.whole, passing.open.since) = (passing.applying, since);
        let (reader, point) = (passing.readers, passing.point);
        self.reach(passing, point);
        reader
    }

    /// Nobody wants to be told any more.
    pub(super) fn detach(&self) {
        let mut passing = lock(&self.passing);
        passing.forget();
        passing.reader = None;
    }

    /// Appends whole groups to `out`, at least one if there is one, up to `bytes_max`; returns the number reached.
    /// `None`: another reader has taken over.
    pub(super) fn drain(&self, reader: ReaderId, out: &mut Vec<u8>, bytes_max: usize) -> Option<u64> {
        let mut passing = lock(&self.passing);
        if passing.reader != Some(reader) {
            return None;
        }
        let before = out.len();
        while let Some(group) = passing.ready.front() {
            if out.len() > before && out.len() - before + group.records.len() > bytes_max {
                break;
            }
            let group = passing.ready.pop_front().expect("it was looked at");
            passing.ready_bytes -= group.records.len();
            (passing.drained, passing.covered) = (group.number, group.time);
            out.extend(group.records);
        }
        Some(passing.drained)
    }

    /// Waits until there is something to drain; says whether there is.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let passing = lock(&self.passing);
        let waited = self.ready.wait_timeout_while(passing, timeout, |passing| passing.ready.is_empty());
        !waited.unwrap_or_else(PoisonError::into_inner).0.ready.is_empty()
    }

    /// Number of the last batch that may have taken effect.
    pub(super) fn head(&self) -> u64 {
        lock(&self.passing).head
    }

    /// The source's time of the point that was drained last; 0: none.
    pub(super) fn covered(&self) -> u64 {
        lock(&self.passing).covered
    }

    /// Bytes of room, bytes that wait, and bytes dropped for lack of room.
    pub(super) fn fill(&self) -> (u64, u64, u64) {
        let passing = lock(&self.passing);
        (READY_BYTES_MAX as u64, passing.ready_bytes as u64, passing.dropped_bytes)
    }

    fn reach(&self, mut passing: MutexGuard<'_, Passing>, point: Option<u64>) {
        let Some(time) = point else { return };
        // The times of the stream are told by this machine's clock where the source's is ahead of it.
        let time = time.min(wall_clock().0);
        passing.point = Some(time);
        if passing.reader.is_some() {
            passing.close(time);
            self.ready.notify_all();
        } else {
            passing.open = Open::default();
        }
    }
}

impl Passing {
    fn change(&mut self) {
        self.head += 1;
        self.point = None;
        self.open.since.get_or_insert(wall_clock().0);
    }

    fn take(&mut self, told: Tapped) {
        if self.reader.is_none() {
            return;
        }
        self.open.add(told);
        if self.open.records.len() > OPEN_BYTES_MAX {
            self.dropped_bytes += self.open.records.len() as u64;
            self.open.lose_all();
        }
    }

    fn close(&mut self, time: u64) {
        let open = std::mem::take(&mut self.open);
        let mut since = open.since.unwrap_or(time);
        let mut records = open.into_records(since);
        if self.ready_bytes + records.len() > READY_BYTES_MAX {
            self.dropped_bytes += (self.ready_bytes + records.len()) as u64;
            since = self.ready.front().map_or(since, |oldest| oldest.since);
            self.ready.clear();
            self.ready_bytes = 0;
            records = Open { whole: true, ..Open::default() }.into_records(since);
        }
        self.ready_bytes += records.len();
        self.ready.push_back(Group { records, since, number: self.head, time });
    }

    fn forget(&mut self) {
        self.ready.clear();
        (self.open, self.ready_bytes, self.drained, self.covered) = (Open::default(), 0, 0, 0);
    }
}

impl Open {
    fn add(&mut self, told: Tapped) {
        if told.whole {
            self.lose_all();
        }
        if self.whole {
            return;
        }
        self.records.extend(told.records);
        self.lost.extend(told.lost);
    }

    fn lose_all(&mut self) {
        *self = Open { whole: true, since: self.since, ..Open::default() };
    }

    /// What was lost may lack what was changed since that time.
    fn into_records(self, since: u64) -> Vec<u8> {
        let mut records = self.records;
        let mut lose = |file, deep| {
            let flags = if deep { flags::SUBTREE } else { 0 };
            Record { flags, time: since, ..Record::new(Kind::Lost, file) }.append_to(&mut records);
        };
        if self.whole {
            lose(FileId::NONE, true);
        }
        self.lost.into_iter().for_each(|(file, deep)| lose(file, deep));
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::record::records;

    const FILE: FileId = FileId { ino: 5, generation: 1, volume: 0 };

    fn told(kinds: &[Kind]) -> Tapped {
        let mut told = Tapped::default();
        kinds.iter().for_each(|kind| Record::new(*kind, FILE).append_to(&mut told.records));
        told
    }

    fn drained(relay: &Relay, reader: ReaderId) -> (Vec<Kind>, u64) {
        let mut out = Vec::new();
        let number = relay.drain(reader, &mut out, 1 << 20).unwrap();
        (records(&out).map(|record| record.unwrap().kind).collect(), number)
    }

    #[test]
    fn nothing_is_handed_on_between_two_points() {
        let relay = Relay::default();
        let reader = relay.attach();
        assert!(relay.begin());
        relay.end(told(&[Kind::Write]), None);
        assert!(!relay.wait(Duration::ZERO));
        assert_eq!(drained(&relay, reader), (vec![], 0));
        relay.begin();
        relay.end(told(&[Kind::Truncate]), Some(7));
        assert_eq!(drained(&relay, reader), (vec![Kind::Write, Kind::Truncate], 2));
        assert_eq!((relay.head(), relay.covered()), (2, 7));
    }

    #[test]
    fn a_read_amid_a_batch_knows_of_it() {
        let relay = Relay::default();
        let reader = relay.attach();
        relay.begin();
        let seen = relay.head();
        assert!(drained(&relay, reader).1 < seen);
        relay.end(told(&[Kind::Write]), Some(7));
        assert_eq!(drained(&relay, reader).1, seen);
    }

    #[test]
    fn who_comes_amid_a_batch_compares_everything() {
        let relay = Relay::default();
        assert!(!relay.begin());
        let reader = relay.attach();
        relay.end(Tapped::default(), Some(7));
        assert_eq!(drained(&relay, reader).0, [Kind::Lost]);
    }

    #[test]
    fn who_comes_at_a_point_is_told_of_it_and_of_nothing_else() {
        let relay = Relay::default();
        relay.rests(7);
        let reader = relay.attach();
        assert_eq!((drained(&relay, reader), relay.covered()), ((vec![], 0), 7));
    }

    #[test]
    fn what_is_lost_replaces_what_came_before_and_after_it_until_the_point() {
        let relay = Relay::default();
        let reader = relay.attach();
        relay.begin();
        relay.end(told(&[Kind::Write]), None);
        relay.lose();
        relay.begin();
        relay.end(told(&[Kind::Write]), Some(9));
        assert_eq!(drained(&relay, reader), (vec![Kind::Lost], 3));
    }

    #[test]
    fn without_room_everything_is_compared() {
        let relay = Relay::default();
        let reader = relay.attach();
        let large = || {
            let data = vec![0; 1 << 20];
            let mut told = Tapped::default();
            for _ in 0..15 {
                Record { data: &data, ..Record::new(Kind::Write, FILE) }.append_to(&mut told.records);
            }
            told
        };
        for _ in 0..5 {
            relay.begin();
            relay.end(large(), Some(9));
        }
        assert_eq!(drained(&relay, reader), (vec![Kind::Lost], 5));
        for point in [None, Some(10)] {
            relay.begin();
            relay.end(large(), point);
        }
        assert_eq!(drained(&relay, reader), (vec![Kind::Lost], 7), "more than one group may have");
    }

    #[test]
    fn a_later_reader_takes_over() {
        let relay = Relay::default();
        let first = relay.attach();
        let second = relay.attach();
        assert_eq!(relay.drain(first, &mut Vec::new(), 1), None);
        assert_eq!(relay.drain(second, &mut Vec::new(), 1), Some(0));
    }
}
