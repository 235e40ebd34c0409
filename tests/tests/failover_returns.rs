//! What returns after another node stood in for it: in every order, and only what has the newest epoch serves.

use std::path::Path;
use std::time::Duration;

use stead_tests::command::text;
use stead_tests::service::{Client, lost, one_after_the_other};
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
/// Within which a takeover with the usual time-outs has to be over.
const SOON: Duration = Duration::from_secs(20);

/// Lyon stands in for paris, which is dead.
fn stood_in(options: &[&str]) -> (Town, Client) {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(options).unwrap();
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    if options.is_empty() {
        town.does("lyon", "approval").unwrap();
        town.site.lyon.cli(["approve", GROUP]).unwrap();
    }
    town.answers(&client, "lyon", SOON).unwrap();
    (town, client)
}

fn ends_well(town: &Town, client: Client) {
    town.settles_with("lyon").unwrap();
    town.goes_on(&client, "lyon").unwrap();
    let answers = client.stop();
    one_after_the_other(&[&answers], &["paris", "lyon"]).unwrap();
    let of_lyon: Vec<_> = answers.into_iter().filter(|answered| answered.holder == "lyon").collect();
    assert_eq!(lost(&of_lyon, &town.notes.replica.join("notes.db")).unwrap(), 0, "lyon keeps what it acknowledged");
}

fn serves_nothing(town: &Town, name: &str) {
    assert!(!town.node(name).host().has_address(ADDRESS).unwrap(), "{name} has the address");
}

#[test]
fn a_source_that_returns_alone_serves_nothing() {
    let (mut town, client) = stood_in(&["--witness", "oslo"]);
    town.lyon_dies().unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "down").unwrap();
    let failed = town.site.paris.output(["failover", GROUP]).unwrap();
    let told = text(&failed.stderr);
    assert!(failed.status.code() == Some(1) && told.contains("the witness knows a newer epoch"), "{told}");
    town.does("paris", "down").unwrap();
    serves_nothing(&town, "paris");
    town.lyon_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    ends_well(&town, client);
}

#[test]
fn a_source_that_returns_alone_and_without_a_witness_waits_for_a_person() {
    let (mut town, client) = stood_in(&[]);
    town.lyon_dies().unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "down").unwrap();
    town.is_refused("paris", &["failover", GROUP], "nobody is heard").unwrap();
    serves_nothing(&town, "paris");
    town.lyon_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    ends_well(&town, client);
}

#[test]
fn a_source_that_returns_and_hears_nobody_tells_a_person_so() {
    let (mut town, client) = stood_in(&["--witness", "oslo"]);
    town.lyon_dies().unwrap();
    town.oslo.kill();
    town.paris_returns().unwrap();
    town.does("paris", "down").unwrap();
    let failed = town.site.paris.output(["failover", GROUP]).unwrap();
    let told = text(&failed.stderr);
    assert!(failed.status.code() == Some(1) && told.contains("not everything agreed in time"), "{told}");
    serves_nothing(&town, "paris");
    town.oslo.launch().unwrap();
    town.lyon_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    ends_well(&town, client);
}

#[test]
fn all_were_off_and_the_newest_returns_first() {
    let (mut town, client) = stood_in(&["--witness", "oslo"]);
    town.lyon_dies().unwrap();
    town.oslo.kill();
    town.lyon_returns().unwrap();
    town.does("lyon", "down").unwrap();
    serves_nothing(&town, "lyon");
    town.oslo.launch().unwrap();
    town.is_served_by("lyon").unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    ends_well(&town, client);
}

#[test]
fn all_were_off_and_the_newest_returns_last() {
    let (mut town, client) = stood_in(&["--witness", "oslo"]);
    town.lyon_dies().unwrap();
    town.oslo.kill();
    town.paris_returns().unwrap();
    town.oslo.launch().unwrap();
    town.does("paris", "down").unwrap();
    serves_nothing(&town, "paris");
    town.lyon_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    ends_well(&town, client);
}

#[test]
fn a_source_that_dies_while_it_is_restored_is_restored_again() {
    let (mut town, client) = stood_in(&["--witness", "oslo"]);
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    town.site.lyon.cli(["restore", GROUP, "--yes", "--no-wait"]).unwrap();
    town.paris_dies().unwrap();
    town.paris_returns().unwrap();
    ends_well(&town, client);
}

#[test]
fn a_restored_source_stands_in_for_its_target() {
    let (mut town, client) = stood_in(&["--witness", "oslo"]);
    town.paris_returns().unwrap();
    town.settles_with("lyon").unwrap();
    town.goes_on(&client, "lyon").unwrap();
    town.lyon_dies().unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    town.lyon_returns().unwrap();
    town.does("lyon", "restore-required").unwrap();
    town.settles_with("paris").unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon", "paris"]).unwrap();
}
