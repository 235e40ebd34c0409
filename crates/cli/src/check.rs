//! `stead status --check`: one line and an exit code, as the plug-ins of Nagios and its kin do.

use std::time::Duration;

use stead_model::SetName;
use stead_model::status::{ConnectionStatus, MonitorStatus, State, Status, SyncState, Timestamp};

use crate::show::seconds;
use crate::words::ago;

/// How bad it is; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

/// From which lag on it is bad.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    pub warning: Duration,
    pub critical: Duration,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "OK",
            Verdict::Warning => "WARNING",
            Verdict::Critical => "CRITICAL",
            Verdict::Unknown => "UNKNOWN",
        }
    }

    /// The worse of two; not to know is worse than a warning.
    fn and(self, other: Verdict) -> Verdict {
        let badness = |verdict| match verdict {
            Verdict::Ok => 0,
            Verdict::Warning => 1,
            Verdict::Unknown => 2,
            Verdict::Critical => 3,
        };
        if badness(other) > badness(self) { other } else { self }
    }
}

/// The line and the verdict for all connections and monitors, or for the connections of one set.
pub fn check(status: &Status, set: Option<&SetName>, limits: Thresholds, now: Timestamp) -> (Verdict, String) {
    let meant: Vec<_> = status.connections.iter().filter(|c| set.is_none_or(|set| c.set == *set)).collect();
    let monitors = if set.is_none() { status.monitors.as_slice() } else { &[] };
    if meant.is_empty() && monitors.is_empty() {
        let what = set.map_or_else(|| "no set is protected".into(), |set| format!("there is no set {set}"));
        return (Verdict::Unknown, line(Verdict::Unknown, &what, ""));
    }
    let judged: Vec<_> =
        meant.iter().map(|c| judge(c, limits, now)).chain(monitors.iter().map(judge_monitor)).collect();
    let worst = judged.iter().fold(Verdict::Ok, |worst, (verdict, _)| worst.and(*verdict));
    let told: Vec<_> = judged.into_iter().filter(|(verdict, _)| *verdict == worst).map(|(_, text)| text).collect();
    let perfdata: Vec<_> = meant.iter().flat_map(|c| perfdata(c, limits)).collect();
    (worst, line(worst, &told.join("; "), &perfdata.join(" ")))
}

/// The line where the daemon did not answer.
pub fn unknown(why: &str) -> (Verdict, String) {
    (Verdict::Unknown, line(Verdict::Unknown, why, ""))
}

fn judge(connection: &ConnectionStatus, limits: Thresholds, now: Timestamp) -> (Verdict, String) {
    let lasted = ago(connection.since, now);
    let long = |verdict_short| if lasted >= limits.critical.as_secs_f64() { Verdict::Critical } else { verdict_short };
    let by_lag = match connection.lag_seconds {
        Some(lag) if lag >= limits.critical.as_secs_f64() => Verdict::Critical,
        Some(lag) if lag >= limits.warning.as_secs_f64() => Verdict::Warning,
        _ => Verdict::Ok,
    };
    let by_state = match connection.state {
        State::Replicating if connection.lag_seconds.is_none() && connection.capture != "none" => Verdict::Unknown,
        State::Replicating => Verdict::Ok,
        State::Paused if connection.details.paused_until.is_some() => Verdict::Ok,
        State::Paused | State::Mirroring | State::Behind => Verdict::Warning,
        State::Disconnected => long(Verdict::Warning),
        State::Halted | State::RestoreRequired => Verdict::Critical,
    };
    let by_sync = match connection.details.sync.map(|sync| sync.state) {
        Some(SyncState::Blocked) => Verdict::Critical,
        Some(SyncState::FallenBack) => Verdict::Warning,
        _ => Verdict::Ok,
    };
    let differs = connection.details.verified.is_some_and(|verified| verified.different > verified.repaired);
    let spoiled = differs || connection.details.bypassing_writes > 0;
    let by_care = if spoiled { Verdict::Warning } else { Verdict::Ok };
    // A pause by schedule makes lag, and that is meant.
    let by_lag = if connection.details.paused_until.is_some() { Verdict::Ok } else { by_lag };
    (by_state.and(by_lag).and(by_sync).and(by_care), text(connection, differs))
}

/// What serves from its target serves, and has no other node to fail over to.
fn judge_monitor(monitor: &MonitorStatus) -> (Verdict, String) {
    let verdict = match monitor.state.as_str() {
        "online" => Verdict::Ok,
        "late" | "failed-over" => Verdict::Warning,
        "failed" => Verdict::Critical,
        _ => Verdict::Unknown,
    };
    let remark = monitor.remark.as_ref().map_or(String::new(), |remark| format!(", {remark}"));
    let MonitorStatus { group, source, target, state, .. } = monitor;
    (verdict, format!("group {group} {source} → {target} {state}{remark}"))
}

fn text(connection: &ConnectionStatus, differs: bool) -> String {
    let mut text = format!("{} → {} {}", connection.set, connection.target, connection.state);
    text += &connection.lag_seconds.map_or(String::new(), |lag| format!(", {} behind", seconds(lag)));
    text += &connection.reason.as_ref().map_or(String::new(), |reason| format!(", {reason}"));
    text += &connection.details.sync.map_or(String::new(), |sync| format!(", {}", sync.state.as_str()));
    if differs {
        text += ", replica differs";
    }
    if connection.details.bypassing_writes > 0 {
        text += ", written past the capture";
    }
    text
}

