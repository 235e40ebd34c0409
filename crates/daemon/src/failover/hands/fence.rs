//! The other node is turned off.

use std::path::Path;
use std::time::Duration;

use stead_failover::machine::Outcome;
use stead_model::plan::FencePlan;
use stead_resource::command::{Command, Secret};
use stead_resource::fence::Agent;
use stead_resource::service::Manager;
use stead_resource::{Done, Failure, Stop};

use super::worker::{Did, Worker};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest file of parameters; an agent would not read more.
const FILE_BYTES_MAX: u64 = 16 << 10;

impl<M: Manager> Worker<M> {
    pub(super) fn fence(&self, limit: Duration, stop: &Stop) -> Did {
        let Some(plan) = &self.kit.fence else {
            return Outcome::Failed("the plan has no fence agent for the other node".into()).into();
        };
        let agent = match agent(plan) {
            Ok(agent) => agent,
            Err(why) => return Outcome::Failed(why).into(),
        };
        let limit = plan.timeout.map_or(TIMEOUT, |span| span.0).min(limit);
        let off = agent.off_until(limit, stop);
        let result = off.value.map(|()| Done::Changed);
        Did { outcome: self.outcome("fence", result.map_err(in_doubt)), output: off.output }
    }
}

/// An agent that failed may have done it.
fn in_doubt(why: Failure) -> Failure {
    match why {
        Failure::Cancelled => Failure::Unknown(why.to_string()),
        why => why,
    }
}

fn agent(plan: &FencePlan) -> Result<Agent, String> {
    let secret = |value: &String| Secret(value.clone().into_bytes());
    let mut parameters: Vec<_> = plan.parameters.iter().map(|(name, value)| (name.clone(), secret(value))).collect();
    if let Some(file) = &plan.parameter_file {
        parameters.extend(read(file).map_err(|why| format!("{} cannot be read: {why}", file.display()))?);
    }
    Ok(Agent { command: Command::new(&plan.agent), parameters })
}

/// `name=value` on each line; lines that are empty or begin with `#` say nothing. Read anew each time: passwords change.
fn read(file: &Path) -> Result<Vec<(String, Secret)>, String> {
    let len = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if len > FILE_BYTES_MAX {
        return Err(format!("it has {len} bytes, and an agent reads at most {FILE_BYTES_MAX}"));
    }
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let parameter = |(at, line): (usize, &str)| {
        let (name, value) = line.split_once('=').ok_or_else(|| format!("line {} has no =", at + 1))?;
        Ok((name.trim().to_owned(), Secret(value.as_bytes().to_vec())))
    };
    lines.map(parameter).collect()
}
