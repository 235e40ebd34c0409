//! What a target must know again after a restart.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stead_model::Epoch;
use stead_replication::target::{Checkpoint, Kept};

use crate::seam::Failure;
use crate::state::files;

const SPARE_BYTES: usize = 64 << 10;

/// The durable part of a target, besides journal and file-id map.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    epoch: Option<Epoch>,
    checkpoint: Option<Checkpoint>,
    /// Records were applied although no checkpoint was made yet.
    #[serde(default)]
    begun: bool,
    /// Pre-images are kept that lead back to this image.
    #[serde(default)]
    kept: Option<Kept>,
}

/// The file that holds it.
pub(super) struct SavedFile {
    path: PathBuf,
    saved: Saved,
}

impl SavedFile {
    pub(super) fn open(state_dir: &Path) -> Result<SavedFile, Failure> {
        let path = state_dir.join("target.toml");
        let saved = files::read_toml(&path)?.unwrap_or_default();
        Ok(SavedFile { path, saved })
    }

    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.saved.epoch
    }

    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        self.saved.checkpoint
    }

    pub(super) fn begun(&self) -> bool {
        self.saved.begun
    }

    pub(super) fn kept(&self) -> Option<Kept> {
        self.saved.kept
    }

    pub(super) fn save_kept(&mut self, kept: Option<Kept>) -> Result<(), Failure> {
        if self.saved.kept == kept {
            return Ok(());
        }
        if kept.is_some() {
            files::write(&self.spare(), &[0x55; SPARE_BYTES], 0o600)?;
        }
        self.replace(Saved { kept, ..self.saved.clone() })
    }

    /// The image that was kept is given up, also where the disk is full.
    pub(super) fn spoil(&mut self, checkpoint: Checkpoint) -> Result<(), Failure> {
        self.give_room();
        self.replace(Saved { checkpoint: Some(checkpoint), kept: None, ..self.saved.clone() })
    }

    /// What comes next is needed for leaving the image that is kept, or for going back to it: it gets the room that was
    /// held for that.
    pub(super) fn give_room(&self) {
        let _ = std::fs::remove_file(self.spare());
    }

    /// Room that is held while pre-images may fill the disk.
    fn spare(&self) -> PathBuf {
        self.path.with_extension("spare")
    }

    pub(super) fn save_epoch(&mut self, epoch: Epoch) -> Result<(), Failure> {
        self.replace(Saved { epoch: Some(epoch), ..self.saved.clone() })
    }

    pub(super) fn save_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), Failure> {
        self.replace(Saved { checkpoint: Some(checkpoint), ..self.saved.clone() })
    }

    /// From now on the replica may hold something; durable before the first record is applied.
    pub(super) fn save_begun(&mut self) -> Result<(), Failure> {
        if self.saved.begun { Ok(()) } else { self.replace(Saved { begun: true, ..self.saved.clone() }) }
    }

    fn replace(&mut self, saved: Saved) -> Result<(), Failure> {
        files::write_toml(&self.path, &saved)?;
        self.saved = saved;
        Ok(())
    }
}
