//! The replica is the source at one instant at any time, also amid a difference mirror: what is left when it is given up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use stead_tests::command::{run, until};
use stead_tests::compare::Compare;
use stead_tests::host::{Disk, Hosts};
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
    outage_of(Hosts::new().unwrap(), "")
}

/// One on such hosts, with these settings of the plan.
fn outage_of(hosts: Hosts, settings: &str) -> Outage {
    let mut site = Site::on(hosts).unwrap();
    let relay = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::even(&notes.source, FILES, 20_000, 1).unwrap();
    site.protect(&notes, &["--route", &relay.address()]).unwrap();
    site.paris.set_in_plan(settings).unwrap();
    site.settle(&notes).unwrap();
    let before = site.hosts.paris.store().join("before");
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

/// An outage, after which the target's disk has room for little of what the difference mirror overwrites.
struct Crowded {
    outage: Outage,
    ballast: PathBuf,
}

/// Room that is left, in bytes: enough to work, and less than what is written over.
const ROOM: u64 = 5 << 20;

fn crowded(on_no_room: &str) -> Crowded {
    let small = Disk { image_mib: 256, mkfs: &["-J", "size=4"], ..Disk::default() };
    let hosts = Hosts::with_disks(Disk::default(), small).unwrap();
    let outage = outage_of(hosts, &format!("on-no-room = \"{on_no_room}\""));
    let ballast = outage.site.hosts.lyon.store().join("ballast");
    run(Command::new("fallocate").arg("-l").arg(free(&outage).saturating_sub(ROOM).to_string()).arg(&ballast)).unwrap();
    println!("{} KiB are free", free(&outage) >> 10);
    outage.relay.flow(Flow::Through);
    outage.relay.rate(Some(2_000_000));
    Crowded { outage, ballast }
}

fn free(outage: &Outage) -> u64 {
    let store: &Path = &outage.site.hosts.lyon.store();
    rustix::fs::statvfs(store).map(|fs| fs.f_bavail * fs.f_frsize).unwrap()
}

impl Crowded {
    fn launch(&mut self) {
        self.outage.site.paris.launch().unwrap();
    }

    /// Waits until the connection says that there is no room, and for what.
    fn halts(&self) {
        let connection = || self.outage.site.paris.connection("notes").unwrap();
        let halted = || Ok(connection()["state"] == "halted");
        until("it halts", Duration::from_secs(60), halted).unwrap_or_else(|e| panic!("{e:#}: {}", connection()));
        let connection = connection();
        println!("{connection}");
        assert_eq!(connection["cause"], "no-room", "{connection}");
        assert!(connection["reason"].as_str().unwrap().contains("cannot be kept"), "{connection}");
        assert!(!connection["consistent_at"].is_null(), "the image stays: {connection}");
        let told = || Ok(self.outage.site.paris.cli(["alerts"])?.contains("no-room"));
        until("an alert is told", Duration::from_secs(10), told).unwrap();
    }
}

#[test]
fn without_room_for_the_image_of_before_a_difference_mirror_halts_until_there_is() {
    let mut crowded = crowded("halt");
    crowded.launch();
    crowded.halts();
    fs::remove_file(&crowded.ballast).unwrap();
    crowded.outage.site.replicates("notes").unwrap();
    crowded.outage.site.settle(&crowded.outage.notes).unwrap();
}

#[test]
fn a_replica_that_is_given_up_without_room_is_the_source_before_the_outage() {
    let mut crowded = crowded("halt");
    crowded.launch();
    crowded.halts();
    let Outage { site, notes, before, .. } = &mut crowded.outage;
    site.paris.kill();
    site.lyon.cli(["unprotect", "notes", "--force"]).unwrap();
    stead_tests::compare::same(before, &notes.replica).unwrap();
}

#[test]
fn without_room_the_image_of_before_is_let_go_where_the_plan_says_so() {
    let mut crowded = crowded("spoil");
    crowded.launch();
    let Outage { site, notes, .. } = &crowded.outage;
    let spoiled = || {
        let (source, target) = (site.paris.connection("notes")?, site.lyon.connection("notes")?);
        Ok([&source, &target].iter().all(|status| status["consistent_at"].is_null()) && source["state"] == "mirroring")
    };
    until("both say that there is no image", Duration::from_secs(60), spoiled)
        .unwrap_or_else(|e| panic!("{e:#}: {}\n{}", site.paris.connection("notes").unwrap(), site.lyon.log()));
    let alarms = || Ok(site.lyon.cli(["alerts"])?.contains("no-image"));
    until("there is an alert", Duration::from_secs(20), alarms).unwrap();
    site.replicates("notes").unwrap();
    site.settle(notes).unwrap();
    until("it is cleared", Duration::from_secs(20), || alarms().map(|raised| !raised)).unwrap();
    let status = site.paris.connection("notes").unwrap();
    assert!(!status["consistent_at"].is_null(), "the mirror ended: {status}");
}
