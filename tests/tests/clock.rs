//! Wall clocks that are set, forward and back, by hours and years, on either node: nothing but what people read goes by
//! them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use stead_tests::clock::Clock;
use stead_tests::command::{text, until};
use stead_tests::host::Hosts;
use stead_tests::node::Node;
use stead_tests::random::Workload;
use stead_tests::relay::{Flow, Relay};
use stead_tests::rng::Rng;
use stead_tests::site::{Pairing, Site};
use stead_tests::tree;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const HOUR: i64 = 3_600;
const YEAR: i64 = 366 * 24 * HOUR;
/// Longest lag that anything here can have, in seconds.
const LAG_MAX: f64 = 60.0;

/// A protected tree on nodes whose clocks can be set.
struct Clocked {
    site: Site,
    notes: Pairing,
    relay: Relay,
    paris: Clock,
    lyon: Clock,
}

impl Clocked {
    fn new() -> Clocked {
        let hosts = Hosts::new().unwrap();
        let (paris, lyon) = (Clock::new(&hosts.paris).unwrap(), Clock::new(&hosts.lyon).unwrap());
        let nodes = (Node::start_by(&hosts.paris, &paris).unwrap(), Node::start_by(&hosts.lyon, &lyon).unwrap());
        nodes.0.join(&nodes.1).unwrap();
        let site = Site { paris: nodes.0, lyon: nodes.1, hosts };
        let relay = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
        let notes = site.pairing("notes").unwrap();
        tree::plain(&notes.source, 200, 2 << 20, 1).unwrap();
        site.protect(&notes, &["--route", &relay.address()]).unwrap();
        Clocked { site, notes, relay, paris, lyon }
    }

    fn set(&self, paris: i64, lyon: i64) {
        self.paris.set(paris).unwrap();
        self.lyon.set(lyon).unwrap();
    }

    fn connection(&self) -> Value {
        self.site.paris.connection("notes").unwrap()
    }

    /// The lag that the status tells, which is one that can be.
    fn lag(&self) -> Option<f64> {
        let connection = self.connection();
        let lag = connection["lag_seconds"].as_f64();
        assert!(lag.is_none_or(|lag| (0.0..LAG_MAX).contains(&lag)), "{connection}");
        lag
    }

    fn becomes(&self, state: &str) {
        let becomes = until(state, Duration::from_secs(30), || Ok(self.connection()["state"] == state));
        becomes.unwrap_or_else(|e| panic!("{e:#}: {}\n{}", self.connection(), self.site.paris.log()));
    }

    fn write(&self, name: &str, seed: u64) {
        fs::write(self.notes.source.join(name), Rng::new(seed).bytes(20_000)).unwrap();
    }

    /// How often the source's log says that.
    fn logged(&self, what: &str) -> usize {
        let log = fs::read_to_string(self.site.paris.log_path()).unwrap();
        log.lines().filter(|line| line.contains(what)).count()
    }

    /// Seconds from the clock of a node to a time of its status.
    fn ahead(&self, time: &Value) -> i64 {
        let mut date = std::process::Command::new("date");
        let then = stead_tests::command::run(date.arg("+%s").arg("-d").arg(time.as_str().unwrap())).unwrap();
        then.trim().parse::<i64>().unwrap() - self.paris.seconds().unwrap().0
    }
}

/// Waits until that much time has really gone.
fn passes(time: Duration) {
    let begin = Instant::now();
    until("time goes", 2 * time, || Ok(begin.elapsed() > time)).unwrap();
}

#[test]
fn order_and_equality_hold_while_clocks_are_set() {
    let clocked = Clocked::new();
    let (seed, mirrored) = (Rng::seed(), clocked.logged("mirrored"));
    println!("seed {seed}");
    for (paris, lyon) in [(HOUR, 0), (-HOUR, HOUR), (10 * YEAR, -YEAR), (-YEAR, 10 * YEAR), (0, 0)] {
        let dir = clocked.notes.source.join(format!("at{paris}"));
        fs::create_dir(&dir).unwrap();
        let workload = Workload { seed, workers: 2, operations: 200 };
        std::thread::scope(|scope| {
            let load = scope.spawn(|| workload.run(Path::new(LOAD), &dir));
            clocked.set(paris, lyon);
            while !load.is_finished() {
                clocked.lag();
            }
            load.join().unwrap().unwrap();
        });
        clocked.site.settle(&clocked.notes).unwrap();
        let connection = clocked.connection();
        assert_eq!(connection["state"], "replicating", "{connection}");
    }
    assert_eq!(clocked.logged("mirrored"), mirrored, "a difference mirror ran: {}", clocked.site.paris.log());
}

#[test]
fn daemons_that_start_at_another_time_compare_right() {
    let mut clocked = Clocked::new();
    let steps = [(2 * HOUR, -HOUR), (-10 * YEAR, 0), (10 * YEAR, 10 * YEAR), (0, -10 * YEAR)];
    for (number, (paris, lyon)) in steps.into_iter().enumerate() {
        let seed = number as u64;
        clocked.write("before", seed);
        clocked.relay.flow(Flow::Cut);
        clocked.site.paris.kill();
        clocked.site.lyon.kill();
        // The same size, and nobody remembers that it was written: only its time tells.
        clocked.write("before", seed + 100);
        clocked.write(&format!("new-{number}"), seed);
        fs::remove_dir_all(clocked.site.paris.state().join("sets/notes/source/memory")).unwrap();
        clocked.set(paris, lyon);
        clocked.site.paris.launch().unwrap();
        clocked.site.lyon.launch().unwrap();
        clocked.relay.flow(Flow::Through);
        clocked.site.replicates("notes").unwrap();
        clocked.site.settle(&clocked.notes).unwrap();
        clocked.lag();
    }
}

