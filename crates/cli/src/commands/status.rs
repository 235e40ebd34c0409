use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use stead_api::{Answer, Request};
use stead_model::SetName;
use stead_model::status::Status;

use super::{DONE, Ended, print_json};
use crate::args::duration;
use crate::check::{self, Thresholds};
use crate::client::{ask, ask_quietly, misunderstood};
use crate::monitors::has_colours;
use crate::show::{now, say, status_text};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// With --check: only that set
    #[arg(value_name = "SET", requires = "check")]
    set: Option<SetName>,
    /// For programs; with --watch one line each time
    #[arg(long)]
    json: bool,
    /// Go on showing it every second
    #[arg(long)]
    watch: bool,
    /// Only what this node knows: no other one is asked
    #[arg(long)]
    local: bool,
    /// For monitoring systems: one line, and exit code 0 good, 1 warning, 2 critical, 3 unknown, as Nagios plug-ins do
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    check: bool,
    /// Lag from which on it is a warning
    #[arg(long, value_name = "D", value_parser = duration, requires = "check", default_value = "1m")]
    warning: Duration,
    /// Lag, or time without a session, from which on it is critical
    #[arg(long, value_name = "D", value_parser = duration, requires = "check", default_value = "5m")]
    critical: Duration,
}

pub fn run(state: &Path, args: Args) -> Ended {
    if args.check {
        return run_check(state, &args);
    }
    let asked = Request::Status { watch: args.watch, local: args.local };
    let answer = ask(state, &asked, |status| show_again(&status, args.json))?;
    match answer {
        Answer::Status(status) if args.json => print_json(&serde_json::json!(status)),
        Answer::Status(status) => say(status_text(&status, has_colours())),
        other => return Err(misunderstood(&other)),
    }
    DONE
}

fn run_check(state: &Path, args: &Args) -> Ended {
    let limits = Thresholds { warning: args.warning, critical: args.critical };
    let (verdict, line) = match ask_quietly(state, &Request::Status { watch: false, local: args.local }) {
        Ok(Answer::Status(status)) => check::check(&status, args.set.as_ref(), limits, now()),
        Ok(other) => check::unknown(&misunderstood(&other).what),
        Err(failure) => check::unknown(&format!("{}: {}", failure.what, failure.why)),
    };
    say(format_args!("{line}\n"));
    Ok(ExitCode::from(verdict as u8))
}

fn show_again(status: &Status, json: bool) {
    let clear = if !json && std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let text = if json { format!("{}\n", serde_json::json!(status)) } else { status_text(status, has_colours()) };
    say(format_args!("{clear}{text}"));
}
