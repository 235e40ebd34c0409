//! One run of a test, a demo or a bench, and the removal of everything that it made.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{text, until};

/// The variable that every process of a run carries: its value is the run's directory and the host's name.
pub const MARK: &str = "STEAD_TEST_HOST";

/// A directory with a name of its own; when it is dropped, its processes, mounts, namespaces and files are gone.
pub struct Run {
    name: String,
    dir: PathBuf,
}

impl Run {
    /// Makes the run's directory, and removes what runs of dead processes left behind.
    ///
    /// # Errors
    /// Where the directory cannot be made.
    pub fn new() -> Result<Run> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let name = format!("stead-{pid}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = place().join(&name);
        static HANDLED: Once = Once::new();
        HANDLED.call_once(clean_up_on_signals);
        sweep_the_dead();
        fs::DirBuilder::new().mode(0o755).create(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        alive().push(name.clone());
        Ok(Run { name, dir })
    }

    /// Short name of the run: prefix of its namespaces.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where everything of the run lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::env::var_os("STEAD_KEEP").is_some() && std::thread::panicking() {
            eprintln!("kept, because STEAD_KEEP is set: {}", self.dir.display());
            return;
        }
        remove(&self.name);
        alive().retain(|name| name != &self.name);
    }
}

/// Removes everything on Ctrl-C, too, and then ends this process.
fn clean_up_on_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("\ninterrupted: cleaning up");
            remove_all();
            std::process::exit(128 + signal);
        }
    });
}

/// Removes what every run of this process made.
pub fn remove_all() {
    let names: Vec<String> = alive().drain(..).collect();
    // Twice: the thread that was interrupted may have been about to make something.
    for name in names.iter().chain(&names) {
        remove(name);
    }
}

/// Pids of the processes whose mark begins with `mark` (a run's directory, or a host's), and of those on its networks: a
/// program that changes its user, or sets its variables itself, has no mark any more.
pub fn marked(mark: &Path) -> Vec<i32> {
    let needle = format!("{MARK}={}", mark.display());
    let networks = networks(mark);
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        let carries = environ.split(|byte| *byte == 0).any(|var| {
            let rest = var.strip_prefix(needle.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        });
        let is_on = || fs::metadata(entry.path().join("ns/net")).is_ok_and(|net| networks.contains(&net.ino()));
        if (carries || is_on()) && pid != std::process::id() as i32 {
            pids.push(pid);
        }
    }
    pids
}

/// Inode numbers of the network namespaces of a run, or of one host of it, by their directories.
fn networks(dir: &Path) -> Vec<u64> {
    let Ok(beneath) = dir.strip_prefix(place()) else { return Vec::new() };
    let name = beneath.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("-");
    let is_its = |netns: &str| netns.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let its = entries.filter(|entry| !name.is_empty() && is_its(&entry.file_name().to_string_lossy()));
    its.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|netns| netns.ino()).collect()
}

/// Kills the marked processes with SIGKILL and waits until they are gone. None are seen twice: a process that is about to
/// become another program shows no environment for a moment.
pub fn kill_marked(mark: &Path) {
    let mut seen_none = 0;
    let _ = until("processes of the run end", Duration::from_secs(10), || {
        let pids = marked(mark);
        for pid in &pids {
            signal(*pid, Signal::KILL);
        }
        seen_none = if pids.is_empty() { seen_none + 1 } else { 0 };
        Ok(seen_none == 2)
    });
}

/// Kills what runs that program with paths of the run in its arguments: a server that changed its user has lost the mark.
pub fn kill_program(program: &str, run: &Path) {
    let run = run.display().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && words.contains(program)
            && words.contains(&run)
        {
            signal(pid, Signal::KILL);
        }
    }
}

/// Does that process do anything still? One that only waits to be reaped does not.
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
}

/// Sends a signal; a process that is gone is fine.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

fn alive() -> std::sync::MutexGuard<'static, Vec<String>> {
    static ALIVE: Mutex<Vec<String>> = Mutex::new(Vec::new());
    ALIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory on disk for the runs: not a tmpfs, which has neither a journal nor room.
fn place() -> PathBuf {
    let chosen = std::env::var_os("STEAD_TEST_DIR").map(PathBuf::from);
    chosen.unwrap_or_else(|| {
        let temp = std::env::temp_dir();
        let is_tmpfs = rustix::fs::statfs(&temp).is_ok_and(|fs| fs.f_type == 0x0102_1994);
        if is_tmpfs { "/var/tmp".into() } else { temp }
    })
}

fn sweep_the_dead() {
    for entry in fs::read_dir(place()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("stead-").and_then(|rest| rest.split('-').next()) else { continue };
        let is_ours = pid.parse::<u32>().is_ok() && name.matches('-').count() == 2;
        if is_ours && !Path::new("/proc").join(pid).exists() {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    let dir = place().join(name);
    kill_marked(&dir);
    unmount_beneath(&dir);
    remove_tree(&dir);
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let netns = entry.file_name().to_string_lossy().into_owned();
        if netns.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')) {
            let _ = Command::new("ip").args(["netns", "del", &netns]).output();
        }
    }
}

/// Unmounts everything beneath a directory, the youngest first.
pub fn unmount_beneath(dir: &Path) {
    for lazy in [false, true] {
        for mount in mounts_beneath(dir).iter().rev() {
            let mut command = Command::new("umount");
            if lazy {
                command.arg("-l");
            }
            let _ = command.arg(mount).output();
        }
    }
}

/// Mount points beneath a directory, the oldest first.
pub fn mounts_beneath(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| PathBuf::from(unescaped(point)));
    points.filter(|point| point.starts_with(dir)).collect()
}

fn unescaped(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Removes a tree, immutable and append-only files too.
pub fn remove_tree(dir: &Path) {
    if fs::remove_dir_all(dir).is_ok() || !dir.exists() {
        return;
    }
    let _ = Command::new("chattr").args(["-R", "-f", "-i", "-a"]).arg(dir).output();
    if fs::remove_dir_all(dir).is_err() {
        // A loop image may be held for a moment by the kernel after its last unmount.
        let gone = until("files of the run go", Duration::from_secs(3), || Ok(fs::remove_dir_all(dir).is_ok()));
        if let (Err(e), true) = (gone, dir.exists()) {
            let busy = Command::new("fuser").args(["-vm"]).arg(dir).output();
            let busy = busy.map(|o| text(&o.stderr)).unwrap_or_default();
            eprintln!("cannot remove {}: {e} {busy}", dir.display());
        }
    }
}
