//! What is removed can be put back for a while, much is not removed unasked, and orphans have a policy.

mod common;

use std::fs;
use std::path::Path;

use common::disk::Disk;
use common::scan::{Scanned, scan};
use common::{Random, Source, apply_all, open_replica};
use stead_disk::replica::{Orphans, Policy, Replica, TrashLimits, Undone};
use stead_disk::testing::{Compare, compare_with};
use stead_model::record::Purpose;
use stead_model::{FileId, Kind, Position, Record};

fn replica_of(disk: &Disk) -> Replica {
    open_replica(&disk.path.join("replica"), &disk.path.join("state"))
}

fn at(sequence: usize) -> Position {
    Position { epoch: 1, incarnation: 1, sequence: sequence as u64 }
}

fn trash() -> Policy {
    let trash = TrashLimits { seconds_max: 3600, objects_max: 1000, bytes_max: 1 << 30 };
    Policy { trash, ..Policy::default() }
}

/// Removes a tree as an application would, recorded.
fn remove_all(source: &mut Source, path: &Path) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            remove_all(source, &entry.unwrap().path());
        }
    }
    let (id, parent) = (source.id(path), source.id(path.parent().unwrap()));
    let before = source.attr(id);
    if meta.is_dir() {
        fs::remove_dir(path).unwrap()
    } else {
        fs::remove_file(path).unwrap()
    }
    let nlink = if meta.is_dir() { 0 } else { before.nlink - 1 };
    let name = path.file_name().unwrap().to_owned();
    let mut record = Record::new(Kind::Unlink, id);
    (record.parent, record.name) = (parent, std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str()));
    (record.attr, record.attr.nlink) = (before, nlink);
    record.names.stamp = source.attr(parent).stamp();
    source.log_record(&record);
}

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("a/b/c")).unwrap();
    fs::create_dir_all(dir.join("stays")).unwrap();
    for n in 0..20 {
        fs::write(dir.join(format!("a/file{n}")), vec![n; 3000]).unwrap();
        fs::write(dir.join(format!("a/b/c/file{n}")), vec![n; 300]).unwrap();
    }
    fs::hard_link(dir.join("a/file3"), dir.join("a/b/link")).unwrap();
    std::os::unix::fs::symlink("file1", dir.join("a/symlink")).unwrap();
    fs::write(dir.join("stays/x"), "x").unwrap();
}

fn differing(a: &Path, b: &Path) -> Vec<String> {
    let lines = compare_with(a, b, Compare { atimes: false, ..Compare::default() });
    // What comes back into a directory changes its time.
    lines.into_iter().filter(|line| !line.contains("mtime")).collect()
}

#[test]
fn removed_trees_come_back_also_after_a_restart() {
    for restarts in [false, true] {
        let disk = Disk::plain();
        let mut source = Source::new(&disk.path.join("source"));
        tree(&source.dir);
        let mut replica = replica_of(&disk);
        replica.set_policy(trash());
        scan(&source, &mut replica, Purpose::Mirror);
        let before = disk.path.join("before");
        let copied = std::process::Command::new("cp").arg("-a").arg(&source.dir).arg(&before).status();
        assert!(copied.unwrap().success());
        remove_all(&mut source, &disk.path.join("source/stays/x"));
        let point = source.log.len();
        remove_all(&mut source, &disk.path.join("source/a"));
        replica.set_place(at(0));
        apply_all(&mut replica, &source.log, &mut Random::new(1), "removed");
        assert!(!disk.path.join("replica/a").exists());
        assert_eq!(replica.removed().names as usize, source.log.len());
        while replica.tidy(5).unwrap() {}
        if restarts {
            replica.checkpoint(at(source.log.len())).unwrap();
            drop(replica);
            replica = replica_of(&disk);
            replica.set_policy(trash());
            while replica.tidy(5).unwrap() {}
        }
        let names = (source.log.len() - point) as u64;
        assert_eq!(replica.undo_removals(at(point)).unwrap(), Undone { names, left: 0 });
        fs::remove_file(before.join("stays/x")).unwrap();
        assert_eq!(differing(&before, &disk.path.join("replica")), Vec::<String>::new(), "restarts: {restarts}");
        // The source has the last word.
        let found = scan(&source, &mut replica, Purpose::Difference);
        assert_eq!(found.bytes, 0);
        assert_eq!(differing(&source.dir, &disk.path.join("replica")), Vec::<String>::new());
    }
}

