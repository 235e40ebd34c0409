//! A database under load whose every committed state keeps an invariant over three tables, and its examination.
//!
//! The load runs as a process of its own. After each commit it notes number and time in an acknowledgement file: what a
//! client of the application would know to be committed.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags, params};

use crate::host::Host;
use crate::rng::Rng;

const ACCOUNTS: u64 = 100;
const BALANCE: i64 = 1_000;
const ACKNOWLEDGEMENT_BYTES: u64 = 16;

/// How SQLite makes its commits atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in SQLite")]
pub enum Journal {
    Wal,
    Rollback,
}

/// What a load is told on its command line.
pub struct Options {
    /// The database.
    pub database: PathBuf,
    /// Where commits are acknowledged; outside of the set.
    pub acknowledgements: PathBuf,
    /// How commits are made.
    pub journal: Journal,
    /// Commits per second at most; 0: as many as go.
    pub rate: u64,
    /// It ends by itself after that time; 0: never.
    pub seconds: u64,
}

/// A load that runs; dropped, it is killed.
pub struct Load {
    child: Child,
    acknowledgements: PathBuf,
}

/// What was found in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Committed transactions.
    pub transactions: u64,
    /// When the last one was made: nanoseconds since 1970; 0 if there is none.
    pub last_ns: u64,
}

impl Load {
    /// Starts the load on a host: `program` is this load's own executable.
    ///
    /// # Errors
    /// Where it does not make its first commit within 20 seconds.
    pub fn start(program: &Path, host: &Host, options: &Options) -> Result<Load> {
        let mut command = host.command(program);
        command.arg("load-sqlite").arg(&options.database).arg(&options.acknowledgements);
        let journal = if options.journal == Journal::Wal { "wal" } else { "rollback" };
        command.args([journal, &options.rate.to_string(), &options.seconds.to_string()]);
        let before = acknowledged(&options.acknowledgements)?.transactions;
        let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        let mut load = Load { child, acknowledgements: options.acknowledgements.clone() };
        crate::command::until("the load's first commit", Duration::from_secs(20), || {
            if let Some(status) = load.child.try_wait()? {
                bail!("the load ended with {status}");
            }
            Ok(load.acknowledged()?.transactions > before)
        })?;
        Ok(load)
    }

    /// The commits that the application was told of.
    ///
    /// # Errors
    /// Where the file is unreadable.
    pub fn acknowledged(&self) -> Result<Found> {
        acknowledged(&self.acknowledgements)
    }

    /// Kills it in the middle of what it does.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Is it still running?
    ///
    /// # Errors
    /// Names the status with which it ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the load ended with {status}"),
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// The last acknowledged commit of a load.
///
/// # Errors
/// Where the file is unreadable.
pub fn acknowledged(path: &Path) -> Result<Found> {
    let bytes = fs::read(path).or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(Vec::new()) } else { Err(e) })?;
    let whole = bytes.len() as u64 / ACKNOWLEDGEMENT_BYTES;
    let Some(last) = whole.checked_sub(1) else { return Ok(Found { transactions: 0, last_ns: 0 }) };
    let at = (last * ACKNOWLEDGEMENT_BYTES) as usize;
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    Ok(Found { transactions: number(at), last_ns: number(at + 8) })
}

/// The load itself: the main function of its process. `args`: as [`Load::start`] gives them.
///
/// # Errors
/// Where SQLite fails.
pub fn main(args: &[String]) -> Result<()> {
    let [database, acknowledgements, journal, rate, seconds] = args else {
        bail!("usage: load-sqlite DATABASE ACKNOWLEDGEMENTS wal|rollback RATE SECONDS");
    };
    let journal = if journal == "wal" { Journal::Wal } else { Journal::Rollback };
    let options = Options {
        database: database.into(),
        acknowledgements: acknowledgements.into(),
        journal,
        rate: rate.parse()?,
        seconds: seconds.parse()?,
    };
    work(&options)
}

