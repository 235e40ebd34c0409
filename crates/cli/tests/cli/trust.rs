//! The care of the trust circle between real daemons: who is listed, removed, moved, replaced, and new keys.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Daemon, mounts_beneath};

/// Two nodes that trust each other, and a set of the first on the second.
pub struct Pair {
    pub paris: Daemon,
    pub lyon: Daemon,
}

impl Pair {
    pub fn joined() -> Pair {
        let pair = Pair { paris: Daemon::start("paris", "127.0.0.2:0"), lyon: Daemon::start("lyon", "127.0.0.3:0") };
        join(&pair.paris, &pair.lyon);
        pair
    }

    pub fn protected() -> Pair {
        let pair = Pair::joined();
        fs::create_dir_all(pair.source().join("sub")).unwrap();
        fs::write(pair.source().join("sub/file"), "content").unwrap();
        let map = format!("{}={}", pair.source().display(), pair.replica().display());
        pair.paris.stead(&["protect", pair.source().to_str().unwrap(), "--on", "lyon", "--map", &map]).done();
        pair
    }

    pub fn source(&self) -> PathBuf {
        self.paris.dir().join("notes")
    }

    pub fn replica(&self) -> PathBuf {
        self.lyon.dir().join("notes")
    }

    /// Writes something, waits, and finds it on the target.
    pub fn carries(&self, text: &str) {
        fs::write(self.source().join("probe"), text).unwrap();
        self.paris.stead(&["wait", "notes", "--timeout", "40s"]).done();
        assert_eq!(fs::read_to_string(self.replica().join("probe")).unwrap(), text);
    }
}

pub fn join(here: &Daemon, there: &Daemon) {
    let line = there.stead(&["invite"]).done();
    here.stead(&["join", line.trim()]).done();
}

pub fn json(daemon: &Daemon, args: &[&str]) -> Value {
    serde_json::from_str(&daemon.stead(args).done()).unwrap()
}

/// What a node says of another one.
fn listed(by: &Daemon, name: &str) -> Option<Value> {
    let nodes = json(by, &["node", "list", "--json"]);
    nodes.as_array().unwrap().iter().find(|node| node["name"] == name).cloned()
}

pub fn connection(by: &Daemon) -> Value {
    json(by, &["status", "--json"])["connections"][0].clone()
}

