//! What `stead status` says: what is going on and since when, how much is left, what would be missing.

use stead_model::status::{BrakeStatus, ConnectionStatus, Gone, State, Status, SyncState, Timestamp};

use crate::monitors::{dropped_text, monitors_text};
use crate::show::{behind, columns, percent, portion, seconds, size};

/// How long nothing may move until that is said.
const STILL_SECONDS: f64 = 10.0;

/// All connections, then all monitors, each with what there is to say.
pub fn status_text(status: &Status, now: Timestamp, colours: bool) -> String {
    let mut out = String::new();
    if status.connections.is_empty() && status.monitors.is_empty() && status.remarks.is_empty() {
        out += &format!("{} takes part in no set; begin with: stead protect PATH… --on NODE\n", status.node);
    }
    let row = |c: &ConnectionStatus| {
        vec![c.set.to_string(), format!("{} → {}", c.source, c.target), c.state.to_string(), detail(c, now)]
    };
    let rows = columns(&status.connections.iter().map(row).collect::<Vec<_>>());
    for (row, connection) in rows.lines().zip(&status.connections) {
        out += &format!("{row}\n");
        more(connection, now).iter().for_each(|line| out += &format!("    {line}\n"));
    }
    out += &monitors_text(&status.monitors, colours);
    status.remarks.iter().for_each(|remark| out += &format!("{remark}\n"));
    out += &dropped_text(&status.dropped_heartbeats);
    for node in &status.unreachable {
        out += &format!("{node} does not answer: what only it knows is unknown\n");
    }
    out
}

/// How long before `now` that was, in seconds; a clock that was set back makes it no time.
pub fn ago(since: Timestamp, now: Timestamp) -> f64 {
    now.0.saturating_sub(since.0) as f64 / 1e9
}

fn detail(connection: &ConnectionStatus, now: Timestamp) -> String {
    let lasted = ago(connection.since, now);
    let mut parts = Vec::new();
    match connection.state {
        State::Mirroring => parts.push(progress(connection)),
        State::Replicating => parts.push(behind(connection)),
        _ => parts.extend(connection.reason.clone()),
    }
    if connection.queue.changes > 0 && connection.state != State::Mirroring {
        let changes = match connection.queue.changes {
            1 => "1 change".to_string(),
            n => format!("{n} changes"),
        };
        let on_disk = match connection.queue.disk_bytes {
            0 => String::new(),
            bytes => format!(", {} of it on disk", size(bytes)),
        };
        parts.push(format!("{changes} ({}{on_disk}) waiting", size(connection.queue.bytes)));
    }
    parts.extend(pace(connection, lasted));
    if connection.since.0 > 0 && connection.state != State::Replicating {
        parts.push(format!("for {}", seconds(lasted)));
    }
    match connection.consistent_at {
        Some(at) if connection.state != State::Replicating => parts.push(format!("replica is consistent as of {at}")),
        None if connection.state != State::Replicating => parts.push("replica is not consistent".into()),
        _ => {}
    }
    parts.join(", ")
}

fn progress(connection: &ConnectionStatus) -> String {
    format!("{} %  {}", percent(connection), portion(&connection.mirror))
}

/// How fast it goes and how long it takes; where something is left and nothing moves, that.
fn pace(connection: &ConnectionStatus, lasted: f64) -> Vec<String> {
    let details = &connection.details;
    let (Some(left), State::Mirroring | State::Replicating | State::Behind) = (details.left_bytes, connection.state)
    else {
        return Vec::new();
    };
    let mut parts = Vec::new();
    if connection.state == State::Behind {
        parts.push(format!("{} left", size(left)));
    }
    match details.rate {
        Some(rate) => parts.push(format!("{}/s", size(rate as u64))),
        None if lasted > STILL_SECONDS && connection.lag_seconds.is_none_or(|lag| lag > STILL_SECONDS) => {
            parts.push("nothing moves".into());
        }
        None => {}
    }
    let follows = connection.state != State::Mirroring;
    match (details.left_seconds, details.rate) {
        (Some(left), _) => parts.push(format!("{} left", seconds(left.round().max(1.0)))),
        (None, Some(_)) if follows && connection.lag_seconds.is_some_and(|lag| lag > STILL_SECONDS) => {
            parts.push("changes come as fast as they go".into());
        }
        _ => {}
    }
    parts
}

