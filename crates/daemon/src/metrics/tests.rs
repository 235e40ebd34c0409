use std::io::Write;
use std::process::{Command, Stdio};

use stead_model::status::{DroppedHeartbeats, MonitorStatus, Status, SyncStatus, Timestamp};

use super::*;

fn monitor() -> MonitorStatus {
    MonitorStatus {
        group: "office".into(),
        source: "paris".parse().unwrap(),
        target: "lyon".parse().unwrap(),
        sets: vec![],
        state: "late".into(),
        time_to_fail_seconds: 1.5,
        paths: vec!["10.0.0.1=10.0.0.2".into(), "10.1.0.1=10.1.0.2 down".into()],
        active: None,
        node: None,
        doing: "standby".into(),
        other: None,
        failing: false,
        hold: None,
        epoch: 3,
        remark: None,
    }
}

fn snapshot(connections: usize) -> Snapshot {
    let connection = |n: usize| {
        let mut connection = crate::test_values::connection(&format!("set{n}"), "paris", "lyon");
        connection.lag_seconds = (n == 0).then_some(2.5);
        connection.details.sync = Some(SyncStatus { state: SyncState::InSync, since: Timestamp(0) });
        connection
    };
    let dropped = DroppedHeartbeats {
        node: "lyon".parse().unwrap(),
        at: "10.0.0.2".parse().unwrap(),
        from: None,
        reason: "forged".into(),
        count: 7,
        last: Timestamp(0),
    };
    let status = Status {
        node: "lyon".parse().unwrap(),
        connections: (0..connections).map(connection).collect(),
        monitors: vec![monitor()],
        unreachable: vec![],
        remarks: vec![],
        dropped_heartbeats: vec![dropped],
    };
    Snapshot { status, alerts: vec![Wrong::Behind, Wrong::Behind], receivers: vec![("noc".into(), 2, 5)] }
}

#[test]
fn prometheus_finds_nothing_to_object() {
    let text = all(&snapshot(2), Duration::from_secs(9));
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tool.spawn().expect("promtool, of Debian's package prometheus");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn values_are_those_of_the_status() {
    let text = all(&snapshot(2), Duration::from_secs(9));
    let lines = [
        "stead_uptime_seconds 9",
        "stead_connection_state{set=\"set0\",source=\"paris\",target=\"lyon\",state=\"replicating\"} 1",
        "stead_connection_state{set=\"set0\",source=\"paris\",target=\"lyon\",state=\"halted\"} 0",
        "stead_connection_lag_seconds{set=\"set0\",source=\"paris\",target=\"lyon\"} 2.5",
        "stead_connection_in_sync{set=\"set1\",source=\"paris\",target=\"lyon\"} 1",
        "stead_monitor_state{group=\"office\",state=\"late\"} 1",
        "stead_monitor_time_to_fail_seconds{group=\"office\"} 1.5",
        "stead_monitor_paths_down{group=\"office\"} 1",
        "stead_alerts{kind=\"behind\",severity=\"warning\"} 2",
        "stead_alerts{kind=\"halted\",severity=\"critical\"} 0",
        "stead_alert_receiver_held_back_events{receiver=\"noc\"} 5",
        "stead_heartbeats_dropped_total{reason=\"forged\"} 7",
    ];
    for line in lines {
        assert!(text.lines().any(|other| other == line), "{line} is missing:\n{text}");
    }
    assert!(!text.contains("lag_seconds{set=\"set1\""), "what is not known is not said");
}

#[test]
fn there_are_bounds_to_what_is_told() {
    let text = all(&snapshot(EACH_MAX + 20), Duration::ZERO);
    assert!(text.contains("\nstead_metrics_left_out 20\n"), "{text}");
    assert!(text.lines().count() < EACH_MAX * 20);
}
