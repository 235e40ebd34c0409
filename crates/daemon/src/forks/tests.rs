use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use stead_disk::aside::{Since, Tree};
use stead_model::RulesSpec;

use super::keep::{self, Keep};
use super::*;
use crate::seam::TargetRoot;

const EVERYTHING: Since = Since { at: 0, now: 0 };

struct Stage {
    state: StateDir,
    root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("notes");
        fs::create_dir_all(root.join("a")).unwrap();
        fs::write(root.join("a/1"), "one").unwrap();
        fs::write(root.join("2"), "two").unwrap();
        Stage { state: StateDir::open(&dir.path().join("state")).unwrap(), root, _dir: dir }
    }

    fn trees(&self) -> Vec<Tree> {
        let root = TargetRoot { path: self.root.clone(), is_dir: true };
        keep::trees(&[root], &RulesSpec::default(), EVERYTHING).unwrap()
    }

    fn forks(&self) -> Forks {
        Forks::load(&self.state).unwrap().0
    }

    /// Notes a fork and has it begin.
    fn begun(&self, forks: &mut Forks) -> Keep {
        forks.note(&self.state, key(), &"lyon".parse().unwrap(), 1).unwrap();
        forks.begin(&key()).unwrap();
        assert!(forks.told(&key(), Ok(Some(Timestamp(7_000_000)))).is_none());
        let (dir, _, progress) = forks.begin(&key()).unwrap();
        Keep::new(dir, self.trees(), progress)
    }
}

fn key() -> Key {
    ("notes".parse().unwrap(), 2)
}

fn stage_of(forks: &Forks) -> Vec<(ForkState, u64)> {
    forks.list().iter().map(|fork| (fork.state, fork.files)).collect()
}

#[test]
fn what_is_kept_is_listed_copied_out_and_given_up() {
    let stage = Stage::new();
    let mut forks = stage.forks();
    let keep = stage.begun(&mut forks);
    assert!(forks.read(&key(), "").is_err(), "it is not kept yet");
    forks.kept(&key(), keep.run());
    assert_eq!(stage_of(&forks), [(ForkState::Kept, 2)]);
    assert_eq!(stage_of(&stage.forks()), [(ForkState::Kept, 2)], "after a restart");
    assert_eq!(forks.pending(&key().0), None);

    let (dir, reader) = forks.read(&key(), "").unwrap();
    let (entries, next) = dir.entries(0).unwrap();
    let mut names: Vec<_> = entries.iter().map(|entry| (entry.path.clone(), entry.size, entry.kept)).collect();
    names.sort();
    let name = |path: &str| stage.root.join(path).display().to_string();
    assert_eq!(names, [(name("2"), 3, true), (name("a"), 0, true), (name("a/1"), 3, true)]);
    assert_eq!(next, None);
    let out = stage.root.with_file_name("out");
    assert_eq!(keep::export(&dir, &out).unwrap(), (2, 6));
    let copy = out.join(stage.root.join("a/1").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(copy).unwrap(), "one");
    assert!(keep::export(&dir, &out).unwrap_err().why.contains("not empty"));
    assert!(keep::export(&dir, Path::new("out")).unwrap_err().why.contains("absolute"));

    assert!(forks.give_up(&key(), "").is_err(), "it is being read");
    drop(reader);
    forks.give_up(&key(), "").unwrap().0.remove().unwrap();
    assert!(forks.list().is_empty() && stage.forks().list().is_empty());
    assert!(!stage.state.file("forks/notes").exists());
}

#[test]
fn a_daemon_that_died_while_it_copied_begins_anew() {
    let stage = Stage::new();
    let mut forks = stage.forks();
    let keep = stage.begun(&mut forks);
    keep.run().unwrap();
    // The index is there, and nobody wrote down that it is whole.
    let mut forks = stage.forks();
    assert_eq!(stage_of(&forks), [(ForkState::Keeping, 0)]);
    assert!(forks.pending(&key().0).is_some());
    fs::write(stage.root.join("3"), "three").unwrap();
    let (dir, file, progress) = forks.begin(&key()).unwrap();
    assert_eq!(file.since, Some(Timestamp(7_000_000)), "the other node is not asked twice");
    fs::write(dir.path().join("index.jsonl.new"), "half a li").unwrap();
    forks.kept(&key(), Keep::new(dir, stage.trees(), progress).run());
    assert_eq!(stage_of(&forks), [(ForkState::Kept, 3)]);
    assert_eq!(forks.read(&key(), "").unwrap().0.entries(0).unwrap().0.len(), 4);
}

#[test]
fn where_nothing_is_missing_nothing_is_kept() {
    let stage = Stage::new();
    let mut forks = stage.forks();
    forks.note(&stage.state, key(), &"lyon".parse().unwrap(), 1).unwrap();
    assert_eq!(stage_of(&stage.forks()), [(ForkState::Asking, 0)], "it is durable");
    forks.begin(&key()).unwrap();
    let gone = Failure::new("lyon cannot be asked", "it is not there", "");
    assert!(forks.told(&key(), Err(gone)).is_none());
    assert!(forks.pending(&key().0).is_some() && forks.due(Instant::now()).is_empty(), "asked again later");
    forks.told(&key(), Ok(None)).unwrap().remove().unwrap();
    assert!(forks.list().is_empty() && stage.forks().list().is_empty());
}

#[test]
fn what_was_given_up_half_way_is_nothing() {
    let stage = Stage::new();
    let mut forks = stage.forks();
    let keep = stage.begun(&mut forks);
    let (dir, progress) = forks.give_up(&key(), "").unwrap();
    assert!(progress.is_some_and(|progress| progress.is_over.load(Ordering::Relaxed)));
    let ended = keep.run().unwrap_err();
    assert!(ended.why.contains("given up"), "{ended}");
    forks.kept(&key(), Err(ended));
    assert!(forks.list().is_empty());
    let (none, left_over) = Forks::load(&stage.state).unwrap();
    assert!(none.list().is_empty());
    assert_eq!(left_over[0].path(), dir.path());
}

#[test]
fn without_room_nothing_is_copied_until_there_is() {
    let stage = Stage::new();
    fs::write(stage.root.join("large"), vec![7; 3 << 20]).unwrap();
    let small = stage.state.file("forks");
    fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return eprintln!("left out: no file system can be mounted here");
    }
    let mut forks = stage.forks();
    let mut keep = stage.begun(&mut forks);
    keep.reserve = 64 << 10;
    forks.kept(&key(), keep.run());
    assert_eq!(stage_of(&forks), [(ForkState::Blocked, 0)]);
    let failure = forks.failure(&key().0).unwrap().clone();
    assert!(
        failure.why.contains(keep::NO_ROOM) && failure.remedy.contains("stead fork drop notes 2 --yes"),
        "{failure}"
    );
    assert!(forks.due(Instant::now()).is_empty(), "not at once");
    assert_eq!(forks.due(Instant::now() + RETRY), [key()]);

    let mounted = Command::new("mount").args(["-o", "remount,size=16m"]).arg(&small).status().unwrap();
    assert!(mounted.success());
    let (dir, _, progress) = forks.begin(&key()).unwrap();
    let mut keep = Keep::new(dir, stage.trees(), progress);
    keep.reserve = 64 << 10;
    forks.kept(&key(), keep.run());
    assert_eq!(stage_of(&forks), [(ForkState::Kept, 3)]);
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
}
