//! One watchdog for each state directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use stead_api::Failure;

use super::refused;
use crate::state::lock;

/// The file that ends a watchdog.
pub(super) const END: &str = "watchdog.end";

/// Makes `groups` where it is missing and locks it for this watchdog.
pub(super) fn take(state: &Path) -> Result<File, Failure> {
    let failed = |e: io::Error| refused(state, &e.to_string());
    DirBuilder::new().recursive(true).mode(0o700).create(state.join("groups")).map_err(failed)?;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path(state)).map_err(failed)?;
    match lock(&file) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(refused(state, "another one does already")),
        Err(e) => Err(failed(e.into())),
    }
}

/// Starts `stead watchdog` where none watches that state directory. To be called from time to time; the one that runs is not
/// disturbed, and outlives this process.
///
/// # Errors
/// Where it cannot be started.
pub(crate) fn ensure(executable: &Path, state: &Path) -> Result<(), Failure> {
    if is_locked(&path(state)) {
        return Ok(());
    }
    let failed = |e: io::Error| refused(state, &format!("it cannot be started: {e}"));
    let _ = fs::remove_file(state.join("groups").join(END));
    let mut command = Command::new(executable);
    command.arg("watchdog").arg("--state").arg(state).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    // Somebody has to wait for it while this process lives.
    super::spawn("watchdog-wait", move || drop(child.wait())).map_err(failed)
}

/// Ends the watchdog of that state directory, within about a second and whatever it watches. The next one takes down what
/// it finds past its lease.
///
/// # Errors
/// Where its file cannot be written.
pub(crate) fn end(state: &Path) -> Result<(), Failure> {
    fs::write(state.join("groups").join(END), "").map_err(|e| refused(state, &e.to_string()))
}

/// Does somebody hold that lock?
pub(super) fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err_and(|e| e == Errno::WOULDBLOCK)
}

fn path(state: &Path) -> PathBuf {
    state.join("groups").join("watchdog.lock")
}
