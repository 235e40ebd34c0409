use std::path::Path;

use clap::ValueEnum;
use stead_api::{Answer, Failback, Level, Request, Then};
use stead_model::GroupName;

use super::{DONE, Ended};
use crate::agree::agree;
use crate::args::MoveArgs;
use crate::client::{ask, misunderstood};
use crate::moving::BEGUN_WITHIN;
use crate::show::{Progress, say, size};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    group: GroupName,
    /// What is compared while both sides are in use, before anything is stopped; exit code 3 where it differs
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    verify: VerifyArg,
    /// What becomes of the group afterwards
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    then: ThenArg,
    /// Do not ask whether it is meant; needed where there is no terminal to ask on
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum VerifyArg {
    /// Names, kinds, sizes, times, owners, permissions and extended attributes
    #[default]
    Names,
    /// Contents as well: everything is read on both sides
    Content,
    /// Nothing
    None,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ThenArg {
    /// It is watched on
    #[default]
    Monitor,
    /// It is watched no longer, as after stead unmonitor
    Stop,
}

/// With what is usual.
pub fn run_usual(state: &Path, MoveArgs { group, yes }: MoveArgs) -> Ended {
    run(state, Args { group, verify: VerifyArg::default(), then: ThenArg::default(), yes })
}

pub fn run(state: &Path, args: Args) -> Ended {
    let Args { group, verify, then, yes } = args;
    agree(yes, &format!("stop group {group} on the target, which stands in, and start it on its source again"))?;
    let options = Failback { group, verify: level(verify), then: afterwards(then), expires_ms: expires_ms() };
    let mut progress = Progress::new("comparing");
    let answer = ask(state, &Request::Failback(options.clone()), |status| progress.show(&status));
    progress.end();
    match answer? {
        Answer::FailedBack(compared) if !compared.is_empty() => {
            let sum = |of: fn(&stead_api::Compared) -> u64| compared.iter().map(of).sum::<u64>();
            let files = sum(|one| one.report.files);
            let how = match options.verify {
                Level::Content => format!(", {} of content", size(sum(|one| one.report.bytes))),
                _ => ", without their contents".into(),
            };
            say(format_args!("both sides were equal before: {files} files{how}\n"));
        }
        Answer::FailedBack(_) | Answer::Done => {}
        other => return Err(misunderstood(&other)),
    }
    let group = options.group;
    say(format_args!("group {group} serves from its source again\n"));
    if options.then == Then::Stop {
        say(format_args!("it is no longer watched; its sets stay protected\n"));
    }
    DONE
}

fn level(verify: VerifyArg) -> Level {
    match verify {
        VerifyArg::Names => Level::Names,
        VerifyArg::Content => Level::Content,
        VerifyArg::None => Level::None,
    }
}

fn afterwards(then: ThenArg) -> Then {
    match then {
        ThenArg::Monitor => Then::Monitor,
        ThenArg::Stop => Then::Stop,
    }
}

fn expires_ms() -> u64 {
    BEGUN_WITHIN.as_millis().try_into().unwrap_or(u64::MAX)
}