fn perfdata(connection: &ConnectionStatus, limits: Thresholds) -> Vec<String> {
    let name = format!("{}/{}", connection.set, connection.target);
    let (warning, critical) = (limits.warning.as_secs_f64(), limits.critical.as_secs_f64());
    let lag = connection.lag_seconds.map_or("U".into(), |lag| format!("{lag:.3}s"));
    vec![
        format!("'{name} lag'={lag};{warning};{critical};0"),
        format!("'{name} queue'={}B;;;0", connection.queue.bytes),
    ]
}

/// One line, whatever the reasons hold: `|` would begin the perfdata.
fn line(verdict: Verdict, text: &str, perfdata: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() || c == '|' { ' ' } else { c }).collect();
    let perfdata = if perfdata.is_empty() { String::new() } else { format!(" | {perfdata}") };
    format!("STEAD {} - {plain}{perfdata}", verdict.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Thresholds = Thresholds { warning: Duration::from_secs(60), critical: Duration::from_secs(300) };

    fn judged(state: &str, more: serde_json::Value, set: &str) -> (Verdict, String) {
        let mut json = serde_json::json!({
            "set": "notes", "source": "paris", "target": "lyon", "state": state, "since": "2026-11-20T07:15:00.000Z",
            "mirror": {"files_done": 0, "files_total": 0, "bytes_done": 0, "bytes_total": 0},
            "queue": {"changes": 0, "bytes": 0}, "lag_seconds": 0.0,
            "consistent_at": null, "capture": "mount", "epoch": 1
        });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let connections = vec![serde_json::from_value(json).unwrap()];
        let status = Status {
            node: "paris".parse().unwrap(),
            connections,
            monitors: vec![],
            unreachable: vec![],
            remarks: vec![],
            dropped_heartbeats: vec![],
        };
        check(&status, Some(&set.parse().unwrap()), LIMITS, "2026-11-20T07:16:00.000Z".parse().unwrap())
    }

    #[test]
    fn the_exit_code_says_how_bad_it_is() {
        use Verdict::*;
        use serde_json::json;
        let lag = |seconds: f64| json!({ "lag_seconds": seconds });
        let cases = [
            ("replicating", json!({}), Ok),
            ("replicating", lag(60.0), Warning),
            ("replicating", lag(300.0), Critical),
            ("replicating", json!({"lag_seconds": null}), Unknown),
            ("replicating", json!({"sync": {"state": "fallen-back", "since": "2026-11-20T07:15:00.000Z"}}), Warning),
            ("replicating", json!({"sync": {"state": "blocked", "since": "2026-11-20T07:15:00.000Z"}}), Critical),
            ("replicating", json!({"bypassing_writes": 1}), Warning),
            ("mirroring", json!({}), Warning),
            ("behind", lag(400.0), Critical),
            ("paused", lag(9_000.0), Critical),
            ("paused", json!({"lag_seconds": 9_000.0, "paused_until": "2026-11-20T18:00:00.000Z"}), Ok),
            ("disconnected", json!({}), Warning),
            ("disconnected", json!({"since": "2026-11-20T07:10:00.000Z"}), Critical),
            ("halted", json!({}), Critical),
            ("restore-required", json!({}), Critical),
        ];
        for (state, more, expected) in cases {
            assert_eq!(judged(state, more.clone(), "notes").0, expected, "{state} {more}");
        }
        assert_eq!(judged("replicating", json!({}), "mail"), (Unknown, "STEAD UNKNOWN - there is no set mail".into()));
        assert_eq!((Critical as u8, Unknown as u8), (2, 3));
    }

    #[test]
    fn monitors_count_where_no_set_is_named() {
        use Verdict::*;
        for (state, expected) in
            [("online", Ok), ("late", Warning), ("failed", Critical), ("failed-over", Warning), ("asleep", Unknown)]
        {
            let json = serde_json::json!({
                "node": "rome", "connections": [], "monitors": [{"group": "office", "source": "paris", "target": "lyon",
                "state": state, "time_to_fail_seconds": 0.0, "paths": [], "remark": "see it"}]
            });
            let status: Status = serde_json::from_value(json).unwrap();
            let (verdict, line) = check(&status, None, LIMITS, Timestamp(0));
            assert_eq!(verdict, expected, "{line}");
            assert!(line.ends_with(&format!("group office paris → lyon {state}, see it")), "{line}");
            let named = check(&status, Some(&"notes".parse().unwrap()), LIMITS, Timestamp(0));
            assert_eq!(named.1, "STEAD UNKNOWN - there is no set notes");
        }
    }

    #[test]
    fn the_line_is_one_line_with_perfdata() {
        let (_, line) = judged("halted", serde_json::json!({"reason": "no room|on\nlyon"}), "notes");
        assert_eq!(
            line,
            "STEAD CRITICAL - notes → lyon halted, 0 ms behind, no room on lyon | \
             'notes/lyon lag'=0.000s;60;300;0 'notes/lyon queue'=0B;;;0"
        );
    }
}
