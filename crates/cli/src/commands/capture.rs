use std::ffi::OsString;

use stead_api::{Failure, FailureKind};
use stead_capture::MountSpec;

use super::{DONE, Ended};

/// Serve a set's capture mount (started by the daemon)
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(args: Args) -> Ended {
    let what = "capture was not started";
    let spec =
        MountSpec::from_args(args.args).map_err(|e| Failure::new(what, e.to_string(), "").kind(FailureKind::Usage))?;
    stead_capture::serve(spec).map_err(|e| Failure::new(what, e.to_string(), ""))?;
    DONE
}
