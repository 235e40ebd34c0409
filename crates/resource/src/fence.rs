//! Fencing by an agent: a program that can turn another node off, by its power or its hypervisor, and look whether it is.
//!
//! The convention is that of the fence agents that Linux distributions carry (`fence_ipmilan`, `fence_virt` …): parameters come
//! as `name=value` lines on standard input, `action=off` turns off, `action=status` ends with 0 for on, 2 for off and anything
//! else for "not known". An agent that says it has turned a node off is not believed; only a status of off is.

use std::time::{Duration, Instant};

use crate::command::{Command, End, Secret};
use crate::{Failure, Outcome, Output, Stop, Term};

/// Between two looks at a node that was told to be off.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// More than an agent can want, and less than would trouble it.
const INPUT_BYTES_MAX: usize = 16 << 10;

const BROKEN: &str = "it says that the node is off, but succeeds in nothing, as a broken program does";

/// A fence agent and what it needs to reach one node.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The program; its input is replaced.
    pub command: Command,
    /// Names and values, as `ip`, `username`, `password`, `plug`; values are never shown.
    pub parameters: Vec<(String, Secret)>,
}

/// What is known of a node's power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Power {
    /// The node may run.
    On,
    /// It does not, by the agent's evidence.
    Off,
    /// It was not told; why.
    Unknown(String),
}

impl Agent {
    /// Turns the node off and proves it. Success means: it is off.
    ///
    /// # Errors
    /// In the outcome: whatever else is the case. The node may be on, or off.
    pub fn off(&self, limit: Duration) -> Outcome<Result<(), Failure>> {
        self.off_until(limit, &Stop::never())
    }

    /// The same, unless it is called off: then the node may be off or not, if anything was begun.
    ///
    /// # Errors
    /// As [`Agent::off`].
    pub fn off_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<(), Failure>> {
        Outcome::with_output(|output| {
            stop.check()?;
            let term = Term::new(limit, stop);
            // The last quarter is for the status, which decides also where the agent fails: the node may have been off.
            let ended = self.act("off", term.begin(limit - limit / 4), output)?;
            self.prove(ended, term, output)
        })
    }

    /// Looks whether the node is off; changes nothing.
    pub fn status(&self, limit: Duration) -> Outcome<Power> {
        Outcome::with_output(|output| {
            let stop = Stop::never();
            let term = Term::new(limit, &stop);
            match self.look(term, output) {
                Power::Off if !self.succeeds_in_something(term, output) => Power::Unknown(BROKEN.into()),
                seen => seen,
            }
        })
    }

    /// Looks until the node is off: power goes when it goes.
    fn prove(&self, ended: End, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        loop {
            let seen = self.look(term, output);
            let is_off = seen == Power::Off;
            if is_off && (ended.is_success() || self.succeeds_in_something(term, output)) {
                return Ok(());
            }
            // An agent that failed has not begun anything to be waited for.
            let again = Instant::now() + LOOK_INTERVAL;
            if !ended.is_success() || again >= term.moment || term.stop.wait(again) {
                return Err(self.unproven(&ended, seen, term.limit));
            }
        }
    }

    fn succeeds_in_something(&self, term: Term<'_>, output: &mut Output) -> bool {
        self.act("monitor", term, output).is_ok_and(|ended| ended.is_success())
    }

    fn unproven(&self, ended: &End, seen: Power, limit: Duration) -> Failure {
        let name = self.name();
        match (ended, seen) {
            (ended, Power::Off) => Failure::Unknown(format!("{name} {ended}; {BROKEN}")),
            (End::TimedOut { .. }, _) => Failure::TimedOut(limit),
            (End::Cancelled { .. }, _) => Failure::Unknown(format!("{name} {ended}")),
            (ended, Power::On) if ended.is_success() => {
                Failure::Failed(format!("{name} said that the node is off, but its status says that it is on"))
            }
            (ended, Power::On) => Failure::Failed(format!("{name} {ended}, and the node is on")),
            (ended, Power::Unknown(why)) => Failure::Unknown(format!("{name} {ended}; its status: {why}")),
        }
    }

    fn look(&self, term: Term<'_>, output: &mut Output) -> Power {
        match self.act("status", term, output) {
            Ok(End::Exited(0)) => Power::On,
            Ok(End::Exited(2)) => Power::Off,
            Ok(end) => Power::Unknown(format!("{} {end}", self.name())),
            Err(why) => Power::Unknown(why.to_string()),
        }
    }

    fn act(&self, action: &str, term: Term<'_>, output: &mut Output) -> Result<End, Failure> {
        let input = self.input(action)?;
        let ran = Command { input, ..self.command.clone() }.run_until(term.left(), term.stop);
        output.append(ran.output);
        Ok(ran.end)
    }

    /// A value with an end of line in it would be a parameter of its own.
    fn input(&self, action: &str) -> Result<Secret, Failure> {
        let mut text = format!("action={action}\n").into_bytes();
        for (name, Secret(value)) in &self.parameters {
            if name.is_empty() || name == "action" || name.contains(['=', '\n']) || value.contains(&b'\n') {
                return Err(Failure::Unusable(format!("the fence parameter {name:?} cannot be told to an agent")));
            }
            text.extend([name.as_bytes(), b"=", value, b"\n"].concat());
        }
        if text.len() > INPUT_BYTES_MAX {
            return Err(Failure::Unusable("the fence parameters are too long".into()));
        }
        Ok(Secret(text))
    }

    fn name(&self) -> String {
        self.command.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}
