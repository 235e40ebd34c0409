use std::net::SocketAddr;
use std::path::Path;

use stead_api::{Answer, Request};
use stead_model::NodeName;

use super::{DONE, Ended, nodes};
use crate::client::{ask_quietly, misunderstood};
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List this node and those that it trusts
    List(nodes::Args),
    /// End the trust between this node and another one; refused while a set uses it
    Remove {
        /// The node
        #[arg(value_name = "NODE")]
        node: NodeName,
        /// Also where the other node refuses, because it still knows a set with this one
        #[arg(long)]
        force: bool,
    },
    /// Put a rebuilt machine, or another node, in the place of a dead node: it keeps the dead one's replicas from now on
    Replace {
        /// The dead node
        #[arg(value_name = "OLD")]
        old: NodeName,
        /// The line that stead invite printed on the new machine, or the name of a node that is trusted already
        #[arg(value_name = "LINE|NODE")]
        new: String,
        /// The replicas' directories hold a carried copy, or what the old disks held: only differences are sent
        #[arg(long)]
        seeded: bool,
    },
    /// Give this node a new key and certificate; its peers are told, nothing is interrupted
    RotateKey,
    /// Say where another node is reached from now on
    Address {
        /// The node
        #[arg(value_name = "NODE")]
        node: NodeName,
        /// Address and port, first the one to be tried first
        #[arg(value_name = "IP:PORT", required = true)]
        addresses: Vec<SocketAddr>,
    },
}

pub fn run(state: &Path, args: Args) -> Ended {
    match args.what {
        What::List(args) => nodes::run(state, args),
        What::Remove { node, force } => remove(state, node, force),
        What::Replace { old, new, seeded } => replace(state, old, new, seeded),
        What::RotateKey => rotate_key(state),
        What::Address { node, addresses } => {
            ask_quietly(state, &Request::NodeAddress { node: node.clone(), addresses })?;
            say(format_args!("{node} is looked for there from now on\n"));
            DONE
        }
    }
}

fn remove(state: &Path, node: NodeName, force: bool) -> Ended {
    ask_quietly(state, &Request::NodeRemove { node: node.clone(), force })?;
    say(format_args!("{node} is no longer trusted; it comes back only by a new invitation\n"));
    DONE
}

fn replace(state: &Path, old: NodeName, new: String, seeded: bool) -> Ended {
    match ask_quietly(state, &Request::NodeReplace { old: old.clone(), new, seeded })? {
        Answer::Replaced { node, sets } => {
            let names: Vec<_> = sets.iter().map(|set| set.as_str()).collect();
            let sets =
                if names.is_empty() { "it keeps no set yet".into() } else { format!("mirroring {}", names.join(", ")) };
            say(format_args!(
                "{node} is in the place of {old}, whose old certificate is refused from now on; {sets}\n"
            ));
        }
        other => return Err(misunderstood(&other)),
    }
    DONE
}

fn rotate_key(state: &Path) -> Ended {
    match ask_quietly(state, &Request::RotateKey)? {
        Answer::Rotated { fingerprint, told, untold } => {
            say(format_args!("this node's certificate is {fingerprint} from now on\n"));
            told.iter().for_each(|node| say(format_args!("{node} knows it\n")));
            for (node, why) in untold {
                say(format_args!(
                    "{node} does not know it yet ({why}); it is told when it is met again, within 30 days\n"
                ));
            }
        }
        other => return Err(misunderstood(&other)),
    }
    DONE
}
