use std::path::Path;

use stead_api::Want;
use stead_model::GroupName;

use super::{DONE, Ended};
use crate::agree::agree;
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
        let lost = "where its source still serves both will, and what its replica lacks is lost";
        agree(yes, &format!("have the target of group {group} serve, whatever stands against it: {lost}"))?;
    }
    have_moved(state, &group, Want::Failover { force })?;
    say(format_args!("group {group} has failed over\n"));
    DONE
}
