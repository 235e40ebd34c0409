//! One fault at a time: what the status says meanwhile, that it goes on by itself, and that only what differs is sent.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use stead_tests::command::until;
use stead_tests::host::{Disk, Hosts};
use stead_tests::load::{Journal, Load, Options};
use stead_tests::node::Node;
use stead_tests::random::Workload;
use stead_tests::relay::{Flow, Relay};
use stead_tests::rng::Rng;
use stead_tests::site::{Pairing, Site};
use stead_tests::tree;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");

/// A protected tree behind a line that can be broken.
struct Far {
    site: Site,
    notes: Pairing,
    relay: Relay,
}

impl Far {
    fn new(files: u64, bytes: u64) -> Far {
        Far::on(Hosts::new().unwrap(), files, bytes)
    }

    fn on(hosts: Hosts, files: u64, bytes: u64) -> Far {
        let site = Site::on(hosts).unwrap();
        let relay = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
        let notes = site.pairing("notes").unwrap();
        tree::plain(&notes.source, files, bytes, 1).unwrap();
        site.protect(&notes, &["--route", &relay.address()]).unwrap();
        site.settle(&notes).unwrap();
        Far { site, notes, relay }
    }

    fn connection(&self) -> Value {
        self.site.paris.connection("notes").unwrap()
    }

    fn becomes(&self, state: &str, limit: u64) {
        let told = until(state, Duration::from_secs(limit), || Ok(self.connection()["state"] == state));
        told.unwrap_or_else(|e| panic!("{e:#}: {}\n{}", self.connection(), self.site.paris.log()));
    }

    /// Bytes that arrive at the target while `work` goes on.
    fn carried(&self, work: impl FnOnce()) -> u64 {
        let before = self.relay.carried().0;
        work();
        self.relay.carried().0 - before
    }

    /// Overwrites one block in each of so many files.
    fn change(&self, files: std::ops::Range<u64>) {
        for number in files {
            let path = self.notes.source.join(format!("d{:04}/file-{number:06}.dat", number / 100));
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.len() / 2;
            bytes[at..].iter_mut().take(100).for_each(|byte| *byte ^= 0x21);
            let file = fs::File::options().write(true).open(path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at..(at + 100).min(bytes.len())], at as u64)
                .unwrap();
        }
    }
}

#[test]
fn after_an_outage_only_what_differs_travels() {
    let mut far = Far::new(1_000, 50 << 20);
    far.relay.flow(Flow::Cut);
    far.becomes("disconnected", 10);
    far.change(0..10);
    let sent = far.carried(|| {
        far.relay.flow(Flow::Through);
        far.becomes("replicating", 20);
        far.site.settle(&far.notes).unwrap();
    });
    println!("10 blocks changed while the line was cut: {sent} bytes");
    assert!(sent < 200_000, "{sent} bytes for ten blocks");

    far.site.paris.kill();
    far.change(20..30);
    far.site.paris.launch().unwrap();
    let sent = far.carried(|| {
        far.becomes("replicating", 20);
        far.site.settle(&far.notes).unwrap();
    });
    println!("10 blocks changed while the source's daemon was dead: {sent} bytes");
    assert!(sent < 1 << 20, "{sent} bytes for ten blocks and the names of a thousand files");

    far.site.lyon.kill();
    far.change(40..50);
    far.site.lyon.launch().unwrap();
    let sent = far.carried(|| {
        far.becomes("replicating", 20);
        far.site.settle(&far.notes).unwrap();
    });
    println!("10 blocks changed while the target's daemon was dead: {sent} bytes");
    assert!(sent < 200_000, "{sent} bytes for ten blocks");
}

#[test]
fn a_dead_line_is_noticed_in_bounded_time_in_both_directions() {
    let far = Far::new(20, 1 << 20);
    for flow in [Flow::HalfOpen, Flow::LoseForward, Flow::LoseBack] {
        far.relay.flow(flow);
        fs::write(far.notes.source.join("meanwhile"), format!("{flow:?}")).unwrap();
        let begin = Instant::now();
        far.becomes("disconnected", 40);
        println!("{flow:?} is noticed after {:.1?}", begin.elapsed());
        far.relay.flow(Flow::Through);
        far.becomes("replicating", 30);
        far.site.settle(&far.notes).unwrap();
    }
}

