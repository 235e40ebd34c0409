//! What is measured. Labels hold names of the plan alone, and there are bounds to their number.

use std::collections::BTreeMap;
use std::time::Duration;

use stead_model::alert::Wrong;
use stead_model::status::{ConnectionStatus, MonitorStatus, State, SyncState};

use super::Snapshot;
use super::text::Family;

/// Connections, groups and receivers that are told of; what is beyond is counted.
const EACH_MAX: usize = 500;
const STATES: [State; 7] = [
    State::Mirroring,
    State::Replicating,
    State::Behind,
    State::Paused,
    State::Disconnected,
    State::Halted,
    State::RestoreRequired,
];
const MONITOR_STATES: [&str; 4] = ["online", "late", "failed", "failed-over"];

/// The page.
pub(super) fn all(snapshot: &Snapshot, up: Duration) -> String {
    let Snapshot { status, alerts, receivers } = snapshot;
    let mut families = of_the_node(snapshot, up);
    families.extend(of_connections(&status.connections[..status.connections.len().min(EACH_MAX)]));
    families.extend(of_monitors(&status.monitors[..status.monitors.len().min(EACH_MAX)]));
    families.push(of_alerts(alerts));
    families.extend(of_receivers(&receivers[..receivers.len().min(EACH_MAX)]));
    let mut text = String::new();
    families.iter().for_each(|family| family.write(&mut text));
    text
}

fn of_the_node(snapshot: &Snapshot, up: Duration) -> Vec<Family> {
    let Snapshot { status, receivers, .. } = snapshot;
    let mut info = Family::gauge("stead_node_info", "Which node answers, and its version; always 1.");
    info.add(&[("node", status.node.as_str()), ("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let mut uptime = Family::gauge("stead_uptime_seconds", "Since when the daemon runs.");
    uptime.add(&[], up.as_secs_f64());
    let beyond = |len: usize| len.saturating_sub(EACH_MAX) as f64;
    let mut left_out =
        Family::gauge("stead_metrics_left_out", "Connections, groups and receivers beyond those told of.");
    left_out.add(&[], beyond(status.connections.len()) + beyond(status.monitors.len()) + beyond(receivers.len()));
    let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
    for dropped in &status.dropped_heartbeats {
        *by_reason.entry(&dropped.reason).or_default() += dropped.count;
    }
    let mut dropped =
        Family::counter("stead_heartbeats_dropped_total", "Datagrams that came as heartbeats and were none.");
    by_reason.iter().for_each(|(reason, count)| dropped.add(&[("reason", reason)], *count as f64));
    vec![info, uptime, left_out, dropped]
}

fn of_connections(connections: &[ConnectionStatus]) -> Vec<Family> {
    let gauge = |name, help, value: fn(&ConnectionStatus) -> Option<f64>| {
        let mut family = Family::gauge(name, help);
        connections.iter().for_each(|connection| family.add_some(&labels(connection), value(connection)));
        family
    };
    vec![
        connection_states(connections),
        gauge("stead_connection_lag_seconds", "Age of the oldest change that is not applied.", |c| c.lag_seconds),
        gauge("stead_connection_queue_changes", "Changes that the target has not acknowledged.", |c| {
            Some(c.queue.changes as f64)
        }),
        gauge("stead_connection_queue_bytes", "Bytes of these.", |c| Some(c.queue.bytes as f64)),
        gauge("stead_connection_queue_disk_bytes", "How many of these bytes are on disk.", |c| {
            Some(c.queue.disk_bytes as f64)
        }),
        gauge("stead_connection_mirror_done_bytes", "Bytes that the mirror sent or found equal.", |c| {
            Some(c.mirror.bytes_done as f64)
        }),
        gauge("stead_connection_mirror_bytes", "Bytes that the mirror has to look at.", |c| {
            Some(c.mirror.bytes_total as f64)
        }),
        gauge("stead_connection_rate_bytes_per_second", "How fast it gets on.", |c| c.details.rate),
        gauge("stead_connection_limit_bytes_per_second", "How fast it may be sent.", |c| {
            c.details.limit.map(|limit| limit as f64)
        }),
        gauge("stead_connection_in_sync", "Whether a synchronous connection is synchronous.", |c| {
            c.details.sync.map(|sync| f64::from(u8::from(sync.state == SyncState::InSync)))
        }),
        gauge("stead_connection_different_entries", "Differences of the last verify that are not repaired.", |c| {
            c.details.verified.map(|verified| verified.different.saturating_sub(verified.repaired) as f64)
        }),
        bypassing(connections),
    ]
}

fn connection_states(connections: &[ConnectionStatus]) -> Family {
    let mut family = Family::gauge("stead_connection_state", "1 for the state that the connection is in.");
    for connection in connections {
        let [set, source, target] = labels(connection);
        for state in STATES {
            let is_so = u8::from(connection.state == state);
            family.add(&[set, source, target, ("state", state.as_str())], f64::from(is_so));
        }
    }
    family
}

fn bypassing(connections: &[ConnectionStatus]) -> Family {
    let mut family = Family::counter("stead_connection_bypassing_writes_total", "Writes that went past the capture.");
    for connection in connections {
        family.add(&labels(connection), connection.details.bypassing_writes as f64);
    }
    family
}

fn labels(connection: &ConnectionStatus) -> [(&'static str, &str); 3] {
    let ConnectionStatus { set, source, target, .. } = connection;
    [("set", set.as_str()), ("source", source.as_str()), ("target", target.as_str())]
}

fn of_monitors(monitors: &[MonitorStatus]) -> Vec<Family> {
    let mut states = Family::gauge("stead_monitor_state", "1 for the state that the watched node is in.");
    let mut left = Family::gauge("stead_monitor_time_to_fail_seconds", "Time until the watched node counts as failed.");
    let mut paths = Family::gauge("stead_monitor_paths_down", "Heartbeat paths that are silent.");
    let mut epochs = Family::gauge("stead_monitor_epoch", "Number of the newest epoch of the group.");
    for monitor in monitors {
        let group = ("group", monitor.group.as_str());
        for state in MONITOR_STATES {
            states.add(&[group, ("state", state)], f64::from(u8::from(monitor.state == state)));
        }
        left.add_some(&[group], Some(monitor.time_to_fail_seconds));
        paths.add(&[group], monitor.paths.iter().filter(|path| path.ends_with(" down")).count() as f64);
        epochs.add(&[group], monitor.epoch as f64);
    }
    vec![states, left, paths, epochs]
}

fn of_alerts(alerts: &[Wrong]) -> Family {
    let mut family = Family::gauge("stead_alerts", "What is wrong now, by kind.");
    for wrong in Wrong::ALL {
        let count = alerts.iter().filter(|other| **other == wrong).count();
        let labels = [("kind", wrong.as_str()), ("severity", wrong.severity().as_str())];
        family.add(&labels, count as f64);
    }
    family
}

fn of_receivers(receivers: &[(String, u64, u64)]) -> Vec<Family> {
    let mut waiting =
        Family::gauge("stead_alert_receiver_waiting_events", "Events that wait for a receiver of alerts.");
    let mut held_back = Family::gauge("stead_alert_receiver_held_back_events", "Events that it was not told.");
    for (name, waits, held) in receivers {
        waiting.add(&[("receiver", name)], *waits as f64);
        held_back.add(&[("receiver", name)], *held as f64);
    }
    vec![waiting, held_back]
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
