use std::path::Path;

use stead_api::Request;

use super::{DONE, Ended};
use crate::args::SetArg;
use crate::client::ask;
use crate::show::Progress;

pub fn run(state: &Path, args: SetArg) -> Ended {
    let mut progress = Progress::new("mirroring");
    ask(state, &Request::Mirror { set: args.set.clone() }, |status| progress.show(&status))?;
    progress.end();
    println!("set {} is mirrored", args.set);
    DONE
}
