//! What this end of a synchronous connection may claim: that it has every fsync that the source answered. The claim is
//! saved before it counts, so that a takeover can rely on it after a restart of this daemon, and it ends by itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stead_replication::sync::{SyncMessage, SyncTarget};

use crate::clock;
use crate::seam::Failure;
use crate::state::files;

/// The file that holds the claim.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// Which run of the kernel the time is of.
    boot: String,
    /// Until when, in milliseconds of CLOCK_BOOTTIME; 0: taken back.
    level_until_ms: u64,
}

/// The claim and its file.
pub(super) struct Level {
    path: PathBuf,
    target: SyncTarget,
}

impl Level {
    pub(super) fn new(state_dir: &Path) -> Level {
        Level { path: state_dir.join("level.toml"), target: SyncTarget::default() }
    }

    pub(super) fn connected(&mut self) {
        self.target.connected(Instant::now());
    }

    pub(super) fn disconnected(&mut self) {
        self.target.disconnected();
    }

    /// When to call [`Level::ask`].
    pub(super) fn ask_at(&self) -> Option<Instant> {
        self.target.ask_at()
    }

    /// A question to the source, where one is due.
    pub(super) fn ask(&mut self) -> Option<Vec<u8>> {
        let (number, held) = self.target.ask(Instant::now())?;
        Some(SyncMessage::Ask { number, held }.encode())
    }

    /// A message came; returns the answer.
    pub(super) fn received(&mut self, message: SyncMessage) -> Result<Option<Vec<u8>>, Failure> {
        let now = Instant::now();
        match message {
            SyncMessage::Grant { number, lease_ms } => {
                if let Some(until) = self.target.granted(number, Duration::from_millis(lease_ms), now) {
                    self.save(until.saturating_duration_since(now))?;
                    self.target.saved(number, until);
                }
                Ok(None)
            }
            SyncMessage::Revoke { number } => {
                self.target.revoked(now);
                self.save(Duration::ZERO)?;
                Ok(Some(SyncMessage::Revoked { number }.encode()))
            }
            SyncMessage::Ask { .. } | SyncMessage::Revoked { .. } | SyncMessage::Want { .. } => Ok(None),
        }
    }

    /// Is it certain that everything is here that the source's fsync confirmed?
    pub(super) fn is_level(&self) -> bool {
        self.target.is_level(Instant::now())
    }

    fn save(&self, left: Duration) -> Result<(), Failure> {
        let level_until_ms = if left.is_zero() { 0 } else { clock::boot_ns(clock::now() + left) / 1_000_000 };
        files::write_toml(&self.path, &Saved { boot: clock::boot_id()?, level_until_ms })
    }
}
