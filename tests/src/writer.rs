//! A process that belongs to nothing and writes numbers into a file that it has open, for as long as it lives. It notes
//! elsewhere which of them were written, and when.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::command::until;
use crate::host::Host;

const PROGRAM: &str = "exec 3>>\"$1\"; n=1; while :; do \
    if echo $n >&3; then echo \"$n $EPOCHREALTIME\"; n=$((n+1)); else echo refused; fi 2>/dev/null; sleep 0.01; done >\"$2\"";

/// The process.
pub struct Writer {
    child: Child,
    log: PathBuf,
}

/// A number that was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Written {
    /// The number.
    pub number: u64,
    /// When its write had returned.
    pub at: SystemTime,
}

impl Writer {
    /// Begins on that host.
    ///
    /// # Errors
    /// Where it writes nothing within ten seconds.
    pub fn start(host: &Host, file: &Path) -> Result<Writer> {
        let log = host.dir().join("writer.log");
        let mut command = host.command("bash");
        command.args(["-c", PROGRAM, "writer"]).arg(file).arg(&log).stdin(Stdio::null()).stderr(Stdio::null());
        let writer = Writer { child: command.spawn()?, log };
        until("the writer writes", Duration::from_secs(10), || Ok(writer.last()?.is_some()))?;
        Ok(writer)
    }

    /// The last number that was written.
    ///
    /// # Errors
    /// Where its notes cannot be read.
    pub fn last(&self) -> Result<Option<Written>> {
        let text = self.notes()?;
        let Some(line) = text.lines().rfind(|line| *line != "refused") else { return Ok(None) };
        let (number, at) = line.split_once(' ').context("a number and its time")?;
        Ok(Some(Written { number: number.parse()?, at: UNIX_EPOCH + Duration::from_secs_f64(at.parse()?) }))
    }

    /// How many writes were refused.
    ///
    /// # Errors
    /// Where its notes cannot be read.
    pub fn refused(&self) -> Result<usize> {
        Ok(self.notes()?.lines().filter(|line| *line == "refused").count())
    }

    /// Kills it.
    ///
    /// # Errors
    /// Where it does not end within five seconds.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        until("the killed writer ends", Duration::from_secs(5), || Ok(self.child.try_wait()?.is_some()))
    }

    /// What it noted in whole lines.
    fn notes(&self) -> Result<String> {
        let mut text = match fs::read_to_string(&self.log) {
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            read => read?,
        };
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        Ok(text)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}
