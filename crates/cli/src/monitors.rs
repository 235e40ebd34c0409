//! What `stead status` says of groups: who serves, who watches, and when the watched node counts as failed.

use std::io::IsTerminal;

use stead_model::status::MonitorStatus;

use crate::show::columns;

/// Whether standard output is shown in colours: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub fn has_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted
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
        parts.push(format!("{}: {}", monitor.target, monitor.doing));
    }
    parts.push(match &monitor.active {
        Some(node) => format!("active: {node}, epoch {}", monitor.epoch),
        None => "active: not known".into(),
    });
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
";
        assert_eq!(monitors_text(&monitors(), false), expected);
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
