//! Scans of a quiet source: the first mirror, differences, verify.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::disk::Disk;
use common::operations::{ALL, Choice, operate};
use common::scan::scan;
use common::{Random, Source, open_replica};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use stead_disk::replica::{Replica, What};
use stead_disk::testing::{Compare, compare, compare_with};
use stead_model::record::{CUT, DISPROVED, Purpose, flags};
use stead_model::{FileId, Kind, Position, Record};

fn filled(disk: &Disk, seed: u64) -> (Source, Random) {
    let mut random = Random::new(seed);
    let mut source = Source::new(&disk.path.join("source"));
    work(&mut source, &mut random, 250, ALL);
    (source, random)
}

/// Operations that no record tells of.
fn work(source: &mut Source, random: &mut Random, count: usize, choice: Choice) {
    let mut unnamed = Vec::new();
    for _ in 0..count {
        operate(source, &mut unnamed, random, choice);
    }
    source.log.clear();
}

fn replica_of(disk: &Disk) -> Replica {
    open_replica(&disk.path.join("replica"), &disk.path.join("state"))
}

fn check(source: &Source, disk: &Disk, context: &str) {
    let lines = compare(&source.dir, &disk.path.join("replica"));
    assert!(lines.is_empty(), "{context}: {lines:#?}");
}

/// Long enough for a ctime to prove something.
fn let_time_pass(source: &Source) {
    let begin = common::now();
    while common::now() < begin + 25_000_000 {
        std::hint::spin_loop();
    }
    let _ = source;
}

