//! A zone that lyon has of paris: made primary when paris is gone for long, with what it takes then; and given back once paris
//! has that.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use stead_tests::command::{text, until};
use stead_tests::outside::{Bind, OTHER, ZONE};
use stead_tests::town::Town;
use stead_tests::zone::{ZONES, Zone};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const PARIS: &str = "10.77.0.1";
/// So long paris may be gone.
const LONG: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(30);

/// Paris is the primary, and lyon has the zone of it.
fn town() -> (Town, Zone) {
    let mut town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    let zone = Zone::start(&mut town, PARIS, &[]).unwrap();
    zone.monitor(&town, &format!("{}s", LONG.as_secs())).unwrap();
    takes(&town, &zone.paris, "first");
    comes_to(&town, &zone.lyon, "first");
    (town, zone)
}

/// It takes an update sooner or later.
fn takes(town: &Town, server: &Bind, word: &str) {
    takes_within(town, server, word, SOON);
}

fn takes_within(town: &Town, server: &Bind, word: &str, limit: Duration) {
    let taken = || Ok(server.update(word).is_ok());
    until(&format!("{} takes {word}", server.address()), limit, taken)
        .unwrap_or_else(|e| panic!("{e}\n{:?}\n{}\n{}", server.update(word), server.log(), town.standing()));
}

fn comes_to(town: &Town, server: &Bind, word: &str) {
    until(&format!("{} has {word}", server.address()), SOON, || Ok(server.has(word)))
        .unwrap_or_else(|e| panic!("{e}\n{}\n{}", server.log(), town.standing()));
}

fn does(town: &Town, name: &str, what: &str) {
    let does = || Ok(town.group_at(ZONES, town.node(name))?["doing"] == what);
    until(&format!("{name} is {what}"), SOON, does).unwrap_or_else(|e| panic!("{e}\n{}", town.standing()));
}

/// By RFC 1982.
fn is_newer(serial: u32, than: u32) -> bool {
    matches!(serial.wrapping_sub(than), 1..0x8000_0000)
}

#[test]
fn the_agent_does_what_the_standard_asks() {
    let mut town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    let zone = Zone::start(&mut town, PARIS, &[]).unwrap();
    let told = zone.tested(&town).unwrap();
    assert!(told.contains("passed all tests") && !told.lines().any(|line| line.starts_with("* rc=")), "{told}");
}

#[test]
fn a_secondary_becomes_primary_when_the_primary_is_gone_for_long_and_gives_back_what_it_took() {
    let (mut town, mut zone) = town();
    assert!(zone.lyon.update("refused").is_err(), "it is a secondary");
    // What paris takes in its last moment lyon does not get.
    zone.lyon.signal(Signal::STOP);
    zone.paris.update("unsent").unwrap();
    let last = zone.paris.serial().unwrap();
    town.paris_dies().unwrap();
    let died = Instant::now();
    zone.lyon.signal(Signal::CONT);
    takes(&town, &zone.lyon, "second");
    assert!(died.elapsed() > LONG - Duration::from_secs(2), "after {:?} it was not gone for long", died.elapsed());
    assert!(zone.lyon.has("first") && !zone.lyon.has("unsent"));
    let serial = zone.lyon.serial().unwrap();
    assert!(is_newer(serial, last), "{serial} after {last}: a serial names two states");

    zone.paris.boot().unwrap();
    town.paris_returns().unwrap();
    does(&town, "paris", "standby");
    assert!(zone.paris.update("refused").is_err(), "it is a secondary");
    comes_to(&town, &zone.paris, "second");
    takes(&town, &zone.lyon, "third");
    comes_to(&town, &zone.paris, "third");
    assert!(!zone.paris.has("unsent"), "it has what lyon has, and nothing else");

    town.site.lyon.cli(["failback", ZONES, "--yes"]).unwrap();
    does(&town, "paris", "active");
    takes(&town, &zone.paris, "fourth");
    comes_to(&town, &zone.lyon, "fourth");
    assert!(zone.lyon.update("refused").is_err(), "it is a secondary again");
    for word in ["first", "second", "third", "fourth"] {
        assert!(zone.paris.has(word) && zone.lyon.has(word), "{word}");
    }
    assert!(is_newer(zone.paris.serial().unwrap(), serial));
}

