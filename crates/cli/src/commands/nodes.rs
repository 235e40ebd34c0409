use std::path::Path;

use stead_api::{Answer, NodeInfo, Request};
use stead_model::SetName;

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
    let nodes = match ask_quietly(state, &Request::Nodes)? {
        Answer::Nodes(nodes) => nodes,
        other => return Err(misunderstood(&other)),
    };
    if args.json {
        print_json(&serde_json::json!(nodes));
    } else {
        say(columns(&nodes.iter().map(row).collect::<Vec<_>>()));
        for node in &nodes {
            node.remarks.iter().for_each(|remark| say(format_args!("{}: {remark}\n", node.name)));
        }
    }
    DONE
}

fn row(node: &NodeInfo) -> Vec<String> {
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    vec![
        node.name.to_string(),
        standing(node),
        node.fingerprint.chars().take(16).collect(),
        addresses.join(" "),
        node.since.map_or("-".into(), |since| format!("since {since}")),
        node.protocol.map_or("-".into(), |version| format!("protocol {version}")),
        roles(node),
    ]
}

fn standing(node: &NodeInfo) -> String {
    let heard = node.last_heard.map_or("never since the daemon started".into(), |heard| heard.to_string());
    match (node.reachable, node.streams) {
        (None, _) => "this node".into(),
        (Some(true), 0) => "answers".into(),
        (Some(true), streams) => format!("answers, {streams} connected"),
        (Some(false), _) => format!("does not answer, last heard {heard}"),
    }
}

fn roles(node: &NodeInfo) -> String {
    let named = |role: &str, sets: &[SetName]| {
        let names: Vec<_> = sets.iter().map(|set| set.as_str()).collect();
        (!names.is_empty()).then(|| format!("{role} of {}", names.join(", ")))
    };
    let roles: Vec<_> =
        [named("source", &node.source_of), named("target", &node.target_of)].into_iter().flatten().collect();
    if roles.is_empty() { "no set".into() } else { roles.join("; ") }
}
