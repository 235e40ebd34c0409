//! The clocks: CLOCK_BOOTTIME, which goes on while the machine sleeps, as the minds of failover want it; the wall's; and in
//! which run of the kernel the former counts.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use stead_api::Failure;
use stead_model::status::Timestamp;

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

/// The wall clock, for what people read and for lag; never for order.
pub(crate) fn wall_clock() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
}

/// The id of this run of the kernel, as the kernel writes it.
///
/// # Errors
/// Where it does not tell.
pub(crate) fn boot_id() -> Result<String, Failure> {
    let failed = |e: io::Error| Failure::new("the kernel does not tell its boot id", e.to_string(), "Mount /proc");
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).map_err(failed)
}

fn base() -> (Instant, u64) {
    *BASE.get_or_init(|| (Instant::now(), boot_now()))
}

fn boot_now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
