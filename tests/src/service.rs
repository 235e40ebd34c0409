//! A service with a database, as a client sees it: each line that it sends is a transaction, acknowledged when it is
//! committed. And the client, which goes on asking and notes who answered when.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::host::Host;
use crate::run::MARK;

/// How long the client waits for an answer before it asks anew.
const ANSWER: Duration = Duration::from_millis(300);
const CONNECT: Duration = Duration::from_millis(40);
/// Numbers that each client has for itself.
const NUMBERS: u64 = 1_000_000_000;
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(5);

/// The three commands by which a group starts, stops and looks at the service: files on both hosts, the same for both.
pub struct Commands {
    /// Starts it.
    pub start: PathBuf,
    /// Stops it.
    pub stop: PathBuf,
    /// Looks at it.
    pub status: PathBuf,
}

impl Commands {
    /// Writes them. The database is `directory`/notes.db beneath the disk of the host that runs it.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn write(place: &Path, program: &Path, address: SocketAddr, directory: &str) -> Result<Commands> {
        // The variable of a daemon names it beneath the directory of its host.
        let host = format!("$(dirname \"${MARK}\")");
        let own = directory.replace('/', "-");
        let pid = format!("{host}/{own}.pid");
        let (program, database) = (program.display(), format!("{host}/store/disk/{directory}/notes.db"));
        // Whoever has ended and was not waited for yet is dead all the same.
        let alive = format!("grep -qs '^State:.[^Z]' /proc/\"$(cat {pid} 2>/dev/null)\"/status");
        let start = format!(
            "{alive} && exit 0\nsetsid {program} serve {address} {database} \"$(basename {host})\" \
             >{host}/{own}.log 2>&1 </dev/null &\necho $! >{pid}\n"
        );
        let stop = format!("{alive} || exit 0\nkill -TERM \"$(cat {pid})\"\nwhile {alive}; do sleep 0.01; done\n");
        let status = format!(
            "{alive} || exit 3\n(exec 3<>/dev/tcp/{}/{}) 2>/dev/null || exit 1\n",
            address.ip(),
            address.port()
        );
        let write = |name: &str, text: String| {
            let path = place.join(format!("{own}-{name}"));
            fs::write(&path, format!("#!/bin/bash\n{text}"))?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            anyhow::Ok(path)
        };
        Ok(Commands { start: write("start", start)?, stop: write("stop", stop)?, status: write("status", status)? })
    }

    /// The options of `stead monitor` for them.
    pub fn options(&self) -> Vec<String> {
        let of = |path: &Path| path.display().to_string();
        let all = [("--start", &self.start), ("--stop", &self.stop), ("--status", &self.status)];
        all.into_iter().flat_map(|(option, path)| [option.to_string(), of(path)]).collect()
    }
}

/// `stead-load serve ADDRESS DATABASE HOLDER`: serves until it is killed.
///
/// # Errors
/// Where it cannot listen, or the database is broken.
pub fn main(args: &[String]) -> Result<()> {
    let [address, database, holder] = args else { bail!("usage: serve ADDRESS DATABASE HOLDER") };
    let database = Connection::open(database)?;
    database.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE IF NOT EXISTS said (number INTEGER PRIMARY KEY, holder TEXT NOT NULL);",
    )?;
    let database = Arc::new(Mutex::new(database));
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    for stream in listener.incoming().flatten() {
        let (database, holder) = (database.clone(), holder.clone());
        thread::spawn(move || answer(&stream, &database, &holder));
    }
    Ok(())
}

fn answer(stream: &TcpStream, database: &Mutex<Connection>, holder: &str) -> Result<()> {
    stream.set_nodelay(true)?;
    for line in BufReader::new(stream).lines() {
        let number: u64 = line?.trim().parse()?;
        let insert = "INSERT OR REPLACE INTO said (number, holder) VALUES (?1, ?2)";
        let database = database.lock().unwrap_or_else(PoisonError::into_inner);
        database.execute(insert, (number, holder))?;
        drop(database);
        let mut out = stream;
        out.write_all(format!("{number} {holder}\n").as_bytes())?;
    }
    Ok(())
}

/// The numbers that a database holds, in order.
///
/// # Errors
/// Where it cannot be read, or is broken.
pub fn numbers(database: &Path) -> Result<Vec<u64>> {
    let open = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let healthy: String = open.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if healthy != "ok" {
        bail!("{}: {healthy}", database.display());
    }
    let mut query = open.prepare("SELECT number FROM said ORDER BY number")?;
    Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// One acknowledged transaction.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its number.
    pub number: u64,
    /// When the answer came.
    pub at: Instant,
    /// Who gave it.
    pub holder: String,
}

