use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{DONE, Ended};
use crate::args::Cli;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: Args) -> Ended {
    generate(args.shell, &mut Cli::command(), "stead", &mut std::io::stdout());
    DONE
}