/// What else there is to say, a line each.
fn more(connection: &ConnectionStatus, now: Timestamp) -> Vec<String> {
    let (details, target) = (&connection.details, &connection.target);
    let mut lines = Vec::new();
    lines.extend(details.remedy.iter().filter(|remedy| !remedy.is_empty()).map(|remedy| format!("do: {remedy}")));
    lines.extend(details.brake.filter(|brake| brake.halted).map(|brake| braked(connection, brake)));
    if let Some(sync) = details.sync {
        let lasted = seconds(ago(sync.since, now));
        lines.push(match sync.state {
            SyncState::InSync => format!("synchronous for {lasted}: what an fsync confirmed is durable on {target}"),
            SyncState::FallenBack => format!("asynchronous for {lasted}, until {target} has caught up"),
            SyncState::Blocked => format!("the application waits for {target} since {lasted}"),
        });
    }
    if details.bypassing_writes > 0 {
        let file = details.bypassed.as_ref().map_or(String::new(), |file| format!(", last to {file}"));
        lines.push(format!("{} writes went past the capture{file}", details.bypassing_writes));
    }
    if let Some(verified) = details.verified {
        let open = verified.different.saturating_sub(verified.repaired);
        let found = if open == 0 { "equal".into() } else { format!("{open} differences: stead verify --last") };
        lines.push(format!("verified {} ago: {found}", seconds(ago(verified.at, now))));
    }
    if let Some(limit) = details.limit {
        lines.push(format!("limited to {}/s", size(limit)));
    }
    lines.extend(details.if_source_died.map(|gone| missing(connection, gone)));
    lines
}

fn braked(connection: &ConnectionStatus, brake: BrakeStatus) -> String {
    let what = format!("{} deletions and {} rewrites", brake.deletions, brake.rewrites);
    let set = &connection.set;
    format!(
        "do: the brake saw {what}: stead resume {set} --accept-deletions if they are meant, else stead resume {set} --undo"
    )
}

