//! The thread that drains a capture driver. It waits where the pump is busy: then the ring fills, and after it capture's
//! dirty map remembers what changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TryRecvError};
use stead_capture::Capture;
use stead_model::SetName;

use crate::clock::wall_clock;
use crate::seam::Failure;
use crate::threads;

/// Records drained in one piece.
const BYTES_MAX: usize = 1 << 20;
/// Longest silence: then the target hears that nothing happened.
const IDLE: Duration = Duration::from_secs(1);

/// This part of the ring is kept free for what is yet to be captured.
const KEEP_FREE: u64 = 2;

/// What was drained.
pub(super) struct Captured {
    /// By which driver.
    pub(super) driver: usize,
    pub(super) records: Vec<u8>,
    /// Capture's number after the last of them.
    pub(super) captured: u64,
    /// Everything captured before this time is covered, where that is known.
    pub(super) time: Option<u64>,
}

/// Starts the thread; it ends when the pump or the session does. `retain`: how far what was drained is confirmed; until
/// then it stays in the ring where there is room, for a source that comes after this one.
pub(super) fn spawn(
    set: &SetName,
    driver: usize,
    capture: Box<dyn Capture>,
    retain: Option<Arc<AtomicU64>>,
    out: Sender<Captured>,
    stopped: Receiver<Infallible>,
) -> Result<(), Failure> {
    let set = set.clone();
    threads::spawn(&format!("{set}-ring"), move || match drain(driver, capture, retain.as_deref(), &out, &stopped) {
        Ok(()) => {}
        Err(e) => tracing::error!(set = %set, error = %e, "capture cannot be drained"),
    })
}

fn drain(
    driver: usize,
    mut capture: Box<dyn Capture>,
    retain: Option<&AtomicU64>,
    out: &Sender<Captured>,
    stopped: &Receiver<Infallible>,
) -> Result<(), stead_capture::CaptureError> {
    let keep_free = capture.status().ring_bytes / KEEP_FREE;
    // What is there already, or that nothing is, is told at once: a point of the stream needs its time.
    let mut idle = Duration::ZERO;
    while !ended(stopped) {
        if !capture.wait(std::mem::replace(&mut idle, IDLE)) && !capture.status().alive {
            tracing::error!("its capture process is dead");
            return Ok(());
        }
        let now = wall_clock().0;
        let mut records = Vec::new();
        let captured = capture.drain(&mut records, BYTES_MAX)?;
        capture.release(retain.map_or(captured, |confirmed| confirmed.load(Relaxed)), keep_free);
        let all = records.len() < BYTES_MAX / 2;
        if !all {
            // More may be there; that nothing is has to be told at once, too.
            idle = Duration::ZERO;
        }
        let time = capture.covered().or(all.then_some(now)).filter(|time| *time > 0);
        if !deliver(out, stopped, Captured { driver, records, captured, time }) {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits for room as long as the session lives.
fn deliver(out: &Sender<Captured>, stopped: &Receiver<Infallible>, captured: Captured) -> bool {
    let mut captured = captured;
    loop {
        match out.send_timeout(captured, IDLE) {
            Ok(()) => return true,
            Err(SendTimeoutError::Disconnected(_)) => return false,
            Err(SendTimeoutError::Timeout(_)) if ended(stopped) => return false,
            Err(SendTimeoutError::Timeout(back)) => captured = back,
        }
    }
}

fn ended(stopped: &Receiver<Infallible>) -> bool {
    matches!(stopped.try_recv(), Err(TryRecvError::Disconnected))
}
