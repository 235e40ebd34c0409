use std::path::Path;

use stead_api::Want;

use super::{DONE, Ended};
use crate::agree::agree;
use crate::args::MoveArgs;
use crate::moving::have_moved;
use crate::show::say;

pub fn run(state: &Path, args: MoveArgs) -> Ended {
    let MoveArgs { group, yes } = args;
    agree(yes, &format!("stop group {group} on the target, which stands in, and start it on its source again"))?;
    have_moved(state, &group, Want::Failback)?;
    say(format_args!("group {group} serves from its source again\n"));
    DONE
}
