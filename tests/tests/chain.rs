//! A chain: the replica on a middle node is itself the source of the next connection.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use stead_tests::command::{run, until};
use stead_tests::compare::{Compare, same};
use stead_tests::host::{Disk, Hosts};
use stead_tests::load::{Found, Journal, Load, Options, acknowledged, examine_copy};
use stead_tests::node::Node;
use stead_tests::random::Workload;
use stead_tests::relay::{Flow, Relay};
use stead_tests::rng::Rng;
use stead_tests::site::{Pairing, Site};
use stead_tests::tree;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const HANDED_ON: &str = "notes-c";

/// Paris is the source, lyon keeps its replica, and metz keeps that of lyon.
struct Chain {
    metz: Node,
    site: Site,
    notes: Pairing,
    /// What metz keeps.
    end: PathBuf,
    near: Relay,
    far: Relay,
}

impl Chain {
    /// A chain whose source holds something already.
    fn new() -> Chain {
        Chain::on(Hosts::new().unwrap())
    }

    fn on(hosts: Hosts) -> Chain {
        let site = Site::on(hosts).unwrap();
        let notes = site.pairing("notes").unwrap();
        tree::plain(&notes.source, 300, 8 << 20, 3).unwrap();
        tree::odd(&notes.source).unwrap();
        let near = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
        site.protect(&notes, &["--route", &near.address()]).unwrap();
        let metz = Node::start_as(&site.hosts.paris, "metz", 7131).unwrap();
        site.lyon.join(&metz).unwrap();
        let far = Relay::start(&site.hosts.paris, 7141, &metz.listen()).unwrap();
        let end = site.hosts.paris.disk().join("end");
        let chain = Chain { metz, site, notes, end, near, far };
        chain.hand_on(&[]);
        chain
    }

    fn hand_on(&self, options: &[&str]) {
        let route = self.far.address();
        let options: Vec<_> = ["--route", &route].iter().chain(options).copied().collect();
        let lyon = &self.site.lyon;
        lyon.protect(HANDED_ON, &self.metz, &[(&self.notes.replica, &self.end)], &options).unwrap();
    }

    fn state(&self) -> String {
        self.site.lyon.state_of(HANDED_ON).unwrap()
    }

    fn replicates(&self) {
        let both = || Ok(self.site.paris.state_of("notes")? == "replicating" && self.state() == "replicating");
        until("both connections replicate", Duration::from_secs(60), both)
            .unwrap_or_else(|e| panic!("{e}: {}", self.site.lyon.status().unwrap()));
    }

    /// Waits along the chain; then all three trees are the same.
    fn settle(&self) {
        self.site.paris.wait("notes").unwrap();
        self.site.lyon.wait(HANDED_ON).unwrap();
        same(&self.notes.beneath, &self.notes.replica).unwrap_or_else(|e| panic!("paris and lyon: {e:#}"));
        same(&self.notes.replica, &self.end).unwrap_or_else(|e| panic!("lyon and metz: {e:#}"));
    }

    /// The same after something was compared: what is allocated and never written is equal to a hole there.
    fn settle_compared(&self) {
        self.settle_load();
        let compare = Compare { holes: false, ..Compare::default() };
        compare.same(&self.notes.beneath, &self.notes.replica).unwrap_or_else(|e| panic!("paris and lyon: {e:#}"));
        compare.same(&self.notes.replica, &self.end).unwrap_or_else(|e| panic!("lyon and metz: {e:#}"));
    }

    /// Waits until metz has the begin of the load.
    fn settle_load(&self) {
        self.site.paris.wait("notes").unwrap();
        self.site.lyon.wait(HANDED_ON).unwrap();
    }

    fn work(&self, seed: u64, operations: u64) {
        Workload { seed, workers: 2, operations }.run(Path::new(LOAD), &self.notes.source).unwrap();
    }

    fn load(&self) -> (Options, Load) {
        let options = Options {
            database: self.notes.source.join("db"),
            acknowledgements: self.site.hosts.paris.dir().join("acknowledged"),
            journal: Journal::Wal,
            rate: 100,
            seconds: 0,
        };
        let load = Load::start(Path::new(LOAD), &self.site.hosts.paris, &options).unwrap();
        (options, load)
    }

