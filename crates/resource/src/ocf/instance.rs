//! An agent with its parameters.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use stead_model::ocf::{self, Seen};

use super::{Agent, Code, is_word};
use crate::command::{Command, End, Ran, Secret};
use crate::procedure::{Switch, To};
use crate::{Done, Failure, Outcome, Output, State, Stop, Term};

/// How often a look is said to be repeated, ms: agents take 0 for the first look of all, which proves less.
const REPEATED_MS: &str = "10000";

/// A resource by an agent.
#[derive(Clone, Debug)]
pub struct Instance {
    agent: Agent,
    name: String,
    /// Values are never shown.
    parameters: Vec<(String, Secret)>,
    under: Vec<OsString>,
    keeps: Option<String>,
}

/// What speaks against an instance, by its own look before the day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In the agent's words.
    pub failure: Failure,
    /// What it ended with; none: it did not end by itself.
    pub code: Option<Code>,
}

impl Instance {
    /// Of that name, which is unique on this machine and stays the same: agents keep their state under it.
    ///
    /// # Errors
    /// A name that a file cannot have, a parameter that a variable cannot have. Whether they are what the agent wants is
    /// another question: [`check`](super::check()).
    pub fn new(agent: Agent, name: &str, parameters: BTreeMap<String, String>) -> Result<Instance, Failure> {
        let unusable = |why: String| Err(Failure::Unusable(why));
        if !is_word(name) {
            return unusable(format!("{name:?} is not the name of an instance"));
        }
        if let Some((name, _)) = parameters.iter().find(|(name, value)| !is_word(name) || value.contains('\0')) {
            return unusable(format!("the parameter {name:?} cannot be given to {}", agent.name));
        }
        let parameters = parameters.into_iter().map(|(name, value)| (name, Secret(value.into_bytes()))).collect();
        Ok(Instance { agent, name: name.to_owned(), parameters, under: Vec::new(), keeps: None })
    }

    /// The same, each of its actions started by that ([`Command::under`]).
    pub fn under(self, under: Vec<OsString>) -> Instance {
        Instance { under, ..self }
    }

    /// The same, with what its start leaves running kept together under that name ([`Command::keeps`]).
    pub fn keeping(self, name: String) -> Instance {
        Instance { keeps: Some(name), ..self }
    }

    /// Has the agent stop what does not run: a crash, or a start that failed, may have left some of it.
    ///
    /// # Errors
    /// In the outcome: it failed.
    pub fn clear(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
        Outcome::with_output(|output| {
            let ran = self.act("stop", None, "0", Term::new(limit, stop), output);
            match ran.end {
                // As on a standby: what is not installed left nothing.
                End::Exited(code) if Code::of(code) == Code::NotInstalled => Ok(Done::Already),
                _ => ocf::told(&self.agent.name, "stop", &ran.end, &reason(&ran.output)).map(|()| Done::Changed),
            }
        })
    }

    /// Looks how well it runs: 0 is the quickest look, 20 does real work. A depth that the agent does not have is the next
    /// lower one's.
    pub fn look(&self, depth: u32, limit: Duration, stop: &Stop) -> Outcome<Seen> {
        Outcome::with_output(|output| {
            let ran = self.act("monitor", Some(depth), REPEATED_MS, Term::new(limit, stop), output);
            ocf::seen(&self.agent.name, &ran.end, &reason(&ran.output))
        })
    }

    /// Has the agent itself look whether it can work here by its parameters.
    ///
    /// # Errors
    /// In the outcome: what speaks against it.
    pub fn validate(&self, limit: Duration) -> Outcome<Result<(), Refusal>> {
        Outcome::with_output(|output| {
            let ran = self.act("validate-all", None, "0", Term::new(limit, &Stop::never()), output);
            match ran.end {
                // The action is not mandatory.
                End::Exited(0 | 3) => Ok(()),
                _ => ocf::told(&self.agent.name, "validate-all", &ran.end, &reason(&ran.output)),
            }
            .map_err(|failure| Refusal { failure, code: code(&ran.end) })
        })
    }

    fn act(&self, action: &str, depth: Option<u32>, interval: &str, term: Term<'_>, output: &mut Output) -> Ran {
        let ran = self.command(action, depth, interval, term).run_until(term.left(), term.stop);
        output.append(ran.output.clone());
        if ran.left > 0 && action != "start" {
            output.add(format!("[{} processes that {action} left behind were ended]\n", ran.left).as_bytes());
        }
        ran
    }

    fn command(&self, action: &str, depth: Option<u32>, interval: &str, term: Term<'_>) -> Command {
        let mut command = Command { under: self.under.clone(), ..self.agent.command(action) };
        command.keeps = self.keeps.clone().filter(|_| action == "start");
        for (name, Secret(value)) in &self.parameters {
            command.env.push((format!("OCF_RESKEY_{name}"), OsString::from_vec(value.clone())));
        }
        let mut set = |name: String, value: &str| command.env.push((name, value.into()));
        set("OCF_RESOURCE_INSTANCE".into(), &self.name);
        // Not of the standard, but agents ask for them.
        set("OCF_RESKEY_CRM_meta_timeout".into(), &term.left().as_millis().to_string());
        set("OCF_RESKEY_CRM_meta_interval".into(), interval);
        set("OCF_RESKEY_CRM_meta_name".into(), action);
        if let Some(depth) = depth {
            set("OCF_CHECK_LEVEL".into(), &depth.to_string());
        }
        command
    }
}

fn code(end: &End) -> Option<Code> {
    if let End::Exited(code) = end { Some(Code::of(*code)) } else { None }
}

/// What the agent says of it by itself, the last time it does: `: reason`; it may say nothing.
fn reason(output: &Output) -> String {
    const PREFIX: &str = "ocf-exit-reason:";
    let text = output.text();
    let mut said = text.lines().filter_map(|line| line.strip_prefix(PREFIX)).map(str::trim);
    said.rfind(|said| !said.is_empty()).map(|said| format!(": {said}")).unwrap_or_default()
}

impl Switch for Instance {
    fn look(&self, term: Term<'_>, output: &mut Output) -> State {
        let ran = self.act("monitor", Some(0), "0", term, output);
        ocf::state(&self.agent.name, &ran.end, &reason(&ran.output))
    }

    fn tell(&self, to: To, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        let action = if to == To::Start { "start" } else { "stop" };
        let ran = self.act(action, None, "0", term, output);
        ocf::told(&self.agent.name, action, &ran.end, &reason(&ran.output))
    }

    /// By the standard an agent's start and stop end when it is so.
    fn may_change(&self, _: &State) -> bool {
        false
    }
}
