//! No bytes make the files of a target's state panic: they are read, refused, or cut.

mod common;

use std::fs;
use std::path::Path;

use common::disk::Disk;
use common::operations::{ALL, operate};
use common::scan::scan;
use common::{Random, Source, apply_all};
use stead_disk::journal::{EntryHead, Journal, JournalOptions};
use stead_disk::replica::{IdStorage, Policy, Replica, ReplicaConfig, RootTarget, TrashLimits};
use stead_model::record::Purpose;
use stead_model::{Position, Rules};

const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 1 << 16, bytes_max: 1 << 24 };

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let len = bytes.len() as u64;
        let at = random.below(len) as usize;
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.extend((0..random.clone().below(200)).map(|n| n as u8)),
            // Lengths and counts lie in the heads.
            2 => bytes[random.clone().below(len.min(128)) as usize] = random.next() as u8,
            3 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
            4 => bytes[at..].iter_mut().take(600).for_each(|byte| *byte = 0),
            _ => bytes[at] ^= 1 << random.below(8),
        }
        if bytes.is_empty() {
            return;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn damaged_state_is_read_refused_or_cut() {
    let disk = Disk::plain();
    let mut random = Random::new(4711);
    let mut source = Source::new(&disk.path.join("source"));
    let (target, state) = (disk.path.join("replica"), disk.path.join("state"));
    let mut replica = common::open_replica(&target, &state);
    let trash = TrashLimits { seconds_max: 3600, objects_max: 1000, bytes_max: 1 << 30 };
    replica.set_policy(Policy { trash, ..Policy::default() });
    scan(&source, &mut replica, Purpose::Mirror);
    let mut unnamed = Vec::new();
    let journal_dir = disk.path.join("journal");
    fs::create_dir(&journal_dir).unwrap();
    let mut journal = Journal::open(&journal_dir, OPTIONS).unwrap();
    for round in 0..3 {
        let from = source.log.len();
        for _ in 0..60 {
            operate(&mut source, &mut unnamed, &mut random, ALL);
        }
        for (n, record) in source.log[from..].iter().enumerate() {
            let sequence = (from + n + 1) as u64;
            let head = EntryHead { first: sequence, last: sequence, ..EntryHead::default() };
            journal.append(&head, record).unwrap();
            journal.sync().unwrap();
        }
        apply_all(&mut replica, &source.log[from..], &mut random, "before");
        let position = Position { epoch: 1, incarnation: 1, sequence: source.log.len() as u64 };
        replica.checkpoint(position).unwrap();
        if round == 1 {
            replica.keep_images(position).unwrap();
        }
    }
    drop((replica, journal));
    let names = ["file-ids", "file-ids.point", "undo", "removed"];
    let (mut refused, mut opened) = (0, 0);
    for n in 0..400 {
        let bad = disk.path.join("bad");
        copy(&state, &bad);
        let name = names[n % names.len()];
        let mut bytes = fs::read(bad.join(name)).unwrap();
        damage(&mut bytes, &mut random);
        fs::write(bad.join(name), bytes).unwrap();
        let roots = vec![RootTarget { path: target.clone(), rules: Rules::default(), borrowed: false }];
        let ids = IdStorage::Xattr;
        let config = ReplicaConfig { roots, state_dir: bad, ids, go_without: false, skip_unknown: true };
        match Replica::open(config) {
            Ok(mut replica) => {
                opened += 1;
                if n % 7 == 0 {
                    // Whatever is left of it is brought back.
                    let _ = replica.roll_back();
                }
            }
            Err(error) => {
                assert!(error.to_string().len() > 20);
                refused += 1;
            }
        }
    }
    assert!(refused > 20 && opened > 100, "{refused} refused, {opened} opened");
    let segment =
        fs::read_dir(&journal_dir).unwrap().map(|entry| entry.unwrap().path()).max_by_key(|path| path.clone());
    let segments = fs::read_dir(&journal_dir).unwrap().count();
    assert!(segment.is_some() && segments > 1);
    for _ in 0..300 {
        let bad = disk.path.join("bad-journal");
        copy(&journal_dir, &bad);
        let all: Vec<_> = fs::read_dir(&bad).unwrap().map(|entry| entry.unwrap().path()).collect();
        let path = &all[random.below(all.len() as u64) as usize];
        let mut bytes = fs::read(path).unwrap();
        damage(&mut bytes, &mut random);
        fs::write(path, bytes).unwrap();
        match Journal::open(&bad, OPTIONS) {
            Ok(mut journal) => drop(journal.entries().count()),
            Err(_) => drop(Journal::open_cut(&bad, OPTIONS)),
        }
    }
}
