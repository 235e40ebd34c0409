//! Power cuts: the replica's file system as it was on the disk at that moment, and mixtures that no single moment had.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::disk::Disk;
use common::operations::{Choice, operate, unlock_tree};
use common::scan::scan;
use common::{Random, Source, apply_all, open_replica, walk};
use stead_disk::journal::{EntryHead, Journal, JournalOptions};
use stead_disk::replica::Replica;
use stead_disk::testing::{Compare, compare_with};
use stead_model::Position;
use stead_model::record::Purpose;

const LAX: Compare = Compare { atimes: true, holes: false, lines_max: 20 };

fn position(sequence: usize) -> Position {
    Position { epoch: 1, incarnation: 1, sequence: sequence as u64 }
}

fn journal_of(disk: &Disk) -> Journal {
    let dir = disk.path.join("journal");
    fs::create_dir_all(&dir).unwrap();
    Journal::open(&dir, JournalOptions { segment_bytes: 1 << 20, bytes_max: 64 << 20 }).unwrap()
}

fn replica_of(disk: &Disk) -> Replica {
    open_replica(&disk.path.join("replica"), &disk.path.join("state"))
}

/// Applies what the journal holds after the replica's last checkpoint.
fn recover(replica: &mut Replica, journal: &mut Journal, random: &mut Random, context: &str) {
    let from = replica.applied().sequence;
    replica.set_replaying(true).unwrap();
    for entry in journal.entries() {
        let entry = entry.unwrap();
        if entry.head.last > from {
            apply_all(replica, &[entry.payload], random, context);
        }
    }
    replica.set_replaying(false).unwrap();
}

fn power_cuts(kind: &str, megabytes: u64, seed: u64) {
    let Some(mut disk) = Disk::of(kind, megabytes) else {
        eprintln!("{kind} is not available here");
        return;
    };
    let home = Disk::plain();
    let mut random = Random::new(seed);
    let mut source = Source::new(&home.path.join("source"));
    let mut unnamed = Vec::new();
    let choice = Choice { extras: true, allocation: false };
    let mut replica = replica_of(&disk);
    let mut journal = journal_of(&disk);
    scan(&source, &mut replica, Purpose::Mirror);
    replica.checkpoint(position(0)).unwrap();
    for round in 0..5 {
        let context = format!("{kind}, seed {seed}, round {round}");
        for _ in 0..40 {
            let before = source.log.len();
            operate(&mut source, &mut unnamed, &mut random, choice);
            for (n, record) in source.log[before..].iter().enumerate() {
                let sequence = (before + n + 1) as u64;
                let (epoch, incarnation, first, last) = (1, 1, sequence, sequence);
                let head = EntryHead { epoch, incarnation, first, last, consistent: true, ..EntryHead::default() };
                journal.append(&head, record).unwrap();
            }
            journal.sync().unwrap();
            apply_all(&mut replica, &source.log[before..], &mut random, &context);
            match random.below(20) {
                0 => {
                    replica.checkpoint(position(source.log.len())).unwrap();
                    journal.drop_until(position(source.log.len())).unwrap();
                }
                // Some of it gets to the disk without a checkpoint.
                1 | 2 => rustix::fs::syncfs(fs::File::open(&disk.path).unwrap()).unwrap(),
                _ => {}
            }
        }
        let after = disk.crashed();
        drop((replica, journal));
        disk = after;
        replica = replica_of(&disk);
        journal = journal_of(&disk);
        recover(&mut replica, &mut journal, &mut random, &context);
        let lines = compare_with(&source.dir, &disk.path.join("replica"), LAX);
        assert!(lines.is_empty(), "{context}: {lines:#?}");
        replica.checkpoint(position(source.log.len())).unwrap();
    }
}

#[test]
fn after_a_power_cut_the_journal_makes_the_replica_whole() {
    for seed in 1..5 {
        power_cuts("ext4", 48, seed);
    }
    power_cuts("xfs", 320, 31);
    power_cuts("btrfs", 160, 32);
}

/// What a name stands for.
#[derive(Clone, PartialEq, Eq)]
struct Is {
    id: String,
    is_dir: bool,
}

/// Names in directories, wherever those are.
type Names = BTreeMap<(String, OsString), Is>;

/// Inode and time of birth: numbers are used again.
fn id_of(meta: &fs::Metadata) -> String {
    let born = meta.created().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{}-{}", meta.ino(), born.as_nanos())
}

fn names(root: &Path) -> Names {
    let name = |(path, meta): (PathBuf, fs::Metadata)| {
        let parent = id_of(&fs::symlink_metadata(path.parent().unwrap()).unwrap());
        ((parent, path.file_name().unwrap().to_owned()), Is { id: id_of(&meta), is_dir: meta.is_dir() })
    };
    walk(root).into_iter().skip(1).map(name).collect()
}

