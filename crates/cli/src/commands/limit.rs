use std::path::Path;

use stead_api::Request;
use stead_model::plan::Limit;
use stead_model::{NodeName, SetName};

use super::{DONE, Ended};
use crate::args::limit;
use crate::client::ask_quietly;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: SetName,
    /// How fast, as 10MiB/s, 8Mbit/s or unlimited; limits of the plan's bandwidth-schedule hold at their times
    #[arg(long, value_name = "RATE", value_parser = limit)]
    to: Limit,
    /// Only the connection to that node
    #[arg(long, value_name = "NODE")]
    on: Option<NodeName>,
}

pub fn run(state: &Path, args: Args) -> Ended {
    ask_quietly(state, &Request::Limit { set: args.set, on: args.on, to: args.to.rate() })?;
    DONE
}
