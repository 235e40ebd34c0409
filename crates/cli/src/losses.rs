//! What would be lost if the target of a group served now, whatever stands against it.

use std::path::Path;

use stead_api::{Answer, Failure, Request};
use stead_model::status::{ConnectionStatus, Gone, MonitorStatus, State, Status};
use stead_model::{GroupName, NodeName};

use crate::client::{ask_quietly, misunderstood};
use crate::show::{portion, seconds, size};

/// Asks how the group stands: the target itself where that is this node, which is quick, else everyone.
///
/// # Errors
/// Where there is no answer.
pub fn ask_losses(state: &Path, group: &GroupName) -> Result<Vec<String>, Failure> {
    let here = ask_status(state, true)?;
    match is_of_target(&here, group) {
        true => Ok(losses(&here, group)),
        false => Ok(losses(&ask_status(state, false)?, group)),
    }
}

fn ask_status(state: &Path, local: bool) -> Result<Status, Failure> {
    match ask_quietly(state, &Request::Status { watch: false, local })? {
        Answer::Status(status) => Ok(status),
        other => Err(misunderstood(&other)),
    }
}

fn is_of_target(status: &Status, group: &GroupName) -> bool {
    status.monitors.iter().any(|monitor| monitor.group == group.as_str() && monitor.target == status.node)
}

/// A line each.
fn losses(status: &Status, group: &GroupName) -> Vec<String> {
    let Some(monitor) = status.monitors.iter().find(|monitor| monitor.group == group.as_str()) else {
        return vec![format!("nothing is known of group {group}: its target does not answer")];
    };
    let node = monitor.told_by();
    let is_again = monitor.active.as_ref() == Some(node) && ["down", "offline"].contains(&monitor.doing.as_str());
    let connections = status.connections.iter().filter(|c| monitor.sets.contains(&c.set) && c.target == monitor.target);
    let mut lines: Vec<_> = match is_again {
        true => vec![format!("{node} would serve again, with all that it has")],
        false => connections.map(of_set).collect(),
    };
    lines.push(of_other(monitor, if node == &monitor.source { &monitor.target } else { &monitor.source }));
    lines
}

fn of_other(monitor: &MonitorStatus, other: &NodeName) -> String {
    match (monitor.state.as_str(), monitor.other.as_deref()) {
        ("online" | "late", Some("active" | "moving")) => format!("{other} serves: both would"),
        ("online" | "late", _) => format!("{other} is heard, and does not serve"),
        ("failed", _) => format!("{other} is not heard; whether it still serves nobody knows"),
        _ => format!("whether {other} serves is not known"),
    }
}

fn of_set(connection: &ConnectionStatus) -> String {
    let ConnectionStatus { set, target, mirror, .. } = connection;
    let head = format!("set {set} on {target}");
    if connection.state == State::Mirroring {
        let files = format!("{} of {} files", mirror.files_done, mirror.files_total);
        return format!(
            "{head}: the mirror is not complete, {files} ({}) are there{}",
            portion(mirror),
            image(connection)
        );
    }
    let halted = match (connection.state, &connection.reason) {
        (State::Halted, Some(reason)) => format!("halted ({reason}), "),
        _ => String::new(),
    };
    format!("{head}: {halted}{}{}", missing(connection), image(connection))
}

fn missing(connection: &ConnectionStatus) -> String {
    let gone = connection.details.if_source_died.unwrap_or(Gone { bytes: None, seconds: None });
    let lag = gone.seconds.or(connection.lag_seconds).filter(|lag| *lag > 0.0);
    match (gone.bytes, lag) {
        (Some(0), None) => "nothing is known to be missing".into(),
        (Some(bytes), None) => format!("{} are known to be missing", size(bytes)),
        (Some(bytes), Some(lag)) => format!("{} behind, {} are known to be missing", seconds(lag), size(bytes)),
        (None, Some(lag)) => format!("{} behind, how much is missing is not known", seconds(lag)),
        (None, None) => "how much is missing is not known".into(),
    }
}

fn image(connection: &ConnectionStatus) -> String {
    match connection.consistent_at {
        Some(at) => format!("; it would be what the source was at {at}"),
        None => "; there is no consistent point: it would be what no instant was".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(state: &str, monitor: &str, more: Value) -> Vec<String> {
        let mut connection = json!({
            "set": "notes", "source": "paris", "target": "lyon", "state": state, "since": "2026-11-20T07:15:00.000Z",
            "mirror": {"files_done": 12, "files_total": 400, "bytes_done": 1024, "bytes_total": 16_777_216},
            "queue": {"changes": 0, "bytes": 0}, "lag_seconds": null, "consistent_at": null, "capture": "none", "epoch": 1
        });
        connection.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let status = json!({
            "node": "lyon", "connections": [connection], "monitors": [{"group": "office", "source": "paris",
            "target": "lyon", "sets": ["notes"], "state": monitor, "time_to_fail_seconds": 0.0, "paths": [],
            "other": "active"}]
        });
        losses(&serde_json::from_value(status).unwrap(), &"office".parse().unwrap())
    }

    #[test]
    fn what_would_be_lost_is_said_set_by_set() {
        let at = "2026-11-20T07:14:00.500Z";
        assert_eq!(
            told("mirroring", "online", json!({})),
            [
                "set notes on lyon: the mirror is not complete, 12 of 400 files (1.0 KiB of 16.0 MiB) are there; \
                 there is no consistent point: it would be what no instant was",
                "paris serves: both would"
            ]
        );
        assert_eq!(
            told(
                "disconnected",
                "failed",
                json!({"consistent_at": at, "if_source_died": {"bytes": 2048, "seconds": 3.2}})
            ),
            [
                "set notes on lyon: 3.2 s behind, 2.0 KiB are known to be missing; it would be what the source was at \
                 2026-11-20T07:14:00.500Z",
                "paris is not heard; whether it still serves nobody knows"
            ]
        );
        let halted = told("halted", "failed", json!({"reason": "no room", "consistent_at": at}));
        assert!(
            halted[0].starts_with("set notes on lyon: halted (no room), how much is missing is not known"),
            "{halted:?}"
        );
    }

    #[test]
    fn a_server_that_is_down_would_serve_again() {
        let status = json!({
            "node": "paris", "connections": [], "monitors": [{"group": "office", "source": "paris", "target": "lyon",
            "state": "failed", "time_to_fail_seconds": 0.0, "paths": [], "active": "paris", "node": "paris",
            "doing": "down"}]
        });
        assert_eq!(
            losses(&serde_json::from_value(status).unwrap(), &"office".parse().unwrap()),
            [
                "paris would serve again, with all that it has",
                "lyon is not heard; whether it still serves nobody knows"
            ]
        );
    }
}
