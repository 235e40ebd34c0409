//! What the watchdog did, for the timeline of the group: `groups/NAME/watchdog.log`, a line of JSON for each thing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use stead_model::status::Timestamp;

use super::spawn;

const NAME: &str = "watchdog.log";
/// Longest file; then it is begun anew, and the one before is kept.
const BYTES_MAX: u64 = 1 << 20;
/// Lines that wait for the disk; beyond that they are lost.
const LINES_MAX: usize = 1000;

/// One thing that a watchdog did or saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// When, by the wall clock.
    pub(crate) at: Timestamp,
    /// For people.
    pub(crate) text: String,
}

/// The lines of a group from then on, the oldest first.
pub(crate) fn lines_since(dir: &Path, at: Timestamp) -> Vec<Line> {
    let texts = [old(dir), dir.join(NAME)].map(|file| fs::read_to_string(file).unwrap_or_default());
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.filter_map(|line| serde_json::from_str::<Line>(line).ok()).filter(|line| line.at >= at).collect()
}

/// Writes lines on a thread of its own: a disk that hangs holds nobody up.
#[derive(Clone)]
pub(super) struct Log(Sender<(PathBuf, Line)>);

impl Log {
    pub(super) fn start() -> io::Result<Log> {
        let (lines, lines_in) = bounded(LINES_MAX);
        spawn("watchdog-log", move || write(&lines_in))?;
        Ok(Log(lines))
    }

    /// Adds a line to the log of the group in that directory.
    pub(super) fn add(&self, dir: &Path, text: String) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let _ = self.0.try_send((dir.to_path_buf(), Line { at: Timestamp(at), text }));
    }
}

fn write(lines: &Receiver<(PathBuf, Line)>) {
    for (dir, line) in lines {
        // There is nobody to be told.
        let _ = append(&dir, &line);
    }
}

fn append(dir: &Path, line: &Line) -> io::Result<()> {
    let path = dir.join(NAME);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > BYTES_MAX) {
        fs::rename(&path, old(dir))?;
    }
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?.write_all(&bytes)
}

fn old(dir: &Path) -> PathBuf {
    dir.join(format!("{NAME}.old"))
}
