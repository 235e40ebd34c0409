use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use stead_api::{Answer, Failure, FailureKind, MapArg, Request};
use stead_model::plan::{CaptureChoice, Feature, Limit, Mode, Order, SettingsSpec};
use stead_model::{NodeName, RulesSpec, SetName};

use super::{DONE, Ended};
use crate::agree::is_yes;
use crate::args::{limit, map_arg};
use crate::client::{ask, misunderstood};
use crate::show::{Progress, behind, say};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directories and files to protect; with the --set of a protected set and no PATH, that set gets another target
    #[arg(required_unless_present = "set", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The node that is to keep the replica
    #[arg(long, value_name = "NODE")]
    on: NodeName,
    /// Name of the set [default: after the first path]
    #[arg(long, value_name = "NAME")]
    set: Option<SetName>,
    /// Take only files that match; may be repeated. Without / it matches names at any depth, with / paths beneath PATH
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out what matches, directories with all that is in them; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Leave subdirectories out
    #[arg(long)]
    flat: bool,
    /// Where a path goes on the target, if not to the same path; may be repeated
    #[arg(long, value_name = "SRC=DST", value_parser = map_arg)]
    map: Vec<MapArg>,
    /// When a write of the application returns: at once, or when the target has it
    #[arg(long, value_enum, default_value_t)]
    mode: ModeArg,
    /// How changes are captured
    #[arg(long, value_enum, default_value_t)]
    capture: CaptureArg,
    /// The order that the replica keeps: of every write, or what a power cut would leave
    #[arg(long, value_enum, default_value_t)]
    order: OrderArg,
    /// The address of the target to use [default: any that it listens on]
    #[arg(long, value_name = "IP:PORT")]
    route: Option<SocketAddr>,
    /// Go without these where the target's file system cannot hold them; may be repeated
    #[arg(long, value_enum, value_name = "WHAT")]
    without: Vec<FeatureArg>,
    /// Also into a directory that is not empty: it is made equal, what would be deleted is listed first
    #[arg(long)]
    into_non_empty: bool,
    /// Do not ask whether what is listed may be deleted (nobody is asked where there is no terminal)
    #[arg(long)]
    yes: bool,
    /// The directory on the target was filled from a carried copy: send only what differs
    #[arg(long)]
    seeded: bool,
    /// How fast it may be sent, as 10MiB/s or 8Mbit/s
    #[arg(long, value_name = "RATE", value_parser = limit)]
    limit: Option<Limit>,
    /// Return once it runs, not once the mirror is done
    #[arg(long)]
    no_wait: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ModeArg {
    #[default]
    Async,
    Sync,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum CaptureArg {
    #[default]
    Auto,
    Mount,
    Probe,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum OrderArg {
    #[default]
    Strict,
    Flush,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FeatureArg {
    Xattrs,
    Acls,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let no_wait = args.no_wait;
    let options = options(args)?;
    let answer = match begin(state, &options) {
        Err(failure) if failure.kind == FailureKind::No && is_yes(&format!("{}. Go on?", failure.why)) => {
            begin(state, &stead_api::Protect { yes: true, ..options })?
        }
        other => other?,
    };
    let Answer::Protected { set, status } = answer else { return Err(misunderstood(&answer)) };
    if no_wait {
        say(format_args!("set {set} is being mirrored; follow it with: stead status --watch\n"));
    } else {
        let behind: Vec<_> = status.connections.iter().map(behind).collect();
        say(format_args!("protected: {}\n", behind.join(", ")));
    }
    DONE
}

fn begin(state: &Path, options: &stead_api::Protect) -> Result<Answer, Failure> {
    let mut progress = Progress::new("mirroring");
    let answer = ask(state, &Request::Protect(Box::new(options.clone())), |status| progress.show(&status));
    progress.end();
    answer
}

fn options(args: Args) -> Result<stead_api::Protect, Failure> {
    let absolute = |path: PathBuf| {
        std::path::absolute(&path).map_err(|e| {
            Failure::new(format!("{} cannot be protected", path.display()), e.to_string(), "").kind(FailureKind::Usage)
        })
    };
    let map = |map: MapArg| {
        let to = map.to.components().collect();
        Ok(MapArg { from: absolute(map.from)?, to })
    };
    Ok(stead_api::Protect {
        paths: args.paths.into_iter().map(absolute).collect::<Result<_, _>>()?,
        on: args.on,
        set: args.set,
        rules: RulesSpec { include: args.include, exclude: args.exclude, flat: args.flat },
        map: args.map.into_iter().map(map).collect::<Result<_, _>>()?,
        mode: match args.mode {
            ModeArg::Async => Mode::Async,
            ModeArg::Sync => Mode::Sync,
        },
        capture: match args.capture {
            CaptureArg::Auto => CaptureChoice::Auto,
            CaptureArg::Mount => CaptureChoice::Mount,
            CaptureArg::Probe => CaptureChoice::Probe,
        },
        order: match args.order {
            OrderArg::Strict => Order::Strict,
            OrderArg::Flush => Order::Flush,
        },
        route: args.route,
        without: args.without.into_iter().map(feature).collect(),
        into_non_empty: args.into_non_empty,
        yes: args.yes || !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()),
        no_wait: args.no_wait,
        seeded: args.seeded,
        paused: false,
        settings: SettingsSpec { bandwidth: args.limit, ..SettingsSpec::default() },
    })
}

fn feature(feature: FeatureArg) -> Feature {
    match feature {
        FeatureArg::Xattrs => Feature::Xattrs,
        FeatureArg::Acls => Feature::Acls,
    }
}
