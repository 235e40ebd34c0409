//! Standing in for a server, with the real address, service, client and witness, each on a host of its own: what persons
//! ask for.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stead_tests::command::{text, until};
use stead_tests::service::{longest_gap, lost, one_after_the_other};
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
/// Within which a takeover with the usual time-outs has to be over.
const SOON: Duration = Duration::from_secs(20);
const WITNESS: &[&str] = &["--witness", "oslo"];

fn town(options: &[&str]) -> Town {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(options).unwrap();
    town
}

/// Scripts that write down where and why they ran.
struct Scripts {
    dir: PathBuf,
}

impl Scripts {
    fn new(town: &Town) -> Scripts {
        Scripts { dir: town.site.hosts.run().dir().to_path_buf() }
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, format!("#!/bin/bash\n{text}"))?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(path)
    }

    fn options(&self) -> Result<Vec<String>> {
        let line = "$STEAD_EVENT on $(basename $(dirname $STEAD_TEST_HOST)) of $STEAD_GROUP $STEAD_SOURCE $STEAD_TARGET \
                    epoch $STEAD_EPOCH because $STEAD_REASON in $STEAD_SET_PATHS";
        let script = self.write("hook", &format!("echo \"{line}\" >>{}/hooks\n", self.dir.display()))?;
        let hooks = ["--pre-failover", "--post-failover", "--pre-failback", "--post-failback"];
        Ok(hooks.iter().flat_map(|hook| [hook.to_string(), script.display().to_string()]).collect())
    }

    fn ran(&self) -> Result<Vec<String>> {
        let told = fs::read_to_string(self.dir.join("hooks")).context("no script ran")?;
        Ok(told.lines().map(String::from).collect())
    }
}

/// A script that ends once it may.
struct Gate {
    script: String,
    reached: PathBuf,
    opened: PathBuf,
}

impl Gate {
    fn new(town: &Town) -> Result<Gate> {
        let scripts = Scripts::new(town);
        let (reached, opened) = (scripts.dir.join("reached"), scripts.dir.join("opened"));
        let (reach, wait) = (reached.display(), opened.display());
        let text = format!("touch {reach}\nwhile [ ! -e {wait} ]; do sleep 0.01; done\n");
        let script = scripts.write("gate", &text)?.display().to_string();
        Ok(Gate { script, reached, opened })
    }

    fn is_reached(&self) -> Result<()> {
        until("the script runs", Duration::from_secs(30), || Ok(self.reached.exists()))
    }

    fn open(&self) -> Result<()> {
        Ok(fs::write(&self.opened, "")?)
    }
}

#[test]
fn lyon_stands_in_for_paris_and_gives_everything_back() {
    let mut town = town(WITNESS);
    let client = town.client(100).unwrap();
    let died = Instant::now();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    println!("lyon answered {:?} after paris died", died.elapsed());

    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    assert!(!town.site.hosts.paris.has_address(ADDRESS).unwrap());
    let before_the_restore = ["failback", GROUP, "--yes"];
    town.is_refused("lyon", &before_the_restore, "restored first").unwrap();
    town.site.lyon.cli(["restore", GROUP, "--yes"]).unwrap();
    town.does("paris", "standby").unwrap();

    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    town.settles_with("paris").unwrap();
    let answers = client.stop();
    one_after_the_other(&[&answers], &["paris", "lyon", "paris"]).unwrap();
    println!("longest gap: {:?}", longest_gap(&answers));
    town.site.paris.cli(["wait", GROUP]).unwrap();
    let since: Vec<_> = answers.iter().skip_while(|answered| answered.holder == "paris").cloned().collect();
    assert_eq!(lost(&since, &town.notes.source.join("notes.db")).unwrap(), 0, "nothing is lost by a failback");
}

