//! Changes that do not come through the mount are seen through it, and told.

mod common;

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Rig, shell};
use stead_capture::Capture;
use stead_model::Kind;
use stead_model::record::records;

/// Inode numbers of files named as lost, until `wanted` is among them.
fn named_as_lost(rig: &mut Rig, wanted: u64) -> HashSet<u64> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut lost = HashSet::new();
    while !lost.contains(&wanted) {
        assert!(Instant::now() < deadline, "{wanted} is not named, only {lost:?}");
        let bytes = rig.drain();
        let all = records(&bytes).map(Result::unwrap);
        lost.extend(all.filter(|record| record.kind == Kind::Lost).map(|record| record.file.ino));
        std::thread::sleep(Duration::from_millis(5));
    }
    lost
}

fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_descriptor_from_before_the_mount_is_noticed() {
    let mut held = None;
    let mut rig = Rig::prepared(
        |dir| {
            shell(dir, "echo first > a; echo other > b");
            held = Some(File::options().write(true).open(dir.join("a")).unwrap());
        },
        |_| {},
    );
    let (path, held) = (rig.ours().join("a"), held.unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "first\n");
    held.write_all_at(b"bypassing", 0).unwrap();
    soon("the data are seen", || std::fs::read_to_string(&path).unwrap() == "bypassing");
    let ino = held.metadata().unwrap().ino();
    assert_eq!(named_as_lost(&mut rig, ino), HashSet::from([ino]));
    held.set_len(3).unwrap();
    soon("the size is seen", || std::fs::metadata(&path).unwrap().len() == 3);
    let status = rig.capture().status();
    assert!(status.watches_beneath && status.bypassed >= 1, "{status:?}");
    assert_eq!(status.bypassed_files.iter().map(|file| file.ino).collect::<Vec<_>>(), [ino]);
    // Also what nobody has looked at through the mount.
    let beneath = rig.capture().roots()[0].fd.try_clone().unwrap();
    let unseen = format!("/proc/self/fd/{}/b", std::os::fd::AsRawFd::as_raw_fd(&beneath));
    let ino = std::fs::metadata(&unseen).unwrap().ino();
    File::options().append(true).open(&unseen).unwrap().write_all(b"more").unwrap();
    assert!(named_as_lost(&mut rig, ino).contains(&ino));
}

#[test]
fn names_made_beneath_are_seen_and_their_directory_is_named() {
    let mut rig = Rig::prepared(|dir| drop(shell(dir, "mkdir d; touch d/old")), |_| {});
    assert_eq!(std::fs::read_dir(rig.ours().join("d")).unwrap().count(), 1);
    assert!(!rig.ours().join("d/new").exists());
    let beneath = rig.capture().roots()[0].fd.try_clone().unwrap();
    let dir = format!("/proc/self/fd/{}/d", std::os::fd::AsRawFd::as_raw_fd(&beneath));
    std::fs::write(Path::new(&dir).join("new"), "text").unwrap();
    let ino = std::fs::metadata(&dir).unwrap().ino();
    named_as_lost(&mut rig, ino);
    soon("it is found", || rig.ours().join("d/new").exists());
    soon("it is listed", || std::fs::read_dir(rig.ours().join("d")).unwrap().count() == 2);
    std::fs::remove_file(Path::new(&dir).join("old")).unwrap();
    soon("it is gone", || !rig.ours().join("d/old").exists());
}

/// Attributes of files with several links are never old; content comes with the report.
#[test]
fn a_link_outside_of_the_set_is_seen_through() {
    let mut outside = None;
    let mut rig = Rig::prepared(
        |dir| {
            std::fs::write(dir.join("a"), "inside").unwrap();
            let link = dir.join("../bare/link");
            std::fs::hard_link(dir.join("a"), &link).unwrap();
            outside = Some(link.canonicalize().unwrap());
        },
        |_| {},
    );
    let (path, outside) = (rig.ours().join("a"), outside.unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "inside");
    std::fs::write(&outside, "written outside").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 15, "at once");
    soon("the data are seen", || std::fs::read_to_string(&path).unwrap() == "written outside");
    let ino = std::fs::metadata(&outside).unwrap().ino();
    named_as_lost(&mut rig, ino);
    // A file of the same file system that is not of the set says nothing.
    let before = rig.capture().status().bypassed;
    std::fs::write(rig.bare().join("stranger"), "x").unwrap();
    std::fs::write(&outside, "again").unwrap();
    named_as_lost(&mut rig, ino);
    let status = rig.capture().status();
    assert!(status.bypassed > before && status.bypassed_files.iter().all(|file| file.ino == ino), "{status:?}");
}

/// What is stored through a mapping from before the mount is reported when the mapping goes.
#[test]
fn a_mapping_from_before_the_mount_is_noticed_when_it_goes() {
    const SCRIPT: &str = "import mmap, os, sys\n\
        fd = os.open('a', os.O_RDWR); m = mmap.mmap(fd, 4096); os.close(fd); print('mapped', flush=True)\n\
        sys.stdin.readline(); m[:4] = b'late'; m.close()";
    let mut child = None;
    let mut rig = Rig::prepared(
        |dir| {
            std::fs::write(dir.join("a"), [b'x'; 4096]).unwrap();
            let mut python = Command::new("python3");
            python.arg("-c").arg(SCRIPT).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut python = python.spawn().unwrap();
            python.stdout.as_mut().unwrap().read_exact(&mut [0; 7]).unwrap();
            child = Some(python);
        },
        |_| {},
    );
    let (path, mut child) = (rig.ours().join("a"), child.unwrap());
    assert!(std::fs::read(&path).unwrap().starts_with(b"xxxx"));
    child.stdin.take().unwrap().write_all(b"now\n").unwrap();
    assert!(child.wait().unwrap().success());
    soon("it is seen", || std::fs::read(&path).unwrap().starts_with(b"late"));
    let ino = std::fs::metadata(&path).unwrap().ino();
    named_as_lost(&mut rig, ino);
}
