//! A rig for tests of the `mount` driver: an ext4 image with a captured directory, a bare one beside it, and a replica
//! that is made from the records alone.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod replay;
pub mod tree;

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use replay::Replica;
use stead_capture::{Capture, MountCapture, MountSpec, Order, spawn};

/// Needs root: mounts are made. Everything is undone when it is dropped.
pub struct Rig {
    pub capture: Option<MountCapture>,
    pub spec: MountSpec,
    base: tempfile::TempDir,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut MountSpec)) -> Rig {
        Rig::prepared(|_| {}, change)
    }

    /// `prepare` fills the directory before it is captured.
    pub fn prepared(prepare: impl FnOnce(&Path), change: impl FnOnce(&mut MountSpec)) -> Rig {
        let base = tempfile::Builder::new().prefix("stead-capture-").tempdir_in("/tmp").unwrap();
        let image = base.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        std::fs::create_dir(base.path().join("disk")).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-I", "256", image.to_str().unwrap()]);
        let disk = base.path().join("disk");
        run("mount", &["-o", "loop", image.to_str().unwrap(), disk.to_str().unwrap()]);
        for dir in ["ours", "bare", "replica"] {
            std::fs::create_dir(disk.join(dir)).unwrap();
        }
        prepare(&disk.join("ours"));
        let mut spec = MountSpec::new("test", vec![disk.join("ours")], base.path().join("capture.sock"));
        spec.log = Some(base.path().join("log"));
        spec.ring_bytes = 512 << 20;
        change(&mut spec);
        let mut rig = Rig { capture: None, spec, base };
        rig.capture = Some(spawn(&rig.spec, Path::new(env!("CARGO_BIN_EXE_stead-capture-dev"))).unwrap());
        rig
    }

    /// The captured directory.
    pub fn ours(&self) -> PathBuf {
        self.base.path().join("disk/ours")
    }
    /// A directory on the same file system that nothing captures.
    pub fn bare(&self) -> PathBuf {
        self.base.path().join("disk/bare")
    }
    pub fn replica(&self) -> PathBuf {
        self.base.path().join("disk/replica")
    }
    pub fn base(&self) -> &Path {
        self.base.path()
    }
    pub fn capture(&mut self) -> &mut MountCapture {
        self.capture.as_mut().unwrap()
    }
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.spec.log.as_ref().unwrap()).unwrap_or_default()
    }

    /// All records up to now.
    pub fn drain(&mut self) -> Vec<u8> {
        self.capture().flush().unwrap();
        let until = self.capture().captured();
        let mut out = Vec::new();
        while self.capture().drain(&mut out, 1 << 20).unwrap() < until {
            assert!(self.capture().wait(Duration::from_secs(10)), "records up to {until} do not come");
        }
        self.capture().release(until, 0);
        out
    }

    /// Runs one operation on the bare and on the captured directory. It has to end the same, and what the records make
    /// of an empty directory has to be what the captured one holds.
    pub fn same(&mut self, name: &str, operation: impl Fn(&Path) -> String) -> Result<(), String> {
        let (bare, ours) = (self.bare().join(name), self.ours().join(name));
        std::fs::create_dir(&bare).unwrap();
        std::fs::create_dir(&ours).unwrap();
        let (seen, wanted) = (operation(&ours), operation(&bare));
        if seen != wanted {
            return Err(format!("{name}: the application sees\n{seen}\nwhere the bare file system shows\n{wanted}"));
        }
        tree::compare(&ours, &bare, tree::Times::Ignore, &format!("{name}: captured and bare"))
    }

    /// Replays all records since the start, and compares.
    pub fn assert_replica(&mut self, context: &str) -> usize {
        let bytes = self.drain();
        let root = self.capture().roots()[0].id;
        let mut replica = Replica::new(&self.replica(), root);
        let count = replica.apply_all(&bytes);
        replica.finish(&self.ours());
        // The kernel may write a time of change back after a later one that it has been told of and keeps showing.
        let shown = if self.spec.order == Order::Flush { tree::Times::Ignore } else { tree::Times::Compare };
        tree::assert_same(&self.ours(), &self.replica(), shown, &format!("{context}: captured and replica"));
        let stored = format!("/proc/self/fd/{}", self.capture().roots()[0].fd.as_raw_fd());
        let context = format!("{context}: stored and replica");
        tree::assert_same(Path::new(&stored), &self.replica(), tree::Times::Compare, &context);
        count
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(capture) = &mut self.capture {
            let _ = capture.stop(true);
        }
        if std::thread::panicking() {
            eprintln!("--- log of the capture process\n{}", self.log());
        }
        let disk = self.base.path().join("disk");
        let _ = Command::new("umount").arg("-l").arg(&disk).status();
    }
}

pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a shell script in a directory; what it printed and how it ended.
pub fn shell(dir: &Path, script: &str) -> String {
    let output = Command::new("bash").arg("-c").arg(script).current_dir(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}\n{}{}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

pub fn with_order(order: Order) -> impl FnOnce(&mut MountSpec) {
    move |spec| spec.order = order
}

/// Kills the serving process; false: it was just dead.
pub fn kill_server(rig: &mut Rig) -> bool {
    let server = rustix::process::Pid::from_raw(rig.capture().status().server_pid as i32);
    server.is_some_and(|server| rustix::process::kill_process(server, rustix::process::Signal::KILL).is_ok())
}
