use std::path::Path;
use std::time::Duration;

use stead_api::Request;
use stead_model::SetName;

use super::{DONE, Ended};
use crate::args::duration;
use crate::client::ask_quietly;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: SetName,
    /// How long at most, as 500ms, 3s, 2m; exit code 5 where that is not enough [default: without end]
    #[arg(long, value_name = "D", value_parser = duration)]
    timeout: Option<Duration>,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let timeout_ms = args.timeout.map(|timeout| timeout.as_millis().try_into().unwrap_or(u64::MAX));
    ask_quietly(state, &Request::Wait { set: args.set, timeout_ms })?;
    DONE
}
