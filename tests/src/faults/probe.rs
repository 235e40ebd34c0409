//! How long the application waits: the same small operations on the protected directory and on an unprotected one of
//! the same disk, so that what the disk or a busy machine costs is told apart from what protection costs.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// A wait that is longer is looked at.
const SLOW: Duration = Duration::from_millis(100);
/// Waits of the unprotected directory that are remembered.
const NOISE: Duration = Duration::from_millis(10);
/// How far around a slow operation the noise is looked for.
const AROUND: Duration = Duration::from_secs(1);
/// Most waits that are remembered.
const REMEMBERED_MAX: usize = 100_000;
const PAUSE: Duration = Duration::from_millis(2);

type Operation = fn(&Path) -> io::Result<()>;
const OPERATIONS: [(&str, Operation); 5] =
    [("append", append), ("stat", stat), ("replace", replace), ("read", read), ("sync", sync)];

/// The operations, running on threads of their own.
pub struct Probe {
    findings: Arc<Mutex<Findings>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A wait of the application that nothing but its protection explains.
#[derive(Clone, Debug)]
pub struct Stall {
    /// When it began, since the probe's start.
    pub at: Duration,
    /// What was done.
    pub operation: &'static str,
    /// How long it took.
    pub took: Duration,
    /// The longest that the same things took elsewhere at that time.
    pub elsewhere: Duration,
}

/// What the probe saw.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    /// Operations done.
    pub operations: u64,
    /// The longest of each kind: protected, unprotected.
    pub longest: Vec<(&'static str, Duration, Duration)>,
    /// Longer than 100 ms beyond what the same took elsewhere.
    pub stalls: Vec<Stall>,
}

#[derive(Default)]
struct Findings {
    operations: u64,
    longest: [[Duration; 2]; OPERATIONS.len()],
    slow: Vec<(Instant, usize, Duration)>,
    noise: Vec<(Instant, Duration)>,
    error: Option<String>,
}

impl Waits {
    /// Stalls that a person would call so: where the machine itself was too busy to tell, only those beyond a second.
    pub fn clear_stalls(&self) -> Vec<&Stall> {
        let is_quiet = self.longest.iter().all(|(_, _, bare)| *bare < SLOW);
        let beyond = if is_quiet { SLOW } else { Duration::from_secs(1) };
        self.stalls.iter().filter(|stall| stall.took > stall.elsewhere + beyond).collect()
    }

    /// Adds what another probe saw.
    pub fn add(&mut self, other: &Waits) {
        self.operations += other.operations;
        for (name, own, bare) in &other.longest {
            match self.longest.iter_mut().find(|(known, ..)| known == name) {
                Some(known) => *known = (name, known.1.max(*own), known.2.max(*bare)),
                None => self.longest.push((name, *own, *bare)),
            }
        }
        self.stalls.extend(other.stalls.iter().cloned());
    }
}

impl Probe {
    /// Begins; both directories are made.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub fn start(protected: &Path, elsewhere: &Path) -> Result<Probe> {
        for dir in [protected, elsewhere] {
            fs::create_dir_all(dir)?;
            fs::write(dir.join("read"), [3; 4096])?;
        }
        let (findings, stop) = (Arc::new(Mutex::new(Findings::default())), Arc::new(AtomicBool::new(false)));
        let start = |(side, dir): (usize, &Path)| {
            let (shared, stopped, dir) = (findings.clone(), stop.clone(), dir.to_path_buf());
            thread::spawn(move || while !stopped.load(Ordering::Relaxed) && round(side, &dir, &shared) {})
        };
        let threads = [protected, elsewhere].into_iter().enumerate().map(start).collect();
        Ok(Probe { findings, stop, threads })
    }

    /// Has every operation worked?
    ///
    /// # Errors
    /// Names the first that did not.
    pub fn check(&self) -> Result<()> {
        let error = lock(&self.findings).error.clone();
        error.map_or(Ok(()), |error| Err(anyhow!("an operation of the application failed: {error}")))
    }

