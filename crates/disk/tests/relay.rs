//! What a replica tells of what was applied to it, applied to a third tree: that one is equal, too.
//!
//! `SEEDS` and `SEED` in the environment choose more, or one.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::disk::Disk;
use common::operations::{ALL, operate};
use common::scan::scan;
use common::{Random, Source, apply_one, describe_log, open_replica};
use stead_disk::replica::{Policy, Replica, Tapped, TrashLimits};
use stead_disk::testing::{Compare, compare_with};
use stead_model::record::{Purpose, flags, records};
use stead_model::{FileId, Kind, Record, RecordBuf};

fn seeds(usual: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, many) => (1..=many.unwrap_or(usual)).collect(),
    }
}

/// A source, its replica, and a replica of that.
struct Chain {
    disk: Disk,
    source: Source,
    middle: Replica,
    end: Replica,
}

impl Chain {
    fn new(keeps: bool) -> Chain {
        let disk = Disk::plain();
        let source = Source::new(&disk.path.join("source"));
        let mut middle = open_replica(&disk.path.join("middle"), &disk.path.join("state"));
        let trash = TrashLimits { seconds_max: 600, objects_max: 1000, bytes_max: 1 << 30 };
        middle.set_policy(Policy { trash: if keeps { trash } else { TrashLimits::default() }, ..Policy::default() });
        scan(&source, &mut middle, Purpose::Mirror);
        let mut end = open_replica(&disk.path.join("end"), &disk.path.join("end-state"));
        scan(&Source::new(&disk.path.join("middle")), &mut end, Purpose::Mirror);
        middle.set_tap(true);
        Chain { disk, source, middle, end }
    }

    /// Applies what was done, in batches, to the replica, and what that tells to the end.
    fn pass(&mut self, from: usize, random: &mut Random, context: &str) {
        let mut at = from;
        while at < self.source.log.len() {
            let until = (at + 1 + random.below(12) as usize).min(self.source.log.len());
            for bytes in &self.source.log[at..until] {
                apply_one(&mut self.middle, bytes, context);
            }
            self.middle.settle().unwrap();
            let told = self.middle.tapped(true);
            assert!(!told.whole && told.lost.is_empty(), "{context}: {told:?}");
            self.hand_on(&told, context);
            at = until;
        }
    }

    fn hand_on(&mut self, told: &Tapped, context: &str) {
        for record in records(&told.records) {
            let mut one = RecordBuf::new();
            one.push(&record.unwrap());
            apply_one(&mut self.end, one.as_bytes(), context);
        }
        self.end.settle().unwrap();
    }

    fn check(&self, context: &str) {
        for (a, b) in [("source", "middle"), ("middle", "end")] {
            let lines = compare_with(&self.disk.path.join(a), &self.disk.path.join(b), Compare::default());
            assert!(lines.is_empty(), "{context}: {a} and {b}: {lines:#?}\n{}", describe_log(&self.source.log));
        }
    }

    fn in_middle(&self, name: &str) -> FileId {
        Source::new(&self.disk.path.join("middle")).id(&self.disk.path.join("middle").join(name))
    }
}

/// Of the files that the end takes for proven, how many are as they were proven, and how many are not.
fn proofs(chain: &Chain) -> (usize, usize) {
    let middle = Source::new(&chain.disk.path.join("middle"));
    let (mut right, mut stale) = (0, 0);
    for (path, meta) in middle.paths().into_iter().filter(|(_, meta)| meta.is_file()) {
        match chain.end.proven(middle.id(&path)) {
            Some((ctime, size))
                if (ctime.sec, i64::from(ctime.nsec), size) == (meta.ctime(), meta.ctime_nsec(), meta.len()) =>
            {
                right += 1;
            }
            Some(_) => stale += 1,
            None => {}
        }
    }
    (right, stale)
}

#[test]
fn what_is_told_makes_the_third_tree_equal() {
    let (mut all_right, mut all_stale) = (0, 0);
    for seed in seeds(12) {
        let mut random = Random::new(seed + 5000);
        let mut chain = Chain::new(seed % 2 == 0);
        let mut unnamed = Vec::new();
        for round in 0..8 {
            let context = format!("seed {seed}, round {round}");
            let from = chain.source.log.len();
            for _ in 0..60 {
                operate(&mut chain.source, &mut unnamed, &mut random, ALL);
            }
            chain.pass(from, &mut random, &context);
            chain.check(&context);
        }
        let (right, stale) = proofs(&chain);
        (all_right, all_stale) = (all_right + right, all_stale + stale);
    }
    assert!(all_right > all_stale * 2, "{all_right} files proven as they are, {all_stale} not");
}