    /// What the application would find on metz if it took over now; `None`: its image is yet to be gone back to.
    fn sample(&self) -> Option<Found> {
        let is_image = || {
            let connection = self.metz.connection(HANDED_ON).ok()?;
            let mut undo = Command::new("find");
            undo.arg(self.metz.state()).args(["-name", "undo", "-type", "f"]);
            let is_there = run(&mut undo).is_ok_and(|found| found.is_empty());
            (is_there && !connection["consistent_at"].is_null()).then_some(())
        };
        is_image()?;
        self.metz.signal(Signal::STOP);
        let found = examine_copy(&self.end.join("db"), &self.site.hosts.paris.dir().join("copy"));
        self.metz.signal(Signal::CONT);
        is_image()?;
        Some(found.unwrap_or_else(|e| panic!("a sample: {e:#}\n{}", self.metz.log())))
    }

    /// Takes samples for that long; each is whole, and has no fewer commits than the one before.
    fn watch(&self, load: &Load, last: &mut u64, time: Duration) -> u32 {
        let begin = std::time::Instant::now();
        let mut samples = 0;
        while begin.elapsed() < time {
            std::thread::sleep(Duration::from_millis(150));
            let Some(found) = self.sample() else { continue };
            let told = load.acknowledged().unwrap().transactions;
            assert!(found.transactions >= *last, "it went back from {last} to {found:?}");
            assert!(found.transactions <= told + 1, "{found:?} of {told} that were made");
            (*last, samples) = (found.transactions, samples + 1);
        }
        samples
    }
}

/// How often something was mirrored to metz, as lyon's log says.
fn mirrors(chain: &Chain) -> usize {
    let log = fs::read_to_string(chain.site.hosts.lyon.dir().join("lyon.log")).unwrap();
    log.lines().filter(|line| line.contains(HANDED_ON) && line.contains("mirrored")).count()
}

#[test]
fn a_replica_is_handed_on() {
    let chain = Chain::new();
    same(&chain.notes.beneath, &chain.end).unwrap();
    let told = chain.site.lyon.connection(HANDED_ON).unwrap();
    assert_eq!((told["capture"].as_str(), told["state"].as_str()), (Some("relay"), Some("replicating")), "{told}");
    let before = mirrors(&chain);
    for round in 0..4 {
        chain.work(round + 1, 300);
        chain.settle();
    }
    assert_eq!(mirrors(&chain), before, "what is done on paris is handed on as it is, not compared");
}

#[test]
fn what_was_committed_is_whole_at_the_end_of_the_chain() {
    let chain = Chain::new();
    let (options, load) = chain.load();
    let mut last = 0;
    chain.settle_load();
    let samples = chain.watch(&load, &mut last, Duration::from_secs(6));
    assert!(samples > 10 && last > 50, "{samples} samples, {last} commits");
    chain.site.lyon.cli(["verify", HANDED_ON]).unwrap();
    load.kill();
    chain.settle();
    let found = examine_copy(&chain.end.join("db"), &chain.site.hosts.paris.dir().join("copy")).unwrap();
    assert!(found.transactions >= acknowledged(&options.acknowledgements).unwrap().transactions, "{found:?}");
}

/// Kills the daemon that `node` names and starts it again, three times, amid a load.
fn dies_under_load(node: fn(&mut Chain) -> &mut Node) {
    let mut chain = Chain::new();
    let (_, load) = chain.load();
    let seed = Rng::seed();
    println!("seed {seed}");
    let mut last = 0;
    chain.settle_load();
    for round in 0..3 {
        chain.watch(&load, &mut last, Duration::from_secs(1));
        chain.work(seed + 2 * round, 60);
        node(&mut chain).kill();
        chain.watch(&load, &mut last, Duration::from_secs(1));
        chain.work(seed + 2 * round + 1, 60);
        node(&mut chain).launch().unwrap();
        chain.replicates();
    }
    let before = last;
    chain.watch(&load, &mut last, Duration::from_secs(2));
    assert!(last > before, "nothing more arrives");
    load.kill();
    chain.settle_compared();
}

