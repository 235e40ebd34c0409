//! `cargo xtask demo`: the main job on this one machine.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stead_tests::command::{shown, until};
use stead_tests::host::Hosts;
use stead_tests::load::{Found, Journal, Load, Options, examine_copy, now_ns};
use stead_tests::node::{Node, protect_args};
use stead_tests::run::mounts_beneath;
use stead_tests::{apt, tree};

use crate::build;

const PACKAGES: &[&str] = &["e2fsprogs", "iproute2", "procps", "psmisc", "util-linux"];
const TREE_FILES: u64 = 2_000;
const TREE_BYTES: u64 = 200 << 20;
/// Commits per second: a busy server that is not only writing its database.
const COMMITS_PER_SECOND: u64 = 400;
const SET: &str = "notes";

/// What the demo measured, for the table at its end.
#[derive(Default)]
struct Measured {
    rows: Vec<(String, String)>,
}

/// Builds, shows the main job, prints a table, leaves nothing behind.
pub fn main() -> Result<()> {
    apt::install("the demo", PACKAGES)?;
    build::use_binary(&build::stead("release")?)?;
    let begin = Instant::now();
    let mut measured = Measured::default();
    let hosts = Hosts::new()?;
    for shortcoming in &hosts.shortcomings {
        say(shortcoming);
    }
    show(&hosts, &mut measured)?;
    drop(hosts);
    measured.note("whole demo, after the build", format!("{:.0} s", begin.elapsed().as_secs_f64()));
    measured.print();
    Ok(())
}

fn show(hosts: &Hosts, measured: &mut Measured) -> Result<()> {
    let source = hosts.paris.disk().join("srv/notes");
    let replica = hosts.lyon.disk().join("srv/notes");
    let bytes = prepare(&source)?;
    say(&format!(
        "paris ({}) has {TREE_FILES} files, {} MiB, and a SQLite database",
        hosts.paris.address(),
        bytes >> 20
    ));

    let (mut paris, lyon) = (Node::start(&hosts.paris)?, Node::start(&hosts.lyon)?);
    say("lyon#  stead invite          paris# stead join stead1:…");
    paris.join(&lyon)?;

    let options = Options {
        database: source.join("db/notes.db"),
        acknowledgements: hosts.paris.dir().join("acknowledged"),
        journal: Journal::Wal,
        rate: COMMITS_PER_SECOND,
        seconds: 0,
    };
    let (mut load, took) = protect(&paris, &lyon, &source, &replica, &options)?;
    measured.note("first mirror, while the database was written", format!("{:.1} s", took.as_secs_f64()));

    watch_lag(&paris, &mut load, measured)?;

    say("paris# stead verify notes    (while the load goes on)");
    let begin = Instant::now();
    let said = paris.cli(["verify", SET])?;
    print!("{}", indented(&said));
    measured
        .note("verify, at one position of the live stream", format!("equal, {:.1} s", begin.elapsed().as_secs_f64()));

    load.check()?;
    say("now paris dies: SIGKILL to everything on it, in the middle of the load");
    let died = Instant::now();
    let died_ns = now_ns();
    paris.kill_host();
    let told = load.acknowledged()?;
    let found = open_replica(&lyon, &replica, &hosts.lyon.dir().join("opened"))?;
    measured
        .note("until the database was open on lyon", format!("{:.2} s after the kill", died.elapsed().as_secs_f64()));
    conclude(measured, told, found, died_ns);
    Ok(())
}

fn prepare(source: &Path) -> Result<u64> {
    let bytes = tree::plain(source, TREE_FILES, TREE_BYTES, 1)?;
    tree::odd(&source.join("odd"))?;
    fs::create_dir(source.join("db"))?;
    Ok(bytes)
}

/// Runs `stead protect` with its progress on the terminal. The database is opened as soon as the directory is captured,
/// so that the mirror is one of a live set.
fn protect(paris: &Node, lyon: &Node, source: &Path, replica: &Path, options: &Options) -> Result<(Load, Duration)> {
    let args = protect_args(SET, lyon, &[(source, replica)], &[]);
    say("paris# stead protect /srv/notes --on lyon --set notes");
    let begin = Instant::now();
    let mut command = paris.command(args)?;
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {}", shown(&command)))?;
    until("the directory is captured", Duration::from_secs(30), || {
        let ended = child.try_wait()?.is_some();
        Ok(ended || mounts_beneath(source).iter().any(|mount| mount == source))
    })?;
    let program = std::env::current_exe()?;
    let load = Load::start(&program, paris.host(), options);
    let status = child.wait()?;
    if !status.success() {
        bail!("protect ended with {status}; log of paris:\n{}\nlog of lyon:\n{}", paris.log(), lyon.log());
    }
    Ok((load?, begin.elapsed()))
}

fn watch_lag(paris: &Node, load: &mut Load, measured: &mut Measured) -> Result<()> {
    say("paris# stead status --json   (ten looks, half a second apart)");
    let mut lags = Vec::new();
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(500));
        load.check()?;
        let connection = paris.connection(SET)?;
        let lag = connection["lag_seconds"].as_f64();
        let transactions = load.acknowledged()?.transactions;
        let (state, queue) = (connection["state"].as_str().unwrap_or("?"), &connection["queue"]["changes"]);
        let shown = lag.map_or("unknown".into(), |lag| format!("{:.1} ms", lag * 1e3));
        println!("       {state}, lyon is {shown} behind, {queue} changes queued, {transactions} commits on paris");
        lags.extend(lag);
    }
    lags.sort_by(f64::total_cmp);
    let worst = lags.last().copied().unwrap_or(f64::NAN);
    let median = lags.get(lags.len() / 2).copied().unwrap_or(f64::NAN);
    measured.note("lag under load", format!("median {:.1} ms, worst {:.1} ms", median * 1e3, worst * 1e3));
    Ok(())
}

/// Opens a copy of the database as lyon's application would: the replica itself stays untouched for a real failover.
fn open_replica(lyon: &Node, replica: &Path, copy: &Path) -> Result<Found> {
    until("lyon has applied what it had received", Duration::from_secs(20), || {
        let connection = lyon.connection(SET)?;
        Ok(connection["state"] != "replicating" && connection["queue"]["changes"].as_u64().unwrap_or(0) == 0)
    })?;
    examine_copy(&replica.join("db/notes.db"), copy).context("the database on lyon is broken")
}

fn conclude(measured: &mut Measured, told: Found, found: Found, died_ns: u64) {
    let age = died_ns.saturating_sub(found.last_ns) as f64 / 1e6;
    let missing = told.transactions.saturating_sub(found.transactions);
    measured.note("integrity check and invariant of three tables", "intact".into());
    measured.note("commits that paris had confirmed", told.transactions.to_string());
    measured.note("of them in the database on lyon", format!("{}, {missing} missing", found.transactions));
    measured.note("age of the last one when paris died", format!("{age:.1} ms"));
}

impl Measured {
    fn note(&mut self, what: &str, value: String) {
        self.rows.push((what.into(), value));
    }

    fn print(&self) {
        let width = self.rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        println!();
        for (what, value) in &self.rows {
            println!("  {what:<width$}   {value}");
        }
    }
}

fn say(what: &str) {
    println!("{what}");
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("       {line}\n")).collect()
}
