//! What stops a replica for a while: it says what, why and what to do, nothing is half applied, and once the cause is
//! gone the same record applies. On real small file systems.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use common::disk::Disk;
use common::operations::{Choice, operate};
use common::scan::scan;
use common::{Random, Source, describe, open_replica};
use stead_disk::journal::{EntryHead, Journal, JournalError, JournalOptions};
use stead_disk::replica::{ApplyError, Class, Replica};
use stead_disk::testing::{Compare, compare_with};
use stead_model::record::Purpose;
use stead_model::{Attr, FileId, Kind, Position, Record};

const FILE_SYSTEMS: [(&str, u64); 4] = [("ext4", 24), ("xfs", 320), ("btrfs", 160), ("tmpfs", 24)];

/// A replica on `disk` whose map is elsewhere.
fn replica_on(disk: &Disk, home: &Disk) -> Replica {
    open_replica(&disk.path.join("replica"), &home.path.join("state"))
}

fn attr(mode: u32) -> Attr {
    let mut attr = Attr::default();
    (attr.mode, attr.nlink) = (mode, 1);
    attr
}

fn file(ino: u64) -> FileId {
    FileId { ino, generation: 1, volume: 0 }
}

/// A replica whose root is file 1, and file 2 in it, called "a".
fn rooted(disk: &Disk, home: &Disk) -> Replica {
    let mut replica = replica_on(disk, home);
    let node = Record { name: b"0", attr: attr(0o040_755), ..Record::new(Kind::Node, file(1)) };
    replica.apply(&node).unwrap();
    let create = Record { parent: file(1), name: b"a", attr: attr(0o100_644), ..Record::new(Kind::Create, file(2)) };
    replica.apply(&create).unwrap();
    replica
}

/// A file that takes all the room there is.
struct Ballast(std::path::PathBuf);

