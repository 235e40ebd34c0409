//! A daemon with a state directory of its own, and what the command line says.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A daemon that ends with the value.
pub struct Daemon {
    name: String,
    listen: String,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

/// What a command said.
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: Option<i32>,
}

impl Daemon {
    /// Starts one and waits until it answers.
    pub fn start(name: &str, listen: &str) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = Daemon { name: name.into(), listen: listen.into(), dir, child: None };
        daemon.launch();
        daemon
    }

    /// Starts it again, where it listened before.
    pub fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
        command.args(["daemon", "--name", &self.name, "--listen", &self.listen, "--state"]).arg(self.state());
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.stead(&["plan", "show"]).code != Some(0) {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let nodes: serde_json::Value = serde_json::from_str(&self.stead(&["nodes", "--json"]).done()).unwrap();
        self.listen = nodes[0]["addresses"][0].as_str().unwrap().into();
    }

    /// Where it listens.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// Starts it again, at another address.
    pub fn launch_at(&mut self, listen: &str) {
        self.listen = listen.into();
        self.launch();
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Runs a command against it.
    pub fn stead(&self, args: &[&str]) -> Said {
        stead(&self.state(), args)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        let child = self.child.as_ref().unwrap();
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
        assert!(self.ended().success());
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// A directory beside the state that goes with the value; mounts in it are taken away.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The sets that it takes part in.
    pub fn sets(&self) -> Vec<String> {
        let plan = self.stead(&["plan", "show"]).out;
        let names = plan.split("[[set]]").skip(1).filter_map(|set| set.split('"').nth(1));
        names.map(String::from).collect()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.name, self.log());
        }
        for set in self.sets() {
            self.stead(&["unprotect", &set, "--force"]);
        }
        self.kill();
        for (path, _) in mounts_beneath(self.dir.path()) {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

/// Mount points beneath a directory with the type of each, the last one first.
pub fn mounts_beneath(dir: &Path) -> Vec<(PathBuf, String)> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| {
        let mut parts = line.split(' ').skip(1);
        Some((PathBuf::from(parts.next()?), parts.next()?.to_string()))
    });
    let mut beneath: Vec<_> = mounts.filter(|(path, _)| path.starts_with(dir)).collect();
    beneath.reverse();
    beneath
}

/// Runs a command against the daemon of that state directory.
pub fn stead(state: &Path, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
    let output = command.args(args).env("STEAD_STATE", state).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { out: text(output.stdout), err: text(output.stderr), code: output.status.code() }
}

impl Said {
    /// It was done; what it printed.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// It exited with that code, and standard error names all of that.
    #[track_caller]
    pub fn refused(self, code: i32, reasons: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        for reason in reasons {
            assert!(self.err.contains(reason), "{reason:?} is not in: {}", self.err);
        }
    }
}