#[test]
fn only_the_last_record_of_a_file_proves_it() {
    let mut chain = Chain::new(true);
    let path = chain.source.dir.join("a");
    fs::write(&path, b"one").unwrap();
    let (id, dir) = (chain.source.id(&path), chain.source.root.id());
    let attr = chain.source.attr(id);
    let mut create = Record::new(Kind::Create, id);
    (create.parent, create.name, create.attr) = (dir, b"a", attr);
    let write = Record { data: b"one", attr, ..Record::new(Kind::Write, id) };
    for record in [create, write, write] {
        chain.middle.apply(&record).unwrap();
    }
    chain.middle.settle().unwrap();
    let told = chain.middle.tapped(true);
    let ctimes: Vec<_> = records(&told.records).map(|record| record.unwrap().attr.ctime()).collect();
    let meta = fs::metadata(chain.disk.path.join("middle/a")).unwrap();
    assert_eq!(ctimes.len(), 3);
    assert!(ctimes[..2].iter().all(|ctime| (ctime.sec, ctime.nsec) == (0, 0)), "{ctimes:?}");
    assert_eq!((ctimes[2].sec, i64::from(ctimes[2].nsec)), (meta.ctime(), meta.ctime_nsec()));
}

/// A directory's times alone come without its owner and permissions.
#[test]
fn attributes_are_told_whole() {
    let mut chain = Chain::new(true);
    let mut record = Record::new(Kind::SetAttr, chain.source.root.id());
    record.c = stead_model::AttrMask::MTIME.0;
    record.attr.mode = 0o040_000;
    record.attr.set_mtime(stead_model::Time { sec: 1000, nsec: 5 });
    chain.middle.apply(&record).unwrap();
    chain.middle.settle().unwrap();
    let told = chain.middle.tapped(true);
    let (record, _) = Record::parse(&told.records).unwrap();
    assert_eq!(record.attr.mode, fs::metadata(chain.disk.path.join("middle")).unwrap().mode());
    assert_eq!(record.attr.mtime().sec, 1000);
}

fn scan_record(kind: Kind, file: FileId, purpose: Purpose, flags: u8) -> Record<'static> {
    Record { c: purpose as u32, flags, ..Record::new(kind, file) }
}

#[test]
fn of_scans_the_scope_is_told_and_of_a_verify_nothing() {
    let mut chain = Chain::new(true);
    fs::create_dir(chain.source.dir.join("d")).unwrap();
    let (dir, root) = (chain.source.id(&chain.source.dir.join("d")), chain.source.root.id());
    let mut create = Record::new(Kind::Create, dir);
    (create.parent, create.name, create.attr) = (root, b"d", chain.source.attr(dir));
    chain.middle.apply(&create).unwrap();
    chain.middle.tapped(true);
    scan(&chain.source, &mut chain.middle, Purpose::Verify);
    let told = chain.middle.tapped(true);
    assert!(!told.whole && told.lost.is_empty() && told.records.is_empty(), "{told:?}");
    for record in [
        scan_record(Kind::ScanBegin, dir, Purpose::Difference, flags::SUBTREE),
        scan_record(Kind::ScanEnd, dir, Purpose::Difference, flags::SUBTREE),
    ] {
        chain.middle.apply(&record).unwrap();
    }
    let told = chain.middle.tapped(true);
    assert_eq!((told.whole, told.lost), (false, vec![(chain.in_middle("d"), true)]));
    scan(&chain.source, &mut chain.middle, Purpose::Difference);
    assert!(chain.middle.tapped(true).whole);
}

fn moved_in(chain: &Chain, name: &str) -> Record<'static> {
    let id = chain.source.id(&chain.source.dir.join(name));
    let mut node = scan_record(Kind::Node, id, Purpose::Mirror, flags::MOVE_IN);
    (node.parent, node.attr) = (chain.source.root.id(), chain.source.attr(id));
    node
}

#[test]
fn a_file_that_comes_into_the_set_is_told_as_one_never_told_of() {
    let mut chain = Chain::new(true);
    fs::write(chain.source.dir.join("new"), b"12").unwrap();
    let node = Record { name: b"new", ..moved_in(&chain, "new") };
    chain.middle.apply(&node).unwrap();
    let mut told = chain.middle.tapped(false);
    chain.middle.apply(&Record { data: b"12", ..Record::new(Kind::Chunk, node.file) }).unwrap();
    chain.middle.apply(&Record { attr: node.attr, ..Record::new(Kind::NodeEnd, node.file) }).unwrap();
    chain.middle.settle().unwrap();
    assert!(told.lost.is_empty() && chain.middle.tapped(true).lost.is_empty(), "it is read whole");
    let rename = Record::parse(&told.records).unwrap().0;
    assert_eq!((rename.kind, rename.file, rename.name2), (Kind::Rename, chain.in_middle("new"), &b"new"[..]));
    // Once it was handed on, it is known.
    chain.middle.apply(&Record { data: b"1", ..Record::new(Kind::Chunk, node.file) }).unwrap();
    told = chain.middle.tapped(true);
    assert_eq!(told.lost, [(chain.in_middle("new"), false)]);
}

#[test]
fn what_was_there_before_is_to_be_compared() {
    let mut chain = Chain::new(true);
    fs::write(chain.source.dir.join("new"), b"12").unwrap();
    fs::write(chain.disk.path.join("middle/new"), b"old").unwrap();
    chain.middle.apply(&Record { name: b"new", ..moved_in(&chain, "new") }).unwrap();
    let told = chain.middle.tapped(true);
    let middle = Source::new(&chain.disk.path.join("middle"));
    assert_eq!(told.lost, [(middle.root.id(), false), (chain.in_middle("new"), false)]);
}