    /// Ends it.
    pub fn finish(mut self, since: Instant) -> Waits {
        self.end();
        let findings = lock(&self.findings);
        let longest = OPERATIONS.iter().zip(findings.longest).map(|((name, _), [own, bare])| (*name, own, bare));
        let stalls = findings.slow.iter().filter_map(|slow| findings.stall(*slow, since));
        Waits { operations: findings.operations, longest: longest.collect(), stalls: stalls.collect() }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.end();
    }
}

impl Findings {
    fn stall(&self, (at, operation, took): (Instant, usize, Duration), since: Instant) -> Option<Stall> {
        let (from, to) = (at.checked_sub(AROUND).unwrap_or(at), at + took + AROUND);
        let near = self.noise.iter().filter(|(when, took)| *when + *took > from && *when < to);
        let elsewhere = near.map(|(_, took)| *took).max().unwrap_or_default();
        let operation = OPERATIONS[operation].0;
        // A sync may have to wait for another's to end, and then for its own.
        let explained = if operation == "sync" { 2 * elsewhere } else { elsewhere };
        (took > explained + SLOW).then(|| Stall { at: at.saturating_duration_since(since), operation, took, elsewhere })
    }

    fn note(&mut self, operation: usize, side: usize, begin: Instant, took: Duration) {
        self.operations += 1;
        let longest = &mut self.longest[operation][side];
        *longest = took.max(*longest);
        if side == 0 && took > SLOW && self.slow.len() < REMEMBERED_MAX {
            self.slow.push((begin, operation, took));
        }
        if side == 1 && took > NOISE && self.noise.len() < REMEMBERED_MAX {
            self.noise.push((begin, took));
        }
    }
}

/// Each operation once; false: something failed. Both sides run at the same time, so that each wait has its like.
fn round(side: usize, dir: &Path, findings: &Mutex<Findings>) -> bool {
    for (number, (name, operation)) in OPERATIONS.iter().enumerate() {
        let begin = Instant::now();
        let done = operation(dir);
        let took = begin.elapsed();
        // A sleep that ends late tells how busy the machine is.
        let asleep = Instant::now();
        thread::sleep(PAUSE);
        let late = asleep.elapsed().saturating_sub(PAUSE);
        let mut findings = lock(findings);
        findings.note(number, side, begin, took);
        if late > NOISE {
            findings.noise.push((asleep, late));
        }
        if let Err(e) = done {
            findings.error.get_or_insert(format!("{name} in {}: {e}", dir.display()));
            return false;
        }
    }
    true
}

fn append(dir: &Path) -> io::Result<()> {
    let mut log = File::options().append(true).create(true).open(dir.join("log"))?;
    log.write_all(&[b'x'; 1024])?;
    if log.metadata()?.len() > 1 << 20 {
        log.set_len(0)?;
    }
    Ok(())
}

fn stat(dir: &Path) -> io::Result<()> {
    fs::metadata(dir.join("read")).map(drop)
}

fn replace(dir: &Path) -> io::Result<()> {
    let new = dir.join("new");
    fs::write(&new, [b'y'; 512])?;
    fs::rename(&new, dir.join("name"))
}

fn read(dir: &Path) -> io::Result<()> {
    File::open(dir.join("read"))?.read_exact(&mut [0; 4096])
}

fn sync(dir: &Path) -> io::Result<()> {
    let file = File::options().append(true).create(true).open(dir.join("synced"))?;
    (&file).write_all(&[b'z'; 256])?;
    if file.metadata()?.len() > 1 << 18 {
        file.set_len(0)?;
    }
    file.sync_data()
}

fn lock(findings: &Mutex<Findings>) -> std::sync::MutexGuard<'_, Findings> {
    findings.lock().unwrap_or_else(PoisonError::into_inner)
}
