//! A control group (cgroup v2) that keeps together whatever one program starts, for as long as it runs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

const PREFIX: &str = "stead-run-";
const KEPT_PREFIX: &str = "stead-kept-";
/// Rounds of moving out what goes on, against what it starts meanwhile.
const ROUNDS_MAX: usize = 10;
/// Mostly enough for an end by SIGKILL. What takes longer does nothing more of its own.
const KILL_WAIT: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(2);

/// One group; its directory goes when it is dropped, where nothing is in it.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Beneath this process's own, which is where its limits are set; none where that is not permitted, or the kernel
    /// cannot end a group at once (before 5.14).
    pub fn make() -> Option<Cgroup> {
        static SWEPT: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let own = own_dir()?;
        SWEPT.call_once(|| _ = end_orphans());
        let dir = own.join(format!("{PREFIX}{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir).ok()?;
        let made = Cgroup(dir);
        made.0.join("cgroup.kill").exists().then_some(made)
    }

    /// What a process writes "0" to in order to enter.
    pub fn door(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.0.join("cgroup.procs"))
    }

    /// Ends everything in it at once.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.kill"), "1")
    }

    /// Processes in it.
    pub fn count(&self) -> usize {
        self.pids().len()
    }

    /// Waits until nothing is in it.
    pub fn wait_until_empty(&self, moment: Instant) -> bool {
        while self.count() > 0 {
            if Instant::now() >= moment {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }

    /// The one that keeps what was left running under that name; none where nothing was.
    pub fn kept(name: &str) -> Option<Cgroup> {
        Some(Cgroup(own_dir()?.join(format!("{KEPT_PREFIX}{name}")))).filter(|kept| kept.0.exists())
    }

    /// Moves what goes on to where that name keeps it, or to this process's own group; returns how many that were.
    pub fn release(&self, keeps: Option<&str>) -> usize {
        let mut moved = 0;
        for _ in 0..ROUNDS_MAX {
            let pids = self.pids();
            let Some(to) = self.0.parent().filter(|_| !pids.is_empty()).map(|own| outlet(own, keeps)) else { break };
            moved += pids.iter().filter(|pid| fs::write(to.join("cgroup.procs"), pid).is_ok()).count();
        }
        moved
    }

    fn pids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn outlet(own: &Path, keeps: Option<&str>) -> PathBuf {
    let kept = keeps.map(|name| own.join(format!("{KEPT_PREFIX}{name}")));
    kept.filter(|dir| fs::create_dir(dir).is_ok() || dir.exists()).unwrap_or_else(|| own.to_owned())
}

/// Directory of this process's own group.
fn own_dir() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Where there are many mounts their list is long.
    static HIERARCHY: OnceLock<Option<PathBuf>> = OnceLock::new();
    Some(HIERARCHY.get_or_init(hierarchy).as_ref()?.join(own))
}

/// Where cgroup v2 is mounted.
fn hierarchy() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| place.into())
    })
}

/// Ends the programs that a process which died had running: a start that goes on could bring something up that nobody knows
/// of. Removes their groups, and those that kept what has ended meanwhile. Returns how many were ended.
pub fn end_orphans() -> usize {
    let entries = own_dir().and_then(|own| fs::read_dir(own).ok()).into_iter().flatten().flatten();
    let of_the_dead = entries.filter(|entry| is_of_the_dead(&entry.file_name().to_string_lossy()));
    of_the_dead.map(|entry| end_what_runs(&Cgroup(entry.path()))).sum()
}

fn end_what_runs(group: &Cgroup) -> usize {
    let is_kept = group.0.file_name().is_some_and(|name| name.to_string_lossy().starts_with(KEPT_PREFIX));
    let pids = group.pids();
    // Whoever is in another namespace has the number 0 here, and so may the one who runs it.
    if is_kept || pids.is_empty() || pids.iter().any(|pid| pid == "0") || group.kill().is_err() {
        return 0;
    }
    group.wait_until_empty(Instant::now() + KILL_WAIT);
    pids.len()
}

fn is_of_the_dead(name: &str) -> bool {
    if name.starts_with(KEPT_PREFIX) {
        return true;
    }
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A program in a group of a process with that number; none where the machine permits no groups.
    fn run_by(pid: u32, number: u32) -> Option<(process::Child, PathBuf)> {
        let dir = own_dir()?.join(format!("{PREFIX}{pid}-{number}"));
        fs::create_dir(&dir).ok()?;
        if !dir.join("cgroup.kill").exists() {
            let _ = fs::remove_dir(dir);
            return None;
        }
        let child = Command::new("sleep").arg("30").stdout(process::Stdio::null()).spawn().unwrap();
        fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
        Some((child, dir))
    }

    #[test]
    fn what_a_dead_process_had_running_is_ended_and_nothing_else() {
        let mut dead = Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let Some(((mut orphan, its), (mut other, theirs))) = run_by(dead.id(), 0).zip(run_by(process::id(), 1 << 20))
        else {
            return println!("this machine permits no cgroups: orphans go on");
        };
        assert!(end_orphans() > 0);
        assert!(!orphan.wait().unwrap().success() && !its.exists());
        assert!(other.try_wait().unwrap().is_none() && theirs.exists(), "its process is alive");
        other.kill().unwrap();
        other.wait().unwrap();
        fs::remove_dir(theirs).unwrap();
    }
}
