//! What a node keeps of a group: `groups/NAME/record.json` or `ballot.json`, its timeline, and in `parts.json` what its
//! units and programs were when it moved last, and in `told.json` what others were told of where it is. Records, ballots and lines are written by a thread of its own, so that a
//! slow disk never holds heartbeats up.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stead_api::{Failure, TimelineEntry};
use stead_model::GroupName;
use stead_model::status::Timestamp;
use tracing::error;

use super::crash::{self, Side};
use super::{watchdog, words};
use crate::state::{StateDir, files};
use crate::threads;

/// Lines of a timeline that are kept.
pub(super) const LINES_MAX: usize = 2000;
/// Jobs that wait for the disk: beyond that the watcher waits too.
const JOBS_MAX: usize = 1024;

/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

const RECORD: &str = "record.json";
const BALLOT: &str = "ballot.json";
const TIMELINE: &str = "timeline.jsonl";
const PARTS: &str = "parts.json";
const TOLD: &str = "told.json";

/// The directory of a group.
#[derive(Clone, Debug)]
pub(crate) struct GroupDir(PathBuf);

/// What is to be written.
pub(super) enum Job {
    /// The record or ballot of that number; what comes of it is told by `saved`.
    Mind { dir: GroupDir, group: GroupName, number: u64, is_ballot: bool, bytes: Vec<u8> },
    /// A line of the timeline.
    Line { dir: GroupDir, entry: Box<TimelineEntry> },
}

impl GroupDir {
    /// Where a group of that name is kept; not made yet.
    pub(crate) fn of(state: &StateDir, group: &GroupName) -> GroupDir {
        GroupDir(state.file("groups").join(group.as_str()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it, durably.
    pub(crate) fn make(&self) -> Result<(), Failure> {
        let parent = self.0.parent().unwrap_or(&self.0);
        let made = fs::create_dir_all(&self.0)
            .and_then(|()| files::sync_parent(&self.0))
            .and_then(|()| files::sync_parent(parent));
        made.map_err(|e| Failure::new(format!("{} cannot be made", self.0.display()), e.to_string(), ""))
    }

    /// Forgets everything.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.0) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                let what = format!("{} cannot be removed", self.0.display());
                Err(Failure::new(what, e.to_string(), "Remove the directory by hand"))
            }
            _ => Ok(()),
        }
    }

    /// What was saved of the group's machine last.
    pub(crate) fn record<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        self.read(RECORD)
    }

    /// What was saved of the group's witness last.
    pub(crate) fn ballot<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        self.read(BALLOT)
    }

    /// The units and programs of the group as they were when it moved last.
    pub(crate) fn parts<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        self.read(PARTS)
    }

    /// Keeps them.
    pub(crate) fn keep_parts(&self, parts: &impl Serialize) -> Result<(), Failure> {
        files::write(&self.0.join(PARTS), &serde_json::to_vec(parts).unwrap_or_default(), 0o600)
    }

    /// What was told elsewhere of where the group is.
    pub(crate) fn told<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        self.read(TOLD)
    }

    /// Keeps it.
    pub(crate) fn keep_told(&self, told: &impl Serialize) -> Result<(), Failure> {
        files::write(&self.0.join(TOLD), &serde_json::to_vec(told).unwrap_or_default(), 0o600)
    }

    /// Writes a first record.
    pub(crate) fn begin(&self, record: &impl Serialize) -> Result<(), Failure> {
        files::write(&self.0.join(RECORD), &serde_json::to_vec(record).unwrap_or_default(), 0o600)
    }

    /// The last lines of the timeline.
    pub(crate) fn timeline(&self) -> VecDeque<TimelineEntry> {
        let text = fs::read_to_string(self.0.join(TIMELINE)).unwrap_or_default();
        // A line that a power cut left half is no line.
        let lines: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let more = lines.len().saturating_sub(LINES_MAX);
        let mut lines: VecDeque<TimelineEntry> = lines.into_iter().skip(more).collect();
        let last = lines.back().map_or(Timestamp(0), |line| line.at);
        lines.extend(watchdog::lines_since(&self.0, last).into_iter().map(by_watchdog));
        lines
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let file = self.0.join(name);
        if !file.exists() {
            return Ok(None);
        }
        let unread = |e: serde_json::Error| {
            let remedy = "Nothing is started before it can be read: restore it from a backup of the state directory";
            Failure::new(format!("{} cannot be read", file.display()), e.to_string(), remedy)
        };
        serde_json::from_slice(&files::read(&file)?).map(Some).map_err(unread)
    }

    fn add_line(&self, entry: &TimelineEntry) -> std::io::Result<()> {
        let file = self.0.join(TIMELINE);
        if fs::metadata(&file).is_ok_and(|meta| meta.len() > 4 << 20) {
            self.shorten(&file)?;
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
        file.write_all(&line)
    }

    fn shorten(&self, file: &Path) -> std::io::Result<()> {
        let mut text = Vec::new();
        for entry in self.timeline().iter().skip(LINES_MAX / 2) {
            text.extend(serde_json::to_vec(entry)?);
            text.push(b'\n');
        }
        files::write(file, &text, 0o600).map_err(std::io::Error::other)
    }
}

