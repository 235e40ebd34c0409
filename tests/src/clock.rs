//! A node's own wall clock, which can be set while its processes run: Debian's libfaketime, loaded before the daemon, its
//! captures and the command line against it. Clocks that only go forward, file times and the machine's clock stay true.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::Host;

/// Seconds that a wall clock is ahead of the machine's; dropped once nothing runs by it.
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// One that is right.
    ///
    /// # Errors
    /// Where the library is not installed.
    pub fn new(host: &Host) -> Result<Clock> {
        let clock = Clock { file: host.dir().join("clock"), library: library()? };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it: so many seconds ahead, or behind where that is negative.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}"))?;
        Ok(fs::rename(new, &self.file)?)
    }

    /// What a program needs to run by it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let own = [("LD_PRELOAD", &self.library), ("FAKETIME_TIMESTAMP_FILE", &self.file)];
        let own = own.map(|(name, path)| (name.to_string(), path.display().to_string()));
        let rules = ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"];
        own.into_iter().chain(rules.map(|name| (name.to_string(), "1".to_string()))).collect()
    }

    /// Seconds since 1970 that it shows, and those of the machine.
    ///
    /// # Errors
    /// Where no program can be run by it.
    pub fn seconds(&self) -> Result<(i64, i64)> {
        let mut date = Command::new("date");
        let shown = crate::command::run(date.arg("+%s").envs(self.environment()))?.trim().parse()?;
        Ok((shown, (crate::load::now_ns() / 1_000_000_000) as i64))
    }
}

impl Drop for Clock {
    /// The library's shared memory outlives processes that are killed.
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("sem.faketime_sem_").or(name.strip_prefix("faketime_shm_"));
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn library() -> Result<PathBuf> {
    let places = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    places.into_iter().find(|path| path.is_file()).context("libfaketime is missing: apt-get install libfaketime")
}