#[test]
fn a_tree_that_left_the_set_comes_back_and_what_got_another_name_does_not() {
    let disk = Disk::plain();
    let mut source = Source::new(&disk.path.join("source"));
    tree(&source.dir);
    let mut replica = replica_of(&disk);
    replica.set_policy(trash());
    scan(&source, &mut replica, Purpose::Mirror);
    let (root, gone) = (source.root.id(), source.id(&source.dir.join("a")));
    let unlink = Record { parent: root, name: b"a", attr: source.attr(gone), ..Record::new(Kind::Unlink, gone) };
    let flags = stead_model::record::flags::SUBTREE;
    source.log_record(&Record { flags, ..unlink });
    apply_all(&mut replica, &source.log, &mut Random::new(1), "moved out");
    assert!(!disk.path.join("replica/a").exists());
    // A file loses its name amid a scan and gets another one.
    let (file, dir) = (source.id(&source.dir.join("stays/x")), source.id(&source.dir.join("stays")));
    let begin = Record { c: Purpose::Difference as u32, ..Record::new(Kind::ScanBegin, FileId::NONE) };
    replica.apply(&begin).unwrap();
    let mut attr = source.attr(file);
    let unlink = Record { sequence: 5, parent: dir, name: b"x", attr, ..Record::new(Kind::Unlink, file) };
    replica.apply(&unlink).unwrap();
    attr.nlink = 1;
    replica.apply(&Record { parent: root, name: b"y", attr, ..Record::new(Kind::Link, file) }).unwrap();
    replica.settle().unwrap();
    let undone = replica.undo_removals(at(0)).unwrap();
    assert_eq!(undone.left, 1, "{undone:?}");
    assert!(disk.path.join("replica/y").exists() && !disk.path.join("replica/stays/x").exists());
    fs::rename(source.dir.join("stays/x"), source.dir.join("y")).unwrap();
    assert_eq!(differing(&source.dir, &disk.path.join("replica")), Vec::<String>::new());
}

#[test]
fn what_was_removed_twice_comes_back_to_where_it_was_last() {
    let disk = Disk::plain();
    let mut source = Source::new(&disk.path.join("source"));
    tree(&source.dir);
    let mut replica = replica_of(&disk);
    replica.set_policy(trash());
    scan(&source, &mut replica, Purpose::Mirror);
    let path = source.dir.join("stays/x");
    let (file, root, dir) = (source.id(&path), source.root.id(), source.id(&source.dir.join("stays")));
    let mut dead = source.attr(file);
    dead.nlink = 0;
    let mut unlink = Record { sequence: 5, parent: dir, name: b"x", attr: dead, ..Record::new(Kind::Unlink, file) };
    replica.apply(&unlink).unwrap();
    assert_eq!(replica.undo_removals(at(0)).unwrap(), Undone { names: 1, left: 0 });
    let mut rename = Record { sequence: 6, parent: dir, name: b"x", name2: b"y", ..Record::new(Kind::Rename, file) };
    (rename.attr, rename.names.parent2) = (source.attr(file), root);
    replica.apply(&rename).unwrap();
    (unlink.sequence, unlink.parent, unlink.name) = (7, root, b"y");
    replica.apply(&unlink).unwrap();
    replica.settle().unwrap();
    remove_all(&mut source, &path);
    assert!(!disk.path.join("replica/y").exists());
    assert_eq!(replica.removed().names, 1);
    assert_eq!(replica.undo_removals(at(6)).unwrap(), Undone { names: 1, left: 0 });
    assert_eq!(fs::read(disk.path.join("replica/y")).unwrap(), b"x");
}

