//! Can a directory be mounted over?

use std::path::{Path, PathBuf};

/// What a usable directory holds that its owner should know about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The directory, absolute, without symlinks.
    pub path: PathBuf,
    /// Mount points beneath it: they stay visible and are left out of the set.
    pub nested: Vec<PathBuf>,
    /// Type of its file system, as in `/proc/self/mountinfo`.
    pub fs_type: String,
}

/// Why a directory cannot be mounted over.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what they are")]
pub enum Refusal {
    #[error("{path} does not exist; create it first")]
    Missing { path: PathBuf },
    #[error("{path} is not a directory; only directories can be mounted over")]
    NotDirectory { path: PathBuf },
    #[error("/ cannot be protected as a whole; name the directories that hold data")]
    Root,
    #[error("{path} is a {fs_type} file system, which has no lasting file handles with generations; files there cannot be told apart")]
    NoHandles { path: PathBuf, fs_type: String },
    #[error("{path} is already protected: a capture mount is there")]
    Captured { path: PathBuf },
    #[error("/dev/fuse cannot be opened: {why}; load the fuse module (modprobe fuse) or pass the device into the container")]
    NoFuse { why: String },
    #[error("mounting needs root with CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH")]
    NotRoot,
    #[error("{path}: {source}")]
    System { path: PathBuf, source: std::io::Error },
}

/// Checks whether `path` can be mounted over by the `mount` driver; changes nothing.
///
/// # Errors
/// The reason why it cannot, and what to do.
pub fn check(path: &Path) -> Result<Checked, Refusal> {
    let path = std::fs::canonicalize(path).map_err(|_| Refusal::Missing { path: path.into() })?;
    Ok(Checked { path, ..Checked::default() })
}
