//! The number of a stream, and whether the machine may have lost something since the one before.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::boot_id;
use crate::seam::Failure;
use crate::state::files;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stream {
    incarnation: u64,
    /// In which run of the kernel it began.
    #[serde(default)]
    boot: String,
    /// It was ended in order, and everything that was sent until then is durable on this machine.
    #[serde(default)]
    ended: bool,
    /// Targets may hold what this machine lost when it went down before this run of the kernel.
    #[serde(default)]
    unclean: bool,
}

/// A stream that begins.
pub(super) struct Begin {
    path: PathBuf,
    /// Its number.
    pub(super) incarnation: u64,
    /// Targets may hold what this machine lost when it went down.
    pub(super) unclean: bool,
}

impl Begin {
    /// Takes the next number: durable before its first record, so it is never used again.
    pub(super) fn next(state_dir: &Path) -> Result<Begin, Failure> {
        let path = state_dir.join("stream.toml");
        let last: Stream = files::read_toml(&path)?.unwrap_or_default();
        let boot = boot_id()?;
        // A target that an earlier stream of this boot did not reach has to be told as well.
        let unclean = if last.boot == boot { last.unclean } else { !last.boot.is_empty() && !last.ended };
        let incarnation = last.incarnation + 1;
        files::write_toml(&path, &Stream { incarnation, boot, ended: false, unclean })?;
        Ok(Begin { path, incarnation, unclean })
    }

    /// The stream ends in order; its file systems are synced.
    pub(super) fn ended(&self) -> Result<(), Failure> {
        let Begin { incarnation, unclean, .. } = *self;
        files::write_toml(&self.path, &Stream { incarnation, boot: boot_id()?, ended: true, unclean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other_boot(dir: &Path) {
        let path = dir.join("stream.toml");
        let stream: Stream = files::read_toml(&path).unwrap().unwrap();
        files::write_toml(&path, &Stream { boot: "another".into(), ..stream }).unwrap();
    }

    #[test]
    fn only_a_machine_that_went_down_amid_a_stream_is_unclean() {
        let dir = tempfile::tempdir().unwrap();
        let first = Begin::next(dir.path()).unwrap();
        assert_eq!((first.incarnation, first.unclean), (1, false));
        let again = Begin::next(dir.path()).unwrap();
        assert_eq!((again.incarnation, again.unclean), (2, false), "only the daemon was killed");
        other_boot(dir.path());
        let after_cut = Begin::next(dir.path()).unwrap();
        assert_eq!((after_cut.incarnation, after_cut.unclean), (3, true));
        let told_again = Begin::next(dir.path()).unwrap();
        assert!(told_again.unclean, "the first stream may not have reached every target");
        told_again.ended().unwrap();
        other_boot(dir.path());
        assert!(!Begin::next(dir.path()).unwrap().unclean);
    }

    #[test]
    fn a_file_of_the_first_release_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("stream.toml"), "incarnation = 7\n").unwrap();
        let next = Begin::next(dir.path()).unwrap();
        assert_eq!((next.incarnation, next.unclean), (8, false));
    }
}
