//! Random operations on a real tree, recorded, applied to a replica: the trees are equal. Also where the replica is a
//! mixture of older and newer states.
//!
//! `SEEDS` and `SEED` in the environment choose more, or one.

mod common;

use common::disk::Disk;
use common::operations::{ALL, Choice, operate};
use common::scan::scan;
use common::{Random, Source, apply_all, describe_log, open_replica};
use stead_disk::testing::{Compare, compare_with};
use stead_model::Position;
use stead_model::record::Purpose;

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

fn check_with(source: &Source, replica: &std::path::Path, what: Compare, context: &str) {
    let lines = compare_with(&source.dir, replica, what);
    if !lines.is_empty() {
        panic!("{context}: {lines:#?}\n{}", describe_log(&source.log));
    }
}

fn replay(disk: &Disk, seed: u64, choice: Choice, what: Compare) {
    let mut random = Random::new(seed);
    let mut source = Source::new(&disk.path.join("source"));
    let (target, state) = (disk.path.join("replica"), disk.path.join("state"));
    let mut replica = open_replica(&target, &state);
    scan(&source, &mut replica, Purpose::Mirror);
    let mut unnamed = Vec::new();
    for round in 0..8 {
        let from = source.log.len();
        for _ in 0..60 {
            operate(&mut source, &mut unnamed, &mut random, choice);
        }
        apply_all(&mut replica, &source.log[from..], &mut random, &format!("seed {seed}, round {round}"));
        check_with(&source, &target, what, &format!("seed {seed}, round {round}"));
    }
    assert_eq!(replica.statistics().skipped as usize, dead_writes(&source), "seed {seed}");
}

/// Records about files that had lost their last name.
fn dead_writes(source: &Source) -> usize {
    let _ = source;
    let mut dead = std::collections::HashSet::new();
    let mut count = 0;
    for bytes in &source.log {
        let (record, _) = stead_model::Record::parse(bytes).unwrap();
        match record.kind {
            stead_model::Kind::Unlink if record.attr.nlink == 0 => drop(dead.insert(record.file)),
            stead_model::Kind::Write if dead.contains(&record.file) => count += 1,
            _ => {}
        }
    }
    count
}

#[test]
fn what_was_recorded_makes_the_trees_equal() {
    for seed in seeds(12) {
        replay(&Disk::plain(), seed, ALL, Compare::default());
    }
}

#[test]
fn on_other_file_systems_too() {
    for kind in ["ext4", "xfs", "btrfs", "tmpfs"] {
        let Some(disk) = Disk::of(kind, 400) else {
            eprintln!("{kind} is not available here");
            continue;
        };
        let what = Compare { holes: kind == "ext4", ..Compare::default() };
        let extras = kind != "tmpfs";
        replay(&disk, 77, Choice { extras, allocation: true }, what);
    }
}

#[test]
fn applying_again_from_anywhere_ends_the_same() {
    for seed in seeds(12) {
        // A shrinking truncate that is applied again frees what was allocated beyond the end: content is the same.
        let allocation = seed % 2 == 0;
        let choice = Choice { extras: true, allocation };
        let what = Compare { holes: !allocation, ..Compare::default() };
        let disk = Disk::plain();
        let mut random = Random::new(seed + 1000);
        let mut source = Source::new(&disk.path.join("source"));
        let (target, state) = (disk.path.join("replica"), disk.path.join("state"));
        let mut replica = open_replica(&target, &state);
        scan(&source, &mut replica, Purpose::Mirror);
        let mut unnamed = Vec::new();
        for round in 0..6 {
            let context = format!("seed {seed}, round {round}");
            let begin = source.log.len();
            for _ in 0..50 {
                operate(&mut source, &mut unnamed, &mut random, choice);
            }
            let end = source.log.len();
            let saved = begin + random.below((end - begin) as u64 + 1) as usize;
            apply_all(&mut replica, &source.log[begin..saved], &mut random, &context);
            replica.checkpoint(position(saved)).unwrap();
            apply_all(&mut replica, &source.log[saved..], &mut random, &context);
            check_with(&source, &target, what, &context);
            // The daemon is killed: everything reached the replica, the map is that of the checkpoint.
            replica = open_replica(&target, &state);
            assert_eq!(replica.applied(), position(saved));
            replica.set_replaying(true).unwrap();
            let from = begin + random.below((saved - begin) as u64 + 1) as usize;
            let context = format!("{context}, again from {from}, saved at {saved}, {end} in all");
            apply_all(&mut replica, &source.log[from..], &mut random, &context);
            replica.set_replaying(false).unwrap();
            check_with(&source, &target, what, &context);
        }
    }
}
