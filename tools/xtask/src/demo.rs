//! `cargo xtask demo`: the main job on this one machine.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stead_tests::command::{shown, until};
use stead_tests::load::{Journal, Load, Options};
use stead_tests::node::{Node, protect_args};
use stead_tests::run::mounts_beneath;
use stead_tests::service::{Answered, numbers};
use stead_tests::town::{GROUP, Town};
use stead_tests::{apt, tree};

use crate::build;

const PACKAGES: &[&str] = &["e2fsprogs", "iproute2", "procps", "psmisc", "util-linux"];
const TREE_FILES: u64 = 2_000;
const TREE_BYTES: u64 = 200 << 20;
/// Commits per second: a busy server that is not only writing its database.
const COMMITS_PER_SECOND: u64 = 400;
/// Transactions that the client asks for each second.
const REQUESTS_PER_SECOND: u32 = 300;
const SET: &str = GROUP;
/// How long anyone may take to stand in.
const WITHIN: Duration = Duration::from_secs(30);

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
    let mut town = Town::unprotected(&std::env::current_exe()?, "srv/notes")?;
    for shortcoming in &town.site.hosts.shortcomings {
        say(shortcoming);
    }
    replicate(&town, &mut measured)?;
    stand_in(&mut town, &mut measured)?;
    drop(town);
    measured.note("whole demo, after the build", format!("{:.0} s", begin.elapsed().as_secs_f64()));
    measured.print();
    Ok(())
}

/// A live directory with a database is mirrored, replicated and verified.
fn replicate(town: &Town, measured: &mut Measured) -> Result<()> {
    let (paris, lyon) = (&town.site.paris, &town.site.lyon);
    let (source, replica) = (&town.notes.source, &town.notes.replica);
    let bytes = prepare(source)?;
    say(&format!(
        "paris ({}) has {TREE_FILES} files, {} MiB, and a SQLite database",
        paris.host().address(),
        bytes >> 20
    ));
    say("lyon#  stead invite          paris# stead join stead1:…");
    let options = Options {
        database: source.join("db/notes.db"),
        acknowledgements: paris.host().dir().join("acknowledged"),
        journal: Journal::Wal,
        rate: COMMITS_PER_SECOND,
        seconds: 0,
    };
    let (mut load, took) = protect(paris, lyon, source, replica, &options)?;
    measured.note("first mirror, while the database was written", format!("{:.1} s", took.as_secs_f64()));
    watch_lag(paris, &mut load, measured)?;
    say("paris# stead verify notes    (while the load goes on)");
    let begin = Instant::now();
    print!("{}", indented(&paris.cli(["verify", SET])?));
    measured
        .note("verify, at one position of the live stream", format!("equal, {:.1} s", begin.elapsed().as_secs_f64()));
    load.check()
}

/// The server dies, the other one stands in, and gives everything back; a client asks all the time.
fn stand_in(town: &mut Town, measured: &mut Measured) -> Result<()> {
    say("lyon#  stead monitor notes --set notes --address 10.77.0.100/24 --start … --witness oslo");
    town.monitor(&["--witness", "oslo"])?;
    let client = town.client(REQUESTS_PER_SECOND)?;
    say("berne asks the service under 10.77.0.100 all the time; each answer is a committed transaction");
    std::thread::sleep(Duration::from_secs(2));
    say("now paris dies: SIGKILL to everything on it, and its line is cut");
    town.paris_dies()?;
    town.answers(&client, "lyon", WITHIN)?;
    explain(town, "lyon# stead explain notes")?;
    say("paris is repaired and starts again: it finds that lyon has the newer epoch, and starts nothing");
    town.paris_returns()?;
    town.does("paris", "restore-required")?;
    let begin = Instant::now();
    say("lyon#  stead restore notes   (while lyon serves)");
    town.site.lyon.cli(["restore", GROUP, "--yes"])?;
    measured.note("restore of paris, while lyon served", format!("{:.1} s", begin.elapsed().as_secs_f64()));
    say("lyon#  stead failback notes");
    town.site.lyon.cli(["failback", GROUP, "--yes"])?;
    town.answers(&client, "paris", WITHIN)?;
    explain(town, "paris# stead explain notes")?;
    std::thread::sleep(Duration::from_secs(1));
    let answers = client.stop();
    town.site.replicates(SET)?;
    town.site.settle(&town.notes)?;
    conclude(&answers, &numbers(&town.notes.source.join("notes.db"))?, measured)
}

/// Prints what happened since the last look, as the node that serves tells it.
fn explain(town: &Town, command: &str) -> Result<()> {
    say(command);
    let told = town.site.lyon.cli(["explain", GROUP])?;
    print!("{}", indented(&told));
    Ok(())
}

fn conclude(answers: &[Answered], there: &[u64], measured: &mut Measured) -> Result<()> {
    let absent = |answered: &&Answered| there.binary_search(&answered.number).is_err();
    let by = |from: &str, to: &str| {
        let pair = answers.windows(2).find(|pair| pair[0].holder == from && pair[1].holder == to);
        pair.map(|pair| pair[1].at - pair[0].at).context("the client was answered by both")
    };
    let ms = |outage: Duration| format!("{:.2} s", outage.as_secs_f64());
    measured.note("paris dies: until lyon answered the client", ms(by("paris", "lyon")?));
    measured.note("failback: until paris answered the client again", ms(by("lyon", "paris")?));
    measured.note("transactions acknowledged to the client", answers.len().to_string());
    let lost = answers.iter().filter(absent).count();
    measured.note("of them in the database on paris in the end", format!("{}, {lost} missing", answers.len() - lost));
    let later = answers.iter().skip_while(|answered| answered.holder == "paris").filter(absent).count();
    measured.note("of those that lyon had acknowledged", format!("{later} missing"));
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
