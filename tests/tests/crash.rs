//! Crash consistency: the replica at any moment is a database that opens.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use stead_tests::command::run;
use stead_tests::load::{Journal, Load, Options, examine_copy};
use stead_tests::postgres::Cluster;
use stead_tests::rng::Rng;
use stead_tests::site::Site;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");

fn samples() -> u32 {
    if std::env::var_os("STEAD_SOAK").is_some() { 100 } else { 15 }
}

#[test]
fn sqlite_with_a_write_ahead_log() {
    sqlite(Journal::Wal, "strict");
}

#[test]
fn sqlite_with_a_rollback_journal() {
    sqlite(Journal::Rollback, "strict");
}

#[test]
fn sqlite_with_a_write_ahead_log_in_order_flush() {
    sqlite(Journal::Wal, "flush");
}

#[test]
fn sqlite_with_a_rollback_journal_in_order_flush() {
    sqlite(Journal::Rollback, "flush");
}

fn sqlite(journal: Journal, order: &str) {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    site.protect(&notes, &["--order", order]).unwrap();
    let options = Options {
        database: notes.source.join("db"),
        acknowledgements: site.hosts.paris.dir().join("acknowledged"),
        journal,
        rate: 0,
        seconds: 0,
    };
    let mut load = Load::start(Path::new(LOAD), &site.hosts.paris, &options).unwrap();
    site.paris.wait("notes").unwrap();
    let seed = Rng::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let (mut first, mut last) = (None, 0);
    for sample in 0..samples() {
        std::thread::sleep(Duration::from_micros(rng.below(400_000)));
        load.check().unwrap();
        site.lyon.host().signal(Signal::STOP);
        let found = examine_copy(&notes.replica.join("db"), &site.hosts.lyon.dir().join("copy"));
        // Read last: a stop is not at once.
        let told = load.acknowledged().unwrap().transactions;
        site.lyon.host().signal(Signal::CONT);
        let found = found.unwrap_or_else(|e| panic!("sample {sample}, seed {seed}: {e:#}"));
        assert!(found.transactions >= last, "sample {sample} went back from {last} to {found:?}");
        assert!(found.transactions <= told + 1, "{found:?}, but only {told} were confirmed");
        last = found.transactions;
        first.get_or_insert(last);
    }
    assert!(first.is_some_and(|first| last > first + 20), "nothing arrived while the load ran: {first:?} to {last}");
    load.kill();
    site.settle_in(order, &notes).unwrap();
    let told = stead_tests::load::acknowledged(&options.acknowledgements).unwrap();
    let found = examine_copy(&notes.replica.join("db"), &site.hosts.lyon.dir().join("copy")).unwrap();
    assert!(found.transactions >= told.transactions, "{found:?} of {told:?}");
}

#[test]
fn sqlite_survives_the_loss_of_the_whole_source() {
    let mut site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    site.protect(&notes, &[]).unwrap();
    let options = Options {
        database: notes.source.join("db"),
        acknowledgements: site.hosts.paris.dir().join("acknowledged"),
        journal: Journal::Wal,
        rate: 300,
        seconds: 0,
    };
    let load = Load::start(Path::new(LOAD), &site.hosts.paris, &options).unwrap();
    stead_tests::command::until("300 commits", Duration::from_secs(30), || Ok(load.acknowledged()?.transactions > 300))
        .unwrap();
    site.paris.kill_host();
    let told = load.acknowledged().unwrap().transactions;
    let lyon = &site.lyon;
    stead_tests::command::until("lyon applied what it has", Duration::from_secs(20), || {
        Ok(lyon.state_of("notes")? != "replicating")
    })
    .unwrap();
    let found = examine_copy(&notes.replica.join("db"), &site.hosts.lyon.dir().join("copy")).unwrap();
    println!("{told} confirmed, {} on lyon", found.transactions);
    assert!(found.transactions + 100 > told, "{found:?} of {told}");
}

#[test]
fn postgresql_recovers_on_a_copied_replica() {
    let site = Site::new().unwrap();
    let notes = site.pairing("pgdata").unwrap();
    fs::remove_dir(&notes.source).unwrap();
    let host = &site.hosts.paris;
    let mut cluster = Cluster::create(host, &notes.source).unwrap();
    site.protect(&notes, &[]).unwrap();
    cluster.start().unwrap();
    cluster.fill(2).unwrap();
    site.paris.wait("pgdata").unwrap();
    let mut bench = cluster.load(300).unwrap();
    let mut rng = Rng::new(Rng::seed());
    let mut last = 0;
    for sample in 0..samples().div_ceil(5) {
        std::thread::sleep(Duration::from_millis(1_000 + rng.below(1_500)));
        let copy = site.hosts.lyon.disk().join("copy");
        site.lyon.host().signal(Signal::STOP);
        let copied = run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&notes.replica).arg(&copy));
        site.lyon.host().signal(Signal::CONT);
        copied.unwrap();
        let _ = fs::remove_file(copy.join("postmaster.pid"));
        let mut replica = Cluster::at(&site.hosts.lyon, &copy).unwrap();
        replica.start().unwrap_or_else(|e| panic!("sample {sample}: {e:#}"));
        let found = replica.examine().unwrap_or_else(|e| panic!("sample {sample}: {e:#}"));
        println!("sample {sample}: {found} transactions");
        assert!(found > last, "nothing arrived after {last}");
        last = found;
        replica.kill();
        fs::remove_dir_all(&copy).unwrap();
    }
    let _ = bench.kill();
    let _ = bench.wait();
    cluster.kill();
    site.settle(&notes).unwrap();
}
