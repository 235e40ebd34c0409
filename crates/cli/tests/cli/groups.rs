//! What the commands for groups ask of a daemon, and what they make of its answer.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::{JoinHandle, spawn};

use serde_json::{Value, json};

use crate::daemon::{Said, stead};

/// Stands in for a daemon: answers one request with these events, and tells what it was asked.
fn daemon(state: &Path, events: &[Value]) -> JoinHandle<Value> {
    let listener = UnixListener::bind(state.join("api.sock")).unwrap();
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        stream.write_all(lines.as_bytes()).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["request"].clone()
    })
}

/// Runs a command whose request gets that answer: what it asked, and what it said.
fn asked(args: &[&str], events: &[Value]) -> (Value, Said) {
    let state = tempfile::tempdir().unwrap();
    let daemon = daemon(state.path(), events);
    let said = stead(state.path(), args);
    (daemon.join().unwrap(), said)
}

#[test]
fn each_command_asks_for_what_it_is_called() {
    let moved = |want: Value| json!({"Move": {"group": "office", "want": want, "expires_ms": 60_000}});
    let restore = |no_wait: bool| {
        json!({"Restore": {
            "group": "office", "sets": [], "map": [], "to": null, "into_non_empty": false, "yes": true, "no_wait": no_wait,
        }})
    };
    let failback = json!({"Failback": {"group": "office", "verify": "names", "then": "monitor", "expires_ms": 60_000}});
    let cases: [(&str, Value, &str); 15] = [
        ("unmonitor office", json!({"Unmonitor": {"group": "office"}}), "no longer watched"),
        ("failover office", moved(json!({"Failover": {"force": false}})), "has failed over"),
        ("switchover office --yes", moved(json!("Switchover")), "has switched over"),
        ("failback office --yes", failback, "serves from its source again"),
        ("approve office", moved(json!("Approve")), "has failed over"),
        (
            "group offline office --yes",
            moved(json!("Offline")),
            "is offline; bring it up with: stead group online office",
        ),
        ("group online office", moved(json!("Online")), "is online"),
        ("group maintenance office on", moved(json!({"Maintain": {"on": true}})), "nothing is restarted or taken over"),
        ("group maintenance office off", moved(json!({"Maintain": {"on": false}})), "no longer in maintenance"),
        ("takeover resume office", moved(json!("Resume")), "by itself again"),
        (
            "takeover suspend office --for 2h",
            json!({"Move": {"group": "office", "want": "Suspend", "expires_ms": 7_200_000}}),
            "by itself for 2h",
        ),
        ("restore office --yes", restore(false), "stead failback office"),
        ("restore office --yes --no-wait", restore(true), "is being restored"),
        (
            "monitor office --set notes",
            json!({"Monitor": {
                "group": "office", "source": null, "sets": ["notes"], "witness": null, "takeover": "automatic", "heartbeat": null,
                "timeout": null, "switch_back": null, "references": [], "paths": [], "addresses": [], "services": [],
                "checks": [], "scripts": {},
            }}),
            "it has no witness: when its source fails, it waits for: stead approve office",
        ),
        ("monitor office --set notes --witness rome", Value::Null, "group office is watched"),
    ];
    for (line, request, expected) in cases {
        let args: Vec<&str> = line.split(' ').collect();
        let answer = match args[0] {
            "restore" => json!({"Restored": {"left": []}}),
            "failback" => json!({"FailedBack": []}),
            _ => json!("Done"),
        };
        let (asked, said) = asked(&args, &[json!({"Notice": "a step"}), json!({"Done": answer})]);
        assert!(request.is_null() || asked == request, "{line}: {asked}");
        assert!(said.err.contains("note: a step"), "{line}: {}", said.err);
        let out = said.done();
        assert!(out.contains(expected), "{line}: {out}");
    }
}

#[test]
fn what_cannot_be_taken_back_is_asked_first() {
    let state = tempfile::tempdir().unwrap();
    for line in ["failover office --force", "switchover office", "failback office", "restore office"] {
        let args: Vec<&str> = line.split(' ').collect();
        stead(state.path(), &args).refused(2, &["nothing was done", "group office", "--yes"]);
    }
}

#[test]
fn a_refusal_is_a_no() {
    let refusal = json!({"Failed": {"kind": "no", "what": "group office did not move", "why": "lyon is not level",
        "remedy": "Look at: stead status"}});
    let (_, said) = asked(&["failover", "office"], std::slice::from_ref(&refusal));
    said.refused(3, &["did not move", "not level", "stead status"]);
    let (_, said) = asked(&["restore", "office", "--yes"], &[refusal]);
    said.refused(3, &["did not move"]);
}

#[test]
fn a_timeline_is_told_to_people_and_to_programs() {
    let timelines = json!([{"group": "office", "node": "lyon", "entries": [
        {"at": "2026-11-20T07:15:00.250Z", "text": "the other node is late"},
    ]}]);
    let events = [json!({"Done": {"Timelines": timelines}})];
    let (request, said) = asked(&["explain", "office"], &events);
    assert_eq!(request, json!({"Explain": {"group": "office"}}));
    assert!(said.done().contains("2026-11-20T07:15:00.250Z           the other node is late"));
    let (request, said) = asked(&["explain", "--json"], &events);
    assert_eq!(request, json!({"Explain": {"group": null}}));
    assert_eq!(serde_json::from_str::<Value>(&said.done()).unwrap(), timelines);
}
