use std::path::Path;

use stead_api::Want;

use super::{DONE, Ended};
use crate::agree::agree;
use crate::args::MoveArgs;
use crate::moving::have_moved;
use crate::show::say;

pub fn run(state: &Path, args: MoveArgs) -> Ended {
    let MoveArgs { group, yes } = args;
    agree(yes, &format!("stop group {group} where it serves and start it on the node that stands by"))?;
    have_moved(state, &group, Want::Switchover)?;
    say(format_args!("group {group} has switched over\n"));
    DONE
}
