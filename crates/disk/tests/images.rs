//! Pre-images: what happened after a point is undone, exactly, also after power cuts at any moment.
//!
//! `SEEDS` and `SEED` in the environment choose more, or one.

mod common;

use std::fs;
use std::path::Path;

use common::disk::Disk;
use common::operations::{Choice, operate};
use common::scan::scan;
use common::{Random, Source, apply_all, open_replica};
use stead_disk::replica::{ApplyError, Policy, Replica, TrashLimits};
use stead_disk::testing::{Compare, compare_with};
use stead_model::record::Purpose;
use stead_model::{Kind, Position, Record};

const CHOICE: Choice = Choice { extras: true, allocation: true };
/// Allocated or not: both read as zeros.
const LAX: Compare = Compare { atimes: true, holes: false, lines_max: 20 };

fn seeds(usual: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, many) => (1..=many.unwrap_or(usual)).collect(),
    }
}

fn position(sequence: usize) -> Position {
    Position { epoch: 1, incarnation: 1, sequence: sequence as u64 }
}

fn replica_of(disk: &Disk) -> Replica {
    open_replica(&disk.path.join("replica"), &disk.path.join("state"))
}

fn assert_same(expected: &Path, found: &Path, context: &str) {
    let lines = compare_with(expected, found, LAX);
    assert!(lines.is_empty(), "{context}: {lines:#?}");
}

/// The source, its replica, a second replica that stays as it was at the point, and operations since, not yet applied.
struct Story {
    source: Source,
    replica: Replica,
    point: usize,
    random: Random,
}

fn begin(disk: &Disk, home: &Disk, seed: u64) -> Story {
    let mut random = Random::new(seed);
    let mut source = Source::new(&home.path.join("source"));
    let mut replica = replica_of(disk);
    let mut still = open_replica(&home.path.join("still"), &home.path.join("still-state"));
    scan(&source, &mut replica, Purpose::Mirror);
    scan(&source, &mut still, Purpose::Mirror);
    let mut unnamed = Vec::new();
    for _ in 0..250 {
        operate(&mut source, &mut unnamed, &mut random, CHOICE);
    }
    let point = source.log.len();
    for replica in [&mut replica, &mut still] {
        apply_all(replica, &source.log, &mut random, &format!("seed {seed}, before"));
        replica.checkpoint(position(point)).unwrap();
    }
    for _ in 0..120 {
        operate(&mut source, &mut unnamed, &mut random, CHOICE);
    }
    Story { source, replica, point, random }
}

/// Applies with what is to come foreseen in batches.
fn apply_foreseen(replica: &mut Replica, log: &[Vec<u8>], random: &mut Random, context: &str) {
    for batch in log.chunks(10) {
        if random.chance(70) {
            replica.foresee(&batch.concat()).unwrap();
        }
        apply_all(replica, batch, random, context);
    }
}

#[test]
fn rolling_back_brings_the_point_back() {
    for seed in seeds(12) {
        let (disk, home) = (Disk::plain(), Disk::plain());
        let context = format!("seed {seed}");
        let Story { source, mut replica, point, mut random } = begin(&disk, &home, seed);
        if seed % 4 == 0 {
            let trash = TrashLimits { seconds_max: 3600, objects_max: 1 + random.below(20), bytes_max: 1 << 30 };
            replica.set_policy(Policy { trash, ..Policy::default() });
        }
        replica.keep_images(position(point)).unwrap();
        apply_foreseen(&mut replica, &source.log[point..], &mut random, &context);
        assert_same(&source.dir, &disk.path.join("replica"), &context);
        if seed % 3 == 0 {
            // The daemon is stopped in between.
            replica.checkpoint(position(source.log.len())).unwrap();
            drop(replica);
            replica = replica_of(&disk);
        } else if seed % 5 == 0 {
            replica.tidy(1000).unwrap();
        }
        if seed % 2 == 0 {
            scan(&source, &mut replica, Purpose::Difference);
        }
        assert_eq!(replica.images().unwrap().point, position(point));
        assert_eq!(replica.roll_back().unwrap(), position(point), "{context}");
        assert_same(&home.path.join("still"), &disk.path.join("replica"), &context);
        // The map is that of the point: the same records apply again.
        assert!(replica.images().is_none());
        apply_all(&mut replica, &source.log[point..], &mut random, &context);
        assert_same(&source.dir, &disk.path.join("replica"), &context);
        while replica.tidy(3).unwrap() {}
        replica.release().unwrap();
        assert!(!disk.path.join("replica/.stead-holding/kept").exists(), "{context}: something is left over");
    }
}