#[test]
fn planned_moves_lose_nothing_in_either_direction() {
    let town = town(WITNESS);
    let client = town.client(200).unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.settles_with("lyon").unwrap();
    town.goes_on(&client, "lyon").unwrap();
    town.site.paris.cli(["failback", GROUP, "--yes"]).unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    town.settles_with("paris").unwrap();
    town.site.paris.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    town.settles_with("paris").unwrap();
    town.goes_on(&client, "paris").unwrap();

    let answers = client.stop();
    one_after_the_other(&[&answers], &["paris", "lyon", "paris", "lyon", "paris"]).unwrap();
    println!("longest gap: {:?}", longest_gap(&answers));
    assert_eq!(lost(&answers, &town.notes.source.join("notes.db")).unwrap(), 0, "at paris");
    town.site.paris.cli(["wait", GROUP]).unwrap();
    assert_eq!(town.monitor_at(&town.site.lyon).unwrap()["epoch"], 5);
}

#[test]
fn a_switchover_without_a_witness_loses_nothing() {
    let town = town(&[]);
    let client = town.client(200).unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    town.settles_with("paris").unwrap();
    let answers = client.stop();
    one_after_the_other(&[&answers], &["paris", "lyon", "paris"]).unwrap();
    println!("longest gap: {:?}", longest_gap(&answers));
    assert_eq!(lost(&answers, &town.notes.source.join("notes.db")).unwrap(), 0);
}

#[test]
fn a_set_that_somebody_else_writes_to_is_not_handed_over() {
    let town = town(WITNESS);
    let client = town.client(100).unwrap();
    let held = File::create(town.notes.source.join("held")).unwrap();
    let output = town.site.lyon.output(["switchover", GROUP, "--yes"]).unwrap();
    assert_ne!(output.status.code(), Some(0));
    let told = text(&output.stderr);
    town.tells("paris", "somebody has a file open for writing").unwrap();
    assert!(told.contains("could not hand over"), "{told}");
    town.is_served_by("paris").unwrap();
    town.goes_on(&client, "paris").unwrap();

    drop(held);
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.settles_with("lyon").unwrap();
    let answers = client.stop();
    one_after_the_other(&[&answers], &["paris", "lyon"]).unwrap();
    println!("longest gap: {:?}", longest_gap(&answers));
}

#[test]
fn scripts_run_on_the_node_and_in_the_order_that_was_said() {
    let town = Town::new(Path::new(LOAD)).unwrap();
    let scripts = Scripts::new(&town);
    let hooks = scripts.options().unwrap();
    let mut options: Vec<_> = hooks.iter().map(String::as_str).collect();
    options.extend(WITNESS);
    town.monitor(&options).unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.settles_with("paris").unwrap();

    let (lyon, paris) = (town.notes.replica.display().to_string(), town.notes.source.display().to_string());
    let line = |event: &str, node: &str, epoch: u64, why: &str, path: &str| {
        format!("{event} on {node} of {GROUP} paris lyon epoch {epoch} because {why} of group {GROUP} in {path}")
    };
    let expected = [
        line("pre-failover", "lyon", 2, "switchover", &lyon),
        line("post-failover", "lyon", 2, "switchover", &lyon),
        line("pre-failback", "lyon", 2, "failback", &lyon),
        line("post-failback", "paris", 3, "failback", &paris),
    ];
    assert_eq!(scripts.ran().unwrap(), expected);
}

#[test]
fn a_failback_that_a_crash_interrupts_comes_about_after_it() {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    let gate = Gate::new(&town).unwrap();
    town.monitor(&[WITNESS, &["--pre-failback", &gate.script]].concat()).unwrap();
    let client = town.client(100).unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.settles_with("lyon").unwrap();
    let mut failback = town.site.paris.command(["failback", GROUP, "--yes"]).unwrap().spawn().unwrap();
    gate.is_reached().unwrap();
    town.site.lyon.kill();
    gate.open().unwrap();
    town.site.lyon.launch().unwrap();
    town.tells("lyon", "had no durable epoch before the restart: undone").unwrap();
    assert!(failback.wait().unwrap().success(), "it is asked for until it comes about");
    town.answers(&client, "paris", SOON).unwrap();
    town.settles_with("paris").unwrap();
    let answers = client.stop();
    one_after_the_other(&[&answers], &["paris", "lyon", "paris"]).unwrap();
    assert_eq!(lost(&answers, &town.notes.source.join("notes.db")).unwrap(), 0);
}

