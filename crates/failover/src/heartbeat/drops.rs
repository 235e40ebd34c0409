//! What was dropped: counted by the way that it came and by its kind, and told where it is much at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Refused;

/// Counts that are kept apart. Whoever makes up more senders than that is counted without one.
const COUNTS_MAX: usize = 64;
/// So many within [`FLOOD_WITHIN`] are a flood.
const FLOOD: u64 = 100;
const FLOOD_WITHIN: Duration = Duration::from_secs(10);
/// How long one lasts from when it was last seen, so that one that comes and goes is told once.
const FLOOD_LASTS: Duration = Duration::from_secs(300);

/// From where to where a datagram went, as far as its bare packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Came {
    /// The address of this node.
    pub at: IpAddr,
    /// The sender's address, which can be made up; none: one of many.
    pub from: Option<IpAddr>,
}

/// What was dropped of one kind on one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The way.
    pub came: Came,
    /// The fixed word of its kind: see [`Refused::as_str`].
    pub reason: &'static str,
    /// How many.
    pub count: u64,
    /// The last one.
    pub last: Instant,
}

/// Much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// How many since it began.
    pub count: u64,
    /// The way of the last one.
    pub came: Came,
    /// Why it was dropped.
    pub why: Refused,
}

/// What a node dropped since its start.
#[derive(Debug, Default)]
pub struct Drops {
    counts: BTreeMap<(Came, &'static str), (u64, Instant)>,
    /// When the present interval began, and how many were dropped in it.
    interval: Option<(Instant, u64)>,
    flood: Option<(Flood, Instant)>,
}

impl Drops {
    /// Counts one. Is it the one with which a flood begins?
    pub fn count(&mut self, came: Came, why: Refused, now: Instant) -> bool {
        let (count, last) = self.counts.entry(self.key(came, why)).or_insert((0, now));
        (*count, *last) = (*count + 1, now);
        let many = self.many_lately(now);
        let before = self.flood(now);
        if many < FLOOD && before.is_none() {
            return false;
        }
        let count = before.map_or(many, |flood| flood.count + 1);
        let last = self.flood.filter(|_| many < FLOOD).map_or(now, |(_, last)| last);
        self.flood = Some((Flood { count, came, why }, last));
        before.is_none()
    }

    /// All counts, by way and kind.
    pub fn list(&self) -> impl Iterator<Item = Dropped> + '_ {
        self.counts.iter().map(|((came, reason), (count, last))| Dropped {
            came: *came,
            reason,
            count: *count,
            last: *last,
        })
    }

    /// The flood that lasts.
    pub fn flood(&self, now: Instant) -> Option<Flood> {
        self.flood.filter(|(_, last)| now.saturating_duration_since(*last) < FLOOD_LASTS).map(|(flood, _)| flood)
    }

    fn key(&self, came: Came, why: Refused) -> (Came, &'static str) {
        let key = (came, why.as_str());
        let fits = self.counts.contains_key(&key) || self.counts.len() < COUNTS_MAX;
        if fits { key } else { (Came { from: None, ..came }, key.1) }
    }

    /// How many there were in the present interval, with this one.
    fn many_lately(&mut self, now: Instant) -> u64 {
        let lasts = |(began, _): &(Instant, u64)| now.saturating_duration_since(*began) < FLOOD_WITHIN;
        let (began, count) = self.interval.filter(lasts).unwrap_or((now, 0));
        self.interval = Some((began, count + 1));
        count + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(last: u8) -> Came {
        Came { at: [10, 0, 0, 2].into(), from: Some([10, 0, 0, last].into()) }
    }

    #[test]
    fn each_way_and_kind_has_its_count() {
        let (mut drops, now) = (Drops::default(), Instant::now());
        for (from, why) in [(7, Refused::Forged), (7, Refused::Forged), (8, Refused::Forged), (7, Refused::Version(9))]
        {
            assert!(!drops.count(came(from), why, now));
        }
        let counts: Vec<_> = drops.list().map(|one| (one.came, one.reason, one.count)).collect();
        assert_eq!(counts, [(came(7), "forged", 2), (came(7), "version", 1), (came(8), "forged", 1)]);
    }

    #[test]
    fn senders_that_are_made_up_take_no_room() {
        let (mut drops, now) = (Drops::default(), Instant::now());
        for from in 0..1000u32 {
            drops.count(Came { at: [10, 0, 0, 2].into(), from: Some(from.to_be_bytes().into()) }, Refused::Forged, now);
        }
        assert_eq!(drops.list().map(|one| one.count).sum::<u64>(), 1000);
        assert_eq!(drops.list().count(), COUNTS_MAX + 1);
        assert!(drops.list().any(|one| one.came.from.is_none() && one.count == 1000 - COUNTS_MAX as u64));
    }

    #[test]
    fn a_flood_is_told_once_and_not_what_trickles() {
        let (mut drops, start) = (Drops::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!((0..10_000).all(|second| !drops.count(came(7), Refused::Forged, at(second))));
        let begun = at(20_000);
        let told = (0..5 * FLOOD).filter(|_| drops.count(came(7), Refused::Replayed, begun)).count();
        assert_eq!(told, 1);
        let flood = drops.flood(begun).unwrap();
        assert_eq!((flood.count, flood.came, flood.why), (5 * FLOOD, came(7), Refused::Replayed));
        let told = (0..5 * FLOOD).filter(|_| drops.count(came(8), Refused::Forged, at(20_200))).count();
        assert_eq!((told, drops.flood(at(20_200)).unwrap().came), (0, came(8)), "it lasts");
        assert!(!drops.count(came(8), Refused::Forged, at(20_490)));
        assert!(drops.flood(at(20_499)).is_some() && drops.flood(at(20_500)).is_none(), "a trickle prolongs nothing");
    }
}
