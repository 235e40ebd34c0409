//! The replica is the source at one instant at any time, also amid a difference mirror: what is left when it is given up.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use stead_tests::command::{run, until};
use stead_tests::compare::Compare;
use stead_tests::relay::{Flow, Relay};
use stead_tests::site::{Pairing, Site};
use stead_tests::tree;

const FILES: u64 = 600;

/// A replica that lacks an outage's worth of changes, behind a slow line, and the source as it was before the outage.
struct Outage {
    site: Site,
    notes: Pairing,
    relay: Relay,
    before: PathBuf,
}

fn outage() -> Outage {
    let mut site = Site::new().unwrap();
    let relay = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::even(&notes.source, FILES, 20_000, 1).unwrap();
    site.protect(&notes, &["--route", &relay.address()]).unwrap();
    site.settle(&notes).unwrap();
    let before = site.hosts.lyon.store().join("before");
    run(Command::new("cp").arg("-a").arg(&notes.beneath).arg(&before)).unwrap();
    relay.flow(Flow::Cut);
    site.paris.kill();
    // What the source knew is gone, so that everything has to be compared.
    fs::remove_dir_all(site.paris.state().join("sets/notes/source/memory")).unwrap();
    tree::even(&notes.source, FILES * 2 / 3, 20_000, 2).unwrap();
    fs::create_dir(notes.source.join("later")).unwrap();
    let entries = fs::read_dir(&notes.source).unwrap().map(|entry| entry.unwrap().path());
    let moved: Vec<_> = entries.filter(|path| !path.ends_with("later")).take(3).collect();
    for path in moved {
        fs::rename(&path, notes.source.join("later").join(path.file_name().unwrap())).unwrap();
    }
    Outage { site, notes, relay, before }
}

/// Has the replica begun to differ from the source as it was? What moves away while it is read is looked at again.
fn is_amid(outage: &Outage) -> bool {
    let skip = vec![PathBuf::from(".stead-holding")];
    let compare = Compare { skip, ..Compare::default() };
    compare.differences(&outage.before, &outage.notes.replica).is_ok_and(|differences| differences.len() > 20)
}

#[test]
fn a_replica_that_is_given_up_amid_a_difference_mirror_is_the_source_before_the_outage() {
    let mut outage = outage();
    outage.relay.flow(Flow::Through);
    outage.relay.rate(Some(1_000_000));
    outage.site.paris.launch().unwrap();
    until("the mirror is amid", Duration::from_secs(60), || Ok(is_amid(&outage))).unwrap();
    let status = outage.site.lyon.connection("notes").unwrap();
    assert_eq!(status["state"], "mirroring", "{status}");
    assert!(!status["consistent_at"].is_null(), "there is an image to go back to: {status}");
    outage.site.paris.kill();
    outage.site.lyon.cli(["unprotect", "notes", "--force"]).unwrap();
    stead_tests::compare::same(&outage.before, &outage.notes.replica).unwrap();
}

#[test]
fn a_target_that_is_killed_amid_a_difference_mirror_goes_back_as_well() {
    let mut outage = outage();
    outage.relay.flow(Flow::Through);
    outage.relay.rate(Some(1_000_000));
    outage.site.paris.launch().unwrap();
    until("the mirror is amid", Duration::from_secs(60), || Ok(is_amid(&outage))).unwrap();
    outage.site.paris.kill();
    outage.site.lyon.kill();
    outage.site.lyon.launch().unwrap();
    outage.site.lyon.cli(["unprotect", "notes", "--force"]).unwrap();
    stead_tests::compare::same(&outage.before, &outage.notes.replica).unwrap();
}

#[test]
fn after_the_difference_mirror_there_is_nothing_to_go_back_to() {
    let mut outage = outage();
    outage.relay.flow(Flow::Through);
    outage.site.paris.launch().unwrap();
    outage.site.replicates("notes").unwrap();
    outage.site.settle(&outage.notes).unwrap();
    outage.site.paris.kill();
    outage.site.lyon.cli(["unprotect", "notes", "--force"]).unwrap();
    stead_tests::compare::same(&outage.notes.beneath, &outage.notes.replica).unwrap();
}
