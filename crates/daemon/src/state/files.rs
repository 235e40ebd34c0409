//! Small files that survive a power cut whole: either the old content or the new.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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

/// Syncs the directory that holds `path`.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::new(
        format!("{} cannot be read", path.display()),
        why,
        "Restore the file from a backup of the state directory",
    )
}
