use std::path::Path;
use std::thread;

use stead_api::{Answer, Failure, FailureKind, Request, Want};
use stead_model::status::MonitorStatus;
use stead_model::{GroupName, NodeName};

use super::{DONE, Ended, failback};
use crate::agree::agree;
use crate::args::{GroupArg, MoveArgs};
use crate::client::ask_quietly;
use crate::moving::have_moved;
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Have the node serve that stands by, nothing lost: away from the source, or back to it
    Move(MoveArgs),
    /// Have other nodes serve what this one serves, nothing lost: before the machine goes down
    Away {
        /// Do not ask whether it is meant; needed where there is no terminal to ask on
        #[arg(long)]
        yes: bool,
    },
    /// Take everything of the group down, until it is taken online again; nobody takes it over meanwhile
    Offline(MoveArgs),
    /// Bring up what was taken offline; where its node is gone, the other one takes over as soon as it may
    Online(GroupArg),
    /// Watch the group and do nothing about what is seen, or no longer: while a person works on it
    Maintenance {
        /// Name of the group
        #[arg(value_name = "GROUP")]
        group: GroupName,
        /// Begin or end it
        #[arg(value_enum)]
        turn: Turn,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Turn {
    On,
    Off,
}

pub fn run(state: &Path, args: Args) -> Ended {
    match args.what {
        What::Move(args) => move_it(state, args),
        What::Away { yes } => away(state, yes),
        What::Offline(MoveArgs { group, yes }) => {
            agree(yes, &format!("take group {group} offline: its services are stopped and its addresses removed"))?;
            have_moved(state, &group, Want::Offline)?;
            say(format_args!("group {group} is offline; bring it up with: stead group online {group}\n"));
            DONE
        }
        What::Online(GroupArg { group }) => {
            have_moved(state, &group, Want::Online)?;
            say(format_args!("group {group} is online\n"));
            DONE
        }
        What::Maintenance { group, turn: Turn::On } => {
            have_moved(state, &group, Want::Maintain { on: true })?;
            say(format_args!("group {group} is in maintenance: nothing is restarted or taken over by itself\n"));
            DONE
        }
        What::Maintenance { group, turn: Turn::Off } => {
            have_moved(state, &group, Want::Maintain { on: false })?;
            say(format_args!("group {group} is no longer in maintenance\n"));
            DONE
        }
    }
}

fn move_it(state: &Path, args: MoveArgs) -> Ended {
    let monitor = monitor(state, &args.group)?;
    if monitor.active.as_ref() != Some(&monitor.source) {
        return failback::run_usual(state, args);
    }
    let (MoveArgs { group, yes }, to) = (args, monitor.target);
    agree(yes, &format!("stop group {group} where it serves and start it on {to}"))?;
    have_moved(state, &group, Want::Switchover)?;
    say(format_args!("group {group} is served by {to}\n"));
    DONE
}

/// All of them at once: whoever waits for it has little time.
fn away(state: &Path, yes: bool) -> Ended {
    let served = served_here(state)?;
    if served.is_empty() {
        say(format_args!("no group is served here\n"));
        return DONE;
    }
    let names: Vec<_> = served.iter().map(|(group, ..)| group.as_str()).collect();
    agree(yes, &format!("stop here and start on the other node: {}", names.join(", ")))?;
    let moves = thread::scope(|scope| {
        let hand_over = |(group, to, want)| move || have_moved(state, group, want).map(|()| (group, to));
        let moves: Vec<_> = served.iter().map(|(group, to, want)| scope.spawn(hand_over((group, to, *want)))).collect();
        moves.into_iter().filter_map(|one| one.join().ok()).collect::<Vec<_>>()
    });
    let mut failures = Vec::new();
    for moved in moves {
        match moved {
            Ok((group, to)) => say(format_args!("group {group} is served by {to}\n")),
            Err(failure) => failures.push(failure),
        }
    }
    let last = failures.pop();
    failures.iter().for_each(|failure| eprintln!("stead: {failure}"));
    last.map_or(DONE, Err)
}

/// What this node serves, who else could, and what has to be asked for then.
fn served_here(state: &Path) -> Result<Vec<(GroupName, NodeName, Want)>, Failure> {
    let Answer::Status(status) = ask_quietly(state, &Request::Status { watch: false, local: true })? else {
        return Err(Failure::new("no group was moved", "the daemon gave another answer", ""));
    };
    let served =
        status.monitors.into_iter().filter(|monitor| monitor.doing == "active" && monitor.node == monitor.active);
    let other = |monitor: MonitorStatus| {
        let group = monitor.group.parse().ok()?;
        match monitor.active? == monitor.source {
            true => Some((group, monitor.target, Want::Switchover)),
            false => Some((group, monitor.source, Want::Failback)),
        }
    };
    Ok(served.filter_map(other).collect())
}

fn monitor(state: &Path, group: &GroupName) -> Result<MonitorStatus, Failure> {
    let Answer::Status(status) = ask_quietly(state, &Request::Status { watch: false, local: false })? else {
        return Err(Failure::new(format!("group {group} was not moved"), "the daemon gave another answer", ""));
    };
    let found = status.monitors.into_iter().find(|monitor| monitor.group == group.as_str());
    found.ok_or_else(|| {
        let what = format!("group {group} was not moved");
        Failure::new(what, "no such group is watched", "Look at: stead status").kind(FailureKind::No)
    })
}
