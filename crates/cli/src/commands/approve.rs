use std::path::Path;

use stead_api::Want;

use super::{DONE, Ended};
use crate::args::GroupArg;
use crate::moving::have_moved;
use crate::show::say;

pub fn run(state: &Path, args: GroupArg) -> Ended {
    have_moved(state, &args.group, Want::Approve)?;
    say(format_args!("group {} has failed over\n", args.group));
    DONE
}