/// A client that asks all the time.
pub struct Client {
    answers: Arc<Mutex<Vec<Answered>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Begins on that host; `rate`: transactions each second.
    ///
    /// # Errors
    /// Where the host's network cannot be entered.
    pub fn start(host: &Host, address: SocketAddr, rate: u32) -> Result<Client> {
        Client::start_by(host, move || Some(address), rate)
    }

    /// The same, each connection to where that says.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn start_by(host: &Host, place: impl Fn() -> Option<SocketAddr> + Send + 'static, rate: u32) -> Result<Client> {
        let (answers, ends) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (told, ended, host) = (answers.clone(), ends.clone(), host.clone());
        let work = move || _ = host.inside(move || ask(&place, rate, &told, &ended));
        Ok(Client { answers, ends, thread: Some(thread::spawn(work)) })
    }

    /// What was acknowledged until now.
    pub fn answers(&self) -> Vec<Answered> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last acknowledged transaction.
    pub fn last(&self) -> Option<Answered> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Ends; returns everything that was acknowledged.
    pub fn stop(mut self) -> Vec<Answered> {
        self.end();
        self.answers()
    }

    fn end(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

fn ask(place: impl Fn() -> Option<SocketAddr>, rate: u32, answers: &Mutex<Vec<Answered>>, ends: &AtomicBool) {
    static CLIENTS: AtomicU64 = AtomicU64::new(0);
    let pause = Duration::from_secs(1) / rate.max(1);
    // No two clients say the same, so that what one of them lost is missed.
    let mut number = CLIENTS.fetch_add(1, Ordering::Relaxed) * NUMBERS;
    while !ends.load(Ordering::Relaxed) {
        let connected = place().map(|address| TcpStream::connect_timeout(&address, CONNECT));
        let Some(Ok(stream)) = connected else {
            thread::sleep(AGAIN);
            continue;
        };
        while !ends.load(Ordering::Relaxed) {
            number += 1;
            let Ok(answered) = transact(&stream, number) else { break };
            answers.lock().unwrap_or_else(PoisonError::into_inner).push(answered);
            thread::sleep(pause);
        }
    }
}

fn transact(stream: &TcpStream, number: u64) -> Result<Answered> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut out = stream;
    out.write_all(format!("{number}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let (said, holder) = line.trim().split_once(' ').context("no whole answer")?;
    if said.parse() != Ok(number) {
        bail!("another answer");
    }
    Ok(Answered { number, at: Instant::now(), holder: holder.into() })
}

/// The longest time between two answers, and who gave those.
pub fn longest_gap(answers: &[Answered]) -> Option<(Duration, String, String)> {
    let gap = |pair: &[Answered]| (pair[1].at - pair[0].at, pair[0].holder.clone(), pair[1].holder.clone());
    answers.windows(2).map(gap).max_by_key(|(gap, ..)| *gap)
}

/// Checks that those answered, each after the other: of answers of several clients, too, since no two ever serve at once.
///
/// # Errors
/// Who answered.
pub fn one_after_the_other(clients: &[&[Answered]], expected: &[&str]) -> Result<()> {
    let mut answers: Vec<_> = clients.concat();
    answers.sort_by_key(|answered| answered.at);
    let mut holders: Vec<_> = answers.into_iter().map(|answered| answered.holder).collect();
    holders.dedup();
    ensure!(holders == expected, "{expected:?} were to answer, and it was {holders:?}");
    Ok(())
}

/// What may not be missing after a power cut, where the other node had everything of before `replicated`: all but what the
/// node that fell acknowledged after that.
pub fn owed(answers: &[Answered], replicated: Instant) -> Vec<Answered> {
    let (before, since) = answers.split_at(answers.partition_point(|answered| answered.at < replicated));
    let fell = before.last().map(|answered| &answered.holder);
    let others = since.iter().skip_while(|answered| Some(&answered.holder) == fell);
    before.iter().chain(others).cloned().collect()
}

/// How many acknowledged transactions a database does not have.
///
/// # Errors
/// Where it cannot be read, or is broken.
pub fn lost(answers: &[Answered], database: &Path) -> Result<usize> {
    let there: BTreeSet<_> = numbers(database)?.into_iter().collect();
    Ok(answers.iter().filter(|answered| !there.contains(&answered.number)).count())
}
