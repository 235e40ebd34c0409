//! One module for each subcommand: its arguments, and what it does.

pub mod alert;
pub mod alerts;
pub mod approve;
pub mod barrier;
pub mod capture;
pub mod checklist;
pub mod completions;
pub mod daemon;
pub mod estimate;
pub mod explain;
pub mod failback;
pub mod failover;
pub mod fork;
pub mod group;
pub mod invite;
pub mod join;
pub mod kit;
pub mod limit;
pub mod man;
pub mod mirror;
pub mod monitor;
pub mod named;
pub mod node;
pub mod nodes;
pub mod pause;
pub mod plan;
pub mod protect;
pub mod restore;
pub mod shutdown;
pub mod state;
pub mod status;
pub mod support;
pub mod switchover;
pub mod takeover;
pub mod unmonitor;
pub mod unprotect;
pub mod verify;
pub mod wait;
pub mod watchdog;

use std::process::ExitCode;

use crate::show::say;
use stead_api::Failure;

/// How a subcommand ends.
pub type Ended = Result<ExitCode, Failure>;

const DONE: Ended = Ok(ExitCode::SUCCESS);

/// Exit code of an answer that is "no".
fn no() -> Ended {
    Ok(ExitCode::from(3))
}

/// Prints a value as JSON, over several lines.
fn print_json(value: &serde_json::Value) {
    say(format_args!("{value:#}\n"));
}
