//! The thread that does the jobs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use stead_failover::machine::{Action, Hook, Outcome, Step, Turn};
use stead_failover::resources::Goal;
use stead_resource::address::{Address, Holder, take_off};
use stead_resource::service::Manager;
use stead_resource::{Deadline, Done, Failure, Output, Resource, State, Stop};

use super::cards::Cards;
use super::kit::Kit;
use super::queue::Queue;
use super::resources::Resources;
use super::watches::Watches;
use super::{DataSteps, Job, JobEnd, Tell, references};
use crate::failover::crash::{self, Side};

pub(super) struct Worker<M> {
    pub(super) kit: Kit<M>,
    data: Box<dyn DataSteps>,
    lease: Deadline,
    pub(super) tell: Tell,
    watches: Watches,
    resources: Option<Arc<Resources>>,
}

/// What came of a job, and what programs wrote meanwhile.
pub(super) struct Did {
    pub(super) outcome: Outcome,
    pub(super) output: Output,
}

impl<M: Manager> Worker<M> {
    pub(super) fn new(
        kit: Kit<M>,
        data: Box<dyn DataSteps>,
        lease: Deadline,
        tell: Tell,
        resources: Option<Arc<Resources>>,
    ) -> Worker<M> {
        let watches = Watches::new(lease.clone(), tell.clone());
        Worker { kit, data, lease, tell, watches, resources }
    }

    /// Does one job after the other, until the queue is closed.
    pub(super) fn work(mut self, queue: &Queue, ended: &impl Fn(JobEnd)) {
        let _finish = queue.finish();
        while let Some((job, stop)) = queue.next() {
            let did = stop.map_or_else(Did::not_begun, |stop| self.guarded(&job, &stop));
            let (id, cancelled) = (job.action.id, queue.done());
            ended(JobEnd { id, outcome: did.outcome, output: did.output.text(), cancelled });
        }
    }

    /// A fault of a step is an outcome like any other.
    fn guarded(&mut self, job: &Job, stop: &Stop) -> Did {
        let point = || point(&job.action);
        crash::at(self.kit.name().as_str(), point, Side::Before);
        let done = catch_unwind(AssertUnwindSafe(|| self.perform(job, stop)));
        crash::at(self.kit.name().as_str(), point, Side::After);
        done.unwrap_or_else(|_| Outcome::Unknown("the daemon ran into a fault of its own".into()).into())
    }

    fn perform(&mut self, job: &Job, stop: &Stop) -> Did {
        let Action { step, turn, limit, .. } = job.action;
        if !brings_up(&job.action) {
            return self.step(job, step, turn, limit, stop);
        }
        if self.lease.has_come() {
            return lease_is_over().into();
        }
        self.step(job, step, turn, limit, &stop.or(&self.lease.stop()))
    }

    fn step(&mut self, job: &Job, step: Step, turn: Turn, limit: Duration, stop: &Stop) -> Did {
        match step {
            Step::References => references::ask(&self.kit.plan.references, limit, stop).into(),
            Step::Fence => self.fence(limit, stop),
            Step::Script(hook) => self.script(job, hook, stop),
            Step::Address(at) if turn == Turn::Do => self.take(at.into(), job.fenced, limit, stop).into(),
            Step::Address(at) => self.give_up(at.into(), limit).into(),
            Step::RoleFiles => self.switch_files(turn).into(),
            Step::Service(at) => self.switch(at.into(), turn, limit, stop),
            Step::Resources => self.keep(turn, stop),
            Step::Drain | Step::Capture | Step::HandOver => self.data.perform(job, stop).into(),
            // Who is told, and how, is not of one group.
            Step::Tell => Outcome::Done.into(),
        }
    }

    /// Called off, nobody knows what they are.
    fn keep(&self, turn: Turn, stop: &Stop) -> Did {
        let Some(resources) = &self.resources else { return Outcome::Already.into() };
        let goal = if turn == Turn::Do { Goal::Up } else { Goal::Down };
        let (reached, output) = resources.want(goal, stop);
        let outcome = match reached {
            Ok(Done::Changed) => Outcome::Done,
            Ok(Done::Already) => Outcome::Already,
            Err(_) if turn == Turn::Do && self.lease.has_come() => lease_is_over(),
            Err(Outcome::Failed(why)) if stop.is_called() => Outcome::Unknown(why),
            Err(outcome) => outcome,
        };
        Did { outcome, output }
    }

    fn take(&mut self, at: usize, fenced: bool, limit: Duration, stop: &Stop) -> Outcome {
        let Some(planned) = self.kit.addresses.get(at) else { return missing("address", at) };
        self.watches.end(at);
        let holder = if fenced { Holder::Fenced } else { planned.holder };
        let backup = self.kit.plan.addresses.get(at).and_then(|plan| plan.backup_interface.as_ref());
        let address = Cards::place(&Address { holder, ..planned.clone() }, backup);
        let taken = address.start_until(limit, stop).value;
        if taken.is_ok() {
            let planned = Address { interface: planned.interface.clone(), ..address.clone() };
            self.watches.begin(at, &planned, backup);
        }
        self.outcome(&address.cidr.to_string(), taken)
    }

    /// The watch ends first: it could announce what is gone.
    fn give_up(&mut self, at: usize, limit: Duration) -> Outcome {
        let Some(address) = self.kit.addresses.get(at) else { return missing("address", at) };
        self.watches.end(at);
        let given_up = address.stop(limit).value.or_else(|why| self.take_off(address, limit, why));
        self.outcome(&address.cidr.to_string(), given_up)
    }

    /// What the interface had before cannot be brought back: its file is damaged, or the interface is gone. Nobody may be
    /// answered by this node all the same.
    fn take_off(&self, address: &Address, limit: Duration, why: Failure) -> Result<Done, Failure> {
        let done = take_off(address.cidr).value?;
        let is_off = address.status(limit).value == State::Stopped;
        if !is_off || address.mode != stead_resource::address::Mode::Beside {
            return Err(why);
        }
        (self.tell)(format!("{} is off, but {why}", address.cidr));
        Ok(done)
    }

    /// How it went, in the words of the machine.
    pub(super) fn outcome(&self, what: &str, result: Result<Done, Failure>) -> Outcome {
        match result {
            Ok(Done::Changed) => Outcome::Done,
            Ok(Done::Already) => Outcome::Already,
            Err(Failure::Cancelled) if self.lease.has_come() => lease_is_over(),
            Err(why @ (Failure::TimedOut(_) | Failure::Unknown(_))) => Outcome::Unknown(format!("{what}: {why}")),
            Err(why) => Outcome::Failed(format!("{what}: {why}")),
        }
    }
}

/// Does it bring up something that may not be up past the lease? Who confirms a takeover has none yet, and what is handed
/// over only goes down.
fn brings_up(action: &Action) -> bool {
    let free = matches!(
        action.step,
        Step::References | Step::Fence | Step::HandOver | Step::Tell | Step::Script(Hook::PreFailback)
    );
    action.turn == Turn::Do && !free
}

fn point(action: &Action) -> String {
    if action.turn == Turn::Undo { format!("undo {}", action.step) } else { action.step.to_string() }
}

fn lease_is_over() -> Outcome {
    Outcome::Failed("the lease is over".into())
}

pub(super) fn missing(what: &str, at: usize) -> Outcome {
    Outcome::Failed(format!("the plan has no {what} {at}"))
}

impl Did {
    fn not_begun() -> Did {
        Outcome::Failed("not begun".into()).into()
    }
}

impl From<Outcome> for Did {
    fn from(outcome: Outcome) -> Did {
        Did { outcome, output: Output::default() }
    }
}
