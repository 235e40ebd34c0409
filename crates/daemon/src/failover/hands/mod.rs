//! The hands of one group on this node: they do what its machine asks for, one thing after the other, and tell what came
//! of it.
//!
//! ```text
//!   perform ─▸ queue ─▸ worker ─┬─ references, fence, scripts, services    programs and questions, ended at a Stop
//!   cancel ──────────────┘      ├─ addresses ── a thread that watches each while it is up
//!                               ├─ role files ── switched whole, at one instant each
//!                               ├─ resources ── a thread that keeps them up, and one for each start, stop and look
//!   lease ── Deadline ──────────┴─ Drain, Capture, HandOver: the data path
//! ```
//! Nothing is brought up past the lease: its end is a [`Deadline`] that stops whatever was begun, without anybody asking,
//! and is looked at right before something is changed.

mod cards;
mod fence;
mod kit;
mod queue;
mod references;
mod resources;
mod role_files;
mod scripts;
mod services;
#[cfg(test)]
pub(crate) mod tests;
mod watches;
mod worker;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use stead_api::Failure;
use stead_failover::machine::{Action, Lease, Outcome};
use stead_failover::resources::Reach;
use stead_model::NodeName;
use stead_model::plan::GroupPlan;
use stead_resource::service::{self, Manager};
use stead_resource::{Deadline, Stop};

use crate::clock;
use kit::Kit;
pub(crate) use kit::Places;
use queue::Queue;
use resources::Resources;
pub(crate) use resources::{Listeners, check_of, instance_name};
pub(crate) use role_files::role_files;
use worker::Worker;

/// So much longer than the plan's own time-out the limit of an action has to be: a program that is told to end has two
/// seconds, and what a service is then is looked at for one. Where it is not, the time-out counts less.
pub(crate) const SLACK: Duration = Duration::from_secs(3);

/// How long the end of the hands waits for what is being done.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);

/// What is done of one group on this node; one thing at a time.
pub(crate) struct Hands {
    queue: Arc<Queue>,
    lease: Deadline,
    resources: Option<Arc<Resources>>,
}

/// One thing to be done.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// What the machine wants.
    pub(crate) action: Action,
    /// Is the other node fenced, by evidence?
    pub(crate) fenced: bool,
    /// Why, for people.
    pub(crate) reason: String,
}

/// How a job ended. Told once for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobEnd {
    /// Number of its action.
    pub(crate) id: u64,
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// What programs wrote meanwhile.
    pub(crate) output: String,
    /// It was cancelled before it ended; nobody waits for its outcome.
    pub(crate) cancelled: bool,
}

/// `Drain`, `Capture` and `HandOver`: what the data path does.
pub(crate) trait DataSteps: Send {
    /// Does it, for no longer than its limit; looks often at `stop`, after which nothing is brought up any more.
    fn perform(&mut self, job: &Job, stop: &Stop) -> Outcome;
}

/// Tells people something between the ends of jobs.
pub(crate) type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// Tells that resources which were up cannot be kept up, and how far that reaches.
pub(crate) type Failed = Arc<dyn Fn(Reach) + Send + Sync>;

impl Hands {
    /// Those of a group on node `me`.
    /// Nothing is done before it is asked for, and nothing is brought up before [`Hands::lease`].
    ///
    /// # Errors
    /// Where the plan names something that cannot be, or there are too many threads.
    pub(crate) fn new(
        group: GroupPlan,
        me: NodeName,
        places: Places,
        data: Box<dyn DataSteps>,
        listeners: Listeners,
        ended: impl Fn(JobEnd) + Send + 'static,
    ) -> Result<Hands, Failure> {
        let kit = Kit::new(group, &me, places, service::manager)?;
        Hands::of(kit, data, listeners, ended)
    }

    fn of(
        mut kit: Kit<Box<dyn Manager>>,
        data: Box<dyn DataSteps>,
        listeners: Listeners,
        ended: impl Fn(JobEnd) + Send + 'static,
    ) -> Result<Hands, Failure> {
        let name = kit.name().clone();
        let failed = |e: std::io::Error| kit::refused(&name, &format!("the kernel refuses: {e}"));
        let lease = Deadline::new().map_err(failed)?;
        let queue = Arc::new(Queue::default());
        let (kinds, requires) = (std::mem::take(&mut kit.resources), kit.plan.required());
        let resources =
            Resources::start(kinds, requires, lease.clone(), listeners.clone()).map_err(failed)?.map(Arc::new);
        let worker = Worker::new(kit, data, lease.clone(), listeners.tell, resources.clone());
        let jobs = queue.clone();
        let body = move || worker.work(&jobs, &ended);
        let spawned = thread::Builder::new().name("hands".into()).spawn(body);
        spawned.map_err(|e| Failure::new("no group is served", e.to_string(), "Look at the limits on threads"))?;
        Ok(Hands { queue, lease, resources })
    }

    /// Has it done when everything before is. Does not block.
    pub(crate) fn perform(&self, job: Job) {
        self.queue.push(job);
    }

    /// Calls it off: its programs are killed whole, its waits end. Its end is told all the same. Does not block.
    pub(crate) fn cancel(&self, id: u64) {
        self.queue.cancel(id);
    }

    /// Its resources are watched, and nothing is done about what is seen; or no longer. Does not block.
    pub(crate) fn maintain(&self, maintained: bool) {
        self.resources.iter().for_each(|resources| resources.maintain(maintained));
    }

    /// Until when this node may serve, from now on. Does not block.
    pub(crate) fn lease(&self, lease: Lease) {
        self.lease.set(ends_at(lease));
    }
}

/// When a lease is over, for a [`Deadline`].
pub(super) fn ends_at(lease: Lease) -> u64 {
    match lease {
        Lease::None => 0,
        Lease::Until(at) => clock::boot_ns(at),
        Lease::Unlimited => u64::MAX,
    }
}

/// What is being done is called off, and waited for a while. What is up stays up.
impl Drop for Hands {
    fn drop(&mut self) {
        self.queue.close(FINISH_TIMEOUT);
    }
}
