use std::path::Path;
use std::process::ExitCode;

use stead_api::{Answer, Request, TestedReceiver};

use super::{DONE, Ended, print_json};
use crate::client::{ask_quietly, misunderstood};
use crate::show::{columns, say};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Tell receivers of the plan that something is wrong and that it is over, and say what became of it
    ///
    /// The kind of that alert is `test`. Exit code 1 where a receiver was not told. Nobody confirms a trap: that it was
    /// told means that it was sent.
    Test(Test),
}

#[derive(Debug, clap::Args)]
struct Test {
    /// Name of one receiver of the plan, or `command`; without it, all are told
    receiver: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let What::Test(Test { receiver, json }) = args.what;
    let tested = match ask_quietly(state, &Request::AlertTest { receiver })? {
        Answer::AlertTested(tested) => tested,
        other => return Err(misunderstood(&other)),
    };
    if json {
        print_json(&serde_json::json!({ "receivers": tested }));
    } else {
        say(columns(&tested.iter().map(row).collect::<Vec<_>>()));
    }
    if tested.iter().all(|one| one.failed.is_none()) { DONE } else { Ok(ExitCode::FAILURE) }
}

fn row(tested: &TestedReceiver) -> Vec<String> {
    let TestedReceiver { name, kind, failed, took_ms } = tested;
    let what = failed.as_ref().map_or_else(|| "told".to_owned(), |why| format!("not told: {why}"));
    vec![name.clone(), kind.clone(), format!("{took_ms} ms"), what]
}
