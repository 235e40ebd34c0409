//! Synchronous connections: what a commit confirmed is on the target, whatever happens to the source.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use stead_tests::command::until;
use stead_tests::load::{Journal, Load, Options, examine_copy};
use stead_tests::rng::Rng;
use stead_tests::site::{Pairing, Site};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");

fn synchronous() -> (Site, Pairing) {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    site.protect(&notes, &["--mode", "sync"]).unwrap();
    becomes(&site, "in-sync");
    (site, notes)
}

fn becomes(site: &Site, state: &str) {
    let connection = || site.paris.connection("notes").unwrap();
    let told = until(state, Duration::from_secs(60), || Ok(connection()["sync"]["state"] == state));
    told.unwrap_or_else(|e| panic!("{e:#}: {}\n{}", connection(), site.paris.log()));
}

fn load(site: &Site, notes: &Pairing, journal: Journal) -> (Load, Options) {
    let options = Options {
        database: notes.source.join("db"),
        acknowledgements: site.hosts.paris.dir().join("acknowledged"),
        journal,
        rate: 0,
        seconds: 0,
    };
    (Load::start(Path::new(LOAD), &site.hosts.paris, &options).unwrap(), options)
}

#[test]
fn no_confirmed_commit_is_missing_when_the_source_dies() {
    let rounds = if std::env::var_os("STEAD_SOAK").is_some() { 50 } else { 4 };
    let seed = Rng::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let mut confirmed = 0;
    for round in 0..rounds {
        let (mut site, notes) = synchronous();
        let journal = if round % 2 == 0 { Journal::Wal } else { Journal::Rollback };
        let (load, _) = load(&site, &notes, journal);
        until("20 commits", Duration::from_secs(30), || Ok(load.acknowledged()?.transactions > 20)).unwrap();
        std::thread::sleep(Duration::from_micros(rng.below(1_000_000)));
        site.paris.kill_host();
        let told = load.acknowledged().unwrap().transactions;
        site.lyon.cli(["unprotect", "notes", "--force"]).unwrap();
        let found = examine_copy(&notes.replica.join("db"), &site.hosts.lyon.dir().join("copy")).unwrap();
        assert!(found.transactions >= told, "round {round}, seed {seed}: {found:?}, and {told} were confirmed");
        confirmed += told;
    }
    println!("{rounds} sources died, {confirmed} commits were confirmed, none is missing");
}

#[test]
fn a_target_that_does_not_answer_makes_it_fall_back_and_level_again_by_itself() {
    let (site, notes) = synchronous();
    let (load, options) = load(&site, &notes, Journal::Wal);
    until("20 commits", Duration::from_secs(30), || Ok(load.acknowledged()?.transactions > 20)).unwrap();
    site.lyon.host().signal(Signal::STOP);
    let begin = Instant::now();
    becomes(&site, "fallen-back");
    let held = begin.elapsed();
    println!("the application was held up for {held:?} at most");
    assert!(held < Duration::from_secs(15), "{held:?}, and the time-out is ten seconds");
    let told = load.acknowledged().unwrap().transactions;
    let goes_on = || Ok(load.acknowledged()?.transactions > told + 20);
    until("commits go on without the target", Duration::from_secs(10), goes_on).unwrap();
    site.lyon.host().signal(Signal::CONT);
    becomes(&site, "in-sync");
    load.kill();
    site.settle(&notes).unwrap();
    let told = stead_tests::load::acknowledged(&options.acknowledgements).unwrap();
    let found = examine_copy(&notes.replica.join("db"), &site.hosts.lyon.dir().join("copy")).unwrap();
    assert!(found.transactions >= told.transactions, "{found:?} of {told:?}");
}