#[test]
fn on_other_file_systems_too() {
    for (kind, megabytes) in [("ext4", 64), ("xfs", 320), ("btrfs", 160), ("tmpfs", 0)] {
        let Some(disk) = Disk::of(kind, megabytes) else {
            eprintln!("{kind} is not available here");
            continue;
        };
        let home = Disk::plain();
        let Story { source, mut replica, point, mut random } = begin_without_extras(&disk, &home, 5, kind);
        replica.keep_images(position(point)).unwrap();
        apply_foreseen(&mut replica, &source.log[point..], &mut random, kind);
        scan(&source, &mut replica, Purpose::Difference);
        replica.roll_back().unwrap();
        let lines = compare_with(&home.path.join("still"), &disk.path.join("replica"), LAX);
        assert!(lines.is_empty(), "{kind}: {lines:#?}");
    }
}

fn begin_without_extras(disk: &Disk, home: &Disk, seed: u64, kind: &str) -> Story {
    if kind != "tmpfs" {
        return begin(disk, home, seed);
    }
    let mut random = Random::new(seed);
    let choice = Choice { extras: false, allocation: true };
    let mut source = Source::new(&home.path.join("source"));
    let mut replica = replica_of(disk);
    let mut still = open_replica(&home.path.join("still"), &home.path.join("still-state"));
    let mut unnamed = Vec::new();
    scan(&source, &mut replica, Purpose::Mirror);
    scan(&source, &mut still, Purpose::Mirror);
    for _ in 0..100 {
        operate(&mut source, &mut unnamed, &mut random, choice);
    }
    let point = source.log.len();
    apply_all(&mut replica, &source.log, &mut random, kind);
    apply_all(&mut still, &source.log, &mut random, kind);
    for _ in 0..100 {
        operate(&mut source, &mut unnamed, &mut random, choice);
    }
    Story { source, replica, point, random }
}

/// Cuts the power several times while changes are applied, and while they are rolled back. With `late` the undo log is
/// not durable before what it undoes: that must show.
fn power_cuts(kind: &str, megabytes: u64, seed: u64, late: bool) -> Vec<String> {
    let Some(mut disk) = Disk::of(kind, megabytes) else {
        eprintln!("{kind} is not available here");
        return vec!["not available".into()];
    };
    let home = Disk::plain();
    let context = format!("{kind}, seed {seed}");
    let Story { source, mut replica, point, mut random } = begin(&disk, &home, seed);
    replica.keep_images(position(point)).unwrap();
    let mut at = point;
    while at < source.log.len() {
        if late {
            replica.plant_late_images();
        }
        let next = (at + 1 + random.below(40) as usize).min(source.log.len());
        apply_foreseen(&mut replica, &source.log[at..next], &mut random, &context);
        if random.chance(60) {
            rustix::fs::syncfs(fs::File::open(disk.path.join("replica")).unwrap()).unwrap();
        }
        if random.chance(40) {
            replica.checkpoint(position(next)).unwrap();
        }
        let after = disk.crashed();
        drop(replica);
        disk = after;
        replica = replica_of(&disk);
        // What no checkpoint covers comes from the journal again.
        let from = (replica.applied().sequence as usize).max(point);
        replica.set_replaying(true).unwrap();
        apply_foreseen(&mut replica, &source.log[from..next], &mut random, &context);
        replica.set_replaying(false).unwrap();
        at = next;
    }
    if random.chance(50) {
        rustix::fs::syncfs(fs::File::open(disk.path.join("replica")).unwrap()).unwrap();
    }
    let after = disk.crashed();
    drop(replica);
    disk = after;
    replica = replica_of(&disk);
    if replica.images().is_none() {
        return vec!["the images are gone".into()];
    }
    replica.roll_back().unwrap();
    compare_with(&home.path.join("still"), &disk.path.join("replica"), LAX)
}

#[test]
fn after_power_cuts_the_point_can_still_be_brought_back() {
    let others = [("xfs", 320, vec![11]), ("btrfs", 160, vec![21])];
    for (kind, megabytes, seeds) in [("ext4", 64, seeds(4))].into_iter().chain(others) {
        for seed in seeds {
            let lines = power_cuts(kind, megabytes, seed, false);
            assert!(lines.is_empty() || lines == ["not available"], "{kind}, seed {seed}: {lines:#?}");
        }
    }
}

#[test]
fn a_log_that_is_synced_too_late_is_found_out() {
    let caught = (1..5).any(|seed| !power_cuts("ext4", 64, seed, true).is_empty());
    assert!(caught, "the planted bug was not caught");
}