/// Where the file is now.
fn path_of(root: &Path, id: &str) -> Option<PathBuf> {
    walk(root).into_iter().find(|(_, meta)| id_of(meta) == id).map(|(path, _)| path)
}

/// The state of a tree, with which parts of a later one can be put back.
struct Saved {
    dir: PathBuf,
    names: Names,
    /// Files that had no name yet.
    held: BTreeSet<String>,
}

impl Saved {
    /// Keeps every inode alive by a link, and its content by a copy.
    fn new(root: &Path, dir: &Path) -> Saved {
        fs::create_dir_all(dir).unwrap();
        for (path, meta) in walk(root).into_iter().filter(|(_, meta)| !meta.is_dir()) {
            let link = dir.join(id_of(&meta));
            if fs::symlink_metadata(&link).is_err() && fs::hard_link(&path, &link).is_ok() && meta.is_file() {
                fs::copy(&path, dir.join(format!("{}.copy", id_of(&meta)))).unwrap();
            }
        }
        let held = fs::read_dir(root.join(".stead-holding")).unwrap();
        let held = held.map(|entry| id_of(&entry.unwrap().metadata().unwrap())).collect();
        Saved { dir: dir.into(), names: names(root), held }
    }

    /// Puts a part of the names and contents back.
    fn revert_some(&self, root: &Path, random: &mut Random) {
        unlock_tree(root);
        let now = names(root);
        let keys: BTreeSet<_> = self.names.keys().chain(now.keys()).collect();
        for key in keys {
            if self.names.get(key) != now.get(key) && random.chance(40) {
                self.revert_name(root, key, now.get(key));
            }
        }
        let copies: BTreeSet<&String> = self.names.values().map(|was| &was.id).collect();
        for id in copies {
            let copy = self.dir.join(format!("{id}.copy"));
            if copy.exists() && random.chance(40) {
                fs::write(self.dir.join(id), fs::read(copy).unwrap()).unwrap();
            }
        }
    }

    fn revert_name(&self, root: &Path, key: &(String, OsString), is: Option<&Is>) {
        let Some(path) = path_of(root, &key.0).map(|dir| dir.join(&key.1)) else { return };
        let was = self.names.get(key);
        if is.is_some_and(|is| !self.takes_name(&path, is)) {
            return;
        }
        match was {
            Some(was) if was.is_dir => {
                if let Some(at) = path_of(root, &was.id).filter(|_| fs::symlink_metadata(&path).is_err()) {
                    fs::rename(at, path).ok();
                }
            }
            Some(was) => drop(fs::hard_link(self.dir.join(&was.id), path)),
            None => {}
        }
    }

    /// Takes the name away, if a power cut could: never the last one of a file that has one before and after.
    fn takes_name(&self, path: &Path, is: &Is) -> bool {
        let is_saved = self.names.values().any(|was| was.id == is.id);
        if is.is_dir {
            return !is_saved && fs::remove_dir(path).is_ok();
        }
        let is_old = is_saved || self.held.contains(&is.id);
        let others = fs::symlink_metadata(path).map_or(0, |meta| meta.nlink()) - 1 - u64::from(is_saved);
        (!is_old || others > 0) && fs::remove_file(path).is_ok()
    }
}

#[test]
fn a_mixture_of_older_and_newer_names_and_contents_becomes_the_newest() {
    for seed in 1..40 {
        let disk = Disk::plain();
        let mut random = Random::new(seed + 7000);
        let mut source = Source::new(&disk.path.join("source"));
        let (target, state) = (disk.path.join("replica"), disk.path.join("state"));
        let mut replica = open_replica(&target, &state);
        scan(&source, &mut replica, Purpose::Mirror);
        let mut unnamed = Vec::new();
        let choice = Choice { extras: false, allocation: false };
        for round in 0..4 {
            let context = format!("seed {seed}, round {round}");
            let from = source.log.len();
            replica.checkpoint(position(from)).unwrap();
            let saved = Saved::new(&target, &disk.path.join("saved"));
            for _ in 0..40 {
                operate(&mut source, &mut unnamed, &mut random, choice);
            }
            apply_all(&mut replica, &source.log[from..], &mut random, &context);
            drop(replica);
            saved.revert_some(&target, &mut random);
            fs::remove_dir_all(&saved.dir).unwrap();
            replica = open_replica(&target, &state);
            replica.set_replaying(true).unwrap();
            apply_all(&mut replica, &source.log[from..], &mut random, &context);
            replica.set_replaying(false).unwrap();
            let what = Compare { atimes: false, holes: false, lines_max: 20 };
            let lines = compare_with(&source.dir, &target, what);
            // What was reverted had its times changed by the test itself, and not all is stated again.
            let lines: Vec<_> = lines.into_iter().filter(|line| !line.contains("mtime")).collect();
            assert!(lines.is_empty(), "{context}: {lines:#?}\n{}", common::describe_log(&source.log[from..]));
            scan(&source, &mut replica, Purpose::Mirror);
        }
    }
}
