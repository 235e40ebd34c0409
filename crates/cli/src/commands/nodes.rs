use std::path::Path;

use stead_api::{Answer, NodeInfo, Request};

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
    }
    DONE
}

fn row(node: &NodeInfo) -> Vec<String> {
    let standing = match node.reachable {
        None => "this node",
        Some(true) => "answers",
        Some(false) => "does not answer",
    };
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    vec![node.name.to_string(), standing.into(), node.fingerprint.chars().take(16).collect(), addresses.join(" ")]
}