impl Ballast {
    fn fill(dir: &Path) -> Ballast {
        let path = dir.join("ballast");
        let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        for len in [1 << 20, 65536, 4096, 512] {
            while file.write_all(&vec![1; len]).is_ok() {}
        }
        let _ = file.sync_all();
        // What the sync gave back is taken as well.
        while file.write_all(&[1; 512]).is_ok() {}
        Ballast(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = File::open(self.0.parent().unwrap()).map(rustix::fs::syncfs);
    }
}

fn assert_told(error: &ApplyError, class: Class, context: &str) {
    assert_eq!(error.class(), Some(class), "{context}: {error}");
    assert!(error.remedy().is_some_and(|remedy| remedy.len() > 10), "{context}: {error}");
    if let ApplyError::Failed { path, .. } = error {
        assert!(path.starts_with("/") && !error.to_string().contains("(deleted)"), "{context}: {error}");
    }
}

/// Applies all, and fills the disk now and then.
fn apply_with_full_disks(disk: &Disk, replica: &mut Replica, log: &[Vec<u8>], random: &mut Random, kind: &str) -> u32 {
    let mut halts = 0;
    let mut ballast = None;
    for bytes in log {
        let (record, _) = Record::parse(bytes).unwrap();
        let context = format!("{kind}: {}", describe(&record));
        if ballast.is_none() && random.chance(8) {
            ballast = Some(Ballast::fill(&disk.path));
        }
        let mut done = replica.apply(&record).map(|_| ());
        if done.is_ok() && random.chance(20) {
            done = replica.settle();
        }
        if let Err(error) = done {
            assert_told(&error, Class::NoSpace, &context);
            assert!(ballast.take().is_some(), "{context}: {error}");
            halts += 1;
            apply_again(replica, &record, &context);
        } else if random.chance(10) {
            ballast = None;
        }
    }
    drop(ballast);
    replica.settle().unwrap();
    halts
}

/// What was freed is there for others after a while only.
fn apply_again(replica: &mut Replica, record: &Record<'_>, context: &str) {
    for tries in 0.. {
        match replica.apply(record) {
            Ok(_) => return,
            Err(error) if tries == 100 || error.class() != Some(Class::NoSpace) => panic!("{context}, again: {error}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}

#[test]
fn a_disk_that_is_full_now_and_then_spoils_nothing() {
    for (kind, megabytes) in FILE_SYSTEMS {
        let Some(disk) = Disk::of(kind, megabytes) else {
            eprintln!("{kind} is not available here");
            continue;
        };
        let home = Disk::plain();
        let mut random = Random::new(17);
        let mut source = Source::new(&home.path.join("source"));
        let mut replica = replica_on(&disk, &home);
        scan(&source, &mut replica, Purpose::Mirror);
        let choice = Choice { extras: kind != "tmpfs", allocation: false };
        let mut unnamed = Vec::new();
        let mut halts = 0;
        for _ in 0..if kind == "btrfs" { 2 } else { 4 } {
            let from = source.log.len();
            for _ in 0..80 {
                operate(&mut source, &mut unnamed, &mut random, choice);
            }
            halts += apply_with_full_disks(&disk, &mut replica, &source.log[from..], &mut random, kind);
            let what = Compare { holes: false, ..Compare::default() };
            let lines = compare_with(&source.dir, &disk.path.join("replica"), what);
            assert!(lines.is_empty(), "{kind}: {lines:#?}");
        }
        assert!(halts > 0, "{kind} was never full");
    }
}

#[test]
fn a_quota_halts_and_the_file_is_whole_once_it_is_raised() {
    let Some(disk) = Disk::mounted_with("xfs", 320, "uquota") else {
        eprintln!("xfs is not available here");
        return;
    };
    let home = Disk::plain();
    let limit = |bytes: &str| {
        let command = format!("limit bhard={bytes} ihard=0 1");
        let done = Command::new("xfs_quota").args(["-x", "-c", &command]).arg(&disk.path).status();
        done.is_ok_and(|status| status.success())
    };
    let mut replica = rooted(&disk, &home);
    if !limit("64k") {
        eprintln!("xfs_quota is not available here");
        return;
    }
    let mut owned = attr(0o100_640);
    owned.uid = 1;
    let create = Record { parent: file(1), name: b"b", attr: owned, ..Record::new(Kind::Create, file(3)) };
    replica.apply(&create).unwrap();
    let data = vec![7; 512 << 10];
    let write = Record { data: &data, attr: owned, ..Record::new(Kind::Write, file(3)) };
    let error = replica.apply(&write).unwrap_err();
    assert_told(&error, Class::Quota, "write");
    // An owner who is over the quota already: the file may be made, and cannot be given away.
    let big = Record { data: &data, attr: attr(0o100_644), ..Record::new(Kind::Write, file(2)) };
    replica.apply(&big).unwrap();
    let give = Record { c: stead_model::AttrMask::OWNER.0, attr: owned, ..Record::new(Kind::SetAttr, file(2)) };
    assert_told(&replica.apply(&give).unwrap_err(), Class::Quota, "chown");
    assert!(limit("8m"));
    replica.apply(&write).unwrap();
    replica.apply(&give).unwrap();
    replica.settle().unwrap();
    let found = fs::read(disk.path.join("replica/b")).unwrap();
    assert!(found == data);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(disk.path.join("replica/a")).unwrap().uid(), 1);
}

#[test]
fn a_file_system_that_becomes_read_only_halts() {
    for (kind, megabytes) in FILE_SYSTEMS {
        let Some(disk) = Disk::of(kind, megabytes) else {
            eprintln!("{kind} is not available here");
            continue;
        };
        let home = Disk::plain();
        let mut replica = rooted(&disk, &home);
        replica.checkpoint(Position::default()).unwrap();
        // An open file would keep it writable.
        drop(replica);
        let mut replica = replica_on(&disk, &home);
        let remount = |how: &str| Command::new("mount").args(["-o", how]).arg(&disk.path).status().unwrap().success();
        assert!(remount("remount,ro"), "{kind}");
        let create =
            Record { parent: file(1), name: b"b", attr: attr(0o100_644), ..Record::new(Kind::Create, file(3)) };
        let write = Record { data: b"x", attr: attr(0o100_644), ..Record::new(Kind::Write, file(2)) };
        assert_told(&replica.apply(&create).unwrap_err(), Class::ReadOnly, kind);
        assert_told(&replica.apply(&write).unwrap_err(), Class::ReadOnly, kind);
        assert!(remount("remount,rw"), "{kind}");
        replica.apply(&create).unwrap();
        replica.apply(&write).unwrap();
        replica.settle().unwrap();
        assert!(disk.path.join("replica/b").exists());
        assert_eq!(fs::read(disk.path.join("replica/a")).unwrap(), b"x");
    }
}

#[test]
fn names_sizes_and_links_beyond_what_the_file_system_can_are_told_apart() {
    let Some(disk) = Disk::of("ext4", 64) else { return };
    let home = Disk::plain();
    let mut replica = rooted(&disk, &home);
    let long = [b'n'; 300];
    let create = Record { parent: file(1), name: &long, attr: attr(0o100_644), ..Record::new(Kind::Create, file(3)) };
    let error = replica.apply(&create).unwrap_err();
    assert_told(&error, Class::NameTooLong, "create");
    assert!(error.to_string().contains("nnnn"), "{error}");
    let mut rename = Record { parent: file(1), name: b"a", name2: &long, ..Record::new(Kind::Rename, file(2)) };
    rename.names.parent2 = file(1);
    assert_told(&replica.apply(&rename).unwrap_err(), Class::NameTooLong, "rename");
    assert!(disk.path.join("replica/a").exists(), "it keeps the name that it had");
    let write = Record { a: 17 << 40, data: b"x", attr: attr(0o100_644), ..Record::new(Kind::Write, file(2)) };
    assert_told(&replica.apply(&write).unwrap_err(), Class::FileTooLarge, "write");
    let truncate = Record { a: 17 << 40, attr: attr(0o100_644), ..Record::new(Kind::Truncate, file(2)) };
    assert_told(&replica.apply(&truncate).unwrap_err(), Class::FileTooLarge, "truncate");
    let links = disk.path.join("links");
    fs::create_dir(&links).unwrap();
    for n in 1..65_000 {
        fs::hard_link(disk.path.join("replica/a"), links.join(n.to_string())).unwrap();
    }
    let link = Record { parent: file(1), name: b"b", attr: attr(0o100_644), ..Record::new(Kind::Link, file(2)) };
    assert_told(&replica.apply(&link).unwrap_err(), Class::TooManyLinks, "link");
    fs::remove_file(links.join("7")).unwrap();
    replica.apply(&link).unwrap();
    assert!(disk.path.join("replica/b").exists());
}

#[test]
fn a_program_that_runs_from_the_replica_is_waited_for() {
    let disk = Disk::plain();
    let home = Disk::plain();
    let mut replica = rooted(&disk, &home);
    let program = fs::read("/bin/sleep").unwrap();
    let write = Record { data: &program, attr: attr(0o100_755), ..Record::new(Kind::Write, file(2)) };
    replica.apply(&write).unwrap();
    replica.settle().unwrap();
    replica.checkpoint(Position::default()).unwrap();
    drop(replica);
    let mut replica = replica_on(&disk, &home);
    let mut running = Command::new(disk.path.join("replica/a")).arg("60").spawn().unwrap();
    let error = replica.apply(&write).unwrap_err();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_told(&error, Class::Denied, "write");
    replica.apply(&write).unwrap();
}

#[test]
fn a_full_disk_of_the_map_or_the_undo_log_halts_and_loses_nothing() {
    let Some(small) = Disk::of("ext4", 16) else { return };
    let home = Disk::plain();
    let source = Source::new(&home.path.join("source"));
    for n in 0..2000 {
        fs::write(source.dir.join(format!("file{n}")), n.to_string()).unwrap();
    }
    let target = home.path.join("replica");
    let state = small.path.join("state");
    let mut replica = open_replica(&target, &state);
    let ballast = Ballast::fill(&small.path);
    scan(&source, &mut replica, Purpose::Mirror);
    let position = Position { epoch: 1, incarnation: 1, sequence: 9 };
    let error = replica.checkpoint(position).unwrap_err();
    assert_told(&error, Class::NoSpace, "checkpoint");
    drop(ballast);
    replica.checkpoint(position).unwrap();
    replica.keep_images(position).unwrap();
    let ballast = Ballast::fill(&small.path);
    let attr = source.attr(source.id(&source.dir.join("file7")));
    let mut refused = None;
    for n in 0..2000 {
        let id = source.id(&source.dir.join(format!("file{n}")));
        let write = Record { data: b"spoiled", attr, ..Record::new(Kind::Write, id) };
        if let Err(error) = replica.apply(&write) {
            assert!(matches!(error, ApplyError::NoRoom { .. }) && error.remedy().is_some(), "{error}");
            assert_eq!(fs::read_to_string(target.join(format!("file{n}"))).unwrap(), n.to_string());
            refused = Some(write.file);
            break;
        }
    }
    let refused = refused.expect("a full disk has no room for 2000 records");
    drop(ballast);
    replica.apply(&Record { data: b"spoiled", attr, ..Record::new(Kind::Write, refused) }).unwrap();
    replica.roll_back().unwrap();
    let what = Compare { atimes: false, ..Compare::default() };
    assert_eq!(compare_with(&source.dir, &target, what), Vec::<String>::new());
    drop(replica);
    let replica = open_replica(&target, &state);
    assert_eq!((replica.applied(), replica.statistics().files), (position, 2001));
}

#[test]
fn a_full_disk_of_the_journal_halts_and_loses_nothing() {
    for kind in ["ext4", "tmpfs"] {
        let Some(disk) = Disk::of(kind, 16) else { continue };
        let dir = disk.path.join("journal");
        fs::create_dir(&dir).unwrap();
        let options = JournalOptions { segment_bytes: 1 << 20, bytes_max: 1 << 30 };
        let mut journal = Journal::open(&dir, options).unwrap();
        let head = |n: u64| EntryHead { epoch: 1, incarnation: 1, first: n, last: n, ..EntryHead::default() };
        let payload = |n: u64| vec![n as u8; 50_000 + n as usize];
        let mut n = 0;
        for _ in 0..3 {
            let ballast = Ballast::fill(&disk.path);
            let error = loop {
                match journal.append(&head(n), &payload(n)).and_then(|()| journal.sync()) {
                    Ok(()) => n += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, JournalError::Disk(_)) && error.remedy().is_some(), "{kind}: {error}");
            drop(ballast);
            journal.append(&head(n), &payload(n)).unwrap();
            journal.sync().unwrap();
            n += 1;
            if n % 2 == 0 {
                drop(journal);
                journal = Journal::open(&dir, options).unwrap();
            }
        }
        drop(journal);
        let mut journal = Journal::open(&dir, options).unwrap();
        let found: Vec<_> = journal.entries().map(Result::unwrap).collect();
        assert_eq!(found.len() as u64, n, "{kind}");
        assert!(found.iter().zip(0..).all(|(entry, n)| entry.head == head(n) && entry.payload == payload(n)), "{kind}");
    }
}

#[test]
fn the_end_of_a_scan_removes_in_slices() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    fs::create_dir_all(source.dir.join("d/e")).unwrap();
    for n in 0..3000 {
        fs::write(source.dir.join(format!("d/e/file{n}")), "x").unwrap();
    }
    fs::write(source.dir.join("d/stays"), "x").unwrap();
    let mut replica = open_replica(&disk.path.join("replica"), &disk.path.join("state"));
    scan(&source, &mut replica, Purpose::Mirror);
    fs::rename(source.dir.join("d/stays"), source.dir.join("stays")).unwrap();
    fs::remove_dir_all(source.dir.join("d")).unwrap();
    scan(&source, &mut replica, Purpose::Difference);
    let held = |disk: &Disk| common::walk(&disk.path.join("replica/.stead-holding")).len() - 1;
    let at_first = held(&disk);
    assert!(at_first > 2000, "{at_first} are left: the scan's end has not waited for them");
    assert_eq!(compare_with(&source.dir, &disk.path.join("replica"), Compare::default()), Vec::<String>::new());
    replica.settle().unwrap();
    assert!((1..at_first).contains(&held(&disk)), "a part of it has gone");
    fs::write(source.dir.join("new"), "x").unwrap();
    scan(&source, &mut replica, Purpose::Difference);
    assert_eq!(held(&disk), 0, "another scan has not begun before");
    assert_eq!(replica.statistics().files, 3);
}
