//! This node's name, kept from its first start on.

use serde::{Deserialize, Serialize};
use stead_api::{Failure, FailureKind};
use stead_model::NodeName;

use super::{StateDir, files};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    name: NodeName,
}

/// The name in the state directory; at the first start `wanted`, else the host's.
pub(crate) fn name(state: &StateDir, wanted: Option<NodeName>) -> Result<NodeName, Failure> {
    let file = state.file("node.toml");
    match (files::read_toml::<Node>(&file)?, wanted) {
        (Some(node), Some(wanted)) if node.name != wanted => {
            let why =
                format!("this state directory belongs to node {}, and other nodes know it by that name", node.name);
            let remedy = format!("Start without --name or with --name {}, or with a new state directory", node.name);
            Err(Failure::new(format!("the node cannot be called {wanted}"), why, remedy).kind(FailureKind::Usage))
        }
        (Some(node), _) => Ok(node.name),
        (None, wanted) => {
            let name = wanted.map_or_else(host_name, Ok)?;
            files::write_toml(&file, &Node { name: name.clone() })?;
            Ok(name)
        }
    }
}

/// The name in the state directory.
pub(crate) fn load(state: &StateDir) -> Result<NodeName, Failure> {
    let file = state.file("node.toml");
    files::read_toml::<Node>(&file)?.map(|node| node.name).ok_or_else(|| {
        Failure::new(format!("{} is missing", file.display()), "no daemon ever ran on that state directory", "")
    })
}

fn host_name() -> Result<NodeName, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let first = host.split('.').next().unwrap_or_default();
    first.parse().map_err(|e: stead_model::BadName| {
        Failure::new("the host's name cannot name the node", e.to_string(), "Give a name with --name")
            .kind(FailureKind::Usage)
    })
}
