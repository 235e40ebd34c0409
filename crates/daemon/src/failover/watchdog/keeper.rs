//! Starts a daemon again that died, where nobody else does.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use stead_api::Failure;
use stead_resource::Stop;

use super::lock::is_locked;
use super::spawn;
use crate::state::files;

/// What a daemon leaves that ended in order.
const MARKER: &str = "stopped";

const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// So often a daemon is started that dies again soon; after the first time the pauses double.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// One that lives that long counts as well.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// A daemon begins on that state directory: from now on it is missed.
///
/// # Errors
/// Where its marker cannot be removed.
pub(crate) fn daemon_began(state: &Path) -> Result<(), Failure> {
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
    argv: Vec<OsString>,
    child: Option<Child>,
    tries: u32,
    started: Instant,
}

/// Begins to look after the daemon of that state directory.
pub(super) fn start(state: &Path, argv: &[OsString], stop: &Stop) -> std::io::Result<()> {
    let (state, argv, stop) = (state.to_path_buf(), argv.to_vec(), stop.clone());
    let keeper = Keeper { state, argv, child: None, tries: 0, started: Instant::now() };
    spawn("watchdog-keeper", move || keeper.work(&stop))
}

impl Keeper {
    fn work(mut self, stop: &Stop) {
        while !stop.wait(Instant::now() + LOOK_INTERVAL) && self.tries < TRIES_MAX {
            if self.is_missed() && !stop.wait(Instant::now() + PAUSE * (1 << self.tries)) && self.is_missed() {
                self.try_again();
            }
        }
    }

    fn is_missed(&mut self) -> bool {
        let lives = self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if lives || is_locked(&self.state.join("lock")) {
            self.tries = if self.started.elapsed() > WELL_AFTER { 0 } else { self.tries };
            return false;
        }
        fs::exists(self.state.join("lock")).unwrap_or(false) && !fs::exists(self.state.join(MARKER)).unwrap_or(true)
    }

    fn try_again(&mut self) {
        self.tries += 1;
        self.started = Instant::now();
        let Some((program, arguments)) = self.argv.split_first() else { return };
        let mut command = Command::new(program);
        self.child = command.args(arguments).stdin(Stdio::null()).spawn().ok();
    }
}