#[test]
fn a_mirror_makes_an_empty_directory_equal() {
    for seed in 1..10 {
        let disk = Disk::plain();
        let (source, _) = filled(&disk, seed);
        let mut replica = replica_of(&disk);
        scan(&source, &mut replica, Purpose::Mirror);
        check(&source, &disk, &format!("seed {seed}"));
        assert!(scan(&source, &mut replica, Purpose::Verify).differs.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_difference_mirror_finds_what_no_record_told() {
    for seed in 1..14 {
        let disk = Disk::plain();
        let (mut source, mut random) = filled(&disk, seed);
        let mut replica = replica_of(&disk);
        scan(&source, &mut replica, Purpose::Mirror);
        for round in 0..3 {
            work(&mut source, &mut random, 120, Choice { extras: true, allocation: false });
            scan(&source, &mut replica, Purpose::Difference);
            let context = format!("seed {seed}, round {round}");
            let what = Compare { holes: false, ..Compare::default() };
            let lines = compare_with(&source.dir, &disk.path.join("replica"), what);
            assert!(lines.is_empty(), "{context}: {lines:#?}");
            assert_eq!(replica.statistics().held, 0, "{context}");
        }
    }
}

#[test]
fn a_directory_with_other_things_in_it_becomes_equal() {
    for seed in 1..8 {
        let disk = Disk::plain();
        let (source, _) = filled(&disk, seed);
        // Other files under the same names, and more besides.
        let mut random = Random::new(seed + 500);
        let mut other = Source::new(&disk.path.join("replica"));
        work(&mut other, &mut random, 200, ALL);
        let mut replica = replica_of(&disk);
        scan(&source, &mut replica, Purpose::Difference);
        let what = Compare { holes: false, ..Compare::default() };
        let lines = compare_with(&source.dir, &disk.path.join("replica"), what);
        assert!(lines.is_empty(), "seed {seed}: {lines:#?}");
    }
}

#[test]
fn what_is_proven_equal_is_not_asked_for_also_after_a_restart() {
    let disk = Disk::plain();
    let (source, _) = filled(&disk, 3);
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    let_time_pass(&source);
    scan(&source, &mut replica, Purpose::Difference);
    replica.checkpoint(Position { epoch: 1, incarnation: 1, sequence: 9 }).unwrap();
    drop(replica);
    let mut replica = replica_of(&disk);
    let scanned = scan(&source, &mut replica, Purpose::Difference);
    assert_eq!((scanned.asked, scanned.bytes), (0, 0));
    check(&source, &disk, "nothing changed");
}

/// A mirror reads content that is ahead of the stream: the changes that led to it still come, and may not all.
#[test]
fn what_a_change_amid_a_doubt_took_back_is_compared_again() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    let path = source.dir.join("file");
    fs::write(&path, [1; 64]).unwrap();
    let file = source.id(&path);
    let before = source.attr(file);
    let_time_pass(&source);
    fs::write(&path, [2; 64]).unwrap();
    let_time_pass(&source);
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    replica.apply(&Record::new(Kind::Lost, FileId::NONE)).unwrap();
    replica.apply(&Record { attr: before, data: &[1; 64], ..Record::new(Kind::Write, file) }).unwrap();
    scan(&source, &mut replica, Purpose::Difference);
    check(&source, &disk, "the second write was lost");
}

#[test]
fn after_the_map_is_lost_it_is_rebuilt_and_names_are_not_guessed() {
    let disk = Disk::plain();
    let (source, _) = filled(&disk, 5);
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    let known = replica.statistics().files;
    drop(replica);
    fs::remove_dir_all(disk.path.join("state")).unwrap();
    // A big file was renamed meanwhile: with its id it is found, not sent.
    let big = source.dir.join("big");
    fs::write(&big, vec![7; 3 << 20]).unwrap();
    let mut replica = replica_of(&disk);
    assert_eq!(replica.rebuild().unwrap(), known);
    scan(&source, &mut replica, Purpose::Difference);
    fs::rename(&big, source.dir.join("renamed")).unwrap();
    replica.checkpoint(Position::default()).unwrap();
    drop(replica);
    fs::remove_dir_all(disk.path.join("state")).unwrap();
    let mut replica = replica_of(&disk);
    replica.rebuild().unwrap();
    let scanned = scan(&source, &mut replica, Purpose::Difference);
    check(&source, &disk, "rebuilt");
    assert!(scanned.bytes < 1 << 20, "{} bytes were sent", scanned.bytes);
}

/// One planted difference: what is done to the replica, and what verify must call it.
type Plant = (&'static str, fn(&Path), fn(&What) -> bool);

const PLANTS: &[Plant] = &[
    (
        "content",
        |dir| fs::File::options().write(true).open(dir.join("a")).unwrap().write_all_at(b"x", 70_000).unwrap(),
        is_content,
    ),
    ("size", |dir| fs::File::options().write(true).open(dir.join("a")).unwrap().set_len(90_000).unwrap(), is_content),
    (
        "mode",
        |dir| rustix::fs::chmodat(CWD, dir.join("a"), Mode::from_raw_mode(0o601), AtFlags::empty()).unwrap(),
        is_attribute,
    ),
    (
        "owner",
        |dir| {
            rustix::fs::chownat(
                CWD,
                dir.join("l"),
                Some(Uid::from_raw(5)),
                Some(Gid::from_raw(6)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .unwrap()
        },
        is_attribute,
    ),
    ("mtime", |dir| set_mtime(&dir.join("d")), is_attribute),
    (
        "xattr",
        |dir| rustix::fs::setxattr(dir.join("a"), "user.planted", b"1", XattrFlags::empty()).unwrap(),
        |what| matches!(what, What::Xattrs(_)),
    ),
    ("missing", |dir| fs::remove_file(dir.join("d/b")).unwrap(), |what| *what == What::Missing),
    ("extra", |dir| fs::write(dir.join("d/extra"), "x").unwrap(), |what| *what == What::Extra),
    (
        "replaced",
        |dir| {
            fs::remove_file(dir.join("l")).unwrap();
            fs::write(dir.join("l"), "x").unwrap()
        },
        |what| *what == What::Missing,
    ),
    (
        "renamed",
        |dir| fs::rename(dir.join("d/b"), dir.join("d/c")).unwrap(),
        |what| matches!(what, What::Missing | What::Extra),
    ),
];

fn is_content(what: &What) -> bool {
    matches!(what, What::Content { .. })
}

fn is_attribute(what: &What) -> bool {
    matches!(what, What::Attributes(_))
}

fn set_mtime(path: &Path) {
    let time = Timespec { tv_sec: 5, tv_nsec: 6 };
    rustix::fs::utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::empty())
        .unwrap();
}

#[test]
fn verify_finds_each_kind_of_difference_and_a_difference_mirror_puts_it_right() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    fs::create_dir(source.dir.join("d")).unwrap();
    fs::write(source.dir.join("a"), vec![3; 100_000]).unwrap();
    fs::write(source.dir.join("d/b"), "b").unwrap();
    std::os::unix::fs::symlink("a", source.dir.join("l")).unwrap();
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    for (what, plant, is_it) in PLANTS {
        plant(&disk.path.join("replica"));
        let found = scan(&source, &mut replica, Purpose::Verify).differs;
        let kinds: BTreeSet<String> = found.iter().map(|d| format!("{:?}", d.what)).collect();
        assert!(found.iter().any(|difference| is_it(&difference.what)), "{what}: {kinds:?}");
        let again = scan(&source, &mut replica, Purpose::Verify).differs;
        assert_eq!(again, found, "{what}: verify changes nothing");
        scan(&source, &mut replica, Purpose::Mirror);
        check(&source, &disk, what);
    }
}

#[test]
fn roots_on_one_file_system_share_links() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    fs::write(source.dir.join("a"), "a").unwrap();
    fs::hard_link(source.dir.join("a"), source.dir.join("b")).unwrap();
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    check(&source, &disk, "links");
}

#[test]
fn a_scan_that_was_cut_off_is_remembered() {
    let disk = Disk::plain();
    let mut replica = replica_of(&disk);
    let begin = stead_model::Record::new(stead_model::Kind::ScanBegin, stead_model::FileId::NONE);
    replica.apply(&begin).unwrap();
    replica.checkpoint(Position::default()).unwrap();
    drop(replica);
    assert_eq!(replica_of(&disk).scan_unfinished(), Some(Purpose::Mirror));
}

/// The source half cuts a file before its content comes.
#[test]
fn what_is_cut_by_a_scan_keeps_its_capability() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    let path = source.dir.join("a");
    fs::write(&path, vec![1; 5000]).unwrap();
    let capability = b"\x01\0\0\x02\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    rustix::fs::lsetxattr(&path, "security.capability", capability, XattrFlags::empty()).unwrap();
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    let file = source.id(&path);
    let cut = Record { a: 5000, c: CUT, attr: source.attr(file), ..Record::new(Kind::Truncate, file) };
    replica.apply(&cut).unwrap();
    replica.settle().unwrap();
    check(&source, &disk, "cut");
}

/// A change that was lost may have come in the same tick as the last one that was told.
#[test]
fn what_was_proven_just_before_something_was_lost_is_compared() {
    let disk = Disk::plain();
    let (source, mut replica, file) = one_file(&disk);
    let mut attr = source.attr(file);
    let at = |sec| stead_model::Time { sec, nsec: 0 };
    attr.set_ctime(at(1_000));
    let later = common::now() + 10_000_000_000;
    let mut asked = |lost: u64| {
        replica.apply(&Record { attr, time: later, ..Record::new(Kind::NodeEnd, file) }).unwrap();
        replica.hear(later);
        let lost = Record { time: lost, flags: flags::SUBTREE, ..Record::new(Kind::Lost, FileId::NONE) };
        needs_after(&mut replica, &lost, file, attr, source.root.id())
    };
    let seconds = 1_000_000_000;
    assert_eq!(asked(1_000 * seconds + 5_000_000), 1, "within the tick");
    assert_eq!(asked(1_001 * seconds), 0, "a second later");
    assert_eq!(asked(0), 0, "when it was told");
}

/// A source whose clock was ahead for a while and was set right: its last word counts, not the latest.
#[test]
fn a_clock_that_was_set_back_proves_nothing_of_its_last_tick() {
    let disk = Disk::plain();
    let (source, mut replica, file) = one_file(&disk);
    let (mut attr, now) = (source.attr(file), common::now());
    attr.set_ctime(stead_model::Time { sec: (now / 1_000_000_000) as i64, nsec: (now % 1_000_000_000) as u32 });
    replica.hear(now + 3_600_000_000_000);
    replica.apply(&Record { attr, time: now, ..Record::new(Kind::NodeEnd, file) }).unwrap();
    let lost = Record { time: now + 60_000_000_000, flags: flags::SUBTREE, ..Record::new(Kind::Lost, FileId::NONE) };
    assert_eq!(needs_after(&mut replica, &lost, file, attr, source.root.id()), 1);
}

/// A scan says of a file that what is held for proven of it is not: it is compared, and changes after the scan prove
/// something again.
#[test]
fn what_is_disproved_amid_a_scan_is_compared_and_leaves_no_doubt() {
    let disk = Disk::plain();
    let (source, mut replica, file) = one_file(&disk);
    let (mut attr, root) = (source.attr(file), source.root.id());
    attr.set_ctime(stead_model::Time { sec: 1_000, nsec: 0 });
    let time = common::now();
    let mark = |kind| Record { c: Purpose::Difference as u32, time, ..Record::new(kind, FileId::NONE) };
    let node = Record { file, parent: root, name: b"a", attr, ..mark(Kind::Node) };
    let end = Record { file, attr, ..mark(Kind::NodeEnd) };
    replica.hear(time);
    replica.apply(&end).unwrap();
    replica.apply(&mark(Kind::ScanBegin)).unwrap();
    replica.apply(&Record { c: DISPROVED, ..Record::new(Kind::Lost, file) }).unwrap();
    assert_eq!(replica.apply(&node).unwrap().needs.len(), 1);
    replica.apply(&end).unwrap();
    replica.apply(&mark(Kind::ScanEnd)).unwrap();
    let change = Record { attr, time, data: b"1", ..Record::new(Kind::Write, file) };
    assert_eq!(needs_after(&mut replica, &change, file, attr, root), 0);
}

/// A replica of a source with the file `a`, and that file.
fn one_file(disk: &Disk) -> (Source, Replica, FileId) {
    let source = Source::new(&disk.path.join("source"));
    fs::write(source.dir.join("a"), b"1").unwrap();
    let mut replica = replica_of(disk);
    scan(&source, &mut replica, Purpose::Mirror);
    let file = source.id(&source.dir.join("a"));
    (source, replica, file)
}

/// What a difference mirror of one file asks for after that.
fn needs_after(replica: &mut Replica, lost: &Record<'_>, file: FileId, attr: stead_model::Attr, root: FileId) -> usize {
    replica.apply(lost).unwrap();
    let mark = |kind| Record { c: Purpose::Difference as u32, ..Record::new(kind, FileId::NONE) };
    replica.apply(&mark(Kind::ScanBegin)).unwrap();
    let node = Record { file, parent: root, name: b"a", attr, ..mark(Kind::Node) };
    let needs = replica.apply(&node).unwrap().needs;
    replica.apply(&mark(Kind::ScanEnd)).unwrap();
    needs.len()
}
