//! Small files that survive a power cut whole: either the old content or the new.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use stead_api::Failure;

/// Longest state file that is read.
const BYTES_MAX: u64 = 64 << 20;

/// Replaces the content of a file.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    replace(path, bytes, mode).map_err(|e| {
        let remedy = "Make room there, or check the file system; nothing was changed";
        Failure::new(format!("{} cannot be written", path.display()), e.to_string(), remedy)
    })
}

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|e| unreadable(path, &e.to_string()))
}

/// Writes a value as TOML.
pub(crate) fn write_toml(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let text = toml::to_string(value).map_err(|e| unreadable(path, &e.to_string()))?;
    write(path, text.as_bytes(), 0o600)
}

/// Reads a value from TOML; none where there is no file.
pub(crate) fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let text = String::from_utf8(read(path)?).map_err(|e| unreadable(path, &e.to_string()))?;
    toml::from_str(&text).map(Some).map_err(|e| unreadable(path, &e.to_string()))
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.and_then(|()| sync_parent(path)),
    };
    removed.map_err(|e| {
        Failure::new(format!("{} cannot be removed", path.display()), e.to_string(), "Remove the file by hand")
    })
}

/// Syncs the directory that holds `path`.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// What replaces a file, in order. A power cut may come between any two, or in the middle of one.
pub(super) enum Step<'a> {
    /// Whatever an earlier attempt left goes.
    Clear(PathBuf),
    /// The new file is written beside the old one, and synced.
    Fill(PathBuf, &'a [u8], u32),
    /// It takes the name.
    Rename(PathBuf, &'a Path),
    /// The name is durable.
    SyncDir(&'a Path),
}

pub(super) fn steps<'a>(path: &'a Path, bytes: &'a [u8], mode: u32) -> [Step<'a>; 4] {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    [Step::Clear(new.clone()), Step::Fill(new.clone(), bytes, mode), Step::Rename(new, path), Step::SyncDir(path)]
}

impl Step<'_> {
    pub(super) fn take(&self) -> io::Result<()> {
        match self {
            Step::Clear(new) => match fs::remove_file(new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            },
            Step::Fill(new, bytes, mode) => {
                let mut file = OpenOptions::new().write(true).create_new(true).mode(*mode).open(new)?;
                file.write_all(bytes)?;
                file.sync_all()
            }
            Step::Rename(new, path) => fs::rename(new, path),
            Step::SyncDir(path) => sync_parent(path),
        }
    }
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    #[cfg(test)]
    super::crash_tests::note(path, bytes, mode);
    steps(path, bytes, mode).iter().try_for_each(Step::take)
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::new(
        format!("{} cannot be read", path.display()),
        why,
        "Restore the file from a backup of the state directory",
    )
}
