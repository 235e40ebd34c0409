//! A service by three commands.

use crate::command::{Command, End};
use crate::procedure::{Switch, To};
use crate::{Failure, Output, State, Term};

/// A service that is started, stopped and looked at by commands. The code of the status command decides, as LSB's init
/// scripts have it: 0 running, 3 stopped; everything else, also 1 and 2 ("dead, but something is left"), is not known.
///
/// The start command ends when the service is on its way; what it leaves running goes on. Its output it has to turn
/// elsewhere (see [`Command`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// Starts it; started already, it does nothing.
    pub start: Command,
    /// Stops it; stopped already, it does nothing.
    pub stop: Command,
    /// Tells by its code what it is.
    pub status: Command,
}

impl Switch for Commands {
    fn look(&self, term: Term<'_>, output: &mut Output) -> State {
        let ran = self.status.run_until(term.left(), term.stop);
        output.append(ran.output);
        match ran.end {
            End::Exited(0) => State::Started,
            End::Exited(3) => State::Stopped,
            end => State::Unknown(format!("the status command {end}")),
        }
    }

    fn tell(&self, to: To, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        let (word, command) = if to == To::Start { ("start", &self.start) } else { ("stop", &self.stop) };
        let ran = command.run_until(term.left(), term.stop);
        output.append(ran.output);
        match ran.end {
            End::Exited(0) => Ok(()),
            End::TimedOut { limit, .. } => Err(Failure::TimedOut(limit)),
            end @ End::NotStarted(_) => Err(Failure::Unusable(format!("the {word} command {end}"))),
            end => Err(Failure::Failed(format!("the {word} command {end}"))),
        }
    }

    /// A start command may end before its service answers.
    fn may_change(&self, _: &State) -> bool {
        true
    }
}
