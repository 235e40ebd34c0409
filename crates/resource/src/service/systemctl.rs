//! systemd by its own command.

use std::path::PathBuf;

use super::unit::{Manager, Standing, UnitName};
use crate::command::{Command, End, Ran};
use crate::{Failure, Output, Term};

const PROPERTIES: &str = "--property=LoadState,ActiveState,UnitFileState";

/// Asks systemd by `systemctl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Systemctl {
    /// The program: its path, or a name that is found in `PATH`.
    pub program: PathBuf,
}

impl Default for Systemctl {
    fn default() -> Systemctl {
        Systemctl { program: "systemctl".into() }
    }
}

impl Manager for Systemctl {
    fn look(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<Standing, Failure> {
        let ran = self.run(&["show", PROPERTIES], unit, term);
        let text = ran.output.text();
        // Said each time, of interest only where it fails.
        if ran.end.is_success()
            && let Some(standing) = read(&text)
        {
            return Ok(standing);
        }
        output.append(ran.output);
        match ran.end {
            End::TimedOut { limit, .. } => Err(Failure::TimedOut(limit)),
            end => Err(Failure::Unknown(format!("systemctl show {unit} {end}"))),
        }
    }

    fn start(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        // Without it a unit that failed too often is not started again; one that did not fail does not mind.
        output.append(self.run(&["reset-failed"], unit, term).output);
        self.tell(&["start"], unit, term, output)
    }

    fn stop(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        self.tell(&["stop"], unit, term, output)
    }

    fn kill(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        self.tell(&["kill", "--signal=SIGKILL"], unit, term, output)
    }

    fn disable(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        self.tell(&["disable"], unit, term, output)
    }
}

impl Systemctl {
    fn tell(&self, words: &[&str], unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        let ran = self.run(words, unit, term);
        output.append(ran.output);
        match ran.end {
            End::Exited(0) => Ok(()),
            End::TimedOut { limit, .. } => Err(Failure::TimedOut(limit)),
            end => Err(Failure::Failed(format!("systemctl {} {unit} {end}", words.join(" ")))),
        }
    }

    fn run(&self, words: &[&str], unit: &UnitName, term: Term<'_>) -> Ran {
        let mut command = Command::new([&self.program]);
        command.argv.extend(["--no-ask-password", "--no-pager", "--system"].map(Into::into));
        command.argv.extend(words.iter().map(Into::into));
        command.argv.extend(["--", unit.as_str()].map(Into::into));
        command.run_until(term.left(), term.stop)
    }
}

/// `Name=value` on each line; others are warnings.
fn read(text: &str) -> Option<Standing> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Some(Standing::from_words(value("LoadState")?, value("ActiveState")?, value("UnitFileState")?))
}
