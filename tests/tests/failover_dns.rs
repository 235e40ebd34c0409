//! What others know of where a group is: a record of the DNS at real servers, and a hook that counts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use stead_tests::command::{text, until};
use stead_tests::outside::{Bind, Listener, registrations};
use stead_tests::town::{GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
/// Within which a takeover with the usual time-outs has to be over.
const SOON: Duration = Duration::from_secs(20);
const PARIS: &str = "10.77.0.1";
const LYON: &str = "10.77.0.2";

struct Outside {
    primary: Bind,
    secondary: Bind,
    listener: Listener,
}

/// Servers on berne and on oslo; paris serves, and both are told of it.
fn town() -> (Town, Outside) {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let oslo = town.oslo.host();
    let primary = Bind::primary(&town.berne, oslo, PARIS, 60).unwrap();
    let secondary = Bind::secondary(oslo, &[&town.berne]).unwrap();
    let outside = Outside { primary, secondary, listener: Listener::start(&town.berne).unwrap() };
    let key_file = outside.primary.key_file();
    apply(&town, &registrations(&[&outside.primary], &key_file, &outside.listener, 30)).unwrap();
    town.tells("paris", "dns www.example.test A: is 10.77.0.1").unwrap();
    (town, outside)
}

fn apply(town: &Town, more: &str) -> Result<String> {
    let file = town.site.hosts.run().dir().join("plan.toml");
    fs::write(&file, town.site.lyon.cli(["plan", "show"])? + more)?;
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")])
}

fn checked(town: &Town, name: &str) -> String {
    text(&town.node(name).output(["plan", "check"]).unwrap().stdout)
}

#[test]
fn a_record_follows_the_group_and_whoever_listens_hears_of_each_move_once() {
    let (mut town, outside) = town();
    let said = checked(&town, "paris");
    assert!(!said.contains("dns "), "{said}");
    let moved = |town: &Town, name: &str, address: &str, moves: usize| {
        town.is_served_by(name).unwrap();
        outside.primary.comes_to_say(address, SOON).unwrap();
        outside.secondary.comes_to_say(address, SOON).unwrap();
        until("the hook is called", SOON, || Ok(outside.listener.heard().len() >= moves)).unwrap();
    };
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    moved(&town, "lyon", LYON, 1);
    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    moved(&town, "paris", PARIS, 2);
    town.settles_with("paris").unwrap();
    town.paris_dies().unwrap();
    moved(&town, "lyon", LYON, 3);
    town.tells("lyon", "dns www.example.test A: is 10.77.0.2").unwrap();
    let told = town.site.lyon.cli(["explain", GROUP]).unwrap();
    assert!(told.contains("dns www.example.test A: is 10.77.0.2"), "{told}");
    let heard = outside.listener.heard();
    let expected = [("switchover", "lyon"), ("failback", "paris"), ("failover", "lyon")];
    let is = |(told, (event, node)): (&String, (&str, &str))| {
        told.starts_with(&format!("{GROUP} {event} ")) && told.ends_with(&format!(" {node}"))
    };
    assert!(heard.len() == 3 && heard.iter().zip(expected).all(is), "{heard:?}");
}

#[test]
fn a_server_that_is_down_delays_nothing_and_is_told_once_it_is_back() {
    let (mut town, mut outside) = town();
    let client = town.client(100).unwrap();
    outside.primary.kill();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    until("the hook is called", SOON, || Ok(!outside.listener.heard().is_empty())).unwrap();
    let waits =
        || Ok(town.monitor_at(&town.site.lyon)?["remark"].to_string().contains("not told yet: dns www.example.test A"));
    until("lyon says what is not told", SOON, waits).unwrap();

    town.site.lyon.kill();
    town.site.lyon.launch().unwrap();
    town.is_served_by("lyon").unwrap();
    outside.primary.launch().unwrap();
    outside.primary.comes_to_say(LYON, Duration::from_secs(60)).unwrap();
    outside.secondary.comes_to_say(LYON, SOON).unwrap();
    town.goes_on(&client, "lyon").unwrap();
    let heard = outside.listener.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    let remark = || Ok(town.monitor_at(&town.site.lyon)?["remark"].is_null());
    until("nothing is left to tell", SOON, remark).unwrap();
}

#[test]
fn what_others_would_not_take_is_found_before_the_day() {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let primary = Bind::primary(&town.berne, town.oslo.host(), "10.77.0.9", 300).unwrap();
    let listener = Listener::start(&town.berne).unwrap();
    let key = town.site.hosts.run().dir().join("other.key");
    fs::write(&key, fs::read_to_string(primary.key_file()).unwrap().replace("hmac-sha256", "hmac-md5")).unwrap();
    apply(&town, &registrations(&[&primary], &key, &listener, 30)).unwrap();
    let finds = |expected: &str| {
        let said = checked(&town, "lyon");
        for node in ["paris", "lyon"] {
            let expected = format!("group notes on {node}: dns www.example.test A: {expected}");
            assert!(said.contains(&expected), "{expected}: {said}");
        }
    };
    finds(&format!("key file {}, line 2: hmac-md5 is too weak", key.display()));
    let good = fs::read_to_string(primary.key_file()).unwrap();
    fs::write(&key, good.replace("\"stead\"", "\"other\"")).unwrap();
    finds("10.77.0.4:53 does not know key other. (BADKEY)");
    fs::write(&key, good).unwrap();
    finds("its TTL is 300 s");
    finds("it is 10.77.0.9, which is none of its values here");
    assert_eq!(primary.says(), "10.77.0.9", "a check changes nothing");
    assert!(listener.heard().is_empty(), "nothing moved");
}

#[test]
fn an_old_copy_at_a_secondary_is_not_taken_for_the_record() {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let (berne, oslo) = (&town.berne, town.oslo.host());
    let primary = Bind::primary(berne, oslo, LYON, 60).unwrap();
    let mut copy = Bind::turned(oslo, &[&town.site.hosts.lyon]).unwrap();
    copy.fill(PARIS, 60).unwrap();
    copy.boot().unwrap();
    copy.comes_to_say(PARIS, SOON).unwrap();
    let listener = Listener::start(berne).unwrap();
    apply(&town, &registrations(&[&copy, &primary], &primary.key_file(), &listener, 30)).unwrap();
    primary.comes_to_say(PARIS, SOON).unwrap();
    town.tells("paris", "dns www.example.test A: is 10.77.0.1").unwrap();
}
