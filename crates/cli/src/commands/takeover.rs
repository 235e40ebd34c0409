use std::path::Path;
use std::time::Duration;

use stead_api::Want;
use stead_model::GroupName;
use stead_model::plan::Span;

use super::{DONE, Ended};
use crate::args::{GroupArg, duration};
use crate::moving::{have_moved, want_for};
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Have nothing taken over by itself; what a person asks for is done
    Suspend {
        /// Name of the group
        #[arg(value_name = "GROUP")]
        group: GroupName,
        /// How long, as 30m, 2h; then takeovers resume by themselves
        #[arg(long = "for", value_name = "D", value_parser = duration)]
        lasts: Duration,
    },
    /// Take over by itself again, before that time is over
    Resume(GroupArg),
}

pub fn run(state: &Path, args: Args) -> Ended {
    match args.what {
        What::Suspend { group, lasts } => {
            want_for(state, &group, Want::Suspend, lasts)?;
            say(format_args!("group {group} is not taken over by itself for {}\n", Span(lasts)));
        }
        What::Resume(GroupArg { group }) => {
            have_moved(state, &group, Want::Resume)?;
            say(format_args!("group {group} is taken over by itself again, as its plan says\n"));
        }
    }
    DONE
}
