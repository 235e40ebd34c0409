//! What `stead status` says of groups: who serves, who watches, and when the watched node counts as failed.

use std::io::IsTerminal;

use stead_model::status::{DroppedHeartbeats, MonitorStatus};

use crate::show::columns;

/// Whether standard output is shown in colours: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub fn has_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted
}

/// What was dropped that came as heartbeats: a line for each way.
pub fn dropped_text(dropped: &[DroppedHeartbeats]) -> String {
    let way = |one: &DroppedHeartbeats| (one.node.clone(), one.at, one.from);
    let line = |some: &[DroppedHeartbeats]| {
        let counts: Vec<_> = some.iter().map(|one| format!("{} {}", one.count, one.reason)).collect();
        let from = some[0].from.map_or_else(|| "other addresses".into(), |from| from.to_string());
        format!("{} dropped heartbeats at {} from {from}: {}\n", some[0].node, some[0].at, counts.join(", "))
    };
    dropped.chunk_by(|one, next| way(one) == way(next)).map(line).collect()
}

/// All monitors, each with its paths and what there is to say.
pub fn monitors_text(monitors: &[MonitorStatus], colours: bool) -> String {
    let rows = columns(&monitors.iter().map(row).collect::<Vec<_>>());
    let told = rows.lines().zip(monitors).map(|(row, monitor)| {
        let more: String = more(monitor).iter().map(|line| format!("    {line}\n")).collect();
        format!("{} {row}\n{more}", bullet(&monitor.state, colours))
    });
    told.collect()
}

fn row(monitor: &MonitorStatus) -> Vec<String> {
    vec![
        monitor.group.clone(),
        format!("{} → {}", monitor.source, monitor.target),
        monitor.state.clone(),
        detail(monitor),
    ]
}

fn detail(monitor: &MonitorStatus) -> String {
    let mut parts = Vec::new();
    if matches!(monitor.state.as_str(), "online" | "late") {
        parts.push(format!("{:.1} s to fail", monitor.time_to_fail_seconds));
    }
    if !matches!(monitor.doing.as_str(), "" | "active") {
        parts.push(format!("{}: {}", monitor.told_by(), monitor.doing));
    }
    parts.push(match &monitor.active {
        Some(node) => format!("active: {node}, epoch {}", monitor.epoch),
        None => "active: not known".into(),
    });
    if *monitor.told_by() != monitor.target {
        parts.push(format!("as {} tells it", monitor.told_by()));
    }
    parts.join(", ")
}

fn more(monitor: &MonitorStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if !monitor.paths.is_empty() {
        lines.push(format!("paths: {}", monitor.paths.join(", ")));
    }
    lines.extend(monitor.remark.clone());
    lines
}

fn bullet(state: &str, colours: bool) -> String {
    let colour = match state {
        "online" => 32,
        "late" => 33,
        "failed" | "failed-over" => 31,
        _ => return "●".into(),
    };
    if colours { format!("\x1b[{colour}m●\x1b[0m") } else { "●".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitors() -> Vec<MonitorStatus> {
        let json = serde_json::json!([
            {"group": "office", "source": "paris", "target": "lyon", "state": "late", "time_to_fail_seconds": 2.41,
             "paths": ["10.0.0.2=10.0.0.3", "10.1.0.2=10.1.0.3 down"], "active": "paris", "doing": "standby", "epoch": 4},
            {"group": "web", "source": "rome", "target": "lyon", "state": "failed-over", "time_to_fail_seconds": 0.0,
             "paths": [], "active": "lyon", "doing": "active", "epoch": 7, "remark": "restore rome: stead restore web"},
            {"group": "x", "source": "rome", "target": "lyon", "state": "failed", "time_to_fail_seconds": 0.0, "paths": []},
            {"group": "y", "source": "rome", "target": "lyon", "state": "failed", "time_to_fail_seconds": 0.0, "paths": [],
             "active": "rome", "node": "rome", "doing": "down", "epoch": 1},
        ]);
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn monitors_read_like_this() {
        let expected = "\
● office  paris → lyon  late         2.4 s to fail, lyon: standby, active: paris, epoch 4
    paths: 10.0.0.2=10.0.0.3, 10.1.0.2=10.1.0.3 down
● web     rome → lyon   failed-over  active: lyon, epoch 7
    restore rome: stead restore web
● x       rome → lyon   failed       active: not known
● y       rome → lyon   failed       rome: down, active: rome, epoch 1, as rome tells it
";
        assert_eq!(monitors_text(&monitors(), false), expected);
    }

    #[test]
    fn what_was_dropped_reads_like_this() {
        let one = |from: Option<&str>, reason: &str, count| {
            serde_json::json!({"node": "lyon", "at": "10.0.0.3", "from": from, "reason": reason, "count": count,
                               "last": "2026-11-20T07:15:00.250Z"})
        };
        let all = serde_json::json!([
            one(None, "unknown", 9),
            one(Some("10.0.0.9"), "forged", 120),
            one(Some("10.0.0.9"), "replayed", 3)
        ]);
        let expected = "\
lyon dropped heartbeats at 10.0.0.3 from other addresses: 9 unknown
lyon dropped heartbeats at 10.0.0.3 from 10.0.0.9: 120 forged, 3 replayed
";
        assert_eq!(dropped_text(&serde_json::from_value::<Vec<_>>(all).unwrap()), expected);
    }

    #[test]
    fn a_bullet_has_the_colour_of_its_state() {
        let text = monitors_text(&monitors(), true);
        for start in ["\x1b[33m●\x1b[0m office", "\x1b[31m●\x1b[0m web", "\x1b[31m●\x1b[0m x"] {
            assert!(text.lines().any(|line| line.starts_with(start)), "{text}");
        }
        assert_eq!(bullet("online", true), "\x1b[32m●\x1b[0m");
    }
}
