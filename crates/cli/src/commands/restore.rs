use std::path::Path;

use stead_api::Request;
use stead_model::GroupName;

use super::{DONE, Ended};
use crate::agree::agree;
use crate::client::ask;
use crate::show::{Progress, say};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    group: GroupName,
    /// Do not ask whether it is meant; needed where there is no terminal to ask on
    #[arg(long)]
    yes: bool,
    /// Return once it runs, not once the source is restored
    #[arg(long)]
    no_wait: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let Args { group, yes, no_wait } = args;
    let gone = "what it alone has is kept aside there first, and is no longer in them";
    agree(
        yes,
        &format!("make the directories of group {group} on its source what they are where it serves now: {gone}"),
    )?;
    let mut progress = Progress::new("restoring");
    let answer = ask(state, &Request::Restore { group: group.clone(), no_wait }, |status| progress.show(&status));
    progress.end();
    answer?;
    match no_wait {
        true => say(format_args!("group {group} is being restored; follow it with: stead status --watch\n")),
        false => {
            say(format_args!("group {group} is restored; have its source serve again with: stead failback {group}\n"))
        }
    }
    DONE
}
