use std::path::Path;

use stead_api::{Answer, Request};

use super::{DONE, Ended};
use crate::client::{ask_quietly, misunderstood};
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The line that stead invite printed on the other node
    #[arg(value_name = "LINE")]
    line: String,
}

pub fn run(state: &Path, args: Args) -> Ended {
    match ask_quietly(state, &Request::Join { line: args.line })? {
        Answer::Joined { node, again: false } => say(format_args!("joined {node}: the nodes trust each other now\n")),
        Answer::Joined { node, again: true } => {
            say(format_args!("joined {node} again: it was trusted before, its addresses are renewed\n"))
        }
        other => return Err(misunderstood(&other)),
    }
    DONE
}
