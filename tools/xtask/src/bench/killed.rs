//! The server of a mount is killed again and again while an application writes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use stead_tests::command::until;
use stead_tests::host::Host;
use stead_tests::rng::Rng;

use super::Size;
use super::pair::{Pair, hosts};
use super::table::{Line, median, percentile, short};

const SET: &str = "bench";
const KILLS: usize = 50;
/// An operation that began before the kill or within this time after it counts to the stall.
const AFTERMATH: Duration = Duration::from_millis(100);

/// What the application saw.
#[derive(Default)]
struct Seen {
    /// Begin and end of every operation.
    operations: Vec<(Instant, Instant)>,
    errors: Vec<String>,
}

/// Fifty kills at odd moments.
pub fn run(_: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let (source, target) = (hosts.paris.disk().join("source"), hosts.lyon.disk().join("target"));
    fs::create_dir(&source)?;
    let pair = Pair::new(&hosts)?;
    pair.protect(SET, &source, &target, &[])?;
    let over = AtomicBool::new(false);
    let (seen, kills) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&source, &over));
        let kills = kill_often(&hosts.paris);
        over.store(true, Relaxed);
        (load.join().expect("the load does not panic"), kills)
    });
    let kills = kills?;
    pair.paris.wait(SET)?;
    let stalls: Vec<f64> = kills.iter().map(|kill| stall(&seen, *kill)).collect();
    // What an operation may take anyway: the longest one of as long a time just before.
    let calm: Vec<f64> = kills.iter().map(|kill| before(&seen, *kill)).collect();
    let without = seen.operations.iter().map(|(begin, end)| milliseconds(*begin, *end)).collect::<Vec<_>>();
    let first = seen.errors.first().cloned().unwrap_or_default();
    Ok(vec![
        Line {
            work: format!("server of the mount killed {KILLS} times under load: errors of the application"),
            stead: format!("{} operations {first}", seen.operations.len()),
            others: String::new(),
            figure: seen.errors.len() as f64,
            unit: "errors",
            aim: Some(0.0),
        },
        Line {
            work: format!("server of the mount killed {KILLS} times under load: longest stall, median"),
            stead: format!(
                "largest {} ms; without a kill {} and {} ms; an operation takes {} ms",
                short(percentile(&stalls, 100)),
                short(median(&calm)),
                short(percentile(&calm, 100)),
                short(median(&without))
            ),
            others: String::new(),
            figure: median(&stalls),
            unit: "ms",
            aim: Some(5.0),
        },
    ])
}

/// Writes, creates, renames and removes as fast as it goes.
fn load(dir: &Path, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let Ok(file) = File::create(dir.join("written")) else { return seen };
    let (old, new) = (dir.join("old"), dir.join("new"));
    let block = Rng::new(3).bytes(4096);
    let mut n = 0;
    while !over.load(Relaxed) {
        let begin = Instant::now();
        let done = match n % 4 {
            0 => file.write_all_at(&block, n % 4096 * 4096),
            1 => fs::write(&old, &block[..100]),
            2 => fs::rename(&old, &new),
            _ => fs::remove_file(&new),
        };
        seen.operations.push((begin, Instant::now()));
        seen.errors.extend(done.err().map(|e| format!("operation {n}: {e}")));
        n += 1;
    }
    seen
}

fn kill_often(host: &Host) -> Result<Vec<Instant>> {
    let mut rng = Rng::new(7);
    let mut kills = Vec::new();
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_micros(150_000 + rng.below(50_000)));
        let mut server = None;
        until("a server serves", Duration::from_secs(5), || {
            server = server_of(host);
            Ok(server.is_some())
        })?;
        let pid = server.expect("it was found");
        kills.push(Instant::now());
        stead_tests::run::signal(pid, Signal::KILL);
    }
    ensure!(kills.len() == KILLS, "{} kills", kills.len());
    Ok(kills)
}

/// Pid of the process that serves: the child of the capture process that has threads.
fn server_of(host: &Host) -> Option<i32> {
    let captures: Vec<i32> = host.pids().into_iter().filter(|pid| is_capture(*pid)).collect();
    let servers = captures.iter().filter(|pid| parent_of(**pid).is_some_and(|parent| captures.contains(&parent)));
    servers.copied().max_by_key(|pid| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count))
}

fn is_capture(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"capture")
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The longest operation that a kill may have held up.
fn stall(seen: &Seen, kill: Instant) -> f64 {
    let near = seen.operations.iter().filter(|(begin, end)| *end >= kill && *begin <= kill + AFTERMATH);
    near.map(|(begin, end)| milliseconds(*begin, *end)).fold(0.0, f64::max)
}

/// The longest operation that ended in as long a time before it.
fn before(seen: &Seen, kill: Instant) -> f64 {
    let near = seen.operations.iter().filter(|(begin, end)| *end < kill && *begin >= kill - AFTERMATH);
    near.map(|(begin, end)| milliseconds(*begin, *end)).fold(0.0, f64::max)
}

fn milliseconds(begin: Instant, end: Instant) -> f64 {
    (end - begin).as_secs_f64() * 1e3
}