#[test]
fn attempts_are_few_while_the_line_is_cut() {
    let far = Far::new(20, 1 << 20);
    far.relay.flow(Flow::Cut);
    far.becomes("disconnected", 10);
    let before = far.relay.accepted();
    std::thread::sleep(Duration::from_secs(6));
    let attempts = far.relay.accepted() - before;
    println!("{attempts} attempts in six seconds");
    assert!((2..20).contains(&attempts), "{attempts} attempts in six seconds");
    let reason = far.connection()["reason"].clone();
    assert!(reason.as_str().is_some_and(|reason| !reason.is_empty()), "no reason: {reason}");
    far.relay.flow(Flow::Through);
    far.becomes("replicating", 20);
    far.site.settle(&far.notes).unwrap();
}

#[test]
fn another_machine_under_the_targets_address_gets_nothing() {
    let far = Far::new(20, 1 << 20);
    let stranger = Node::start_as(&far.site.hosts.paris, "stranger", 7132).unwrap();
    let before = far.relay.accepted();
    far.relay.lead_to(&stranger.listen()).unwrap();
    far.becomes("disconnected", 10);
    fs::write(far.notes.source.join("secret"), "not for strangers").unwrap();
    until("it was tried", Duration::from_secs(15), || Ok(far.relay.accepted() > before)).unwrap();
    assert_eq!(far.connection()["state"], "disconnected");
    assert!(stranger.status().unwrap()["connections"].as_array().is_none_or(Vec::is_empty));
    far.relay.lead_to(&far.site.lyon.listen()).unwrap();
    // Whoever has the address may give it back: it is asked again every half minute.
    far.becomes("replicating", 60);
    far.site.settle(&far.notes).unwrap();
}

#[test]
fn why_the_latest_attempt_failed_is_said() {
    let far = Far::new(20, 1 << 20);
    let stranger = Node::start_as(&far.site.hosts.paris, "stranger", 7132).unwrap();
    far.relay.lead_to(&stranger.listen()).unwrap();
    let reason = || far.connection()["reason"].as_str().unwrap_or_default().to_lowercase();
    let named =
        until("the reason names the certificate", Duration::from_secs(15), || Ok(reason().contains("certificate")));
    named.unwrap_or_else(|e| panic!("{e}: {}", reason()));
}

#[test]
fn a_slow_and_distant_line_keeps_up_with_what_it_can_carry() {
    let far = Far::new(20, 1 << 20);
    far.relay.delay(Duration::from_millis(100));
    far.relay.rate(Some(250_000));
    let mut rng = Rng::new(1);
    let mut lags = Vec::new();
    let begin = Instant::now();
    // 64 KiB each second, in pieces.
    for round in 0..32 {
        let bytes = rng.bytes(16 << 10);
        fs::write(far.notes.source.join(format!("piece-{}", round % 5)), bytes).unwrap();
        std::thread::sleep(
            (begin + Duration::from_millis(250 * (round + 1))).saturating_duration_since(Instant::now()),
        );
        lags.push(far.connection()["lag_seconds"].as_f64().unwrap_or(f64::MAX));
    }
    lags.sort_by(f64::total_cmp);
    println!("lag: median {:.2} s, worst {:.2} s", lags[lags.len() / 2], lags[lags.len() - 1]);
    assert!(lags[lags.len() - 1] < 3.0, "{lags:?}");
    assert_eq!(far.connection()["state"], "replicating");
    far.site.settle(&far.notes).unwrap();
}

