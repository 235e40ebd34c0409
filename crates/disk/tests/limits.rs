//! What a replica refuses, and that it goes on afterwards.

mod common;

use std::fs;

use common::disk::Disk;
use common::scan::scan;
use common::{Source, open_replica};
use stead_disk::guard::{Guard, is_set};
use stead_disk::replica::{ApplyError, Class, Replica};
use stead_disk::testing::compare;
use stead_model::record::Purpose;
use stead_model::{Attr, FileId, Kind, Record};

fn replica_of(disk: &Disk) -> Replica {
    open_replica(&disk.path.join("replica"), &disk.path.join("state"))
}

fn file(ino: u64) -> FileId {
    FileId { ino, generation: 1, volume: 0 }
}

fn attr(mode: u32) -> Attr {
    let mut attr = Attr::default();
    (attr.mode, attr.nlink) = (mode, 1);
    attr
}

/// A replica whose root is file 1.
fn rooted(disk: &Disk) -> Replica {
    let mut replica = replica_of(disk);
    let node = Record { name: b"0", attr: attr(0o040_755), ..Record::new(Kind::Node, file(1)) };
    replica.apply(&node).unwrap();
    replica
}

#[test]
fn no_name_leads_out_of_the_replica() {
    let disk = Disk::plain();
    let mut replica = rooted(&disk);
    for name in [&b".."[..], b".", b"a/b", b"/etc", b"a\0b", b"../x"] {
        let create = Record { parent: file(1), name, attr: attr(0o100_644), ..Record::new(Kind::Create, file(2)) };
        let error = replica.apply(&create).unwrap_err();
        assert!(matches!(error, ApplyError::Corrupt { .. }), "{name:?}: {error}");
    }
    // A symlink is a name like any other: it is replaced, not followed.
    let outside = disk.path.join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, disk.path.join("replica/link")).unwrap();
    let link = Record { parent: file(1), name: b"link", attr: attr(0o040_755), ..Record::new(Kind::Create, file(3)) };
    replica.apply(&link).unwrap();
    let inner = Record { parent: file(3), name: b"x", attr: attr(0o100_644), ..Record::new(Kind::Create, file(4)) };
    replica.apply(&inner).unwrap();
    assert!(disk.path.join("replica/link/x").exists() && !outside.join("x").exists());
}

#[test]
fn what_it_does_not_have_is_refused_by_name() {
    let disk = Disk::plain();
    let mut replica = rooted(&disk);
    let write = Record { data: b"x", attr: attr(0o100_644), ..Record::new(Kind::Write, file(9)) };
    assert!(matches!(replica.apply(&write), Err(ApplyError::Unknown { kind: Kind::Write, .. })));
    let mut dead = attr(0o100_644);
    dead.nlink = 0;
    replica.apply(&Record { attr: dead, ..write }).unwrap();
}

#[test]
fn a_full_disk_is_named_and_the_record_can_be_applied_later() {
    let Some(disk) = Disk::of("ext4", 16) else { return };
    let mut replica = rooted(&disk);
    let create = Record { parent: file(1), name: b"a", attr: attr(0o100_644), ..Record::new(Kind::Create, file(2)) };
    replica.apply(&create).unwrap();
    let data = vec![7; 1 << 20];
    let mut full = None;
    for n in 0..64 {
        let write = Record { a: n << 20, data: &data, attr: attr(0o100_644), ..Record::new(Kind::Write, file(2)) };
        if let Err(error) = replica.apply(&write) {
            full = Some((n, error));
            break;
        }
    }
    let (n, error) = full.expect("16 MiB cannot hold 64");
    assert_eq!(error.class(), Some(Class::NoSpace), "{error}");
    assert!(error.to_string().contains("write"), "{error}");
    let truncate = Record { a: 0, attr: attr(0o100_644), ..Record::new(Kind::Truncate, file(2)) };
    replica.apply(&truncate).unwrap();
    let write = Record { a: n << 20, data: &data, attr: attr(0o100_644), ..Record::new(Kind::Write, file(2)) };
    replica.apply(&write).unwrap();
}

#[test]
fn under_a_guard_the_replica_goes_on_also_after_a_restart() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    fs::write(source.dir.join("a"), "a").unwrap();
    let target = disk.path.join("replica");
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    let guard = Guard::set(&target).unwrap();
    fs::write(source.dir.join("b"), "b").unwrap();
    scan(&source, &mut replica, Purpose::Difference);
    let first = compare(&source.dir, &target);
    drop(replica);
    fs::write(source.dir.join("c"), "c").unwrap();
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Difference);
    let second = compare(&source.dir, &target);
    let refused = fs::write(target.join("d"), "d");
    let path = replica.path_of(source.id(&source.dir.join("c")));
    guard.lift().unwrap();
    assert!(!is_set(&target).unwrap());
    assert_eq!((first, second), (vec![], vec![]));
    assert!(refused.is_err());
    assert_eq!(path, Some(target.join("c")));
    replica.release().unwrap();
    assert!(!target.join(".stead-holding").exists(), "it leaves a plain tree");
    assert_eq!(compare(&source.dir, &target), Vec::<String>::new());
}

#[test]
fn a_tree_that_leaves_the_set_goes_with_all_beneath() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    fs::create_dir_all(source.dir.join("d/e/f")).unwrap();
    fs::write(source.dir.join("d/e/f/g"), "g").unwrap();
    fs::hard_link(source.dir.join("d/e/f/g"), source.dir.join("stays")).unwrap();
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    let gone = source.id(&source.dir.join("d"));
    let unlink = Record {
        flags: stead_model::record::flags::SUBTREE,
        parent: source.root.id(),
        name: b"d",
        attr: attr(0o040_755),
        ..Record::new(Kind::Unlink, gone)
    };
    replica.apply(&unlink).unwrap();
    replica.settle().unwrap();
    fs::remove_dir_all(source.dir.join("d")).unwrap();
    let lines = compare(&source.dir, &disk.path.join("replica"));
    assert!(lines.iter().all(|line| line.contains("\"\": mtime")), "{lines:#?}");
    assert_eq!(replica.statistics().files, 2);
    let write = Record {
        data: b"still",
        attr: attr(0o100_644),
        ..Record::new(Kind::Write, source.id(&source.dir.join("stays")))
    };
    replica.apply(&write).unwrap();
    assert_eq!(fs::read(disk.path.join("replica/stays")).unwrap(), b"still");
}
