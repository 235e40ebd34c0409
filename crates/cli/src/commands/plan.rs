use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stead_api::{Answer, Failure, FailureKind, Request};
use stead_model::NodeName;
use stead_model::plan::{Difference, Plan};

use super::{DONE, Ended, no};
use crate::agree::agree;
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
        /// Only check whether that file is a plan, of nodes that are trusted here (- for standard input)
        file: Option<PathBuf>,
    },
    /// Print the plan's JSON schema, for editors
    Schema,
    /// Make that file the plan: say what differs, then change that and nothing else
    Apply(Apply),
}

#[derive(Debug, clap::Args)]
struct Apply {
    /// The plan as TOML (- for standard input)
    file: PathBuf,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Do not ask where the protection of something ends
    #[arg(long)]
    yes: bool,
    /// Say what changes as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    match args.what {
        What::Show => show(state),
        What::Check { file: None } => check(state),
        What::Check { file: Some(file) } => check_file(state, &file),
        What::Schema => {
            say(stead_model::plan::schema());
            DONE
        }
        What::Apply(args) => apply(state, &args),
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

fn check_file(state: &Path, file: &Path) -> Ended {
    let text = read(file)?;
    let checked = Plan::parse(&text).and_then(|plan| {
        known_nodes(state, &plan).map_or(Ok(()), |known| plan.check_nodes(&known, &text))?;
        stead_daemon::receivers(&plan).map_err(|e| e.in_text(&text))?;
        Ok(plan)
    });
    match checked {
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

/// The nodes of the trust circle; none: there is no daemon that could tell.
fn known_nodes(state: &Path, plan: &Plan) -> Option<BTreeSet<NodeName>> {
    match ask_quietly(state, &Request::Nodes) {
        Ok(Answer::Nodes(nodes)) => Some(nodes.into_iter().map(|node| node.name).collect()),
        _ if plan.nodes().is_empty() => None,
        _ => {
            eprintln!("note: no daemon runs here, so nobody knows whether its nodes are trusted");
            None
        }
    }
}

fn apply(state: &Path, args: &Apply) -> Ended {
    let text = read(&args.file)?;
    let (differences, over, unknown) = match ask_about(state, &args.file, &Request::PlanCompare { text: text.clone() })?
    {
        Answer::Compared { differences, over, unknown } => (differences, over, unknown),
        other => return Err(misunderstood(&other)),
    };
    if !args.json {
        differences.iter().for_each(|difference| say(format_args!("{difference}\n")));
    }
    unknown.iter().for_each(|line| eprintln!("note: {line}"));
    let is_applied = !differences.is_empty() && !args.dry_run;
    if is_applied {
        agree(args.yes || !differences.iter().any(Difference::ends_protection), &ends(&differences))?;
        ask_about(state, &args.file, &Request::PlanApply { text, over: Some(over) })?;
    }
    match (args.json, is_applied) {
        (true, _) => say(format_args!("{}\n", as_json(&differences, is_applied))),
        (false, true) => say(format_args!("the plan is applied\n")),
        (false, false) if differences.is_empty() => say(format_args!("nothing to change\n")),
        (false, false) => {}
    }
    DONE
}

/// What is wrong in a line of the file is told with its name, too.
fn ask_about(state: &Path, file: &Path, request: &Request) -> Result<Answer, Failure> {
    ask_quietly(state, request).map_err(|failure| match failure.why.strip_prefix("line ") {
        Some(rest) => Failure { why: format!("{}: line {rest}", file.display()), ..failure },
        None => failure,
    })
}

/// What ends, to be asked.
fn ends(differences: &[Difference]) -> String {
    let ended = differences.iter().filter(|difference| difference.ends_protection());
    format!("end {}", ended.map(|difference| difference.of.as_str()).collect::<Vec<_>>().join(", "))
}

fn as_json(differences: &[Difference], is_applied: bool) -> Value {
    let one = |difference: &Difference| {
        let mut value = json!(difference);
        value["text"] = json!(difference.to_string());
        value
    };
    json!({ "applied": is_applied, "differences": differences.iter().map(one).collect::<Vec<_>>() })
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
