use std::ffi::OsString;
use std::path::Path;

use super::{DONE, Ended};

/// Take groups down whose lease ends while the daemon does not renew it (started by the daemon)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's program and arguments: it is started again when it dies
    #[arg(long, num_args = 1.., value_name = "ARGV", allow_hyphen_values = true, last = false)]
    restart: Vec<OsString>,
}

pub fn run(state: &Path, args: &Args) -> Ended {
    let restart = Some(&args.restart[..]).filter(|argv| !argv.is_empty());
    stead_daemon::watchdog(state, restart)?;
    DONE
}
