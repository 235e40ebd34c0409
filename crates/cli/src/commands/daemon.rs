use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use stead_daemon::Options;
use stead_model::NodeName;

use super::{DONE, Ended};
use crate::args::duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address and port for other nodes; may be repeated [default: 0.0.0.0:7130]
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Name of the node, unique among nodes that trust each other [default: the host's name]
    #[arg(long)]
    name: Option<NodeName>,
    /// Where systemd does not run it: start it again, by its watchdog, when it dies or hangs
    #[arg(long)]
    restart: bool,
    /// With --restart: it hangs when it gives no sign of life for so long
    #[arg(long, value_name = "D", value_parser = duration, requires = "restart", default_value = "60s")]
    hung_after: Duration,
}

pub fn run(state: PathBuf, args: Args) -> Ended {
    let restart = args.restart.then_some(args.hung_after);
    stead_daemon::run(&Options { state, listen: args.listen, name: args.name, restart })?;
    DONE
}
