//! The thread that asks capture for writes that went past it: the pump must not wait for an answer.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use stead_capture::DriverStatus;
use stead_model::{FileId, SetName};

use super::drivers::Drivers;
use super::paths::Paths;
use crate::seam::Failure;
use crate::threads::{self, lock};

const EVERY: Duration = Duration::from_secs(2);

/// What went past capture since it was started.
#[derive(Clone, Debug, Default)]
pub(super) struct Bypassed {
    /// Writes.
    pub(super) count: u64,
    /// Path of the file of the last of them.
    pub(super) last: Option<String>,
}

/// Starts the thread; it ends when the session does.
pub(super) fn spawn(
    set: &SetName,
    drivers: Drivers,
    paths: Paths,
    stopped: Receiver<Infallible>,
) -> Result<Arc<Mutex<Bypassed>>, Failure> {
    let shared = Arc::new(Mutex::new(Bypassed::default()));
    let (set, out) = (set.clone(), shared.clone());
    threads::spawn(&format!("{set}-bypass"), move || {
        let mut told = 0;
        while matches!(stopped.recv_timeout(EVERY), Err(RecvTimeoutError::Timeout)) {
            let Some(DriverStatus { bypassed, bypassed_files, .. }) = drivers.mount_status() else { return };
            if bypassed != told {
                let last = bypassed_files.last().map(|file: &FileId| paths.of_file(*file));
                tracing::warn!(%set, writes = bypassed - told, file = last.as_deref(), "written past the capture");
                *lock(&out) = Bypassed { count: bypassed, last };
                told = bypassed;
            }
        }
    })?;
    Ok(shared)
}