pub fn until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_list_says_who_is_connected_since_when_and_for_what() {
    let pair = Pair::protected();
    let (lyon, paris) = (listed(&pair.paris, "lyon").unwrap(), listed(&pair.lyon, "paris").unwrap());
    for node in [&lyon, &paris] {
        assert_eq!((&node["streams"], &node["reachable"], &node["protocol"]), (&1.into(), &true.into(), &3.into()));
        assert!(node["since"].is_string() && node["last_heard"].is_string(), "{node}");
        assert_eq!(node["fingerprint"].as_str().unwrap().len(), 64);
    }
    assert_eq!((&lyon["target_of"][0], &paris["source_of"][0]), (&"notes".into(), &"notes".into()));
    let said = pair.paris.stead(&["node", "list"]).done();
    for word in ["this node", "1 connected", "source of notes", "target of notes", pair.lyon.listen()] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_node_is_removed_on_both_sides_and_comes_back_only_by_invitation() {
    let pair = Pair::protected();
    pair.paris.stead(&["node", "remove", "lyon"]).refused(1, &["keeps the replica of set notes", "stead unprotect"]);
    pair.lyon.stead(&["node", "remove", "paris"]).refused(1, &["set notes", "stead unprotect notes"]);
    pair.paris.stead(&["node", "remove", "rome"]).refused(1, &["not a node that this one trusts", "lyon"]);
    pair.paris.stead(&["unprotect", "notes"]).done();
    pair.paris.stead(&["node", "remove", "lyon"]).done();
    assert!(listed(&pair.paris, "lyon").is_none() && listed(&pair.lyon, "paris").is_none());
    let map = format!("{}={}", pair.source().display(), pair.replica().display());
    let source = pair.source();
    let protect = ["protect", source.to_str().unwrap(), "--on", "lyon", "--map", &map];
    pair.paris.stead(&protect).refused(1, &["not a node that this one trusts"]);
    join(&pair.paris, &pair.lyon);
    assert_eq!(listed(&pair.paris, "lyon").unwrap()["reachable"], true);
}

#[test]
fn a_node_that_is_away_is_removed_and_refused_when_it_returns() {
    let mut pair = Pair::joined();
    pair.lyon.kill();
    let said = pair.paris.stead(&["node", "remove", "lyon"]);
    assert!(said.err.contains("run there: stead node remove paris"), "{}", said.err);
    said.done();
    pair.lyon.launch();
    assert_eq!(listed(&pair.lyon, "paris").unwrap()["reachable"], false);
    assert_eq!(json(&pair.lyon, &["status", "--json"])["unreachable"][0], "paris");
    assert!(pair.paris.log().contains("does not trust the certificate"), "{}", pair.paris.log());
}

#[test]
fn a_node_that_still_keeps_something_says_so() {
    let mut pair = Pair::protected();
    pair.lyon.kill();
    pair.paris.stead(&["unprotect", "notes"]).done();
    pair.lyon.launch();
    pair.paris.stead(&["node", "remove", "lyon"]).refused(3, &["lyon keeps the replica of its set notes", "--force"]);
    pair.paris.stead(&["node", "remove", "lyon", "--force"]).done();
    assert!(listed(&pair.paris, "lyon").is_none() && listed(&pair.lyon, "paris").is_some());
}

#[test]
fn a_paused_target_moves_to_another_address_and_is_resumed() {
    let mut pair = Pair::protected();
    pair.paris.stead(&["pause", "notes"]).done();
    pair.lyon.stop();
    fs::write(pair.source().join("meanwhile"), "x").unwrap();
    let moved = pair.lyon.listen().replace("127.0.0.3", "127.0.0.4");
    pair.lyon.launch_at(&moved);
    pair.paris.stead(&["node", "address", "lyon", pair.paris.listen()]).refused(2, &["this node's own"]);
    pair.paris.stead(&["node", "address", "rome", &moved]).refused(1, &["not a node"]);
    pair.paris.stead(&["node", "address", "lyon", &moved]).done();
    pair.paris.stead(&["resume", "notes"]).done();
    until("it is connected again", 30, || connection(&pair.paris)["state"] == "replicating");
    pair.carries("moved");
    assert_eq!(fs::read_to_string(pair.replica().join("meanwhile")).unwrap(), "x");
}

#[test]
fn a_new_key_interrupts_nothing_and_reaches_who_was_away() {
    let pair = Pair::protected();
    let mut rome = Daemon::start("rome", "127.0.0.6:0");
    join(&rome, &pair.lyon);
    let before = listed(&pair.paris, "lyon").unwrap()["fingerprint"].clone();
    let since = connection(&pair.paris)["since"].clone();
    rome.kill();
    let said = pair.lyon.stead(&["node", "rotate-key"]).done();
    assert!(said.contains("paris knows it") && said.contains("rome does not know it yet"), "{said}");
    pair.lyon.stead(&["node", "rotate-key"]).refused(1, &["rome was not told", "stead node remove rome"]);
    let after = listed(&pair.paris, "lyon").unwrap();
    assert_ne!(after["fingerprint"], before);
    assert_eq!(after["fingerprint"], listed(&pair.lyon, "lyon").unwrap()["fingerprint"]);
    assert!(after["remarks"][0].as_str().unwrap().contains("still accepted"), "{after}");
    assert_eq!(connection(&pair.paris)["since"], since, "the connection stood all the time");
    pair.carries("by the old connection");

    rome.launch();
    assert_eq!(
        json(&rome, &["status", "--json"])["unreachable"],
        serde_json::json!([]),
        "the older key still serves it"
    );
    until("rome was told", 60, || listed(&rome, "lyon").unwrap()["fingerprint"] == after["fingerprint"]);
    until("lyon knows that", 10, || listed(&pair.lyon, "lyon").unwrap()["remarks"] == serde_json::json!([]));
}

#[test]
fn new_keys_of_both_survive_restarts_of_both() {
    let mut pair = Pair::protected();
    for node in [&pair.lyon, &pair.paris] {
        assert!(node.stead(&["node", "rotate-key"]).done().contains("knows it"));
    }
    pair.lyon.kill();
    pair.paris.kill();
    pair.lyon.launch();
    pair.paris.launch();
    until("it is connected again", 40, || connection(&pair.paris)["state"] == "replicating");
    pair.carries("by the new keys");
}

/// The machine of a replica is gone; a new one stands in its place, with the same disks' paths.
fn scrapped(pair: &mut Pair) {
    pair.lyon.kill();
    for (path, _) in mounts_beneath(&pair.replica()) {
        assert!(Command::new("umount").arg("-l").arg(path).status().unwrap().success());
    }
    fs::remove_dir_all(pair.replica()).unwrap();
}

#[test]
fn a_rebuilt_machine_takes_the_place_of_the_dead_one() {
    let mut pair = Pair::protected();
    scrapped(&mut pair);
    let rebuilt = Daemon::start("lyon", "127.0.0.7:0");
    let line = rebuilt.stead(&["invite"]).done();
    pair.paris.stead(&["join", line.trim()]).refused(1, &["another node of that name", "stead node replace lyon"]);
    pair.paris.stead(&["node", "replace", "lyon", "lyon"]).refused(1, &["new certificate", "stead invite"]);
    let line = rebuilt.stead(&["invite"]).done();
    let said = pair.paris.stead(&["node", "replace", "lyon", line.trim()]).done();
    assert!(said.contains("mirroring notes"), "{said}");
    until("it is mirrored", 40, || connection(&pair.paris)["state"] == "replicating");
    pair.carries("on the rebuilt machine");
    assert_eq!(rebuilt.sets(), ["notes"]);
    assert_eq!(listed(&pair.paris, "lyon").unwrap()["addresses"][0], rebuilt.listen());
    rebuilt.stead(&["unprotect", "notes", "--force"]).done();
}

#[test]
fn another_node_takes_the_place_of_a_dead_one() {
    let mut pair = Pair::protected();
    let rome = Daemon::start("rome", "127.0.0.8:0");
    join(&pair.paris, &rome);
    scrapped(&mut pair);
    pair.paris.stead(&["node", "replace", "lyon", "oslo"]).refused(1, &["oslo is not a node"]);
    pair.paris.stead(&["node", "replace", "lyon", "rome"]).done();
    until("it is mirrored", 60, || {
        let connection = connection(&pair.paris);
        connection["target"] == "rome" && connection["state"] == "replicating"
    });
    pair.carries("on another node");
    assert!(listed(&pair.paris, "lyon").is_none());
    pair.lyon.launch();
    assert_eq!(json(&pair.lyon, &["status", "--json"])["unreachable"][0], "paris", "it is refused");
    rome.stead(&["unprotect", "notes", "--force"]).done();
}
