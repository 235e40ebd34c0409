use std::path::Path;
use std::time::Duration;

use stead_api::{Answer, Request, Timeline, TimelineEntry};
use stead_model::GroupName;

use super::{DONE, Ended, print_json};
use crate::args::duration;
use crate::client::{ask_quietly, misunderstood};
use crate::show::{say, seconds};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only that group
    #[arg(value_name = "GROUP")]
    group: Option<GroupName>,
    /// What this node would have concluded from the heartbeats that it heard, had the plan said that: timeout=5s, heartbeat=1s
    #[arg(long, value_name = "WHAT=D", value_parser = what_if, requires = "group")]
    what_if: Vec<(String, Duration)>,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let answer = ask_quietly(state, &request(&args))?;
    let Answer::Timelines(timelines) = answer else { return Err(misunderstood(&answer)) };
    if args.json {
        print_json(&serde_json::json!(timelines));
    } else {
        say(text(&timelines));
    }
    DONE
}

fn request(args: &Args) -> Request {
    let ms = |what: &str| {
        let found = args.what_if.iter().rfind(|(name, _)| name == what);
        found.map(|(_, value)| u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    };
    match &args.group {
        Some(group) if !args.what_if.is_empty() => {
            Request::WhatIf { group: group.clone(), heartbeat_ms: ms("heartbeat"), timeout_ms: ms("timeout") }
        }
        group => Request::Explain { group: group.clone() },
    }
}

fn what_if(text: &str) -> Result<(String, Duration), String> {
    let (what, value) = text.split_once('=').ok_or("write it as timeout=5s")?;
    if !matches!(what, "timeout" | "heartbeat") {
        return Err(format!("{what} is neither timeout nor heartbeat"));
    }
    Ok((what.into(), duration(value)?))
}

fn text(timelines: &[Timeline]) -> String {
    if timelines.iter().all(|timeline| timeline.entries.is_empty()) {
        return "nothing has happened to a group yet\n".into();
    }
    let told = timelines.iter().filter(|timeline| !timeline.entries.is_empty()).map(|timeline| {
        let entries: String = timeline.entries.iter().map(entry).collect();
        format!("group {}, as {} tells it\n{entries}", timeline.group, timeline.node)
    });
    told.collect::<Vec<_>>().join("\n")
}

fn entry(entry: &TimelineEntry) -> String {
    let took = entry.took_ms.map_or(String::new(), |ms| seconds(ms as f64 / 1000.0));
    let mut out = format!("{}  {took:>7}  {}\n", entry.at, entry.text);
    for line in entry.output.iter().flat_map(|output| output.lines()) {
        out += &format!("{:35}│ {}\n", "", plain(line));
    }
    out
}

/// What a program wrote moves no cursor.
fn plain(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_reads_like_this() {
        let json = serde_json::json!([
            {"group": "office", "node": "paris", "entries": []},
            {"group": "office", "node": "lyon", "entries": [
                {"at": "2026-11-20T07:15:00.250Z", "text": "the other node is silent on every path"},
                {"at": "2026-11-20T07:15:03.270Z", "text": "pre-failover: failed: it ended with 1", "step": "pre-failover",
                 "took_ms": 1540, "output": "no licence\u{1b}[2J\ngiving up\n"},
                {"at": "2026-11-20T07:15:03.283Z", "text": "address 1: done", "step": "address 1", "took_ms": 13}
            ]}
        ]);
        let timelines: Vec<Timeline> = serde_json::from_value(json).unwrap();
        let expected = "\
group office, as lyon tells it
2026-11-20T07:15:00.250Z           the other node is silent on every path
2026-11-20T07:15:03.270Z    1.5 s  pre-failover: failed: it ended with 1
                                   │ no licence\u{FFFD}[2J
                                   │ giving up
2026-11-20T07:15:03.283Z    13 ms  address 1: done
";
        assert_eq!(text(&timelines), expected);
        assert_eq!(text(&timelines[..1]), "nothing has happened to a group yet\n");
    }
}
