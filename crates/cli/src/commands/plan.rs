use std::io::Read;
use std::path::{Path, PathBuf};

use stead_api::{Answer, Failure, FailureKind, Request};

use super::{DONE, Ended, no};
use crate::client::{ask_quietly, misunderstood};
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the plan as TOML
    Show,
    /// Does the plan still fit the machines? Exit code 3 where it does not
    Check {
        /// Only check whether that file is a plan (- for standard input)
        file: Option<PathBuf>,
    },
    /// Make that file the plan: protect what it adds, end what it no longer names
    Apply {
        /// The plan as TOML (- for standard input)
        file: PathBuf,
    },
}

pub fn run(state: &Path, args: Args) -> Ended {
    match args.what {
        What::Show => show(state),
        What::Check { file: None } => check(state),
        What::Check { file: Some(file) } => check_file(&file),
        What::Apply { file } => apply(state, &file),
    }
}

fn show(state: &Path) -> Ended {
    match ask_quietly(state, &Request::PlanShow)? {
        Answer::Plan(text) => say(text),
        other => return Err(misunderstood(&other)),
    }
    DONE
}

fn check(state: &Path) -> Ended {
    let findings = match ask_quietly(state, &Request::PlanCheck)? {
        Answer::Checked(findings) => findings,
        other => return Err(misunderstood(&other)),
    };
    if findings.is_empty() {
        say(format_args!("the plan fits the machines\n"));
        return DONE;
    }
    findings.iter().for_each(|finding| say(format_args!("{}\n", finding.text)));
    no()
}

fn check_file(file: &Path) -> Ended {
    match stead_model::plan::Plan::parse(&read(file)?) {
        Ok(plan) => {
            let (sets, connections, groups) = (plan.sets.len(), plan.connections.len(), plan.groups.len());
            say(format_args!("a plan of {sets} sets, {connections} connections and {groups} groups\n"));
            DONE
        }
        Err(e) => {
            eprintln!("{}: {e}", file.display());
            no()
        }
    }
}

fn apply(state: &Path, file: &Path) -> Ended {
    let text = read(file)?;
    // Groups come after the sets that go with them.
    for _ in 0..2 {
        ask_quietly(state, &Request::PlanApply { text: text.clone() })?;
    }
    say(format_args!("the plan is applied\n"));
    DONE
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|e| {
        Failure::new(format!("{} cannot be read", file.display()), e.to_string(), "").kind(FailureKind::Usage)
    })
}