#[test]
fn the_oldest_go_first_when_the_window_is_full() {
    let disk = Disk::plain();
    let mut source = Source::new(&disk.path.join("source"));
    tree(&source.dir);
    let mut replica = replica_of(&disk);
    let limits = TrashLimits { seconds_max: 3600, objects_max: 5, bytes_max: 1 << 30 };
    replica.set_policy(Policy { trash: limits, ..Policy::default() });
    scan(&source, &mut replica, Purpose::Mirror);
    remove_all(&mut source, &disk.path.join("source/a"));
    apply_all(&mut replica, &source.log, &mut Random::new(1), "removed");
    while replica.tidy(3).unwrap() {}
    assert_eq!(replica.removed().names, 5);
    let kept = fs::read_dir(disk.path.join("replica/.stead-holding/kept")).unwrap().count();
    assert!(kept <= 5, "{kept} are kept");
    let undone = replica.undo_removals(at(0)).unwrap();
    assert!(undone.names >= 1 && undone.names + undone.left == 5, "{undone:?}");
    replica.release().unwrap();
    assert!(!disk.path.join("replica/.stead-holding").exists());
}

#[test]
fn the_end_of_a_scan_asks_before_it_removes_much() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    tree(&source.dir);
    let mut replica = replica_of(&disk);
    replica.set_policy(Policy { removals_max: Some(10), ..trash() });
    scan(&source, &mut replica, Purpose::Mirror);
    let before = disk.path.join("before");
    assert!(std::process::Command::new("cp").arg("-a").arg(&source.dir).arg(&before).status().unwrap().success());
    fs::remove_dir_all(source.dir.join("a")).unwrap();
    let Scanned { would_remove, .. } = scan(&source, &mut replica, Purpose::Difference);
    // The file with two names goes with the second one.
    assert!(would_remove.is_some_and(|objects| (43..=45).contains(&objects)), "{would_remove:?}");
    assert!(replica.scan_unfinished().is_some());
    // No: it all comes back.
    replica.undo_removals(at(0)).unwrap();
    assert_eq!(differing(&before, &disk.path.join("replica")), Vec::<String>::new());
    assert_eq!(replica.statistics().held, 0);
    // Yes.
    assert!(scan(&source, &mut replica, Purpose::Difference).would_remove.is_some());
    replica.accept_removals();
    let end = Record { c: Purpose::Difference as u32, ..Record::new(Kind::ScanEnd, FileId::NONE) };
    assert_eq!(replica.apply(&end).unwrap().would_remove, None);
    replica.settle().unwrap();
    assert_eq!(differing(&source.dir, &disk.path.join("replica")), Vec::<String>::new());
    assert!(replica.scan_unfinished().is_none());
    // Even now.
    replica.accept_removals();
    replica.undo_removals(at(0)).unwrap();
    assert_eq!(differing(&before, &disk.path.join("replica")), Vec::<String>::new(), "after it was removed");
    scan(&source, &mut replica, Purpose::Difference);
    assert_eq!(differing(&source.dir, &disk.path.join("replica")), Vec::<String>::new());
    // The next one asks again.
    fs::remove_dir_all(source.dir.join("stays")).unwrap();
    assert_eq!(scan(&source, &mut replica, Purpose::Difference).would_remove, None, "two are not many");
}

#[test]
fn orphans_are_listed_and_treated_as_the_policy_says() {
    for policy in [Orphans::Delete, Orphans::MoveAside, Orphans::Keep] {
        let disk = Disk::plain();
        let source = Source::new(&disk.path.join("source"));
        tree(&source.dir);
        let mut replica = replica_of(&disk);
        replica.set_policy(Policy { orphans: policy, ..Policy::default() });
        scan(&source, &mut replica, Purpose::Mirror);
        assert_eq!(replica.list_orphans(10).unwrap(), Vec::<std::path::PathBuf>::new());
        let at = disk.path.join("replica");
        fs::write(at.join("a/mine"), "mine").unwrap();
        fs::create_dir(at.join("own")).unwrap();
        fs::write(at.join("own/inner"), "inner").unwrap();
        // A type that the source has under that name as well, and one that it has not.
        fs::create_dir(at.join("clash")).unwrap();
        fs::write(source.dir.join("clash"), "the source's").unwrap();
        let mut orphans = replica.list_orphans(10).unwrap();
        orphans.sort();
        assert_eq!(orphans, [at.join("a/mine"), at.join("clash"), at.join("own")]);
        assert_eq!(replica.list_orphans(1).unwrap().len(), 1);
        scan(&source, &mut replica, Purpose::Difference);
        assert_eq!(fs::read_to_string(at.join("clash")).unwrap(), "the source's");
        assert_eq!(at.join("own/inner").exists(), policy == Orphans::Keep);
        assert_eq!(at.join("a/mine").exists(), policy == Orphans::Keep);
        let aside = fs::read_dir(at.join(".stead-holding/aside"));
        let day = aside.ok().and_then(|mut days| days.next()).map(|day| day.unwrap().path());
        assert_eq!(day.is_some(), policy != Orphans::Delete);
        if let Some(day) = day {
            assert!(day.join("clash").is_dir());
            assert_eq!(day.join("own/inner").exists(), policy == Orphans::MoveAside);
        }
        // Neither a later scan nor a restart takes away what was moved aside.
        drop(replica);
        let mut replica = replica_of(&disk);
        scan(&source, &mut replica, Purpose::Difference);
        let aside = at.join(".stead-holding/aside");
        assert_eq!(aside.exists(), policy != Orphans::Delete);
    }
}

