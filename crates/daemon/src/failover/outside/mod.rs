//! The registrations of one group on this node: a thread of their own runs their mind and does what it wants, so that
//! neither heartbeats nor hands ever wait for a server elsewhere.
//!
//! What the watcher says is a state and no queue: only the newest counts. It calls off whatever is being told; the end of
//! the lease does, too.

mod kit;
mod worker;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stead_api::{Failure, TimelineEntry};
use stead_failover::heartbeat::Event;
use stead_failover::machine::Lease;
use stead_model::NodeName;
use stead_model::plan::GroupPlan;
use stead_resource::{Call, Deadline, Stop};

use super::hands::ends_at;
use super::kept::GroupDir;
use crate::threads;
pub(crate) use kit::record;
use worker::Worker;

/// Adds a line to the timeline of the group.
pub(crate) type Say = Arc<dyn Fn(TimelineEntry) + Send + Sync>;

/// What it needs beside the plan.
#[derive(Clone)]
pub(crate) struct Teller {
    /// This node.
    pub(crate) me: NodeName,
    pub(crate) say: Say,
}

/// The way to the thread; it ends with this value.
pub(crate) struct Outside {
    shared: Arc<Shared>,
    lease: Deadline,
}

/// Under which epoch this node serves, and how that came.
type Serves = Option<(u64, Option<Event>)>;

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    serves: Serves,
    plan: Option<Box<GroupPlan>>,
    /// Something was said that the thread does not know yet.
    is_news: bool,
    closed: bool,
    /// Calls off what is being told.
    call: Option<Call>,
    /// What could not be told yet, for people.
    pending: Vec<String>,
}

/// What the thread is to take up.
struct News {
    serves: Serves,
    plan: Option<Box<GroupPlan>>,
}

impl Outside {
    /// Those of a group that is at that epoch here.
    ///
    /// # Errors
    /// Where there are too many threads or descriptors.
    pub(crate) fn start(plan: &GroupPlan, dir: &GroupDir, teller: &Teller, epoch: u64) -> Result<Outside, Failure> {
        let refused =
            |e: std::io::Error| Failure::new("no registrations are told", e.to_string(), "Look at the limits");
        let (shared, lease) = (Arc::<Shared>::default(), Deadline::new().map_err(refused)?);
        let worker = Worker::new(plan, dir, teller, epoch, shared.clone(), lease.clone())?;
        threads::spawn("group-outside", move || worker.work())?;
        Ok(Outside { shared, lease })
    }

    /// Whether this node serves. Does not block.
    pub(crate) fn serves(&self, serves: Serves) {
        let mut wanted = self.shared.lock();
        if wanted.serves != serves {
            wanted.serves = serves;
            self.shared.tell(wanted);
        }
    }

    /// Goes on by another plan. Does not block.
    pub(crate) fn change(&self, plan: &GroupPlan) {
        let mut wanted = self.shared.lock();
        wanted.plan = Some(Box::new(plan.clone()));
        self.shared.tell(wanted);
    }

    /// Until when this node may serve, from now on.
    pub(crate) fn lease(&self, lease: Lease) {
        self.lease.set(ends_at(lease));
    }

    /// What could not be told yet, and why.
    pub(crate) fn pending(&self) -> Vec<String> {
        self.shared.lock().pending.clone()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let mut wanted = self.shared.lock();
        wanted.closed = true;
        self.shared.tell(wanted);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, mut wanted: MutexGuard<'_, Wanted>) {
        wanted.is_news = true;
        wanted.call.iter().for_each(Call::off);
        self.changed.notify_all();
    }

    /// Waits for news, but no longer than that. None: it is all over.
    fn next(&self, wait: Duration) -> Option<News> {
        let idle = |wanted: &mut Wanted| !wanted.is_news;
        let waited = self.changed.wait_timeout_while(self.lock(), wait, idle);
        let mut wanted = waited.unwrap_or_else(PoisonError::into_inner).0;
        wanted.is_news = false;
        (!wanted.closed).then(|| News { serves: wanted.serves, plan: wanted.plan.take() })
    }

    /// What calls off what is being told now; none: there are news first.
    fn begin(&self) -> Option<Stop> {
        let mut wanted = self.lock();
        wanted.call = Call::new().ok().filter(|_| !wanted.is_news);
        wanted.call.as_ref().map(Call::stop)
    }

    fn end(&self) {
        self.lock().call = None;
    }

    fn show(&self, pending: Vec<String>) {
        self.lock().pending = pending;
    }
}