#[test]
fn what_the_primary_took_in_its_last_moment_is_lost_everywhere() {
    let (mut town, mut zone) = town();
    zone.lyon.signal(Signal::STOP);
    zone.paris.update("unsent").unwrap();
    let last = zone.paris.serial().unwrap();
    town.paris_dies().unwrap();
    zone.lyon.signal(Signal::CONT);
    does(&town, "lyon", "active");
    let serial = zone.lyon.serial().unwrap();
    assert!(is_newer(serial, last), "{serial} after {last}, though nobody changed anything");
    assert!(serial.abs_diff(last) < 100, "{serial} after {last}: it is ahead of the time");

    zone.paris.boot().unwrap();
    assert!(zone.paris.has("unsent"));
    town.paris_returns().unwrap();
    until("paris has lyon's zone", SOON, || Ok(zone.paris.serial() == Some(serial)))
        .unwrap_or_else(|e| panic!("{e}\n{}", zone.paris.log()));
    assert!(zone.paris.has("first") && !zone.paris.has("unsent"));
}

#[test]
fn a_server_that_starts_again_becomes_what_its_node_is() {
    let (town, mut zone) = town();
    zone.paris.kill();
    zone.paris.boot().unwrap();
    takes(&town, &zone.paris, "second");
    comes_to(&town, &zone.lyon, "second");
    zone.lyon.kill();
    zone.lyon.boot().unwrap();
    takes(&town, &zone.paris, "third");
    comes_to(&town, &zone.lyon, "third");
    does(&town, "paris", "active");

    let checked = || text(&town.site.lyon.output(["plan", "check"]).unwrap().stdout);
    assert!(!checked().contains("resource zones"), "{}", checked());
    fs::remove_file(zone.lyon.key_file()).unwrap();
    assert!(checked().contains("key cannot be read"), "{}", checked());
}

#[test]
fn a_server_that_hangs_is_ended_and_the_other_one_takes_changes() {
    let (town, zone) = town();
    zone.paris.signal(Signal::STOP);
    takes_within(&town, &zone.lyon, "second", SOON * 4);
    does(&town, "lyon", "active");
    assert!(zone.lyon.has("first"));
    until("it is ended", SOON, || Ok(zone.paris.has_ended())).unwrap();
}

#[test]
fn a_zone_that_was_not_transferred_is_not_handed_over() {
    let (town, zone) = town();
    let [paris, lyon, berne] = [&town.site.hosts.paris, &town.site.hosts.lyon, &town.berne].map(Clone::clone);
    // Lyon asks the wrong server.
    zone.lyon.follow(&[&berne]).unwrap();
    zone.lyon.control(&["reconfig"]).unwrap();
    takes(&town, &zone.paris, "second");
    let moved = town.site.lyon.output(["switchover", ZONES, "--yes"]).unwrap();
    takes(&town, &zone.paris, "third");
    does(&town, "paris", "active");
    let told = town.site.lyon.cli(["explain", ZONES]).unwrap();
    assert!(told.contains("it was not transferred"), "{}{told}", text(&moved.stderr));
    zone.lyon.follow(&[&paris]).unwrap();
    zone.lyon.control(&["reconfig"]).unwrap();
    [ZONE, OTHER].iter().for_each(|zones| drop(zone.lyon.control(&["refresh", zones]).unwrap()));
    comes_to(&town, &zone.lyon, "third");
    does(&town, "lyon", "standby");
    town.site.lyon.cli(["switchover", ZONES, "--yes"]).unwrap();
    takes(&town, &zone.lyon, "fourth");

    // Paris does, and lyon goes on without a pause.
    does(&town, "paris", "standby");
    zone.paris.follow(&[&berne]).unwrap();
    zone.paris.control(&["reconfig"]).unwrap();
    takes(&town, &zone.lyon, "fifth");
    let refused = text(&town.site.lyon.output(["failback", ZONES, "--yes"]).unwrap().stderr);
    assert!(refused.contains("it is not handed over"), "{refused}");
    does(&town, "lyon", "active");
    zone.lyon.update("sixth").unwrap();
    zone.paris.follow(&[&lyon]).unwrap();
    zone.paris.control(&["reconfig"]).unwrap();
    town.site.lyon.cli(["failback", ZONES, "--yes"]).unwrap();
    takes(&town, &zone.paris, "seventh");
    assert!(["fourth", "fifth", "sixth"].iter().all(|word| zone.paris.has(word)));
}