#[test]
fn the_middle_dies_under_load() {
    dies_under_load(|chain| &mut chain.site.lyon);
}

#[test]
fn the_source_dies_under_load() {
    dies_under_load(|chain| &mut chain.site.paris);
}

#[test]
fn the_end_dies_under_load() {
    dies_under_load(|chain| &mut chain.metz);
}

#[test]
fn the_middle_loses_power_under_load() {
    let cuttable = Disk { image_mib: 1024, mkfs: &[], can_lose_power: true };
    let mut chain = Chain::on(Hosts::with_disks(Disk::default(), cuttable).unwrap());
    let (_, load) = chain.load();
    let mut last = 0;
    let seed = Rng::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    chain.settle_load();
    for number in 0..4 {
        chain.work(seed + number, 100);
        std::thread::sleep(Duration::from_millis(rng.below(300)));
        chain.site.lyon.kill_host();
        println!("{:?}", chain.site.hosts.lyon.lose_power(seed + number).unwrap());
        chain.site.lyon.reboot().unwrap();
        chain.site.lyon.launch().unwrap();
        chain.watch(&load, &mut last, Duration::from_secs(1));
        if rng.one_in(2) {
            chain.replicates();
        }
    }
    chain.replicates();
    load.kill();
    chain.settle_compared();
    chain.site.lyon.cli(["verify", HANDED_ON]).unwrap();
}

/// What metz is left with when the chain is given up amid all that.
#[test]
fn the_end_takes_over_when_the_middle_is_gone() {
    let mut chain = Chain::new();
    let (_, load) = chain.load();
    let mut last = 0;
    chain.settle_load();
    chain.watch(&load, &mut last, Duration::from_secs(1));
    chain.site.lyon.kill();
    chain.work(50, 200);
    chain.site.lyon.launch().unwrap();
    // Amid the comparison, or not: it goes back to the last point.
    chain.site.lyon.kill();
    let told = load.acknowledged().unwrap().transactions;
    chain.metz.cli(["unprotect", HANDED_ON, "--force"]).unwrap();
    let found = examine_copy(&chain.end.join("db"), &chain.site.hosts.paris.dir().join("copy")).unwrap();
    assert!(found.transactions >= last && found.transactions <= told + 1, "{found:?}, {last} before, {told} made");
}

#[test]
fn either_line_is_cut_under_load() {
    let chain = Chain::new();
    let (_, load) = chain.load();
    let mut last = 0;
    chain.settle_load();
    let seed = Rng::seed();
    println!("seed {seed}");
    for (round, line) in [&chain.near, &chain.far, &chain.near].into_iter().enumerate() {
        line.flow(Flow::Cut);
        chain.work(seed + round as u64, 100);
        chain.watch(&load, &mut last, Duration::from_secs(1));
        line.flow(Flow::Through);
        chain.replicates();
        chain.watch(&load, &mut last, Duration::from_secs(1));
    }
    load.kill();
    chain.settle_compared();
}

#[test]
fn what_is_not_received_is_not_said_to_be_handed_on() {
    let chain = Chain::new();
    chain.near.flow(Flow::Cut);
    let waits = || {
        let told = chain.site.lyon.connection(HANDED_ON)?;
        let lag = told["lag_seconds"].as_f64().unwrap_or_default();
        Ok(told["state"] == "behind" && told["reason"].as_str().is_some_and(|why| why.contains("paris")) && lag > 2.0)
    };
    until("lyon says what it waits for", Duration::from_secs(40), waits)
        .unwrap_or_else(|e| panic!("{e}: {}", chain.site.lyon.status().unwrap()));
    chain.near.flow(Flow::Through);
    chain.replicates();
    chain.settle();
}

#[test]
fn what_is_handed_on_amid_the_first_mirror_is_whole_when_protect_returns() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source, 200, 12 << 20, 9).unwrap();
    let near = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
    near.rate(Some(3 << 20));
    let to = format!("{}={}", notes.source.display(), notes.replica.display());
    let source = notes.source.display().to_string();
    let near_route = near.address();
    let args =
        ["protect", &source, "--on", "lyon", "--set", "notes", "--map", &to, "--route", &near_route, "--no-wait"];
    site.paris.cli(args).unwrap();
    let metz = Node::start_as(&site.hosts.paris, "metz", 7131).unwrap();
    site.lyon.join(&metz).unwrap();
    let end = site.hosts.paris.disk().join("end");
    site.lyon.protect(HANDED_ON, &metz, &[(&notes.replica, &end)], &[]).unwrap();
    same(&notes.beneath, &end).unwrap();
}

