//! Small files: those that must be whole or not there, whatever crashes, and secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Failure;

/// Longest secret.
const SECRET_BYTES_MAX: u64 = 16 << 10;

/// Writes a file so that after a crash it is there whole, or as it was before. Returns when it is durable.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

/// Removes a file. Returns when that is durable.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => sync_parent(path),
    }
}

/// A secret of one line. Read anew each time: secrets change. What it is must not be told.
///
/// # Errors
/// Where it cannot be read, or is none.
pub fn secret(file: &Path) -> Result<String, Failure> {
    let unread = |why: String| Failure::Unusable(format!("secret file {} cannot be read: {why}", file.display()));
    let len = fs::metadata(file).map_err(|e| unread(e.to_string()))?.len();
    if len > SECRET_BYTES_MAX {
        return Err(unread(format!("it has {len} bytes, which is more than a secret")));
    }
    let text = fs::read_to_string(file).map_err(|e| unread(e.to_string()))?;
    match text.trim() {
        "" => Err(unread("it is empty".into())),
        line if line.contains(['\r', '\n', '\0']) => Err(unread("it is not one line".into())),
        line => Ok(line.to_owned()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
