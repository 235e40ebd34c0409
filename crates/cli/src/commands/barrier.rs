use std::path::Path;

use super::{DONE, Ended};
use crate::show::say;

pub fn run(state: &Path) -> Ended {
    for path in stead_daemon::barrier::raise(state)? {
        say(format_args!("{} is inaccessible until the daemon is up\n", path.display()));
    }
    DONE
}