#[test]
fn other_options_take_the_place_of_the_old_without_a_pause() {
    let mut town = town(WITNESS);
    let client = town.client(100).unwrap();
    let scripts = Scripts::new(&town);
    let hooks = scripts.options().unwrap();
    let hooks: Vec<_> = hooks.iter().map(String::as_str).collect();
    town.monitor(&[WITNESS, &["--reference", "10.77.0.4"], &hooks].concat()).unwrap();
    town.goes_on(&client, "paris").unwrap();
    let gap = longest_gap(&client.answers());
    assert!(gap.as_ref().is_some_and(|(gap, ..)| *gap < Duration::from_secs(2)), "{gap:?}");
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    let ran = || Ok(scripts.ran().is_ok_and(|ran| ran.len() == 2));
    until("both scripts ran", SOON, ran).unwrap();
    town.paris_returns().unwrap();
    town.settles_with("lyon").unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon"]).unwrap();
}

/// Who granted by the old time-out has to be silent first.
#[test]
fn another_time_out_is_a_pause_and_no_takeover() {
    let town = town(WITNESS);
    let client = town.client(100).unwrap();
    town.monitor(&[WITNESS, &["--timeout", "4s"]].concat()).unwrap();
    town.tells("paris", "the lease is over").unwrap();
    town.is_served_by("paris").unwrap();
    town.goes_on(&client, "paris").unwrap();
    town.settles_with("paris").unwrap();
    assert_eq!(town.monitor_at(&town.site.lyon).unwrap()["epoch"], 1);
    let answers = client.stop();
    println!("longest gap: {:?}", longest_gap(&answers));
    one_after_the_other(&[&answers], &["paris"]).unwrap();
}

#[test]
fn a_takeover_that_a_crash_interrupts_is_finished_after_it() {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    let gate = Gate::new(&town).unwrap();
    town.monitor(&[WITNESS, &["--pre-failover", &gate.script]].concat()).unwrap();
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    gate.is_reached().unwrap();
    town.site.lyon.kill();
    gate.open().unwrap();
    town.site.lyon.launch().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.tells("lyon", "to be finished").unwrap();
    assert_eq!(town.monitor_at(&town.site.lyon).unwrap()["epoch"], 2);
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon"]).unwrap();
}

fn knows_no_group(town: &Town, group: &str) {
    let output = town.site.lyon.output(["failover", group]).unwrap();
    let told = text(&output.stderr);
    assert!(!output.status.success() && told.contains(&format!("there is no group {group}")), "{told}");
}

#[test]
fn what_would_be_wrong_is_refused() {
    let mut town = town(WITNESS);
    let client = town.client(100).unwrap();
    let refused: [(&str, &[&str], &str); 6] = [
        ("lyon", &["failover", GROUP], "the other node serves"),
        ("paris", &["failover", GROUP], "the other node serves"),
        ("lyon", &["failback", GROUP, "--yes"], "this node serves already"),
        ("lyon", &["approve", GROUP], "nothing to approve"),
        ("lyon", &["restore", GROUP, "--yes"], "paris serves, and it is restored from there"),
        ("paris", &["restore", GROUP, "--yes"], "paris serves, where it belongs"),
    ];
    for (node, args, why) in refused {
        town.is_refused(node, args, why).unwrap();
    }
    knows_no_group(&town, "nothing");
    town.goes_on(&client, "paris").unwrap();

    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.is_refused("lyon", &["unmonitor", GROUP], "stands in for").unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    for node in ["lyon", "paris"] {
        town.is_refused(node, &["unmonitor", GROUP], "stands in for").unwrap();
        town.is_refused(node, &["failback", GROUP, "--yes"], "restored first").unwrap();
        town.is_refused(node, &["switchover", GROUP, "--yes"], "restored first").unwrap();
    }
    town.settles_with("lyon").unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon"]).unwrap();
}

