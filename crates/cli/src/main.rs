//! The command line `stead`: one file for each subcommand; most talk to a running daemon.

mod agree;
mod args;
mod bundle;
mod check;
mod client;
mod commands;
mod losses;
mod monitors;
mod moving;
mod recovery;
mod show;
mod words;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use commands::*;

fn main() -> ExitCode {
    let Cli { state, command } = Cli::parse();
    let ended = match command {
        Command::Daemon(args) => daemon::run(state, args),
        Command::Invite => invite::run(&state),
        Command::Join(args) => join::run(&state, args),
        Command::Nodes(args) => nodes::run(&state, args),
        Command::Node(args) => node::run(&state, args),
        Command::Protect(args) => protect::run(&state, args),
        Command::Unprotect(args) => unprotect::run(&state, args),
        Command::Wait(args) => wait::run(&state, args),
        Command::Status(args) => status::run(&state, args),
        Command::Estimate(args) => estimate::run(args),
        Command::Mirror(args) => mirror::run(&state, args),
        Command::Verify(args) => verify::run(&state, args),
        Command::Pause(args) => pause::pause(&state, args),
        Command::Resume(args) => pause::resume(&state, args),
        Command::Limit(args) => limit::run(&state, args),
        Command::Monitor(args) => monitor::run(&state, *args),
        Command::Unmonitor(args) => unmonitor::run(&state, args),
        Command::Failover(args) => failover::run(&state, args),
        Command::Approve(args) => approve::run(&state, args),
        Command::Switchover(args) => switchover::run(&state, args),
        Command::Restore(args) => restore::run(&state, args),
        Command::Failback(args) => failback::run(&state, args),
        Command::Kit(args) => kit::run(args),
        Command::As(args) => named::run(args),
        Command::Group(args) => group::run(&state, args),
        Command::Takeover(args) => takeover::run(&state, args),
        Command::Explain(args) => explain::run(&state, args),
        Command::Fork(args) => fork::run(&state, args),
        Command::Alert(args) => alert::run(&state, args),
        Command::Alerts(args) => alerts::run(&state, args),
        Command::Plan(args) => plan::run(&state, args),
        Command::Checklist(args) => checklist::run(&state, args),
        Command::State(args) => commands::state::run(&state, args),
        Command::Support(args) => support::run(&state, args),
        Command::Shutdown => shutdown::run(&state),
        Command::Barrier => barrier::run(&state),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(&args),
        Command::Capture(args) => capture::run(args),
        Command::Watchdog(args) => watchdog::run(&state, &args),
    };
    ended.unwrap_or_else(|failure| {
        eprintln!("stead: {failure}");
        ExitCode::from(failure.exit_code())
    })
}