fn work(options: &Options) -> Result<()> {
    let mut db = open(options)?;
    let mut acknowledgements = File::options().create(true).append(true).open(&options.acknowledgements)?;
    let mut number: u64 = db.query_row("SELECT count FROM totals", [], |row| row.get(0))?;
    let mut rng = Rng::new(number + 1);
    let begin = Instant::now();
    let first = number;
    let pause = 1_000_000_000u64.checked_div(options.rate).map(Duration::from_nanos);
    loop {
        number += 1;
        let time = transfer(&mut db, number, &mut rng)?;
        let mut line = [0; ACKNOWLEDGEMENT_BYTES as usize];
        line[..8].copy_from_slice(&number.to_le_bytes());
        line[8..].copy_from_slice(&time.to_le_bytes());
        acknowledgements.write_all(&line)?;
        if options.seconds > 0 && begin.elapsed().as_secs() >= options.seconds {
            return Ok(());
        }
        if let Some(pause) = pause {
            let due = begin + pause * (number - first) as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

fn open(options: &Options) -> Result<Connection> {
    let db = Connection::open(&options.database)?;
    let mode = if options.journal == Journal::Wal { "WAL" } else { "DELETE" };
    let got: String = db.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get(0))?;
    ensure!(got.eq_ignore_ascii_case(mode), "SQLite gave journal mode {got} instead of {mode}");
    // FULL confirms a commit that a rollback journal still takes back after a power cut: its removal is not synced.
    db.execute_batch(
        "PRAGMA synchronous = EXTRA;
         PRAGMA wal_autocheckpoint = 200;
         BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS transfers (n INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER,
                                               time_ns INTEGER, memo BLOB);
         CREATE TABLE IF NOT EXISTS totals (count INTEGER, volume INTEGER);",
    )?;
    let accounts: u64 = db.query_row("SELECT count(*) FROM accounts", [], |row| row.get(0))?;
    if accounts == 0 {
        for id in 0..ACCOUNTS {
            db.execute("INSERT INTO accounts VALUES (?, ?)", params![id, BALANCE])?;
        }
        db.execute("INSERT INTO totals VALUES (0, 0)", [])?;
    }
    db.execute_batch("COMMIT")?;
    Ok(db)
}

fn transfer(db: &mut Connection, number: u64, rng: &mut Rng) -> Result<u64> {
    let (source, target) = (rng.below(ACCOUNTS), rng.below(ACCOUNTS));
    let amount = rng.below(50) as i64;
    let memo_len = 50 + rng.below(600) as usize;
    let memo = rng.bytes(memo_len);
    let time = now_ns();
    let transaction = db.transaction()?;
    transaction.execute("UPDATE accounts SET balance = balance - ? WHERE id = ?", params![amount, source])?;
    transaction.execute(
        "INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?)",
        params![number, source, target, amount, time as i64, memo],
    )?;
    transaction.execute("UPDATE accounts SET balance = balance + ? WHERE id = ?", params![amount, target])?;
    transaction.execute("UPDATE totals SET count = count + 1, volume = volume + ?", params![amount])?;
    // Rows of two ages in every state: pages in the middle of the file change, not only its end.
    if number > 2_000 {
        transaction.execute("UPDATE transfers SET memo = x'00' WHERE n = ?", params![number - 2_000])?;
    }
    transaction.commit()?;
    Ok(time)
}

/// Opens a copy of a database as the application would after a crash: is it whole, and does the invariant hold?
///
/// # Errors
/// Names what is broken.
pub fn examine(database: &Path) -> Result<Found> {
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .with_context(|| format!("cannot open {}", database.display()))?;
    let integrity: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).context("integrity_check")?;
    ensure!(integrity == "ok", "integrity_check: {integrity}");
    let number = |sql: &str| -> Result<i64> { Ok(db.query_row(sql, [], |row| row.get(0))?) };
    let (count, volume) = (number("SELECT count FROM totals")?, number("SELECT volume FROM totals")?);
    let rows = number("SELECT count(*) FROM transfers")?;
    let last = number("SELECT coalesce(max(n), 0) FROM transfers")?;
    let sum = number("SELECT coalesce(sum(amount), 0) FROM transfers")?;
    let balance = number("SELECT sum(balance) FROM accounts")?;
    ensure!(count == rows && rows == last, "totals say {count} transfers, there are {rows}, the last is {last}");
    ensure!(volume == sum, "totals say {volume} were moved, the transfers {sum}");
    ensure!(balance == ACCOUNTS as i64 * BALANCE, "the accounts hold {balance} together");
    let wrong = number(
        "SELECT count(*) FROM accounts a WHERE balance != 1000
           + (SELECT coalesce(sum(amount), 0) FROM transfers WHERE target = a.id)
           - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE source = a.id)",
    )?;
    ensure!(wrong == 0, "{wrong} accounts do not agree with their transfers");
    let last_ns = number("SELECT coalesce(max(time_ns), 0) FROM transfers")?;
    Ok(Found { transactions: count as u64, last_ns: last_ns as u64 })
}

/// Copies the files of a database out of a replica, which may not be written, and examines the copy.
///
/// # Errors
/// As [`examine`]; a broken copy stays for inspection when `STEAD_KEEP` is set.
pub fn examine_copy(database: &Path, scratch: &Path) -> Result<Found> {
    let _ = fs::remove_dir_all(scratch);
    fs::create_dir_all(scratch)?;
    let (dir, stem) = (database.parent().context("no parent")?, database.file_name().context("no name")?);
    let stem = stem.to_string_lossy();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        // The shared memory file is no part of the database: SQLite makes it anew after a crash.
        let is_part = name.to_string_lossy().starts_with(&*stem) && !name.to_string_lossy().ends_with("-shm");
        if is_part {
            fs::copy(entry.path(), scratch.join(&name))?;
        }
    }
    examine(&scratch.join(&*stem))
}
