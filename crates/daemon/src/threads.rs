//! Threads with names, and what they share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::seam::Failure;

/// The kernel keeps this much of a thread's name.
const NAME_BYTES_MAX: usize = 15;

/// Starts a named thread; it is never joined: its channels end it.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let name = name.chars().take(NAME_BYTES_MAX).collect();
    let started = thread::Builder::new().name(name).spawn(body);
    started.map(drop).map_err(|e| {
        Failure::new("a thread cannot be started", e.to_string(), "Look at the limits on processes and threads")
    })
}

/// The value, also after a thread panicked while it held it: what is kept so is replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
