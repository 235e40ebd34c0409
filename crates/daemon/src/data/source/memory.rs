//! What the source of a set knows, kept in files beside it for the source after it: they count only while the capture
//! lives whose changes they are about, so that they need not be durable.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use stead_replication::source::Recalled;

/// The directory of the files: `capture` names the run of capture, `N.part` are the parts.
pub(super) struct Memory {
    dir: PathBuf,
    /// The part that is being written.
    open: Option<(u64, File)>,
    /// Something could not be written: what is there must not be recalled.
    broken: bool,
}

impl Memory {
    /// What was remembered of that run of capture, as of where it begins again, and the memory, which begins anew.
    pub(super) fn open(state_dir: &Path, capture: u64, tail: Option<u64>) -> io::Result<(Memory, Option<Recalled>)> {
        let dir = state_dir.join("memory");
        fs::create_dir_all(&dir)?;
        let parts = parts(&dir)?;
        let same = fs::read_to_string(dir.join("capture")).is_ok_and(|text| text.trim() == capture.to_string());
        let recalled = match tail.filter(|_| same) {
            Some(tail) => {
                let bytes = parts.values().map(fs::read).collect::<Result<Vec<_>, _>>()?;
                Recalled::read(&bytes, tail)
            }
            None => None,
        };
        if recalled.is_none() {
            parts.values().try_for_each(fs::remove_file)?;
            fs::write(dir.join("capture"), capture.to_string())?;
        }
        Ok((Memory { dir, open: None, broken: false }, recalled))
    }

    /// Appends to a part.
    pub(super) fn remember(&mut self, part: u64, bytes: &[u8]) {
        if let Err(error) = self.append(part, bytes)
            && !self.broken
        {
            // The next source compares everything.
            self.broken = true;
            let _ = fs::remove_file(self.dir.join("capture"));
            tracing::warn!(%error, dir = %self.dir.display(), "what the source knows cannot be kept for a restart");
        }
    }

    /// Parts before that one are not needed any more.
    pub(super) fn forget_before(&self, part: u64) {
        let old = parts(&self.dir).unwrap_or_default().into_iter().filter(|(number, _)| *number < part);
        for (_, path) in old {
            let _ = fs::remove_file(path);
        }
    }

    fn append(&mut self, part: u64, bytes: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != part) {
            let path = self.dir.join(format!("{part}.part"));
            self.open = Some((part, OpenOptions::new().create(true).append(true).open(path)?));
        }
        self.open.as_mut().map_or(Ok(()), |(_, file)| file.write_all(bytes))
    }
}

fn parts(dir: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".part")?.parse().ok();
    Ok(paths.into_iter().filter_map(|path| Some((number(&path)?, path))).collect())
}
