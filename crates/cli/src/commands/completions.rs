use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{DONE, Ended};
use crate::args::Cli;
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: Args) -> Ended {
    let mut text = Vec::new();
    generate(args.shell, &mut Cli::command(), "stead", &mut text);
    say(String::from_utf8_lossy(&text));
    DONE
}
