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
    if let Some(parent) = spec.parent {
        end_with(parent).map_err(|e| Failure::new(what, e.to_string(), ""))?;
    }
    stead_capture::serve(spec).map_err(|e| Failure::new(what, e.to_string(), ""))?;
    DONE
}

/// Ends this process, its mounts taken away, when its parent dies.
fn end_with(parent: u32) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get() as u32);
    if now == parent { Ok(()) } else { Err(std::io::Error::other("who started it has ended already")) }
}