#[test]
fn more_than_the_line_carries_is_caught_up_with_and_not_sent_whole() {
    let far = Far::new(600, 60 << 20);
    far.relay.rate(Some(1 << 20));
    let options = Options {
        database: far.notes.source.join("db"),
        acknowledgements: far.site.hosts.paris.dir().join("acknowledged"),
        journal: Journal::Rollback,
        rate: 0,
        seconds: 0,
    };
    let mut load = Load::start(Path::new(LOAD), &far.site.hosts.paris, &options).unwrap();
    let big = far.notes.source.join("big");
    let mut rng = Rng::new(2);
    let sent = far.carried(|| {
        for _ in 0..15 {
            let bytes = rng.bytes(4 << 20);
            fs::write(&big, bytes).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            load.check().unwrap();
        }
        load.kill();
        far.relay.rate(Some(16 << 20));
        far.becomes("replicating", 60);
        far.site.settle(&far.notes).unwrap();
    });
    println!("{} MiB sent", sent >> 20);
    assert!(sent < 150 << 20, "{sent} bytes: the whole set once more");
}

#[test]
fn a_full_target_goes_on_when_it_has_room_again() {
    let far =
        Far::on(Hosts::with_disks(Disk::default(), Disk { image_mib: 512, ..Disk::default() }).unwrap(), 50, 2 << 20);
    let ballast = far.site.hosts.lyon.store().join("ballast");
    fill(&ballast);
    let mut rng = Rng::new(4);
    fs::write(far.notes.source.join("big"), rng.bytes(8 << 20)).unwrap();
    far.becomes("halted", 20);
    let reason = far.connection()["reason"].as_str().unwrap_or_default().to_lowercase();
    assert!(reason.contains("space"), "{reason}");
    fs::write(far.notes.source.join("meanwhile"), "the source goes on").unwrap();
    fs::remove_file(&ballast).unwrap();
    far.becomes("replicating", 30);
    far.site.settle(&far.notes).unwrap();
}

#[test]
fn a_target_that_became_read_only_halts_and_goes_on_after_it_was_mended() {
    let lyon_disk = Disk { image_mib: 512, can_lose_power: true, ..Disk::default() };
    let mut far = Far::on(Hosts::with_disks(Disk::default(), lyon_disk).unwrap(), 50, 2 << 20);
    far.site.hosts.lyon.break_disk().unwrap();
    fs::write(far.notes.source.join("meanwhile"), "the source goes on").unwrap();
    far.becomes("halted", 20);
    let reason = far.connection()["reason"].as_str().unwrap_or_default().to_lowercase();
    assert!(reason.contains("read-only") || reason.contains("i/o error"), "{reason}");
    far.site.lyon.kill_host();
    far.site.hosts.lyon.mend_disk().unwrap();
    far.site.lyon.launch().unwrap();
    far.becomes("replicating", 30);
    far.site.settle(&far.notes).unwrap();
}

#[test]
fn a_capture_that_dies_as_a_whole_is_started_again_and_nothing_is_missing() {
    let far = Far::new(50, 2 << 20);
    fs::write(far.notes.source.join("before"), "captured").unwrap();
    let captures = far.site.paris.captures();
    assert!(!captures.is_empty());
    for pid in &captures {
        stead_tests::run::signal(*pid, rustix::process::Signal::KILL);
    }
    // Rather closed than unprotected.
    let seen = until("the directory is served again", Duration::from_secs(30), || {
        Ok(fs::write(far.notes.source.join("after"), "captured, too").is_ok())
    });
    seen.unwrap_or_else(|e| panic!("{e}: {}\n{}", far.connection(), far.site.paris.log()));
    far.becomes("replicating", 30);
    far.site.settle(&far.notes).unwrap();
}

#[test]
fn a_target_that_is_started_again_and_again_does_not_fill_its_disk() {
    let lyon_disk = Disk { image_mib: 512, ..Disk::default() };
    let mut far = Far::on(Hosts::with_disks(Disk::default(), lyon_disk).unwrap(), 20, 1 << 20);
    for start in 0..15 {
        fs::write(far.notes.source.join("small"), format!("{start}")).unwrap();
        far.site.paris.wait("notes").unwrap();
        far.site.lyon.kill();
        far.site.lyon.launch().unwrap();
        let begin = Instant::now();
        far.becomes("replicating", 30);
        println!("start {start}: replicating after {:.1?}", begin.elapsed());
    }
    far.site.settle(&far.notes).unwrap();
}

