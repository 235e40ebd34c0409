use std::path::Path;

use stead_api::Request;

use super::{DONE, Ended};
use crate::args::GroupArg;
use crate::client::ask_quietly;
use crate::show::say;

pub fn run(state: &Path, args: GroupArg) -> Ended {
    ask_quietly(state, &Request::Unmonitor { group: args.group.clone() })?;
    say(format_args!("group {} is no longer watched; its sets stay protected\n", args.group));
    DONE
}
