use std::io::IsTerminal;
use std::path::Path;

use stead_api::{Answer, Request};
use stead_model::status::Status;

use super::{DONE, Ended, print_json};
use crate::client::{ask, misunderstood};
use crate::show::{say, status_text};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// For programs; with --watch one line each time
    #[arg(long)]
    json: bool,
    /// Go on showing it every second
    #[arg(long)]
    watch: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let answer = ask(state, &Request::Status { watch: args.watch }, |status| show_again(&status, args.json))?;
    match answer {
        Answer::Status(status) if args.json => print_json(&serde_json::json!(status)),
        Answer::Status(status) => say(status_text(&status)),
        other => return Err(misunderstood(&other)),
    }
    DONE
}

fn show_again(status: &Status, json: bool) {
    let clear = if !json && std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let text = if json { format!("{}\n", serde_json::json!(status)) } else { status_text(status) };
    say(format_args!("{clear}{text}"));
}