#[test]
fn rolling_back_that_is_cut_off_is_finished_when_the_replica_is_opened() {
    for (kind, megabytes, seed) in [("ext4", 64, 31), ("ext4", 64, 32), ("xfs", 320, 33)] {
        let Some(disk) = Disk::of(kind, megabytes) else { continue };
        let home = Disk::plain();
        let Story { source, mut replica, point, mut random } = begin(&disk, &home, seed);
        replica.keep_images(position(point)).unwrap();
        apply_foreseen(&mut replica, &source.log[point..], &mut random, kind);
        replica.checkpoint(position(source.log.len())).unwrap();
        let mut cuts = 0;
        loop {
            replica.interrupt_roll_back(3 + 9 * cuts + random.below(9));
            let done = replica.roll_back();
            if random.chance(50) {
                rustix::fs::syncfs(fs::File::open(disk.path.join("replica")).unwrap()).unwrap();
            }
            let after = disk.crashed();
            let context = format!("{kind}, seed {seed}, cut {cuts}");
            let recovered = replica_of(&after);
            assert_eq!((recovered.images(), recovered.applied()), (None, position(point)), "{context}");
            assert_same(&home.path.join("still"), &after.path.join("replica"), &context);
            if done.is_ok() || cuts == 14 {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 2, "{kind}, seed {seed}: it was hardly cut, {} records after {point}", source.log.len() - point);
    }
}

/// A replay meets directories that were removed and kept by then: it takes them from there, which is no state of the point.
#[test]
fn what_a_replay_takes_from_what_is_kept_goes_where_it_was_at_the_point() {
    // Directories come back in an order that differs from time to time.
    (0..8).for_each(|_| replay_removed_directories());
}

fn replay_removed_directories() {
    let (disk, home) = (Disk::plain(), Disk::plain());
    let source = Source::new(&home.path.join("source"));
    let names: Vec<String> = (0..3).map(|n| format!("d{n}")).collect();
    names.iter().for_each(|name| fs::create_dir(source.dir.join(name)).unwrap());
    let mut replica = replica_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    replica.keep_images(position(0)).unwrap();
    let root = source.root.id();
    let apply = |replica: &mut Replica| {
        for name in &names {
            let (dir, other) = (source.id(&source.dir.join(name)), format!("{name}-moved"));
            let mut attr = source.attr(dir);
            let mut rename = Record { parent: root, name: name.as_bytes(), attr, ..Record::new(Kind::Rename, dir) };
            (rename.name2, rename.names.parent2) = (other.as_bytes(), root);
            replica.apply(&rename).unwrap();
            attr.nlink = 0;
            replica
                .apply(&Record { parent: root, name: other.as_bytes(), attr, ..Record::new(Kind::Unlink, dir) })
                .unwrap();
        }
        replica.settle().unwrap();
    };
    apply(&mut replica);
    drop(replica);
    let mut replica = replica_of(&disk);
    replica.set_replaying(true).unwrap();
    apply(&mut replica);
    replica.set_replaying(false).unwrap();
    replica.roll_back().unwrap();
    assert_same(&source.dir, &disk.path.join("replica"), "rolled back");
}

/// Applies until the undo log has no room; returns the record that was refused.
fn apply_until_full(replica: &mut Replica, log: &[Vec<u8>]) -> usize {
    for (at, bytes) in log.iter().enumerate() {
        let (record, _) = stead_model::Record::parse(bytes).unwrap();
        match replica.apply(&record) {
            Ok(_) => {}
            Err(error @ ApplyError::NoRoom { .. }) => {
                assert!(error.remedy().is_some() && error.to_string().contains("undo"), "{error}");
                return at;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the undo log was to be too small");
}

#[test]
fn a_full_undo_log_says_so_before_anything_is_spoiled() {
    for spoils in [false, true] {
        let (disk, home) = (Disk::plain(), Disk::plain());
        let Story { source, mut replica, point, mut random } = begin(&disk, &home, 3);
        replica.set_policy(Policy { images_bytes_max: 3000, ..Policy::default() });
        replica.keep_images(position(point)).unwrap();
        let at = point + apply_until_full(&mut replica, &source.log[point..]);
        if spoils {
            replica.drop_images().unwrap();
            apply_all(&mut replica, &source.log[at..], &mut random, "spoiled");
            assert_same(&source.dir, &disk.path.join("replica"), "spoiled");
        } else {
            replica.roll_back().unwrap();
            assert_same(&home.path.join("still"), &disk.path.join("replica"), "rolled back");
        }
    }
}
