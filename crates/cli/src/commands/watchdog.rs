use std::path::Path;

use super::{DONE, Ended};

/// Take groups down whose lease ends while the daemon does not renew it (started by the daemon)
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(state: &Path, _args: &Args) -> Ended {
    stead_daemon::watchdog(state)?;
    DONE
}
