//! Groups in the plan: made, changed and ended by it, checked by it, and what only the plan can say of them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use stead_tests::command::{text, until};
use stead_tests::node::Node;
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
/// Seconds within which a takeover with the usual time-outs has to be over.
const SOON: Duration = Duration::from_secs(20);

fn town() -> Town {
    Town::new(Path::new(LOAD)).unwrap()
}

fn shown(node: &Node) -> String {
    node.cli(["plan", "show"]).unwrap()
}

fn apply(town: &Town, text: &str) -> Result<String> {
    let file = town.site.hosts.run().dir().join("plan.toml");
    fs::write(&file, text)?;
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file])
}

/// The plan as it is, with more said of its only group; `more` are lines of the group itself.
fn with(plan: &str, more: &str) -> String {
    plan.replace("takeover = \"automatic\"", &format!("takeover = \"automatic\"\n{more}"))
}

#[test]
fn a_plan_makes_changes_and_ends_a_group() {
    let town = town();
    let before = shown(&town.site.lyon);
    town.monitor(&["--witness", "oslo"]).unwrap();
    let watched = shown(&town.site.lyon);
    town.site.lyon.cli(["unmonitor", GROUP]).unwrap();

    apply(&town, &watched).unwrap();
    town.is_served_by("paris").unwrap();
    assert_eq!(shown(&town.site.paris), watched, "both nodes have it");
    apply(&town, &with(&watched, "heartbeat = \"400ms\"")).unwrap();
    assert!(shown(&town.site.paris).contains("heartbeat = \"400ms\""));

    // While lyon serves, the plan is shown and applied as it is at home.
    town.is_served_by("paris").unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    assert_eq!(shown(&town.site.lyon), with(&watched, "heartbeat = \"400ms\""));
    apply(&town, &with(&watched, "heartbeat = \"500ms\"")).unwrap();
    town.is_served_by("lyon").unwrap();
    let refused = town.site.lyon.output(["unmonitor", GROUP]).unwrap();
    assert_ne!(refused.status.code(), Some(0));
    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.settles_with("paris").unwrap();

    let without: String = watched.split("\n[[group]]").next().unwrap().to_owned() + "\n";
    apply(&town, &without).unwrap();
    assert!(!shown(&town.site.paris).contains("[[group]]") && !shown(&town.oslo).contains("[[group]]"));
    assert!(town.site.hosts.paris.has_address(ADDRESS).unwrap(), "what serves goes on");
    assert!(without.starts_with(before.split("\n[[connection.mapping]]").next().unwrap()));
}

#[test]
fn a_restored_source_takes_back_by_itself_where_the_plan_says_so() {
    let mut town = town();
    town.monitor(&["--witness", "oslo", "--switch-back", "10s"]).unwrap();
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    town.site.lyon.cli(["restore", GROUP, "--yes"]).unwrap();
    town.answers(&client, "paris", Duration::from_secs(40)).unwrap();
    town.settles_with("paris").unwrap();
}

#[test]
fn a_service_that_fails_its_check_is_moved_while_its_node_lives() {
    let town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let well = town.site.hosts.run().dir().join("well");
    fs::write(&well, "").unwrap();
    let check = format!(
        "\n[[group.check]]\ncommand = [\"/usr/bin/test\", \"-e\", \"{}\"]\ninterval = \"200ms\"\nfailures = 2\n",
        well.display()
    );
    apply(&town, &(shown(&town.site.lyon) + &check)).unwrap();
    town.is_served_by("paris").unwrap();
    let client = town.client(100).unwrap();
    town.goes_on(&client, "paris").unwrap();
    fs::remove_file(&well).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    let answers = client.stop();
    assert_eq!(stead_tests::service::lost(&answers, &town.notes.replica.join("notes.db")).unwrap(), 0);
}

#[test]
fn addresses_move_without_a_set_and_are_told_of() {
    let mut town = town();
    let address = format!("{ADDRESS}/24");
    town.site.lyon.cli(["monitor", GROUP, "--source", "paris", "--address", &address, "--unsafe-two-node"]).unwrap();
    town.is_served_by("paris").unwrap();
    assert!(town.site.hosts.paris.has_address(ADDRESS).unwrap());
    town.paris_dies().unwrap();
    town.is_served_by("lyon").unwrap();
    assert!(town.site.hosts.lyon.has_address(ADDRESS).unwrap());
    let told = || Ok(town.site.lyon.cli(["alerts"])?.contains("stands-in"));
    until("lyon tells that it stands in", SOON, told).unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "standby").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
    assert!(!town.site.hosts.lyon.has_address(ADDRESS).unwrap());
}

#[test]
fn what_stands_against_a_takeover_is_found_before_the_day() {
    let town = town();
    town.monitor(&["--post-failover", "/no/such/script"]).unwrap();
    for node in [&town.site.lyon, &town.site.paris] {
        let checked = node.output(["plan", "check"]).unwrap();
        let said = text(&checked.stdout);
        assert_eq!(checked.status.code(), Some(3), "{said}");
        for expected in [
            "there is no witness",
            "there is one heartbeat path",
            "group notes on paris: script /no/such/script is not there",
            "group notes on lyon: script /no/such/script is not there",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
}

#[test]
fn heartbeats_that_were_heard_are_judged_by_other_values() {
    let town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let what_if = |value: &str| town.site.lyon.cli(["explain", GROUP, "--what-if", value]).unwrap();
    let (host, silence) = (&town.site.hosts.paris, Duration::from_millis(1500));
    until("it was heard", SOON, || Ok(what_if("timeout=3s").contains("online"))).unwrap();
    host.plugged(false).unwrap();
    std::thread::sleep(silence);
    host.plugged(true).unwrap();
    let heard = || Ok(town.monitor_at(&town.site.lyon)?["state"] == "online");
    until("it is heard again", SOON, heard).unwrap();
    assert!(!what_if("timeout=5s").contains("failed"), "{}", what_if("timeout=5s"));
    let shorter = town.site.lyon.cli(["explain", GROUP, "--what-if", "timeout=600ms", "--what-if", "heartbeat=200ms"]);
    assert!(shorter.unwrap().contains("a takeover would have been considered"));
}
