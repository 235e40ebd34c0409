use std::path::Path;

use stead_api::Request;
use stead_model::{NodeName, SetName};

use super::{DONE, Ended};
use crate::client::ask_quietly;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: SetName,
    /// Only the connection to that node
    #[arg(long, value_name = "NODE")]
    on: Option<NodeName>,
}

#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: SetName,
    /// Only the connection to that node
    #[arg(long, value_name = "NODE")]
    on: Option<NodeName>,
    /// The deletions or rewrites that halted it are meant: go on with them
    #[arg(long)]
    accept_deletions: bool,
    /// They are not meant: take back on the replica what was applied of them
    #[arg(long, conflicts_with = "accept_deletions")]
    undo: bool,
}

pub fn pause(state: &Path, args: Args) -> Ended {
    ask_quietly(state, &Request::Pause { set: args.set, on: args.on })?;
    DONE
}

pub fn resume(state: &Path, args: ResumeArgs) -> Ended {
    let ResumeArgs { set, on, accept_deletions, undo } = args;
    let request = match accept_deletions || undo {
        true => Request::AnswerBrake { set, on, accept: accept_deletions },
        false => Request::Resume { set, on },
    };
    ask_quietly(state, &request)?;
    DONE
}
