use std::path::Path;

use stead_api::Request;
use stead_model::SetName;

use super::{DONE, Ended};
use crate::client::ask_quietly;
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: SetName,
    /// On a target: give the replica up although its source was not asked
    #[arg(long)]
    force: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    ask_quietly(state, &Request::Unprotect { set: args.set.clone(), force: args.force })?;
    say(format_args!("set {} is no longer protected; what its replicas hold stays there\n", args.set));
    DONE
}
