use serde_json::json;
use stead_api::{Failure, FailureKind};

use super::{DONE, Ended};
use crate::recovery::{Kit, kit, kits};
use crate::show::{columns, say};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the kits
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a kit as part of a plan, to be added to its group and applied
    Show {
        /// Name of the kit
        #[arg(value_name = "KIT")]
        kit: String,
        /// Values that it has filled in; without any it also tells which there are
        #[arg(value_name = "NAME=VALUE")]
        values: Vec<String>,
    },
}

pub fn run(args: Args) -> Ended {
    match args.what {
        What::List { json: true } => say(format_args!("{}\n", listed())),
        What::List { json: false } => {
            let rows: Vec<_> = kits().map(|kit| vec![kit.name.to_owned(), kit.about().to_owned()]).collect();
            say(format_args!("{}", columns(&rows)));
        }
        What::Show { kit: name, values } => {
            let refused =
                |why: String| Failure::new("no kit is shown", why, "Look at: stead kit list").kind(FailureKind::No);
            let kit = kit(&name).map_err(refused)?;
            let filled = kit.filled(&values).map_err(refused)?;
            let head = if values.is_empty() { explained(&kit) } else { String::new() };
            say(format_args!("{head}{filled}"));
        }
    }
    DONE
}

fn listed() -> serde_json::Value {
    let value = |value: crate::recovery::Value| json!({"name": value.name, "usual": value.usual, "about": value.about});
    let one = |kit: Kit| {
        let values: Vec<_> = kit.values().map(value).collect();
        json!({"name": kit.name, "about": kit.about(), "needs": kit.needs(), "values": values})
    };
    kits().map(one).collect()
}

/// As comments, so that all of it can be put into a plan.
fn explained(kit: &Kit) -> String {
    let values: String =
        kit.values().map(|value| format!("#   {}={}  {}\n", value.name, value.usual, value.about)).collect();
    format!("# {}\n# It needs {}. Values:\n{values}\n", kit.about(), kit.needs())
}
