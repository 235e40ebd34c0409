//! Synchronous connections: what a commit confirmed is on the target, whatever happens to the source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use stead_tests::command::{run, until};
use stead_tests::load::{Journal, examine_copy};
use stead_tests::relay::{Flow, Relay};
use stead_tests::rng::Rng;
use stead_tests::site::{Pairing, Site};
use stead_tests::synchronous::{Cuts, Synchronous, becomes};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");

fn no_commit_is_lost(with_targets: bool) {
    let sources = if std::env::var_os("STEAD_SOAK").is_some() { 50 } else { 4 };
    let outcome = Cuts { sources, with_targets, seed: Rng::seed(), program: Path::new(LOAD) }.run().unwrap();
    println!("{sources} sources died: {outcome:?}");
    assert_eq!(outcome.lost, 0, "{outcome:?}");
}

#[test]
fn no_confirmed_commit_is_missing_when_the_source_dies() {
    no_commit_is_lost(false);
}

#[test]
fn no_confirmed_commit_is_missing_when_both_lose_power() {
    no_commit_is_lost(true);
}

#[test]
fn a_target_that_does_not_answer_makes_it_fall_back_and_level_again_by_itself() {
    let machines = Synchronous::new().unwrap();
    let (load, options) = machines.load(Path::new(LOAD), Journal::Wal).unwrap();
    let Synchronous { site, set } = &machines;
    site.lyon.host().signal(Signal::STOP);
    let begin = Instant::now();
    machines.becomes("fallen-back").unwrap();
    let held = begin.elapsed();
    println!("the application was held up for {held:?} at most");
    assert!(held < Duration::from_secs(15), "{held:?}, and the time-out is ten seconds");
    let told = load.acknowledged().unwrap().transactions;
    let goes_on = || Ok(load.acknowledged()?.transactions > told + 20);
    until("commits go on without the target", Duration::from_secs(10), goes_on).unwrap();
    site.lyon.host().signal(Signal::CONT);
    machines.becomes("in-sync").unwrap();
    load.kill();
    site.settle(set).unwrap();
    let told = stead_tests::load::acknowledged(&options.acknowledgements).unwrap();
    let found = examine_copy(&set.replica.join("db"), &site.hosts.lyon.dir().join("copy")).unwrap();
    assert!(found.transactions >= told.transactions, "{found:?} of {told:?}");
}

/// Two seconds of patience, after which the application waits on, over a line that can be cut.
struct Blocking {
    site: Site,
    notes: Pairing,
    relay: Relay,
}

const PATIENCE: Duration = Duration::from_secs(2);

impl Blocking {
    fn new() -> Blocking {
        let site = Site::new().unwrap();
        let relay = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
        let notes = site.pairing("notes").unwrap();
        site.protect(&notes, &["--mode", "sync", "--route", &relay.address()]).unwrap();
        let patience = PATIENCE.as_secs();
        site.paris.set_in_plan(&format!("sync-fallback = \"block\"\nsync-timeout = \"{patience}s\"")).unwrap();
        becomes(&site, "in-sync").unwrap();
        Blocking { site, notes, relay }
    }

    /// A program that writes a file and syncs it.
    fn writes(&self, name: &str) -> Writer {
        let bytes = Rng::new(name.len() as u64).bytes(50_000);
        let (from, to) = (self.site.hosts.paris.dir().join(name), self.notes.source.join(name));
        fs::write(&from, &bytes).unwrap();
        let mut dd = self.site.hosts.paris.command("dd");
        let (from, to) = (format!("if={}", from.display()), format!("of={}", to.display()));
        Writer { child: dd.args(["conv=fsync", "status=none", &from, &to]).spawn().unwrap(), name: name.into(), bytes }
    }

    fn sync(&self) -> Value {
        self.site.paris.connection("notes").unwrap()["sync"].clone()
    }

    /// The program waits for thrice as long as it would with the other word of the plan.
    fn waits_on(&self, writer: &mut Writer) {
        let begin = Instant::now();
        let waited = || {
            ensure!(!writer.has_ended()?, "{} was confirmed while the line is cut", writer.name);
            Ok(begin.elapsed() > 3 * PATIENCE && self.sync()["state"] == "blocked")
        };
        until("it waited on", Duration::from_secs(20), waited).unwrap_or_else(|e| panic!("{e:#}: {}", self.sync()));
    }

    /// Seconds that have gone since that time of the status.
    fn seconds_since(&self, time: &Value) -> i64 {
        let then = run(Command::new("date").arg("+%s").arg("-d").arg(time.as_str().unwrap())).unwrap();
        (stead_tests::load::now_ns() / 1_000_000_000) as i64 - then.trim().parse::<i64>().unwrap()
    }

    fn replica(&self, writer: &Writer) -> PathBuf {
        self.notes.replica.join(&writer.name)
    }
}

struct Writer {
    child: Child,
    name: String,
    bytes: Vec<u8>,
}

impl Writer {
    fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until it ended, and says whether its fsync succeeded.
    fn is_confirmed(&mut self) -> bool {
        until("the program ends", Duration::from_secs(20), || self.has_ended()).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[test]
fn where_the_plan_says_block_an_fsync_waits_for_the_line_and_nothing_is_lost() {
    let blocking = Blocking::new();
    assert!(blocking.writes("before").is_confirmed());
    blocking.relay.flow(Flow::Cut);
    let mut waiting = blocking.writes("waiting");
    becomes(&blocking.site, "blocked").unwrap();
    let since = blocking.sync()["since"].clone();
    blocking.waits_on(&mut waiting);
    assert_eq!(blocking.sync()["since"], since, "since it began to block");
    let lasted = blocking.seconds_since(&since);
    assert!((6..30).contains(&lasted), "blocked for {lasted} s, says the status");
    let told = blocking.site.paris.cli(["status"]).unwrap();
    assert!(told.contains("the application waits for lyon since"), "{told}");
    let alerts = blocking.site.paris.cli(["alerts"]).unwrap();
    assert!(alerts.contains("sync-lost"), "{alerts}");

    blocking.relay.flow(Flow::Through);
    assert!(waiting.is_confirmed(), "the line is back");
    becomes(&blocking.site, "in-sync").unwrap();
    // What was confirmed is there whatever becomes of the source.
    let Blocking { mut site, .. } = blocking;
    site.paris.kill_host();
    site.lyon.cli(["unprotect", "notes", "--force"]).unwrap();
    assert!(fs::read(site.hosts.lyon.disk().join("notes/waiting")).unwrap() == waiting.bytes);
}

#[test]
fn a_program_that_waits_for_the_line_can_be_killed() {
    let blocking = Blocking::new();
    blocking.relay.flow(Flow::Cut);
    let (mut killed, mut waiting) = (blocking.writes("killed"), blocking.writes("waiting"));
    becomes(&blocking.site, "blocked").unwrap();
    killed.child.kill().unwrap();
    assert!(!killed.is_confirmed());
    blocking.waits_on(&mut waiting);
    blocking.relay.flow(Flow::Through);
    assert!(waiting.is_confirmed(), "the line is back");
    blocking.site.settle(&blocking.notes).unwrap();
    for writer in [&killed, &waiting] {
        assert!(fs::read(blocking.replica(writer)).unwrap() == writer.bytes, "{}", writer.name);
    }
}
