//! What is done of one group on this node, one thing at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stead_api::Failure;
use stead_failover::machine::{Action, Lease, Outcome};
use stead_model::NodeName;
use stead_model::plan::GroupPlan;

pub(crate) struct Job {
    pub(crate) action: Action,
    pub(crate) fenced: bool,
    pub(crate) reason: String,
}

pub(crate) struct JobEnd {
    pub(crate) id: u64,
    pub(crate) outcome: Outcome,
    pub(crate) output: String,
    pub(crate) cancelled: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) trait DataSteps: Send {
    fn perform(&mut self, job: &Job, stop: &Stop) -> Outcome;
}

pub(crate) struct Hands {}

impl Hands {
    pub(crate) fn new(
        _group: GroupPlan,
        _me: NodeName,
        _dir: PathBuf,
        _roots: Vec<PathBuf>,
        _data: Box<dyn DataSteps>,
        _tell: Box<dyn Fn(String) + Send + Sync>,
        _ended: Box<dyn Fn(JobEnd) + Send>,
    ) -> Result<Hands, Failure> {
        Ok(Hands {})
    }
    pub(crate) fn perform(&self, _job: Job) {}
    pub(crate) fn cancel(&self, _id: u64) {}
    pub(crate) fn lease(&self, _lease: Lease) {}
}
