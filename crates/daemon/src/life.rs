//! Signs that this daemon lives, once a second: to systemd where that watches it, and in memory for the watchdog where that is
//! to start it again. The loop gives them, and only while the thread of the heartbeats lives, too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use stead_api::Failure;

use crate::failover::lease::LeaseFile;
use crate::notify;

const EVERY: Duration = Duration::from_secs(1);

/// Rises while another thread lives.
pub(crate) type Beats = Arc<AtomicU64>;

/// The signs of one run of the daemon.
pub(crate) struct Life {
    file: Option<LeaseFile>,
    to_systemd: bool,
    /// Of the thread of the heartbeats, and what it was at the last sign.
    beats: Beats,
    seen: u64,
    next: Instant,
}

/// Where the watchdog finds the signs of the daemon of that state directory.
pub(crate) fn dir(state: &Path) -> PathBuf {
    state.join("life")
}

impl Life {
    /// `for_watchdog`: in memory, too.
    ///
    /// # Errors
    /// Where there is no room for that.
    pub(crate) fn begin(state: &Path, for_watchdog: bool) -> Result<Life, Failure> {
        let file = for_watchdog.then(|| {
            let dir = dir(state);
            let made = std::fs::create_dir_all(&dir);
            made.map_err(|e| Failure::new(format!("{} cannot be made", dir.display()), e.to_string(), ""))?;
            LeaseFile::open(&dir)
        });
        let (file, to_systemd) = (file.transpose()?, notify::is_watched());
        Ok(Life { file, to_systemd, beats: Beats::default(), seen: 0, next: Instant::now() })
    }

    /// What the thread of the heartbeats is to raise.
    pub(crate) fn beats(&self) -> Beats {
        self.beats.clone()
    }

    /// How long until a sign is due; none: nobody waits for one.
    pub(crate) fn wait(&self) -> Option<Duration> {
        (self.to_systemd || self.file.is_some()).then(|| self.next.saturating_duration_since(Instant::now()))
    }

    /// Gives a sign where one is due.
    pub(crate) fn tick(&mut self) {
        if self.wait() != Some(Duration::ZERO) {
            return;
        }
        self.next = Instant::now() + EVERY;
        if std::mem::replace(&mut self.seen, self.beats.load(Relaxed)) == self.seen {
            return;
        }
        self.file.iter().for_each(LeaseFile::beat);
        if self.to_systemd {
            notify::alive();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::lease::{self, LeaseView};

    #[test]
    fn a_loop_alone_is_no_life() {
        let state = tempfile::tempdir().unwrap();
        let mut life = Life::begin(state.path(), true).unwrap();
        let seen = LeaseView::open(&dir(state.path())).unwrap();
        let mut beat = |heartbeats: u64| {
            life.beats.fetch_add(heartbeats, Relaxed);
            life.next = Instant::now();
            life.tick();
            seen.beats()
        };
        assert_eq!([beat(0), beat(1), beat(0), beat(5)], [0, 1, 1, 2]);
        life.tick();
        assert_eq!(seen.beats(), 2, "once a second");
        lease::remove(&dir(state.path()));
        assert_eq!(Life::begin(state.path(), false).unwrap().wait(), None);
    }
}
