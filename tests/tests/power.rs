//! Power cuts, of disks that forget what was not flushed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use stead_tests::command::{text, until};
use stead_tests::compare::Compare;
use stead_tests::host::{Disk, Hosts};
use stead_tests::load::{Journal, Load, Options, examine_copy};
use stead_tests::random::Workload;
use stead_tests::rng::Rng;
use stead_tests::site::{Pairing, Site};
use stead_tests::tree;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const CUTTABLE: Disk = Disk { image_mib: 1024, mkfs: &[], can_lose_power: true };

fn cuts() -> u64 {
    if std::env::var_os("STEAD_SOAK").is_some() { 50 } else { 5 }
}

fn database(site: &Site, notes: &Pairing) -> Options {
    Options {
        database: notes.source.join("db"),
        acknowledgements: site.hosts.paris.dir().join("acknowledged"),
        journal: Journal::Wal,
        rate: 200,
        seconds: 0,
    }
}

/// Where one side lost blocks it has holes; zeroes on the other are equal to them.
fn content() -> Compare {
    Compare { holes: false, ..Compare::default() }
}

fn verified_equal(site: &Site, set: &str) {
    let verified = site.paris.output(["verify", set]).unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}{}", text(&verified.stdout), text(&verified.stderr));
}

#[test]
fn the_target_loses_power_under_load() {
    let hosts = Hosts::with_disks(Disk::default(), CUTTABLE).unwrap();
    let mut site = Site::on(hosts).unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source.join("plain"), 200, 5 << 20, 1).unwrap();
    site.protect(&notes, &[]).unwrap();
    let options = database(&site, &notes);
    let mut load = Load::start(Path::new(LOAD), &site.hosts.paris, &options).unwrap();
    let seed = Rng::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    for number in 0..cuts() {
        let workload = Workload { seed: seed + number, workers: 1, operations: 300 };
        workload.run(Path::new(LOAD), &notes.source).unwrap();
        std::thread::sleep(Duration::from_millis(rng.below(300)));
        site.lyon.kill_host();
        println!("{:?}", site.hosts.lyon.lose_power(seed + number).unwrap());
        site.lyon.launch().unwrap();
        load.check().unwrap();
        // The next cut comes while it catches up, or later.
        if rng.one_in(2) {
            site.replicates("notes").unwrap();
        }
    }
    load.kill();
    site.replicates("notes").unwrap();
    site.settle_with(&notes, &content()).unwrap();
    verified_equal(&site, "notes");
    examine_copy(&notes.replica.join("db"), &site.hosts.lyon.dir().join("copy")).unwrap();
}

#[test]
fn what_the_target_has_acknowledged_outlives_its_power() {
    let hosts = Hosts::with_disks(Disk::default(), CUTTABLE).unwrap();
    let mut site = Site::on(hosts).unwrap();
    let notes = site.pairing("notes").unwrap();
    site.protect(&notes, &[]).unwrap();
    let seed = Rng::seed();
    println!("seed {seed}");
    for number in 0..cuts() {
        let workload = Workload { seed: seed + number, workers: 2, operations: 300 };
        workload.run(Path::new(LOAD), &notes.source).unwrap();
        site.paris.wait("notes").unwrap();
        // The source cannot help.
        site.hosts.lyon.link(false).unwrap();
        site.lyon.kill_host();
        println!("{:?}", site.hosts.lyon.lose_power(seed + number).unwrap());
        site.lyon.launch().unwrap();
        let is_same = || Ok(content().same(&notes.beneath, &notes.replica).is_ok());
        let restored = until("the journal is applied", Duration::from_secs(10), is_same);
        if restored.is_err() {
            panic!("cut {number} of seed {seed}: {:#}", content().same(&notes.beneath, &notes.replica).unwrap_err());
        }
        site.hosts.lyon.link(true).unwrap();
        site.replicates("notes").unwrap();
    }
    site.settle_with(&notes, &content()).unwrap();
}

#[test]
fn the_source_loses_power_and_wins_over_its_replica() {
    let hosts = Hosts::with_disks(CUTTABLE, Disk::default()).unwrap();
    let mut site = Site::on(hosts).unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source.join("plain"), 200, 5 << 20, 1).unwrap();
    site.protect(&notes, &[]).unwrap();
    let seed = Rng::seed();
    println!("seed {seed}");
    for number in 0..cuts() {
        let options = database(&site, &notes);
        let load = Load::start(Path::new(LOAD), &site.hosts.paris, &options).unwrap();
        let workload = Workload { seed: seed + number, workers: 1, operations: 300 };
        workload.run(Path::new(LOAD), &notes.source).unwrap();
        // Nobody syncs it: the source forgets it, the replica may have it.
        fs::write(notes.source.join(format!("forgotten-{number}")), [7; 9_000]).unwrap();
        site.paris.kill_host();
        drop(load);
        println!("{:?}", site.hosts.paris.lose_power(seed + number).unwrap());
        site.paris.reboot().unwrap();
        site.paris.launch().unwrap();
        site.replicates("notes").unwrap();
        site.settle_with(&notes, &content()).unwrap_or_else(|e| panic!("cut {number} of seed {seed}: {e:#}"));
        let told = stead_tests::load::acknowledged(&options.acknowledgements).unwrap();
        let found = examine_copy(&notes.replica.join("db"), &site.hosts.lyon.dir().join("copy")).unwrap();
        assert!(found.transactions >= told.transactions, "cut {number} of seed {seed}: {found:?} of {told:?}");
    }
    verified_equal(&site, "notes");
}