fn missing(connection: &ConnectionStatus, gone: Gone) -> String {
    let source = &connection.source;
    if connection.consistent_at.is_none() && connection.state != State::Replicating {
        return format!("if {source} died now: {} could not stand in, its replica is no image yet", connection.target);
    }
    match (gone.bytes, gone.seconds) {
        (Some(0) | None, Some(0.0)) => format!("if {source} died now: nothing would be missing"),
        (Some(bytes), Some(time)) => {
            format!("if {source} died now: {}, {} would be missing", size(bytes), seconds(time))
        }
        (None, Some(time)) => format!("if {source} died now: what was changed in {} would be missing", seconds(time)),
        (Some(bytes), None) => format!("if {source} died now: at least {} would be missing", size(bytes)),
        (None, None) => format!("if {source} died now: how much would be missing is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(state: &str, more: serde_json::Value) -> ConnectionStatus {
        let mut json = serde_json::json!({
            "set": "notes", "source": "paris", "target": "lyon", "state": state, "since": "2026-11-20T07:15:00.000Z",
            "mirror": {"files_done": 1, "files_total": 4, "bytes_done": 3_328_599_654u64, "bytes_total": 8_053_063_680u64},
            "queue": {"changes": 0, "bytes": 0}, "lag_seconds": null,
            "consistent_at": "2026-11-20T07:14:00.500Z", "capture": "mount", "epoch": 1
        });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json).unwrap()
    }

    fn said(state: &str, more: serde_json::Value) -> String {
        let status = Status {
            node: "paris".parse().unwrap(),
            connections: vec![connection(state, more)],
            monitors: vec![],
            unreachable: vec![],
            remarks: vec![],
            dropped_heartbeats: vec![],
        };
        status_text(&status, "2026-11-20T07:16:00.000Z".parse().unwrap(), false)
    }

    #[test]
    fn each_state_says_what_goes_on_and_what_would_be_missing() {
        use serde_json::json;
        let cases = [
            (
                said(
                    "replicating",
                    json!({"lag_seconds": 0.002, "if_source_died": {"bytes": 12_288, "seconds": 0.002}}),
                ),
                "notes  paris → lyon  replicating  lyon is 2 ms behind\n    if paris died now: 12.0 KiB, 2 ms would be missing\n",
            ),
            (
                said(
                    "mirroring",
                    json!({"rate": 222_298_112.0, "left_bytes": 4_724_464_026u64, "left_seconds": 21.3,
                    "consistent_at": null, "if_source_died": {"bytes": 1, "seconds": null}}),
                ),
                "notes  paris → lyon  mirroring  41 %  3.1 GiB of 7.5 GiB, 212.0 MiB/s, 21 s left, for 60 s, replica is not consistent\n    \
                 if paris died now: lyon could not stand in, its replica is no image yet\n",
            ),
            (
                said("mirroring", json!({"left_bytes": 4_724_464_026u64})),
                "notes  paris → lyon  mirroring  41 %  3.1 GiB of 7.5 GiB, nothing moves, for 60 s, replica is consistent as of 2026-11-20T07:14:00.500Z\n",
            ),
            (
                said(
                    "halted",
                    json!({"reason": "the brake", "brake": {"halted": true, "deletions": 20_001, "rewrites": 0},
                    "if_source_died": {"bytes": null, "seconds": 90.0}}),
                ),
                "notes  paris → lyon  halted  the brake, for 60 s, replica is consistent as of 2026-11-20T07:14:00.500Z\n    \
                 do: the brake saw 20001 deletions and 0 rewrites: stead resume notes --accept-deletions if they are meant, \
                 else stead resume notes --undo\n    if paris died now: what was changed in 90 s would be missing\n",
            ),
            (
                said(
                    "replicating",
                    json!({"lag_seconds": 0.0, "limit": 1_048_576, "if_source_died": {"bytes": 0, "seconds": 0.0},
                    "sync": {"state": "fallen-back", "since": "2026-11-20T07:15:48.000Z"},
                    "verified": {"at": "2026-11-20T05:16:00.000Z", "files": 9, "bytes": 9, "different": 2, "repaired": 0}}),
                ),
                "notes  paris → lyon  replicating  lyon is 0 ms behind\n    asynchronous for 12 s, until lyon has caught up\n    \
                 verified 2 h ago: 2 differences: stead verify --last\n    limited to 1.0 MiB/s\n    \
                 if paris died now: nothing would be missing\n",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_status_reads_like_this() {
        let since = serde_json::json!({"since": "2026-11-20T07:14:30.000Z", "lag_seconds": 0.002});
        let mut halted = connection("halted", serde_json::json!({"reason": "no room on lyon"}));
        (halted.queue.changes, halted.queue.bytes, halted.queue.disk_bytes) = (3, 12_500, 10_240);
        let status = |connections, silent: &[&str]| Status {
            node: "paris".parse().unwrap(),
            connections,
            monitors: vec![],
            unreachable: silent.iter().map(|name| name.parse().unwrap()).collect(),
            remarks: vec![],
            dropped_heartbeats: vec![],
        };
        let now = "2026-11-20T07:16:00.000Z".parse().unwrap();
        let text = status_text(&status(vec![connection("replicating", since), halted], &["rome"]), now, false);
        let expected = "\
notes  paris → lyon  replicating  lyon is 2 ms behind
notes  paris → lyon  halted       no room on lyon, 3 changes (12.2 KiB, 10.0 KiB of it on disk) waiting, for 60 s, replica is consistent as of 2026-11-20T07:14:00.500Z
rome does not answer: what only it knows is unknown
";
        assert_eq!(text, expected);
        let empty = status_text(&status(vec![], &[]), now, false);
        assert_eq!(empty, "paris takes part in no set; begin with: stead protect PATH… --on NODE\n");
        let told = status_text(&Status { remarks: vec!["so it is".into()], ..status(vec![], &[]) }, now, false);
        assert_eq!(told, "so it is\n");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_nonsense() {
        assert_eq!(ago(Timestamp(5_000_000_000), Timestamp(1)), 0.0);
    }
}
