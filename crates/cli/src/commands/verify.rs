use std::path::Path;

use stead_api::{Answer, Failure, Request};
use stead_model::SetName;
use stead_model::status::VerifyReport;

use super::{DONE, Ended, no, print_json};
use crate::client::{ask, ask_quietly, misunderstood};
use crate::show::{Progress, say, size};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: SetName,
    /// Do not compare: show what the last verify found, by hand or by schedule
    #[arg(long, conflicts_with = "repair")]
    last: bool,
    /// Send what differs; exit code 0 once everything was repaired
    #[arg(long)]
    repair: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    if args.last {
        return last(state, &args);
    }
    let mut progress = Progress::new("verifying");
    let request = Request::Verify { set: args.set.clone(), repair: args.repair };
    let answer = ask(state, &request, |status| progress.show(&status))?;
    progress.end();
    let Answer::Verified(report) = answer else { return Err(misunderstood(&answer)) };
    if args.json {
        print_json(&serde_json::json!(report));
    } else {
        say(text(&args.set, &report));
    }
    if is_equal_now(&report) { DONE } else { no() }
}

fn last(state: &Path, args: &Args) -> Ended {
    let answer = ask_quietly(state, &Request::LastVerify { set: args.set.clone() })?;
    let Answer::LastVerify(last) = answer else { return Err(misunderstood(&answer)) };
    let Some((at, report)) = last else {
        let why = "it was not verified yet, or not since it was protected";
        let remedy = format!("Verify it with stead verify {0}, or by verify-schedule in the plan", args.set);
        return Err(Failure::new(format!("there is no report of set {}", args.set), why, remedy));
    };
    if args.json {
        print_json(&serde_json::json!({ "at": at, "report": report }));
    } else {
        say(format_args!("at {at}\n{}", text(&args.set, &report)));
    }
    if is_equal_now(&report) { DONE } else { no() }
}

fn is_equal_now(report: &VerifyReport) -> bool {
    report.different == 0 || !report.differences.is_empty() && report.differences.iter().all(|d| d.repaired)
}

fn text(set: &SetName, report: &VerifyReport) -> String {
    let mut out = String::new();
    for difference in &report.differences {
        let repaired = if difference.repaired { ", repaired" } else { "" };
        out += &format!("{}: {}{repaired}\n", difference.path, difference.what);
    }
    let compared = format!("{} files, {} compared", report.files, size(report.bytes));
    let more = report.different.saturating_sub(report.differences.len() as u64);
    if more > 0 {
        out += &format!("… and {more} more\n");
    }
    out + &match report.different {
        0 => format!("set {set}: equal ({compared})\n"),
        n => format!("set {set}: {n} differences ({compared})\n"),
    }
}

#[cfg(test)]
mod tests {
    use stead_model::status::Difference;

    use super::*;

    #[test]
    fn a_report_names_each_difference() {
        let difference = |path: &str, repaired| Difference { path: path.into(), what: "content".into(), repaired };
        let differences = vec![difference("/srv/a", true), difference("/srv/b", false)];
        let report = VerifyReport { files: 7, bytes: 3 << 20, different: 5, differences };
        let expected = "/srv/a: content, repaired\n/srv/b: content\n… and 3 more\n\
                        set notes: 5 differences (7 files, 3.0 MiB compared)\n";
        assert_eq!(text(&"notes".parse().unwrap(), &report), expected);
        assert!(!is_equal_now(&report));
        assert!(is_equal_now(&VerifyReport::default()));
    }
}