/// Number of the epoch in a record, 0 of anything else.
fn epoch_of(record: &[u8]) -> u64 {
    let record: serde_json::Value = serde_json::from_slice(record).unwrap_or_default();
    record["epoch"]["number"].as_u64().unwrap_or_default()
}

/// What the watchdog did while no daemon told of it.
fn by_watchdog(line: watchdog::Line) -> TimelineEntry {
    words::plain(&format!("watchdog: {}", line.text), line.at)
}

/// Starts the thread that writes; `saved` is told each group and number that is durable.
pub(super) fn spawn(saved: impl Fn(GroupName, u64) + Send + 'static) -> Result<Sender<Job>, Failure> {
    let (jobs, jobs_in) = crossbeam_channel::bounded(JOBS_MAX);
    threads::spawn("groups-kept", move || work(&jobs_in, &saved))?;
    Ok(jobs)
}

fn work(jobs: &Receiver<Job>, saved: &impl Fn(GroupName, u64)) {
    let mut again = Vec::new();
    loop {
        let first = match again.is_empty() {
            true => jobs.recv().ok(),
            false => match jobs.recv_timeout(AGAIN) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            },
        };
        if first.is_none() && again.is_empty() {
            return;
        }
        let new: Vec<_> = first.into_iter().chain(jobs.try_iter().take(JOBS_MAX)).collect();
        let all: Vec<_> = again.drain(..).chain(new).collect();
        again = write(all, saved);
    }
}

/// Returns what is to be tried again.
fn write(mut all: Vec<Job>, saved: &impl Fn(GroupName, u64)) -> Vec<Job> {
    // A later one holds all of an earlier one.
    for at in (0..all.len()).rev() {
        if let Job::Mind { group, .. } = &all[at]
            && all[at + 1..].iter().any(|later| later.is_of(group))
        {
            all.remove(at);
        }
    }
    all.into_iter().filter_map(|job| job.done(saved)).collect()
}

impl Job {
    /// Returns itself where it is to be tried again.
    fn done(self, saved: &impl Fn(GroupName, u64)) -> Option<Job> {
        match &self {
            Job::Line { dir, entry } => {
                if let Err(e) = dir.add_line(entry) {
                    error!("the timeline in {} cannot be written: {e}", dir.0.display());
                }
                None
            }
            Job::Mind { dir, group, number, is_ballot, bytes } => {
                let name = if *is_ballot { BALLOT } else { RECORD };
                let point = || format!("epoch {}", epoch_of(bytes));
                crash::at(group.as_str(), point, Side::Before);
                let failure = files::write(&dir.0.join(name), bytes, 0o600).err();
                crash::at(group.as_str(), point, Side::After);
                match failure {
                    None => saved(group.clone(), *number),
                    Some(failure) => {
                        error!("group {group} stands still: {failure}");
                        return Some(self);
                    }
                }
                None
            }
        }
    }

    fn is_of(&self, name: &GroupName) -> bool {
        matches!(self, Job::Mind { group, .. } if group == name)
    }
}
