//! Small loops that cost an application time: microseconds per operation on a directory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rusqlite::{Connection, params};

/// A loop: prepares what it needs in a directory and returns microseconds per operation.
pub struct Loop {
    /// What is done.
    pub name: &'static str,
    /// The loop.
    pub run: fn(&Path) -> Result<f64>,
}

/// What is measured with `order strict` and compared with the bare file system.
pub const DURABLE: &[Loop] = &[
    Loop { name: "8 KiB write + fdatasync", run: write_sync },
    Loop { name: "4 KiB cached read", run: cached_read },
    Loop { name: "SQLite commit (WAL, FULL)", run: sqlite },
];

/// Buffered writes of three sizes.
pub const BUFFERED: &[Loop] = &[
    Loop { name: "4 KiB buffered write", run: |dir| buffered(dir, 4 << 10, 2_000) },
    Loop { name: "64 KiB buffered write", run: |dir| buffered(dir, 64 << 10, 200) },
    Loop { name: "1 MiB buffered write", run: |dir| buffered(dir, 1 << 20, 16) },
];

/// Changes of names.
pub const NAMES: &[Loop] = &[
    Loop { name: "create", run: |dir| names(dir, 0) },
    Loop { name: "rename", run: |dir| names(dir, 1) },
    Loop { name: "unlink", run: |dir| names(dir, 2) },
];

/// What only looks.
pub const LOOKS: &[Loop] =
    &[Loop { name: "repeated stat", run: stat }, Loop { name: "repeated readdir of 3,000", run: readdir }];

fn timed(count: u32, mut step: impl FnMut(u32) -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    for n in 0..count {
        step(n)?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}

fn opened(dir: &Path, name: &str, size: usize) -> Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join(name))?;
    if file.metadata()?.len() < size as u64 {
        file.write_all_at(&vec![1; size], 0)?;
        file.sync_all()?;
    }
    Ok(file)
}

fn write_sync(dir: &Path) -> Result<f64> {
    let file = opened(dir, "synced", 4 << 20)?;
    let bytes = [7; 8192];
    timed(200, |n| {
        file.write_all_at(&bytes, u64::from(n % 512) * 8192)?;
        Ok(file.sync_data()?)
    })
}

fn cached_read(dir: &Path) -> Result<f64> {
    let file = opened(dir, "read", 4 << 20)?;
    let mut bytes = [0; 4096];
    timed(1_024, |n| Ok(file.read_exact_at(&mut bytes, u64::from(n) * 4096)?))?;
    timed(50_000, |n| Ok(file.read_exact_at(&mut bytes, u64::from(n * 37 % 1_024) * 4096)?))
}

/// A commit of SQLite: what is compared with a synchronous one.
pub fn commit(dir: &Path) -> Result<f64> {
    sqlite(dir)
}

/// A write that is flushed.
pub fn flush(dir: &Path) -> Result<f64> {
    write_sync(dir)
}

fn sqlite(dir: &Path) -> Result<f64> {
    let db = Connection::open(dir.join("db"))?;
    let _: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    db.execute_batch("PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, v BLOB)")?;
    let value = [3u8; 300];
    timed(200, |_| Ok(db.execute("INSERT INTO t (v) VALUES (?)", params![value]).map(drop)?))
}

fn buffered(dir: &Path, size: usize, count: u32) -> Result<f64> {
    let span = size * count as usize;
    let file = opened(dir, &format!("buffered-{size}"), span)?;
    let bytes = vec![9; size];
    timed(count, |n| Ok(file.write_all_at(&bytes, u64::from(n) * size as u64)?))
}

/// Creates, renames and unlinks 1,000 files and returns the time of the chosen part.
fn names(dir: &Path, part: usize) -> Result<f64> {
    let dir = dir.join("names");
    fs::create_dir_all(&dir)?;
    let (old, new) = (|n: u32| dir.join(format!("name-{n}")), |n: u32| dir.join(format!("other-{n}")));
    let times = [
        timed(1_000, |n| Ok(File::create(old(n)).map(drop)?))?,
        timed(1_000, |n| Ok(fs::rename(old(n), new(n))?))?,
        timed(1_000, |n| Ok(fs::remove_file(new(n))?))?,
    ];
    Ok(times[part])
}

fn stat(dir: &Path) -> Result<f64> {
    let path = dir.join("looked-at");
    fs::write(&path, "x")?;
    fs::metadata(&path)?;
    timed(50_000, |_| Ok(fs::metadata(&path).map(drop)?))
}

fn readdir(dir: &Path) -> Result<f64> {
    let dir = dir.join("listed");
    if !dir.exists() {
        fs::create_dir(&dir)?;
        for n in 0..3_000 {
            File::create(dir.join(format!("an-entry-of-some-length-{n}")))?;
        }
    }
    let list = || Ok(fs::read_dir(&dir)?.count());
    let count: Result<usize> = list();
    assert_eq!(count?, 3_000);
    timed(20, |_| list().map(drop))
}
