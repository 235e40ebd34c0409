//! Starts a daemon again that died, and one that hangs, where it was asked for that: `restart.json` in the state directory.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_resource::Stop;

use super::lock::is_locked;
use super::log::Log;
use super::spawn;
use crate::failover::lease::LeaseView;
use crate::life;
use crate::state::files;

/// What a daemon leaves that ended in order.
const MARKER: &str = "stopped";
/// How a daemon is started again.
const ORDER: &str = "restart.json";
/// Where it writes what it has to say, unless that went to a file before.
const LOG: &str = "daemon.log";

const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// So often it is started within that time; the pauses before double.
const STARTS_MAX: usize = 5;
const STARTS_WITHIN: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(500);

/// How a daemon wants to be started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restart {
    /// Program and arguments, as bytes.
    argv: Vec<Vec<u8>>,
    /// Where it was started.
    dir: PathBuf,
    log: Option<PathBuf>,
    /// Without a sign of life for so long it hangs.
    hung_after_ms: u64,
    pid: u32,
    /// Field 22 of proc_pid_stat(5), so that no other process is taken for it.
    started: u64,
}

impl Restart {
    /// For this process.
    pub(crate) fn of_this(hung_after: Duration) -> Restart {
        let program = std::env::current_exe().map(PathBuf::into_os_string).ok();
        let mut argv: Vec<OsString> = std::env::args_os().collect();
        if let (Some(first), Some(program)) = (argv.first_mut(), program) {
            *first = program;
        }
        let log = fs::read_link("/proc/self/fd/2").ok().filter(|log| log.is_file());
        Restart { log, ..Restart::of_process(std::process::id(), argv, hung_after) }
    }

    /// For a process, with that program and arguments.
    pub(super) fn of_process(pid: u32, argv: impl IntoIterator<Item = OsString>, hung_after: Duration) -> Restart {
        Restart {
            argv: argv.into_iter().map(OsString::into_vec).collect(),
            dir: std::env::current_dir().unwrap_or_else(|_| "/".into()),
            log: None,
            hung_after_ms: u64::try_from(hung_after.as_millis()).unwrap_or(u64::MAX),
            pid,
            started: started(pid).unwrap_or_default(),
        }
    }

    fn read(state: &Path) -> Option<Restart> {
        serde_json::from_slice(&fs::read(state.join(ORDER)).ok()?).ok()
    }

    fn start(&self, state: &Path) -> io::Result<Child> {
        let mut argv = self.argv.iter().map(|word| std::ffi::OsStr::from_bytes(word));
        let program = argv.next().ok_or_else(|| io::Error::other("no program was named"))?;
        let log = self.log.clone().unwrap_or_else(|| state.join(LOG));
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
        let mut command = Command::new(program);
        command.args(argv).current_dir(&self.dir).stdin(Stdio::null()).process_group(0);
        command.stdout(log.try_clone()?).stderr(log).spawn()
    }

    fn is_running(&self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// A daemon begins on that state directory: from now on it is missed where it asks for that.
///
/// # Errors
/// Where its files cannot be written.
pub(crate) fn daemon_began(state: &Path, restart: Option<&Restart>) -> Result<(), Failure> {
    match restart {
        Some(restart) => files::write(&state.join(ORDER), &serde_json::to_vec(restart).unwrap_or_default(), 0o600)?,
        None => files::remove(&state.join(ORDER))?,
    }
    files::remove(&state.join(MARKER))
}

/// The daemon ends in order and is not to be started again.
///
/// # Errors
/// Where its marker cannot be written.
pub(crate) fn daemon_ended(state: &Path) -> Result<(), Failure> {
    files::write(&state.join(MARKER), b"", 0o600)
}

struct Keeper {
    state: PathBuf,
    log: Log,
    child: Option<Child>,
    starts: Vec<Instant>,
    /// The daemon, its last sign of life, and for how many looks there was no other. Looks and not time: what stands still
    /// together with this thread does not hang.
    signs: (u32, u64, u32),
}

/// Begins to look after the daemon of that state directory.
pub(super) fn start(state: &Path, log: Log, stop: &Stop) -> io::Result<()> {
    let (state, stop) = (state.to_path_buf(), stop.clone());
    let keeper = Keeper { state, log, child: None, starts: Vec::new(), signs: (0, 0, 0) };
    spawn("watchdog-keeper", move || keeper.work(&stop))
}

impl Keeper {
    fn work(mut self, stop: &Stop) {
        while !stop.wait(Instant::now() + LOOK_INTERVAL) {
            let Some(order) = Restart::read(&self.state) else { continue };
            if self.is_missed() {
                self.bring_back(&order, stop);
            } else if self.hangs(&order) {
                self.end(&order);
            }
        }
    }

    fn is_missed(&mut self) -> bool {
        let lives = self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if lives || is_locked(&self.state.join("lock")) {
            return false;
        }
        fs::exists(self.state.join("lock")).unwrap_or(false) && !fs::exists(self.state.join(MARKER)).unwrap_or(true)
    }

    fn bring_back(&mut self, order: &Restart, stop: &Stop) {
        self.starts.retain(|start| start.elapsed() < STARTS_WITHIN);
        let pause = PAUSE * (1 << self.starts.len().min(STARTS_MAX));
        if self.starts.len() >= STARTS_MAX || stop.wait(Instant::now() + pause) || !self.is_missed() {
            return;
        }
        self.starts.push(Instant::now());
        let count = self.starts.len();
        let text = match order.start(&self.state) {
            Ok(child) => {
                self.child = Some(child);
                format!("the daemon died: it was started again ({count} of {STARTS_MAX} times within ten minutes)")
            }
            Err(e) => format!("the daemon died, and could not be started again: {e}"),
        };
        self.tell(text);
    }

    /// A daemon that gave no sign yet is still beginning.
    fn hangs(&mut self, order: &Restart) -> bool {
        let Ok(life) = LeaseView::open(&life::dir(&self.state)) else { return false };
        let beats = life.beats();
        let (pid, before, looks) = self.signs;
        let is_same = (pid, before) == (order.pid, beats) && beats != 0;
        self.signs = (order.pid, beats, if is_same { looks.saturating_add(1) } else { 0 });
        let first = pid != order.pid;
        !first && LOOK_INTERVAL.saturating_mul(self.signs.2) >= Duration::from_millis(order.hung_after_ms)
    }

    fn end(&mut self, order: &Restart) {
        self.signs = (order.pid, 0, 0);
        let pid = i32::try_from(order.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| order.is_running()) {
            let killed =
                kill_process(pid, Signal::KILL).map_or_else(|e| format!("it cannot be: {e}"), |()| "done".into());
            let hung = Duration::from_millis(order.hung_after_ms);
            self.tell(format!("the daemon gave no sign of life for {hung:?}: it is killed: {killed}"));
        }
    }

    /// In the timelines of all groups.
    fn tell(&self, text: String) {
        let groups = fs::read_dir(self.state.join("groups")).into_iter().flatten().flatten();
        for dir in groups.map(|entry| entry.path()).filter(|path| path.is_dir()).chain([self.state.clone()]) {
            self.log.add(&dir, text.clone());
        }
    }
}
