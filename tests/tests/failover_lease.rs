//! Past the lease nothing is changed, also where nobody is left who takes anything down.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use stead_tests::command::until;
use stead_tests::run::signal;
use stead_tests::service::{Client, one_after_the_other};
use stead_tests::town::{GROUP, Town};
use stead_tests::writer::Writer;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(20);

fn town() -> Town {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    town
}

fn outside(town: &Town) -> PathBuf {
    town.site.hosts.paris.disk().join("notes/outside")
}

/// When lyon answered a client first.
fn lyon_served(client: &Client) -> SystemTime {
    let first = client.answers().into_iter().find(|answered| answered.holder == "lyon").expect("lyon answered");
    SystemTime::now() - (Instant::now() - first.at)
}

/// Paris is cut off, and neither its daemon nor its watchdog does anything any more.
fn paris_is_left_alone(town: &Town, what: Signal) {
    town.site.hosts.paris.plugged(false).unwrap();
    signal(town.site.paris.pid(), what);
    let watchdogs = town.site.paris.watchdogs();
    assert_eq!(watchdogs.len(), 1, "{watchdogs:?}");
    watchdogs.into_iter().for_each(|pid| signal(pid, Signal::KILL));
}

/// Of the file beneath: a page to which a write waits is not read either.
fn numbers(town: &Town) -> Vec<u64> {
    let beneath = town.site.hosts.paris.beneath(&outside(town));
    fs::read_to_string(beneath).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

fn nothing_is_written_past_the_lease(what: Signal, return_to_life: impl FnOnce(&mut Town)) {
    let mut town = town();
    let (client, own) = (town.client(100).unwrap(), town.client_on(&town.site.hosts.paris, 100).unwrap());
    let writer = Writer::start(&town.site.hosts.paris, &outside(&town)).unwrap();
    paris_is_left_alone(&town, what);
    town.answers(&client, "lyon", SOON).unwrap();
    let (last, served) = (writer.last().unwrap().unwrap(), lyon_served(&client));
    assert!(last.at < served, "{last:?} was written when lyon served, since {served:?}");
    town.goes_on(&client, "lyon").unwrap();
    assert_eq!(writer.last().unwrap().unwrap(), last);
    assert_eq!(numbers(&town).last(), Some(&last.number));
    assert!(fs::read(town.site.hosts.paris.disk().join("notes/notes.db")).is_ok(), "reads go on");
    writer.kill().unwrap();
    return_to_life(&mut town);
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    one_after_the_other(&[&client.stop(), &own.stop()], &["paris", "lyon"]).unwrap();
}

#[test]
fn without_daemon_and_watchdog_nothing_is_written_past_the_lease() {
    nothing_is_written_past_the_lease(Signal::KILL, |town| {
        town.site.paris.kill();
        town.site.paris.launch().unwrap();
        town.site.hosts.paris.plugged(true).unwrap();
    });
}

#[test]
fn while_the_daemon_hangs_nothing_is_written_past_the_lease() {
    nothing_is_written_past_the_lease(Signal::STOP, |town| {
        signal(town.site.paris.pid(), Signal::CONT);
        town.site.hosts.paris.plugged(true).unwrap();
    });
}

#[test]
fn writes_past_the_lease_are_refused_where_the_plan_says_so() {
    let town = town();
    let lyon = &town.site.lyon;
    let plan = lyon.cli(["plan", "show"]).unwrap().replacen("[[group]]", "[[group]]\non-lease-lost = \"stop\"", 1);
    let path = lyon.host().dir().join("plan.toml");
    fs::write(&path, plan).unwrap();
    lyon.cli(["plan".as_ref(), "apply".as_ref(), path.as_os_str()]).unwrap();
    let client = town.client(100).unwrap();
    town.goes_on(&client, "paris").unwrap();
    let writer = Writer::start(&town.site.hosts.paris, &outside(&town)).unwrap();
    paris_is_left_alone(&town, Signal::KILL);
    town.answers(&client, "lyon", SOON).unwrap();
    let (last, served) = (writer.last().unwrap().unwrap(), lyon_served(&client));
    assert!(last.at < served && writer.refused().unwrap() > 0, "{last:?}, {served:?}");
    assert_eq!(numbers(&town).last(), Some(&last.number));
    town.goes_on(&client, "lyon").unwrap();
}

/// Witness and target are gone, and nobody takes over: what waited goes on when one of them is back.
#[test]
fn what_waits_goes_on_with_the_next_lease() {
    let mut town = town();
    let client = town.client(100).unwrap();
    let writer = Writer::start(&town.site.hosts.paris, &outside(&town)).unwrap();
    town.oslo.kill();
    town.site.lyon.kill();
    town.does("paris", "down").unwrap();
    let last = writer.last().unwrap().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(writer.last().unwrap().unwrap(), last, "it waits");
    town.oslo.launch().unwrap();
    town.is_served_by("paris").unwrap();
    until("the writer goes on", SOON, || Ok(writer.last()?.is_some_and(|now| now.number > last.number + 10))).unwrap();
    let written = numbers(&town);
    assert!(written.iter().copied().eq(1..=written.len() as u64), "each number once and in order");
    town.site.lyon.launch().unwrap();
    town.settles_with("paris").unwrap();
    town.site.lyon.cli(["unmonitor", GROUP]).unwrap();
    let last = writer.last().unwrap().unwrap();
    until("without a group it goes on", SOON, || Ok(writer.last()?.is_some_and(|now| now.number > last.number + 500)))
        .unwrap();
    one_after_the_other(&[&client.stop()], &["paris"]).unwrap();
}