#[test]
fn a_chain_of_four() {
    let chain = Chain::new();
    let nice = Node::start_as(&chain.site.hosts.lyon, "nice", 7132).unwrap();
    chain.metz.join(&nice).unwrap();
    let last = chain.site.hosts.lyon.disk().join("last");
    chain.metz.protect("notes-d", &nice, &[(&chain.end, &last)], &[]).unwrap();
    for round in 0..3 {
        chain.work(round + 60, 200);
        chain.settle();
        chain.metz.wait("notes-d").unwrap();
        same(&chain.end, &last).unwrap_or_else(|e| panic!("metz and nice: {e:#}"));
    }
    for (node, set) in [(&chain.site.lyon, HANDED_ON), (&chain.metz, "notes-d")] {
        node.cli(["verify", set]).unwrap();
    }
}

#[test]
fn other_rules_hold_along_the_chain() {
    let chain = Chain::new();
    let paris = &chain.site.paris;
    let file = chain.site.hosts.paris.dir().join("plan.toml");
    let plan = paris.cli(["plan", "show"]).unwrap();
    let plan = plan.replacen("source = \"paris\"\n", "source = \"paris\"\nrules = { exclude = [\"*.bak\"] }\n", 1);
    fs::write(&file, plan).unwrap();
    paris.cli(["plan", "apply", &file.display().to_string()]).unwrap();
    let told = |node: &Node| Ok(node.cli(["plan", "show"])?.contains("*.bak"));
    until("metz knows the rules", Duration::from_secs(20), || told(&chain.metz)).unwrap();
    fs::write(chain.notes.source.join("a.bak"), "left out").unwrap();
    fs::write(chain.notes.source.join("a"), "taken").unwrap();
    chain.settle_load();
    let there = |name: &str| chain.end.join(name).exists();
    assert_eq!((there("a"), there("a.bak")), (true, false));
}

#[test]
fn what_is_handed_on_no_longer_is_left_to_its_keeper() {
    let chain = Chain::new();
    chain.site.lyon.cli(["unprotect", HANDED_ON]).unwrap();
    fs::write(chain.end.join("mine"), "now").unwrap();
    fs::remove_file(chain.end.join("mine")).unwrap();
    chain.work(70, 100);
    chain.site.paris.wait("notes").unwrap();
    chain.hand_on(&["--seeded", "--yes"]);
    chain.settle_compared();
}

#[test]
fn the_end_of_the_origin_ends_what_hands_it_on() {
    let chain = Chain::new();
    let lyon = &chain.site.lyon;
    let refused = lyon.output(["unprotect", "notes", "--force"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(HANDED_ON), "{said}");
    chain.site.paris.cli(["unprotect", "notes"]).unwrap();
    let ended = || Ok(!chain.metz.status()?.to_string().contains(HANDED_ON));
    until("metz is told", Duration::from_secs(20), ended).unwrap();
    fs::write(chain.end.join("mine"), "now").unwrap();
    fs::write(chain.notes.replica.join("mine"), "now").unwrap();
}

#[test]
fn options_that_only_a_capture_has_are_refused() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    site.protect(&notes, &[]).unwrap();
    let metz = Node::start_as(&site.hosts.paris, "metz", 7131).unwrap();
    site.lyon.join(&metz).unwrap();
    let replica = notes.replica.display().to_string();
    for (options, expected) in [
        (["--mode", "sync"], "answered on its source"),
        (["--order", "flush"], "captured on its source"),
        (["--exclude", "*.tmp"], "all the names"),
    ] {
        let args = ["protect", &replica, "--on", "metz", "--set", HANDED_ON, options[0], options[1]];
        let refused = site.lyon.output(args).unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(expected), "{options:?}: {said}");
    }
}
