use std::path::Path;

use stead_api::{Answer, Request};
use stead_model::alert::Alert;

use super::{DONE, Ended, print_json};
use crate::client::{ask_quietly, misunderstood};
use crate::show::{columns, say};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// For programs
    #[arg(long)]
    json: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let alerts = match ask_quietly(state, &Request::Alerts)? {
        Answer::Alerts(alerts) => alerts,
        other => return Err(misunderstood(&other)),
    };
    if args.json {
        print_json(&serde_json::json!({ "alerts": alerts }));
    } else if alerts.is_empty() {
        say("nothing is wrong\n");
    } else {
        say(columns(&alerts.iter().map(row).collect::<Vec<_>>()));
    }
    DONE
}

fn row(alert: &Alert) -> Vec<String> {
    let Alert { wrong, set, source, target, since, text } = alert;
    vec![wrong.to_string(), set.to_string(), format!("{source} → {target}"), since.to_string(), text.clone()]
}
