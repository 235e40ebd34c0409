//! The journal of received changes, and the thread that makes them durable.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use stead_disk::journal::{EntryHead, Journal, JournalError, JournalOptions};
use stead_model::{Position, Sequence, SetName};
use stead_replication::frame::{self, Changes, HEADER_BYTES};

use super::session::Event;
use crate::seam::Failure;
use crate::threads;

const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 64 << 20, bytes_max: 8 << 30 };

/// What the journal is asked to do, in order.
pub(super) enum Job {
    /// Append these frames and sync once.
    Append {
        frames: Vec<Arc<[u8]>>,
        last: Sequence,
        /// The run of capture that numbers what is in them.
        capture: u64,
    },
    /// Forget everything up to there.
    Drop(Position),
    /// Forget everything.
    Reset,
}

/// A journal in its directory.
pub(super) struct JournalDir {
    journal: Journal,
}

impl JournalDir {
    /// Opens or makes it. What follows a damaged entry is forgotten: the source sends it again, by a difference mirror.
    pub(super) fn open(state_dir: &Path) -> Result<JournalDir, JournalError> {
        let path = state_dir.join("journal");
        // What cannot be made here cannot be opened below, which says why.
        let _ = fs::create_dir_all(&path);
        let journal = match Journal::open(&path, OPTIONS) {
            Err(damage @ JournalError::Corrupt { .. }) => {
                tracing::error!(%damage, "the journal is cut there; the source sends again what followed");
                Journal::open_cut(&path, OPTIONS)?
            }
            opened => opened?,
        };
        Ok(JournalDir { journal })
    }

    /// What it holds, up to the first entry that is no frame.
    pub(super) fn changes(&mut self) -> Result<Vec<Changes>, JournalError> {
        let entries = self.journal.entries().collect::<Result<Vec<_>, _>>()?;
        Ok(entries.iter().map_while(|entry| changes(&entry.payload[..].into())).collect())
    }

    /// The run of capture that the last entry names; 0: none.
    pub(super) fn capture(&self) -> u64 {
        self.journal.last_captured().map_or(0, |(capture, _)| capture)
    }

    /// Starts the thread; it ends when the session drops its end of `jobs`.
    pub(super) fn start(mut self, set: &SetName, jobs: Receiver<Job>, events: Sender<Event>) -> Result<(), Failure> {
        threads::spawn(&format!("{set}-journal"), move || {
            for job in jobs {
                if let Some(event) = self.work(job)
                    && events.send(event).is_err()
                {
                    return;
                }
            }
        })
    }

    fn work(&mut self, job: Job) -> Option<Event> {
        let done = match job {
            Job::Append { frames, last, capture } => return Some(self.append(&frames, last, capture)),
            Job::Drop(position) => self.journal.drop_until(position).map_err(|e| e.to_string()),
            Job::Reset => self.journal.clear().map_err(|e| e.to_string()),
        };
        done.err().map(|why| Event::JournalFailed { reason: format!("the journal cannot forget: {why}") })
    }

    fn append(&mut self, frames: &[Arc<[u8]>], last: Sequence, capture: u64) -> Event {
        let mut appended = frames.iter().map(|frame| self.journal.append(&head(frame, capture), frame));
        match appended.find(Result::is_err).unwrap_or(Ok(())).and_then(|()| self.journal.sync()) {
            Ok(()) => Event::Journaled { last },
            Err(e) => Event::JournalFailed { reason: format!("the journal cannot be written: {e}") },
        }
    }
}

fn head(frame: &Arc<[u8]>, capture: u64) -> EntryHead {
    let changes = changes(frame).expect("the mind only journals frames that it has checked");
    EntryHead {
        epoch: changes.header.epoch,
        incarnation: changes.header.incarnation,
        first: changes.header.first,
        last: changes.header.last,
        consistent: changes.header.is_consistent(),
        capture,
        captured: changes.captured().unwrap_or(0),
    }
}

fn changes(frame: &Arc<[u8]>) -> Option<Changes> {
    let header = frame::decode_header(frame.first_chunk::<HEADER_BYTES>()?).ok()?;
    Some(Changes { header, frame: frame.clone() })
}
