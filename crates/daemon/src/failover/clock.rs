//! CLOCK_BOOTTIME, which goes on while the machine sleeps, as the minds of failover want it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// An instant, and what the clock showed then.
static BASE: OnceLock<(Instant, u64)> = OnceLock::new();

/// Now, by CLOCK_BOOTTIME.
pub(crate) fn now() -> Instant {
    let (instant, ns) = base();
    instant + Duration::from_nanos(boot_now().saturating_sub(ns))
}

/// What the clock shows at that instant, in nanoseconds.
pub(crate) fn boot_ns(at: Instant) -> u64 {
    let (instant, ns) = base();
    ns + u64::try_from(at.saturating_duration_since(instant).as_nanos()).unwrap_or(u64::MAX - ns)
}

fn base() -> (Instant, u64) {
    *BASE.get_or_init(|| (Instant::now(), boot_now()))
}

fn boot_now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