#[test]
fn lag_is_told_in_time_that_passes() {
    let clocked = Clocked::new();
    let alerts = || clocked.site.paris.cli(["alerts"]).unwrap();
    for ahead in [2 * HOUR, -2 * HOUR, 10 * YEAR, -10 * YEAR, 0] {
        clocked.relay.flow(Flow::Cut);
        clocked.becomes("disconnected");
        let begin = Instant::now();
        clocked.write("waits", ahead as u64);
        until("it lags", Duration::from_secs(10), || Ok(clocked.lag() > Some(1.0))).unwrap();
        clocked.set(ahead, 0);
        passes(Duration::from_secs(3));
        let (lag, waited) = (clocked.lag().unwrap(), begin.elapsed().as_secs_f64());
        assert!((3.0..waited + 2.0).contains(&lag), "{lag} s behind after {waited} s, {ahead} s ahead");
        clocked.write("later", ahead as u64);
        assert!(clocked.lag() >= Some(lag), "the first still waits");
        assert!(!alerts().contains("behind"), "{}", alerts());
        clocked.relay.flow(Flow::Through);
        clocked.becomes("replicating");
        clocked.site.paris.wait("notes").unwrap();
        let level = || Ok(clocked.connection()["lag_seconds"] == 0.0);
        until("no lag is told", Duration::from_secs(10), level).unwrap();
        let image = clocked.connection()["consistent_at"].clone();
        assert!((-60..=2).contains(&clocked.ahead(&image)), "{image}, {ahead} s ahead");
    }
    clocked.site.settle(&clocked.notes).unwrap();
}

#[test]
fn schedules_do_not_make_up_for_years() {
    let clocked = Clocked::new();
    clocked.site.paris.set_in_plan("verify-schedule = [\"* * * * *\"]").unwrap();
    let begin = Instant::now();
    let verifies = || clocked.logged("verify by its schedule");
    for ahead in [10 * YEAR, -10 * YEAR, 0] {
        let before = verifies();
        clocked.set(ahead, 0);
        if ahead >= 0 {
            until("one is due", Duration::from_secs(10), || Ok(verifies() > before)).unwrap();
        }
        passes(Duration::from_secs(4));
        let most = before + 1 + usize::from(ahead >= 0);
        assert!(verifies() <= most, "{} verifies, {ahead} s ahead", verifies() - before);
    }
    let minutes = begin.elapsed().as_secs() as usize / 60;
    assert!(verifies() <= 2 + minutes + 3, "{} verifies", verifies());
    clocked.site.settle(&clocked.notes).unwrap();
}

#[test]
fn the_brake_counts_what_goes_within_time_that_passes() {
    let clocked = Clocked::new();
    clocked.site.paris.set_in_plan("brake = {deletions = 20, window = \"2s\"}").unwrap();
    let delete = |numbers: std::ops::Range<u64>| {
        let name = |number: u64| format!("d{:04}/file-{number:06}.dat", number / 100);
        numbers.for_each(|number| fs::remove_file(clocked.notes.source.join(name(number))).unwrap());
    };
    for (round, ahead) in [HOUR, -HOUR, -YEAR, YEAR].into_iter().enumerate() {
        let round = round as u64;
        delete(round * 15..round * 15 + 15);
        clocked.site.paris.wait("notes").unwrap();
        clocked.set(ahead, 0);
        passes(Duration::from_secs(3));
    }
    clocked.set(-HOUR, 0);
    clocked.write("made", 1);
    clocked.site.paris.wait("notes").unwrap();
    clocked.set(-2 * HOUR, 0);
    delete(100..150);
    clocked.becomes("halted");
    assert_eq!(clocked.connection()["cause"], "brake");
}

#[test]
fn trust_does_not_go_by_the_clock_and_invitations_do() {
    let mut clocked = Clocked::new();
    clocked.site.lyon.cli(["node", "rotate-key"]).unwrap();
    for (paris, lyon) in [(2 * HOUR, 2 * HOUR), (0, 40 * YEAR), (-40 * YEAR, 0), (20 * YEAR, -20 * YEAR)] {
        clocked.set(paris, lyon);
        clocked.site.lyon.kill();
        clocked.site.lyon.launch().unwrap();
        clocked.becomes("replicating");
        clocked.write("trusted", paris as u64);
        clocked.site.settle(&clocked.notes).unwrap();
    }
    let stranger = Node::start_as(&clocked.site.hosts.paris, "stranger", 7131).unwrap();
    for ahead in [HOUR, -HOUR] {
        clocked.set(0, 0);
        let line = clocked.site.lyon.invite().unwrap();
        clocked.set(0, ahead);
        let joined = stranger.output(["join", &line]).unwrap();
        let told = text(&joined.stderr);
        assert!(!joined.status.success() && told.contains("expired"), "{told}");
    }
    stranger.cli(["join", &clocked.site.lyon.invite().unwrap()]).unwrap();
}