#[test]
fn a_directory_filled_from_a_carried_copy_is_adopted_and_only_what_differs_travels() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    tree(&source.dir);
    let big: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(source.dir.join("big"), &big).unwrap();
    let target = disk.path.join("replica");
    assert!(std::process::Command::new("cp").arg("-a").arg(&source.dir).arg(&target).status().unwrap().success());
    // While it was carried, things changed.
    let mut changed = big;
    changed[2_000_000] ^= 1;
    fs::write(source.dir.join("big"), changed).unwrap();
    fs::remove_file(source.dir.join("a/file5")).unwrap();
    fs::create_dir(source.dir.join("a/file5")).unwrap();
    fs::rename(source.dir.join("stays"), source.dir.join("moved")).unwrap();
    fs::write(target.join("carried too much"), "x").unwrap();
    let mut replica = replica_of(&disk);
    let found = scan(&source, &mut replica, Purpose::Difference);
    assert_eq!(
        compare_with(&source.dir, &target, Compare { atimes: false, ..Compare::default() }),
        Vec::<String>::new()
    );
    assert!(found.bytes <= 16384 + 10, "{} bytes travelled", found.bytes);
    let again = scan(&source, &mut replica, Purpose::Difference);
    assert_eq!(again.bytes, 0);
}

#[test]
fn what_came_since_the_last_sync_of_the_source_is_compared_after_its_unclean_boot() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    tree(&source.dir);
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    replica.hear(common::now() + 1_000_000_000);
    replica.checkpoint(at(0)).unwrap();
    assert_eq!(scan(&source, &mut replica, Purpose::Difference).asked, 0, "all is proven");
    let generation = replica.source_synced();
    assert_eq!(generation, replica.generation());
    // This write the source loses in the cut: (ctime, size) may be as before, the bytes are not.
    let path = source.dir.join("a/file7");
    let file = source.id(&path);
    let attr = source.attr(file);
    let lost = vec![9; 3000];
    let write = Record { data: &lost, attr, time: common::now(), ..Record::new(Kind::Write, file) };
    replica.apply(&write).unwrap();
    replica.settle().unwrap();
    replica.checkpoint(at(1)).unwrap();
    drop(replica);
    let mut replica = replica_of(&disk);
    assert_eq!(replica.generation(), generation);
    assert_eq!(scan(&source, &mut replica, Purpose::Difference).asked, 0, "nothing shows that it differs");
    assert_ne!(fs::read(&path).unwrap(), fs::read(disk.path.join("replica/a/file7")).unwrap());
    // Directories and symlinks, whose attributes came again, are among them.
    assert!((1..=7).contains(&replica.doubt_since(generation)));
    replica.checkpoint(at(2)).unwrap();
    drop(replica);
    let mut replica = replica_of(&disk);
    let found = scan(&source, &mut replica, Purpose::Difference);
    assert_eq!((found.asked, found.bytes), (2, 3000));
    assert_eq!(fs::read(&path).unwrap(), fs::read(disk.path.join("replica/a/file7")).unwrap());
}
