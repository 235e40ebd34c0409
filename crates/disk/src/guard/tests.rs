//! The guard on real mounts.

use std::fs::{self, OpenOptions};
use std::process::{Command, Stdio};

use super::*;

/// Lifts the guard also where the test fails.
struct Lifted(PathBuf);

impl Drop for Lifted {
    fn drop(&mut self) {
        while Guard::find(&self.0).is_ok_and(|guard| guard.is_some_and(|guard| guard.lift().is_ok())) {}
    }
}

#[test]
fn others_cannot_write_beneath_a_guard_and_stead_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    fs::create_dir(&path).unwrap();
    let _lifted = Lifted(path.clone());
    let guard = Guard::set(&path).unwrap();
    assert!(is_set(&path).unwrap());
    let refused = fs::write(path.join("a"), "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    let beneath = open_beneath(&path).unwrap();
    let flags = OFlags::CREATE | OFlags::WRONLY;
    drop(rustix::fs::openat(&beneath, c"a", flags, Mode::RWXU).unwrap());
    assert!(path.join("a").exists());
    // Setting it again does not pile mounts up.
    Guard::set(&path).unwrap();
    guard.lift().unwrap();
    assert!(!is_set(&path).unwrap());
    fs::write(path.join("b"), "x").unwrap();
}

#[test]
fn a_guard_that_root_made_writable_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    fs::create_dir(&path).unwrap();
    let _lifted = Lifted(path.clone());
    let open_up = || {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", "remount,bind,rw"]).arg(&path).status().unwrap().success());
        assert!(!is_set(&path).unwrap() && stands(&path).unwrap());
    };
    Guard::set(&path).unwrap();
    open_up();
    let guard = Guard::set(&path).unwrap();
    assert!(is_set(&path).unwrap());
    open_up();
    guard.lift().unwrap();
    assert!(!stands(&path).unwrap(), "nothing stays over it, and nothing was piled up");
}

#[test]
fn behind_a_barrier_there_is_nothing_until_it_is_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a"), "x").unwrap();
    assert!(barrier::raise(&path).unwrap());
    assert!(!barrier::raise(&path).unwrap(), "barriers do not pile up");
    assert!(!path.join("a").exists());
    assert_eq!(fs::write(path.join("b"), "x").unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert!(barrier::lift(&path).unwrap());
    assert!(!barrier::lift(&path).unwrap(), "what Stead did not make is left alone");
    assert!(path.join("a").exists());
    let _lifted = Lifted(path.clone());
    let _guard = Guard::set(&path).unwrap();
    assert!(!barrier::raise(&path).unwrap(), "a guarded replica needs none");
}

#[test]
fn an_open_file_and_a_working_directory_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("a log");
    let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
    let mut child = Command::new("sleep").arg("60").current_dir(dir.path()).stdout(Stdio::from(file)).spawn().unwrap();
    // Until it runs its own program it is a copy of this one.
    while command_of(child.id()) != "sleep" {
        std::thread::yield_now();
    }
    let found = holders(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let found: Vec<_> = found.unwrap().into_iter().filter(|holder| holder.pid == child.id()).collect();
    let has = |what, path: &Path| found.iter().any(|h| h.what == what && h.path == path && h.command == "sleep");
    assert!(has(Hold::Descriptor { writable: true }, &log), "{found:?}");
    assert!(has(Hold::WorkingDirectory, dir.path()), "{found:?}");
}

fn command_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
