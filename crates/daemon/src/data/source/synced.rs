//! The thread that syncs the protected file systems now and then: what a target received before the last completed sync
//! is not in doubt when this machine goes down.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use stead_model::SetName;

use super::drivers::Drivers;
use super::pump::Event;
use crate::seam::Failure;
use crate::threads;

/// The kernel writes back what is older than 30 s by itself, so that little is left to do.
const EVERY: Duration = Duration::from_secs(60);

/// Starts the thread; it ends when the session does.
pub(super) fn spawn(
    set: &SetName,
    drivers: Drivers,
    roots: Vec<OwnedFd>,
    events: Sender<Event>,
    stopped: Receiver<Infallible>,
) -> Result<(), Failure> {
    let set = set.clone();
    threads::spawn(&format!("{set}-sync"), move || {
        let mut last = 0;
        while matches!(stopped.recv_timeout(EVERY), Err(RecvTimeoutError::Timeout)) {
            let captured = drivers.captured();
            if captured == last {
                continue;
            }
            match sync(&roots) {
                Ok(()) => last = captured,
                Err(error) => {
                    tracing::error!(%set, %error, "the source's file system cannot be synced");
                    continue;
                }
            }
            if events.send(Event::Synced(captured)).is_err() {
                return;
            }
        }
    })
}

/// Syncs the file systems of these directories.
pub(super) fn sync(roots: &[OwnedFd]) -> std::io::Result<()> {
    Ok(roots.iter().try_for_each(rustix::fs::syncfs)?)
}
