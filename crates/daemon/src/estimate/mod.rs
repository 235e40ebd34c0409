//! `stead estimate`: watches paths with the capture drivers, without a set and without a target, and has the changes
//! counted. No running daemon is needed.

mod attached;
mod singles;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use stead_api::Failure;
use stead_model::status::Timestamp;
pub use stead_replication::sizing::{Amounts, Estimate, KeepsUp, LineReport, Lost, Slot};
use stead_replication::sizing::{LASTS_MAX, Sizing, SizingConfig};

use attached::Attached;

/// How often the one who asked is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(3);
/// Longest wait for a change.
const WAIT: Duration = Duration::from_millis(200);

/// What is to be watched.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directories and files.
    pub paths: Vec<PathBuf>,
    /// How long; none: until SIGINT, SIGTERM or SIGHUP, which end it early in any case.
    pub lasts: Option<Duration>,
    /// Lines to judge, in bytes each second.
    pub lines: Vec<u64>,
    /// A line keeps up while the replica is behind by no more than this.
    pub within: Duration,
    /// The program that serves a capture mount when it is called with `capture`.
    pub executable: PathBuf,
}

/// What was found, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What was watched.
    pub paths: Vec<Watched>,
    /// When it began.
    pub started: Timestamp,
    /// The figures.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// What the reader of the figures has to know: whose changes are not in them, what is left behind.
    pub notes: Vec<String>,
}

/// A path that was watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// The path, absolute, without symlinks.
    pub path: PathBuf,
    /// The driver: `mount` sees every change, `watch` what each version that was closed brings.
    pub driver: &'static str,
}

/// Watches until the time is over or a signal comes, takes the mounts away again, and reports.
///
/// # Errors
/// Where a path cannot be watched: nothing is mounted then. Where capture breaks: what was mounted is detached.
pub fn estimate(options: &Options, mut tell: impl FnMut(Duration, Amounts)) -> Result<Measured, Failure> {
    let stopped = stop_on_signals()?;
    let mut attached = Attached::attach(&options.paths, &options.executable)?;
    let config =
        SizingConfig { lines: options.lines.clone(), within: options.within, reach_bytes: SizingConfig::REACH_BYTES };
    let mut sizing = Sizing::new(config);
    let (started, begin) = (now(), Instant::now());
    let lasts = options.lasts.unwrap_or(LASTS_MAX).min(LASTS_MAX);
    let mut told = begin;
    while begin.elapsed() < lasts && !stopped.load(Relaxed) {
        attached.wait(WAIT.min(lasts.saturating_sub(begin.elapsed())));
        take(&mut attached, &mut sizing, begin)?;
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tell(begin.elapsed(), sizing.total());
        }
    }
    let lasted = begin.elapsed();
    attached.end()?;
    // What was written before the mounts went may still be in the ring.
    while take(&mut attached, &mut sizing, begin)? {}
    let (records, bytes) = attached.dropped();
    sizing.dropped(records, bytes);
    let estimate = sizing.report(lasted);
    Ok(Measured { paths: attached.watched().to_vec(), started, estimate, notes: attached.into_notes() })
}

/// Counts what is there. True: there was something.
fn take(attached: &mut Attached, sizing: &mut Sizing, begin: Instant) -> Result<bool, Failure> {
    let mut records = Vec::new();
    attached.drain(&mut records)?;
    sizing.captured(&records, begin.elapsed()).map_err(|e| attached::broken(&e.to_string()))?;
    Ok(!records.is_empty())
}

fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stopped.clone())
            .map_err(|e| Failure::new("signals cannot be received", e.to_string(), ""))?;
    }
    Ok(stopped)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_nanos() as u64)
}
