//! The programs that come with a server.

use crate::command::{Command, End};
use crate::{Failure, Output, Term};

/// How it ended by itself, and what it wrote. `remedy`: where it is not installed.
pub(super) fn run(
    mut command: Command,
    name: &str,
    remedy: &str,
    term: Term<'_>,
    output: &mut Output,
) -> Result<(End, String), Failure> {
    (command.use_cgroup, command.ends_rest) = (false, true);
    let ran = command.run_until(term.left(), term.stop);
    let text = ran.output.text();
    // Said each time, of interest only where it fails.
    if !ran.end.is_success() {
        output.append(ran.output);
    }
    match ran.end {
        End::NotStarted(_) if term.stop.is_called() => Err(Failure::Cancelled),
        End::NotStarted(why) => Err(Failure::Unusable(format!("{name} cannot be run: {why}; {remedy}"))),
        End::TimedOut { limit, .. } => Err(Failure::TimedOut(limit)),
        End::Cancelled { .. } => Err(Failure::Cancelled),
        end => Ok((end, text)),
    }
}

pub(super) fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing").trim()
}
