use std::net::SocketAddr;
use std::path::PathBuf;

use stead_daemon::Options;
use stead_model::NodeName;

use super::{DONE, Ended};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address and port for other nodes; may be repeated [default: 0.0.0.0:7130]
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Name of the node, unique among nodes that trust each other [default: the host's name]
    #[arg(long)]
    name: Option<NodeName>,
}

pub fn run(state: PathBuf, args: Args) -> Ended {
    stead_daemon::run(&Options { state, listen: args.listen, name: args.name })?;
    DONE
}