/// Takes all room of a file system.
fn fill(ballast: &Path) {
    let file = fs::File::create(ballast).unwrap();
    let (mut len, mut piece) = (0, 1u64 << 30);
    while piece >= 4096 {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), len, piece) {
            Ok(()) => len += piece,
            Err(_) => piece /= 2,
        }
    }
}

#[test]
fn names_that_are_swapped_and_moved_into_each_other_while_it_is_compared() {
    let far = Far::new(0, 0);
    let source = &far.notes.source;
    let seed = Rng::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    for branch in 0..6 {
        tree::plain(&source.join(format!("top-{branch}/deep")), 150, 1 << 20, branch).unwrap();
    }
    far.site.settle(&far.notes).unwrap();
    for round in 0..3 {
        far.relay.flow(Flow::Cut);
        far.becomes("disconnected", 10);
        shuffle(source, &mut rng, 20);
        // Slow enough that the comparison is still running.
        far.relay.rate(Some(100_000));
        far.relay.flow(Flow::Through);
        let running = || Ok(far.connection()["state"] != "disconnected");
        until("it is back", Duration::from_secs(20), running).unwrap();
        shuffle(source, &mut rng, 60);
        Workload { seed: seed + round, workers: 2, operations: 200 }.run(Path::new(LOAD), source).unwrap();
        far.relay.rate(None);
        far.becomes("replicating", 60);
        far.site.settle(&far.notes).unwrap_or_else(|e| panic!("round {round} of seed {seed}: {e:#}"));
    }
}

/// Swaps names, moves parents into what were their own children, replaces files by directories, links across.
fn shuffle(root: &Path, rng: &mut Rng, steps: u64) {
    let any = |rng: &mut Rng| root.join(format!("top-{}", rng.below(6)));
    for step in 0..steps {
        let (one, other) = (any(rng), any(rng));
        let aside = root.join(format!("aside-{step}"));
        // A step that does not fit what the names are by now is left out.
        let _ = match rng.below(6) {
            0 => fs::rename(&one, &aside)
                .and_then(|()| fs::rename(&other, &one))
                .and_then(|()| fs::rename(&aside, &other)),
            1 => fs::rename(other.join("deep"), &aside).and_then(|()| fs::rename(&other, aside.join("parent"))),
            2 => fs::rename(&one, other.join(format!("moved-{step}"))),
            3 => fs::hard_link(one.join("deep/d0000/file-000001.dat"), other.join(format!("link-{step}"))),
            4 => fs::remove_dir_all(&one).and_then(|()| fs::write(&one, "now a file")),
            _ => fs::remove_file(&one).and_then(|()| {
                tree::plain(&one.join("deep"), 20, 100_000, step).map(drop).map_err(std::io::Error::other)
            }),
        };
    }
}

#[test]
fn daemons_killed_fifty_times_at_any_moment() {
    let mut far = Far::new(100, 2 << 20);
    let options = Options {
        database: far.notes.source.join("db"),
        acknowledgements: far.site.hosts.paris.dir().join("acknowledged"),
        journal: Journal::Wal,
        rate: 100,
        seconds: 0,
    };
    let mut load = Load::start(Path::new(LOAD), &far.site.hosts.paris, &options).unwrap();
    let seed = Rng::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    for kill in 0..50 {
        let node = if rng.one_in(2) { &mut far.site.paris } else { &mut far.site.lyon };
        node.kill();
        std::thread::sleep(Duration::from_millis(rng.below(100)));
        node.launch().unwrap_or_else(|e| panic!("kill {kill} of seed {seed}: {e:#}"));
        std::thread::sleep(Duration::from_millis(rng.below(250)));
        load.check().unwrap();
    }
    load.kill();
    far.becomes("replicating", 60);
    far.site.settle(&far.notes).unwrap_or_else(|e| panic!("seed {seed}: {e:#}"));
}
