//! What is in doubt: changes of it were lost on the way here. Until a scan of it that began later has ended, no change
//! proves anything, and what loses its name is held: the name that it has now may be among what was lost.

use stead_model::record::flags;
use stead_model::{Attr, FileId, Kind, Record, Time};

use super::Replica;

/// Scopes in doubt; beyond that many, everything is.
const SCOPES_MAX: usize = 1024;

/// Scopes whose changes were lost.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    scopes: Vec<Scope>,
    /// How many of them a scan that begins now will settle.
    scanned: usize,
    /// From this time of the source on, what came may lack something: nanoseconds since 1970.
    since: u64,
}

/// A file, all beneath it, or (file none) the whole set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scope {
    file: FileId,
    subtree: bool,
}

impl Doubts {
    /// After a scan or a doubt was cut off by a crash: nobody knows of what.
    pub(super) fn of_everything(doubtful: bool, since: u64) -> Doubts {
        let scopes = if doubtful { vec![Scope::ALL] } else { Vec::new() };
        Doubts { scopes, scanned: 0, since }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }

    fn add(&mut self, scope: Scope) {
        if self.scopes.len() == SCOPES_MAX {
            self.scopes.clear();
            self.scopes.push(Scope::ALL);
            self.scanned = 0;
        } else {
            self.scopes.push(scope);
        }
    }

    /// From which time on nothing is proven, where anything is in doubt.
    pub(super) fn since(&self) -> Option<u64> {
        (!self.scopes.is_empty()).then_some(self.since)
    }

    /// Something was lost at that time, or after it.
    fn lost_since(&mut self, time: u64) {
        self.since = if self.scopes.is_empty() { time } else { self.since.min(time) };
    }

    /// A scan begins: it sees what was lost up to now.
    pub(super) fn scan_begins(&mut self) {
        self.scanned = self.scopes.len();
    }

    /// The scan that began last ended: what it covered and was lost before it is in doubt no more.
    pub(super) fn scan_ended(&mut self, record: &Record<'_>) {
        let scan = Scope::of(record);
        let mut at = 0;
        self.scopes.retain(|scope| {
            at += 1;
            at > self.scanned || !scan.covers(*scope)
        });
        self.scanned = 0;
    }
}

impl Scope {
    const ALL: Scope = Scope { file: FileId::NONE, subtree: true };

    fn of(record: &Record<'_>) -> Scope {
        Scope { file: record.file, subtree: record.file.is_none() || record.flags & flags::SUBTREE != 0 }
    }

    fn covers(self, other: Scope) -> bool {
        self == Scope::ALL || self.file == other.file && (self.subtree || !other.subtree)
    }
}

impl Replica {
    pub(super) fn lost(&mut self, record: &Record<'_>) {
        debug_assert_eq!(record.kind, Kind::Lost);
        let told = if self.told > 0 { self.told } else { self.heard };
        self.doubts.lost_since(if record.time > 0 { record.time.min(told) } else { told });
        self.doubts.add(Scope::of(record));
        // Nobody knows any more what may go.
        self.purging.clear();
        self.map.disprove(record.file);
    }

    /// A change made the file what it is at the source: that is proven, unless an earlier change may be missing. What a
    /// scan had proven was ahead of the stream, perhaps, and the change took it back.
    pub(super) fn advance(&mut self, file: FileId, ctime: Time, size: u64) {
        if self.doubts.is_empty() {
            self.map.prove(file, ctime, size);
        } else {
            self.map.void(file);
        }
    }

    /// A change of the file came; where it was proven before, it is so again.
    pub(super) fn came(&mut self, file: FileId, attr: &Attr) {
        if self.proven(file).is_some() {
            self.advance(file, attr.ctime(), attr.size);
        } else {
            self.map.touch(file);
        }
    }

    /// The source has synced its file system: what comes from now on is of a new generation. With one such word at the
    /// end of each sync, begun after the last word, what came before the last word is durable there; so after an unclean
    /// boot of the source doubt all since [`Replica::generation`] - 1. It is durable with the next checkpoint. Returns
    /// the new generation.
    pub fn source_synced(&mut self) -> u32 {
        self.map.generation = self.map.generation.saturating_add(1);
        self.map.generation
    }

    /// Generation of what comes now.
    pub fn generation(&self) -> u32 {
        self.map.generation
    }

    /// The source may have lost what came in that generation or later: of none of those files anything is proven any
    /// more, so that the next difference scan compares them by hash. Returns how many they are. It is durable with the
    /// next checkpoint.
    pub fn doubt_since(&mut self, generation: u32) -> u64 {
        self.map.disprove_since(generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, ino: u64, flags: u8) -> Record<'static> {
        Record { flags, ..Record::new(kind, FileId { ino, generation: 0, volume: 0 }) }
    }

    fn doubts(scopes: &[(u64, u8)]) -> Doubts {
        let mut doubts = Doubts::default();
        scopes.iter().for_each(|(ino, flags)| doubts.add(Scope::of(&record(Kind::Lost, *ino, *flags))));
        doubts
    }

    #[test]
    fn only_a_scan_of_the_scope_that_began_later_settles_it() {
        let mut doubts = doubts(&[(5, 0), (6, flags::SUBTREE)]);
        doubts.scan_begins();
        doubts.add(Scope::of(&record(Kind::Lost, 7, 0)));
        doubts.scan_ended(&record(Kind::ScanEnd, 6, 0));
        assert_eq!(doubts.scopes.len(), 3, "the subtree needs a scan of the subtree");
        doubts.scan_begins();
        doubts.add(Scope::ALL);
        doubts.scan_ended(&record(Kind::ScanEnd, 0, 0));
        assert_eq!(doubts.scopes, [Scope::ALL], "what was lost amid the scan stays in doubt");
        doubts.scan_begins();
        doubts.scan_ended(&record(Kind::ScanEnd, 0, 0));
        assert!(doubts.is_empty());
    }

    #[test]
    fn too_many_doubts_are_one_of_everything() {
        let mut doubts = Doubts::default();
        (1..=2000).for_each(|ino| doubts.add(Scope::of(&record(Kind::Lost, ino, 0))));
        assert!(doubts.scopes.len() <= SCOPES_MAX && doubts.scopes.contains(&Scope::ALL));
    }
}
