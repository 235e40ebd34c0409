use std::path::Path;

use stead_api::Request;

use super::{DONE, Ended};
use crate::args::SetArg;
use crate::client::ask;
use crate::show::{Progress, say};

pub fn run(state: &Path, args: SetArg) -> Ended {
    let mut progress = Progress::new("mirroring");
    ask(state, &Request::Mirror { set: args.set.clone() }, |status| progress.show(&status))?;
    progress.end();
    say(format_args!("set {} is mirrored\n", args.set));
    DONE
}
