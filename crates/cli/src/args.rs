//! The command line as a whole; help, man pages and completions come from here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use stead_api::MapArg;
use stead_model::plan::{BadAmount, Limit};
use stead_model::{GroupName, SetName};

use crate::commands;

/// Keeps a live, write-ordered copy of a server's files on another machine.
///
/// A node is a machine that runs the daemon. Make two nodes trust each other (invite, join), then protect directories
/// of one on the other. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the answer is "no", 4 no daemon, 5 timed out.
#[derive(Debug, Parser)]
#[command(name = "stead", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// State directory; says which daemon is meant
    #[arg(long, global = true, env = "STEAD_STATE", default_value = "/var/lib/stead", value_name = "DIR")]
    pub state: PathBuf,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run this node's daemon in the foreground
    Daemon(commands::daemon::Args),
    /// Print the line that lets another node join; it works once, for ten minutes
    Invite,
    /// Trust the node that printed that line, and be trusted by it
    Join(commands::join::Args),
    /// List this node and those that it trusts
    #[command(hide = true)]
    Nodes(commands::nodes::Args),
    /// List, remove, replace and move nodes; change this node's key
    Node(commands::node::Args),
    /// Keep a live replica of directories on another node
    Protect(commands::protect::Args),
    /// End the protection of a set; its replica stays as it is
    Unprotect(commands::unprotect::Args),
    /// Wait until everything written to the set so far is applied on every target
    Wait(commands::wait::Args),
    /// Show every connection and every watched group: what it does, how far behind its replica is, who serves
    Status(commands::status::Args),
    /// Measure how much changes in directories and files, and which line would carry it; needs no other node
    Estimate(commands::estimate::Args),
    /// Compare everything and send what differs
    Mirror(SetArg),
    /// Compare replicas with their source while both are in use; exit code 3 where they differ
    Verify(commands::verify::Args),
    /// Stop sending a set; what changes is remembered
    Pause(commands::pause::Args),
    /// Go on sending a set; or answer the mass-change brake that halted it
    Resume(commands::pause::ResumeArgs),
    /// Limit how fast a set is sent
    Limit(commands::limit::Args),
    /// Watch the source of sets from this node, which keeps their replicas, and stand in for it when it fails
    Monitor(Box<commands::monitor::Args>),
    /// Watch a group no longer; its sets stay protected
    Unmonitor(GroupArg),
    /// Have the target of a group serve in place of its source, which is dead
    Failover(commands::failover::Args),
    /// Say yes to the takeover that a group waits to be approved
    Approve(GroupArg),
    /// Have the node that stands by serve, nothing lost
    Switchover(MoveArgs),
    /// Bring the data of a group back to its source, while the target goes on serving
    Restore(commands::restore::Args),
    /// Have the restored source of a group serve again, nothing lost
    Failback(commands::failback::Args),
    /// Have nothing taken over by itself for a while, as during maintenance
    Takeover(commands::takeover::Args),
    /// Start a program under another host name than this node's, which keeps its own
    ///
    /// It sees that name in the kernel and in /etc/hostname, and so does whatever it starts; other programs do not. Resources
    /// of a plan that have an identity are started by it. Where the program cannot be started the exit code is 125, else it
    /// is the program's.
    As(commands::named::Args),
    /// Move a group, take it offline and online, hold it in maintenance
    Group(commands::group::Args),
    /// Tell what happened to groups: what was seen, concluded and done, and how long each step took
    Explain(commands::explain::Args),
    /// List, copy out or give up what this node alone had when another one stood in for it
    Fork(commands::fork::Args),
    /// Try whether alerts arrive
    Alert(commands::alert::Args),
    /// List what is wrong at this node now
    Alerts(commands::alerts::Args),
    /// List the recovery kits for well-known services, or print one for a plan
    Kit(commands::kit::Args),
    /// Show, check or replace the plan
    Plan(commands::plan::Args),
    /// List what is not kept alike by itself on the two nodes of a group: role files, units, programs, packages, owners and
    /// files of the machine. Exit code 3 where something differs
    Checklist(commands::checklist::Args),
    /// Save what this node is and knows, or bring it back
    State(commands::state::Args),
    /// Write what a person who helps needs to know into a tar file, without secrets
    Support(commands::support::Args),
    /// End the daemon; captures go on and remember what changes
    Shutdown,
    /// Make everything protected inaccessible until the daemon is up: for the boot, before any other service
    Barrier,
    /// Print the completions for a shell
    Completions(commands::completions::Args),
    /// Write the man pages into a directory
    Man(commands::man::Args),
    #[command(hide = true)]
    Capture(commands::capture::Args),
    #[command(hide = true)]
    Watchdog(commands::watchdog::Args),
}

#[derive(Debug, clap::Args)]
pub struct SetArg {
    /// Name of the set
    #[arg(value_name = "SET")]
    pub set: SetName,
}

#[derive(Debug, clap::Args)]
pub struct GroupArg {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    pub group: GroupName,
}

#[derive(Debug, clap::Args)]
pub struct MoveArgs {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    pub group: GroupName,
    /// Do not ask whether it is meant; needed where there is no terminal to ask on
    #[arg(long)]
    pub yes: bool,
}

/// Reads `SRC=DST`, the second being an absolute path.
pub fn map_arg(text: &str) -> Result<MapArg, String> {
    let (from, to) = text.split_once('=').ok_or("use SRC=DST")?;
    if from.is_empty() || !to.starts_with('/') {
        return Err("use SRC=DST with an absolute path on the target".into());
    }
    Ok(MapArg { from: from.into(), to: to.into() })
}

/// Reads a duration: a number and `ms`, `s`, `m` or `h`; seconds without a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds_each = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("use a number with ms, s, m or h, as 500ms, 3s, 2m".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "use a number with ms, s, m or h, as 500ms, 3s, 2m".to_string())?;
    number.checked_mul(milliseconds_each).map(Duration::from_millis).ok_or_else(|| "that is too long".into())
}

/// Reads `10MiB/s`, `8Mbit/s` or `unlimited`.
pub fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "unlimited" => Ok(Limit::of(None)),
        rate => rate.parse().map(|rate| Limit::of(Some(rate))).map_err(|e: BadAmount| e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_fit_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        for (text, milliseconds) in [("500ms", 500), ("3s", 3_000), ("2m", 120_000), ("1h", 3_600_000), ("7", 7_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for bad in ["", "s", "3d", "-1s", "1.5s", "99999999999999999999s", "9999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
