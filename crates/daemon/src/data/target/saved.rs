//! What a target must know again after a restart.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stead_model::Epoch;
use stead_replication::target::{Checkpoint, Kept};

use crate::seam::Failure;
use crate::state::files;

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
        if self.saved.kept == kept { Ok(()) } else { self.replace(Saved { kept, ..self.saved.clone() }) }
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
