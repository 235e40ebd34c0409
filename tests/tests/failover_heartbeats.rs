//! What comes as a heartbeat and is none of a peer's: it changes nothing, and is counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use stead_tests::command::until;
use stead_tests::heartbeats::{Recorded, Replay, record, send};
use stead_tests::service::one_after_the_other;
use stead_tests::town::{GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(20);
const BERNE: &str = "10.77.0.4";

fn town() -> Town {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    town
}

/// What lyon dropped that came from berne, at any of its addresses, by reason.
fn dropped(town: &Town) -> BTreeMap<String, u64> {
    let status = town.site.lyon.json(["status", "--json", "--local"]).unwrap();
    let all = status["dropped_heartbeats"].as_array().cloned().unwrap_or_default();
    let ours = all.iter().filter(|one| one["node"] == "lyon" && one["from"] == BERNE);
    let mut dropped = BTreeMap::new();
    ours.for_each(|one| {
        *dropped.entry(one["reason"].as_str().unwrap().into()).or_default() += one["count"].as_u64().unwrap()
    });
    dropped
}

#[test]
fn what_is_none_of_a_peers_changes_nothing_and_is_counted() {
    let town = town();
    let client = town.client(100).unwrap();
    let recorded = record(&town.site.hosts.lyon, 5).unwrap();
    // Where in a heartbeat each of them differs from a good one.
    let kinds =
        [("malformed", 0), ("version", 4), ("other-cluster", 8), ("unknown", 24), ("other-node", 40), ("forged", 64)];
    let mut all = recorded.clone();
    kinds.iter().for_each(|(_, at)| all.extend(recorded.iter().map(|one| one.changed(*at))));
    send(&town.berne, &all).unwrap();
    let reasons = kinds.iter().map(|(reason, _)| *reason).chain(["replayed"]);
    let expected: BTreeMap<_, _> = reasons.map(|reason| (reason.to_owned(), 5)).collect();
    until("lyon has counted them all", SOON, || Ok(dropped(&town) == expected)).unwrap();
    let said = town.site.paris.cli(["status"]).unwrap();
    let tells = |at: &str| said.contains(&format!("lyon dropped heartbeats at {at} from {BERNE}: "));
    assert!(recorded.iter().all(|one| tells(&one.to.ip().to_string())), "{said}");
    town.goes_on(&client, "paris").unwrap();
    let monitor = town.monitor_at(&town.site.lyon).unwrap();
    assert_eq!(
        (&monitor["state"], &monitor["active"], &monitor["epoch"]),
        (&"online".into(), &"paris".into(), &1.into())
    );
    assert!(!town.site.lyon.cli(["alerts"]).unwrap().contains("flood"), "a few are no flood");
    one_after_the_other(&[&client.stop()], &["paris"]).unwrap();
}

#[test]
fn what_is_replayed_keeps_no_dead_server_alive() {
    let mut town = town();
    let client = town.client(100).unwrap();
    let recorded: Vec<Recorded> =
        [&town.site.hosts.lyon, town.oslo.host()].iter().flat_map(|host| record(host, 20).unwrap()).collect();
    let _replay = Replay::start(&town.berne, recorded).unwrap();
    let alerts = || town.site.lyon.cli(["alerts"]);
    let is_told = || Ok(alerts()?.lines().any(|line| line.contains("flood") && line.contains(BERNE)));
    until("lyon tells of the flood, and from where", SOON, is_told).unwrap();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    let explained = town.site.lyon.cli(["explain", GROUP]).unwrap();
    let at = ["10.77.0.2", "10.78.0.2"].map(|at| format!("the last from {BERNE} at {at}: it is a replay"));
    assert!(at.iter().any(|told| explained.contains(told)), "{explained}");
    one_after_the_other(&[&client.stop()], &["paris", "lyon"]).unwrap();
}

#[test]
fn a_daemon_that_starts_again_knows_who_sends() {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo", "--heartbeat", "10ms", "--timeout", "3s"]).unwrap();
    town.is_served_by("paris").unwrap();
    for _ in 0..5 {
        town.site.lyon.kill();
        town.site.lyon.launch().unwrap();
        until("lyon hears paris", SOON, || Ok(town.monitor_at(&town.site.lyon)?["other"] == "active")).unwrap();
        let status = town.site.lyon.json(["status", "--json", "--local"]).unwrap();
        assert!(status["dropped_heartbeats"].as_array().is_none_or(Vec::is_empty), "{status}");
    }
}
