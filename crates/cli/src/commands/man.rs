use std::path::PathBuf;

use clap::CommandFactory;
use stead_api::Failure;

use super::{DONE, Ended};
use crate::args::Cli;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory; it is made where it is missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run(args: &Args) -> Ended {
    let failed = |e: std::io::Error| {
        Failure::new(format!("no man pages were written into {}", args.dir.display()), e.to_string(), "")
    };
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(failed)?;
    DONE
}
