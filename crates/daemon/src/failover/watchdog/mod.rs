//! The watchdog: a process of its own, which takes a group down when its lease ends and the daemon has not renewed it.
//!
//! ```text
//!   daemon ─ groups/NAME/lease (in memory) ─▸ watch    sleeps until the nearest deadline
//!          ─ groups/NAME/watchdog.json ─────▸ finder   looks each second what is to be watched
//!                                             guard    one for each group: addresses, services, what was saved
//!            groups/NAME/watchdog.log ◂────── log
//!                                             keeper   starts a daemon again that died or hangs, where that is asked for
//! ```
//! Each is a thread. None that has to be in time waits for one that touches the disk, which may hang when it is needed most.
//! One watchdog at a time holds `groups/watchdog.lock`; it ends when there is a file `groups/watchdog.end`, or the state
//! directory is gone.

mod finder;
mod group;
mod guard;
mod keeper;
mod lock;
mod log;
mod orders;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::setsid;
use stead_api::Failure;
use stead_resource::service::{self, Manager};
use stead_resource::{Call, Deadline, Stop};

use super::sys::hurry;
use crate::clock;
use group::Group;
use log::Log;

pub(crate) use keeper::{Restart, daemon_began, daemon_ended};
pub(crate) use lock::{end, ensure};
pub(crate) use log::{Line, lines_since};
pub(crate) use orders::Orders;

/// How long a deadline that is new, or nearer than before, may go unnoticed. Leases last for several heartbeats.
const TICK: Duration = Duration::from_millis(50);

/// Room for a thread that does little; all of it stays in memory.
const STACK_BYTES: usize = 512 << 10;

/// Watches all groups of a state directory, until it is to end, and its daemon where that asked for it.
///
/// # Errors
/// Where another one does already, or the state directory cannot be used.
pub fn watchdog(state: &Path) -> Result<(), Failure> {
    let state = fs::canonicalize(state).map_err(|e| refused(state, &e.to_string()))?;
    let _lock = lock::take(&state)?;
    // Whoever leads its group already has a session that ends with others.
    let _ = setsid();
    // What is needed to take something down has to be there also when the disk is not. Both ask for rights that it may lack.
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE);
    let _ = hurry();
    let call = Call::new().map_err(|e| refused(&state, &e.to_string()))?;
    Watchdog { state, call, manager: Arc::new(service::manager), hurries: true }.run()
}

/// Asks for whoever asks systemd.
type Managers = Arc<dyn Fn() -> Box<dyn Manager> + Send + Sync>;

struct Watchdog {
    state: PathBuf,
    /// Ends it.
    call: Call,
    manager: Managers,
    hurries: bool,
}

/// What is watched now.
type Groups = Arc<Mutex<Vec<Arc<Group>>>>;

impl Watchdog {
    fn run(self) -> Result<(), Failure> {
        let failed = |e: std::io::Error| refused(&self.state, &e.to_string());
        let (groups, log) = (Groups::default(), Log::start().map_err(failed)?);
        let timer = Deadline::new().map_err(failed)?;
        let stop = self.call.stop();
        keeper::start(&self.state, log.clone(), &stop).map_err(failed)?;
        let finder = finder::Finder {
            state: self.state.clone(),
            groups: groups.clone(),
            log,
            call: self.call.clone(),
            manager: self.manager.clone(),
            hurries: self.hurries,
        };
        finder.start().map_err(failed)?;
        watch(&groups, &timer, &stop);
        Ok(())
    }
}

/// Sleeps until the nearest deadline, and has every group guarded whose deadline has come.
fn watch(groups: &Groups, timer: &Deadline, stop: &Stop) {
    let wakes = timer.stop().or(stop);
    while !stop.is_called() {
        let now = boot_now();
        let nearest = locked(groups).iter().filter_map(|group| group.look(now)).min();
        timer.set(nearest.unwrap_or(u64::MAX));
        wakes.wait(Instant::now() + TICK);
    }
}

fn locked(groups: &Groups) -> MutexGuard<'_, Vec<Arc<Group>>> {
    groups.lock().unwrap_or_else(PoisonError::into_inner)
}

/// CLOCK_BOOTTIME in nanoseconds.
fn boot_now() -> u64 {
    clock::boot_ns(clock::now())
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(body).map(drop)
}

fn refused(state: &Path, why: &str) -> Failure {
    let what = format!("no watchdog watches {}", state.display());
    Failure::new(what, why, "Name another state directory with --state or STEAD_STATE")
}