#[test]
fn a_replica_that_is_not_whole_is_not_taken_over() {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    let mail = town.site.pairing("mail").unwrap();
    let random = File::open("/dev/urandom").unwrap();
    io::copy(&mut random.take(20_000_000), &mut File::create(mail.source.join("large")).unwrap()).unwrap();
    let options = ["--limit", "100KiB/s", "--no-wait"];
    let site = &town.site;
    site.paris.protect("mail", &site.lyon, &[(&mail.source, &mail.replica)], &options).unwrap();
    site.lyon.cli(["monitor", "mail", "--set", "mail"]).unwrap();
    let serves = || Ok(town.group_at("mail", &site.paris)?["doing"] == "active");
    until("paris serves", Duration::from_secs(30), serves).unwrap();
    let not_complete = "the replica is not complete";
    town.is_refused("lyon", &["switchover", "mail", "--yes"], not_complete).unwrap();
    town.paris_dies().unwrap();
    let failed = || Ok(town.group_at("mail", &town.site.lyon)?["state"] == "failed");
    until("paris is missed", Duration::from_secs(30), failed).unwrap();
    town.is_refused("lyon", &["failover", "mail"], not_complete).unwrap();
    assert_eq!(town.group_at("mail", &town.site.lyon).unwrap()["doing"], "standby");
}

#[test]
fn a_person_suspends_and_resumes_takeovers() {
    let mut town = town(WITNESS);
    town.site.lyon.cli(["takeover", "suspend", GROUP, "--for", "1h"]).unwrap();
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    town.tells("lyon", "no takeover: takeovers are suspended").unwrap();
    assert_eq!(town.monitor_at(&town.site.lyon).unwrap()["doing"], "standby");
    town.site.lyon.cli(["takeover", "resume", GROUP]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon"]).unwrap();
}

#[test]
fn a_suspension_ends_by_itself() {
    let mut town = town(WITNESS);
    town.site.lyon.cli(["takeover", "suspend", GROUP, "--for", "8s"]).unwrap();
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    town.tells("lyon", "no takeover: takeovers are suspended").unwrap();
    town.answers(&client, "lyon", Duration::from_secs(30)).unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon"]).unwrap();
}

#[test]
fn what_a_person_asks_for_is_done_although_takeovers_are_suspended() {
    let mut town = town(WITNESS);
    town.site.lyon.cli(["takeover", "suspend", GROUP, "--for", "1h"]).unwrap();
    let client = town.client(100).unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.settles_with("paris").unwrap();
    town.site.lyon.cli(["takeover", "suspend", GROUP, "--for", "1h"]).unwrap();
    town.paris_dies().unwrap();
    town.tells("lyon", "no takeover: takeovers are suspended").unwrap();
    town.site.lyon.cli(["failover", GROUP]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon", "paris", "lyon"]).unwrap();
}

#[test]
fn what_is_no_longer_watched_stays_up() {
    let town = town(WITNESS);
    let client = town.client(100).unwrap();
    town.site.lyon.cli(["unmonitor", GROUP]).unwrap();
    for name in ["paris", "lyon", "oslo"] {
        assert!(town.monitor_at(town.node(name)).is_err(), "{name} still runs the group");
    }
    town.goes_on(&client, "paris").unwrap();
    assert!(town.site.hosts.paris.has_address(ADDRESS).unwrap());
    knows_no_group(&town, GROUP);
    town.site.replicates(GROUP).unwrap();

    town.monitor(WITNESS).unwrap();
    town.goes_on(&client, "paris").unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.settles_with("lyon").unwrap();
    let answers = client.stop();
    one_after_the_other(&[&answers], &["paris", "lyon"]).unwrap();
    assert_eq!(lost(&answers, &town.notes.replica.join("notes.db")).unwrap(), 0);
}
