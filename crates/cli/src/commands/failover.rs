use std::path::Path;

use stead_api::{FailureKind, Want};
use stead_model::GroupName;

use super::{DONE, Ended};
use crate::agree::agree;
use crate::losses::ask_losses;
use crate::moving::have_moved;
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    group: GroupName,
    /// Whatever stands against it: a source that may still serve, a replica that is not level, a witness that does not agree
    #[arg(long)]
    force: bool,
    /// Do not ask whether --force is meant; needed where there is no terminal to ask on
    #[arg(long)]
    yes: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let Args { group, force, yes } = args;
    if force {
        tell_losses(state, &group);
        let lost = "where its source still serves both will, and what its replica lacks is lost";
        agree(yes, &format!("have the target of group {group} serve, whatever stands against it: {lost}"))?;
    }
    let moved = have_moved(state, &group, Want::Failover { force });
    let is_refused = moved.as_ref().is_err_and(|failure| matches!(failure.kind, FailureKind::No | FailureKind::Failed));
    if is_refused && !force {
        tell_losses(state, &group);
    }
    moved?;
    say(format_args!("group {group} has failed over\n"));
    DONE
}

/// Says what --force would lose. That it cannot be known stands in nobody's way.
fn tell_losses(state: &Path, group: &GroupName) {
    match ask_losses(state, group) {
        Ok(lines) => lines.iter().for_each(|line| eprintln!("note: {line}")),
        Err(failure) => eprintln!("note: what would be lost is not known: {}", failure.what),
    }
}
