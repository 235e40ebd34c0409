//! Jobs in their order, and the one that is being done.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stead_resource::{Call, Stop};
use tracing::error;

use super::Job;

/// Jobs that wait. The machine has one at a time; those that were called off before it wait for one that does not end.
const JOBS_MAX: usize = 1000;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    running: Option<Running>,
    closed: bool,
    /// The worker is gone.
    finished: bool,
}

struct Waiting {
    job: Job,
    cancelled: bool,
}

struct Running {
    id: u64,
    /// None: it was called off before it began, or there are too many descriptors.
    call: Option<Call>,
    cancelled: bool,
}

/// Tells that the worker is gone, also where it ran into a fault.
pub(super) struct Finish<'a>(&'a Queue);

impl Queue {
    pub(super) fn push(&self, job: Job) {
        let mut state = self.lock();
        if state.waiting.len() >= JOBS_MAX {
            return error!("action {} is not begun: {JOBS_MAX} wait for one that does not end", job.action.id);
        }
        state.waiting.push_back(Waiting { job, cancelled: false });
        self.changed.notify_all();
    }

    pub(super) fn cancel(&self, id: u64) {
        let mut state = self.lock();
        if let Some(running) = state.running.as_mut().filter(|running| running.id == id) {
            running.cancel();
        }
        let waiting = state.waiting.iter_mut().filter(|waiting| waiting.job.action.id == id);
        waiting.for_each(|waiting| waiting.cancelled = true);
    }

    /// Calls everything off, and waits until that has come to its end, but not longer than that.
    pub(super) fn close(&self, limit: Duration) {
        let mut state = self.lock();
        state.closed = true;
        state.running.iter_mut().for_each(Running::cancel);
        state.waiting.iter_mut().for_each(|waiting| waiting.cancelled = true);
        self.changed.notify_all();
        drop(self.changed.wait_timeout_while(state, limit, |state| !state.finished));
    }

    /// The next job, and what calls it off; none there: it is not to be begun. None: it is all over.
    pub(super) fn next(&self) -> Option<(Job, Option<Stop>)> {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let Waiting { job, cancelled } = state.waiting.pop_front()?;
        let call = if cancelled { None } else { Call::new().inspect_err(|e| error!("nothing is begun: {e}")).ok() };
        let stop = call.as_ref().map(Call::stop);
        state.running = Some(Running { id: job.action.id, call, cancelled });
        Some((job, stop))
    }

    /// The job that was taken last has ended; was it called off?
    pub(super) fn done(&self) -> bool {
        self.lock().running.take().is_some_and(|running| running.cancelled)
    }

    pub(super) fn finish(&self) -> Finish<'_> {
        Finish(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn cancel(&mut self) {
        self.cancelled = true;
        self.call.iter().for_each(Call::off);
    }
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.lock().finished = true;
        self.0.changed.notify_all();
    }
}
