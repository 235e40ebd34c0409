//! Programs that the plan has run before and after.

use std::time::Duration;

use stead_failover::machine::{Hook, Outcome};
use stead_model::plan::ScriptPlan;
use stead_resource::Stop;
use stead_resource::command::{Command, End};
use stead_resource::script::{Event, Occasion, Script};
use stead_resource::service::Manager;

use super::kit::STEP_TIMEOUT;
use super::worker::{Did, Worker};
use super::{Job, SLACK};

impl<M: Manager> Worker<M> {
    pub(super) fn script(&self, job: &Job, hook: Hook, stop: &Stop) -> Did {
        let (event, plan) = self.planned(hook);
        let Some(plan) = plan else { return Outcome::Failed(format!("the plan has no script {event}")).into() };
        let timeout = plan.timeout.map_or(STEP_TIMEOUT, |span| span.0);
        let script = Script { command: Command::new(&plan.command) };
        let ran = script.run_until(&self.occasion(job, event), bounded(timeout, job.action.limit), stop);
        Did { outcome: outcome(ran.value), output: ran.output }
    }

    fn planned(&self, hook: Hook) -> (Event, Option<&ScriptPlan>) {
        let scripts = &self.kit.plan.scripts;
        let (event, plan) = match hook {
            Hook::PreFailover => (Event::PreFailover, &scripts.pre_failover),
            Hook::PostFailover => (Event::PostFailover, &scripts.post_failover),
            Hook::PreFailback => (Event::PreFailback, &scripts.pre_failback),
            Hook::PostFailback => (Event::PostFailback, &scripts.post_failback),
        };
        (event, plan.as_ref())
    }

    fn occasion(&self, job: &Job, event: Event) -> Occasion {
        let plan = &self.kit.plan;
        Occasion {
            event,
            group: plan.name.to_string(),
            source: plan.source.clone(),
            target: plan.target.clone(),
            epoch: job.action.epoch.number,
            reason: job.reason.clone(),
            set_paths: self.kit.roots.clone(),
        }
    }
}

/// The plan's own time-out, but early enough that what is told to end can do so before the action's limit.
pub(super) fn bounded(timeout: Duration, limit: Duration) -> Duration {
    timeout.min(limit.saturating_sub(SLACK.min(limit / 4)))
}

fn outcome(end: End) -> Outcome {
    match end {
        End::Exited(0) => Outcome::Done,
        End::TimedOut { .. } | End::Cancelled { .. } => Outcome::Unknown(format!("it {end}")),
        end => Outcome::Failed(format!("it {end}")),
    }
}
