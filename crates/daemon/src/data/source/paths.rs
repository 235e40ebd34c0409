//! Paths of files, for people: nothing else in the data path knows any.

use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use stead_disk::volume::{Root, open_by_id};
use stead_model::FileId;
use stead_replication::frame::Difference;

/// The roots of a set, each with its path.
pub(super) struct Paths(pub(super) Vec<(PathBuf, Root)>);

impl Paths {
    /// Where the difference is: a path, or the file's id where it has none any more.
    pub(super) fn of(&self, difference: &Difference) -> String {
        let path = match &*difference.name {
            [] => self.find(difference.file),
            name => self.find(difference.parent).map(|dir| dir.join(OsStr::from_bytes(name))),
        };
        path.map_or_else(|| format!("file {}", difference.file), |path| path.to_string_lossy().into_owned())
    }

    /// A path of the file, or its id where it has none any more.
    pub(super) fn of_file(&self, file: FileId) -> String {
        self.find(file).map_or_else(|| format!("file {file}"), |path| path.to_string_lossy().into_owned())
    }

    fn find(&self, file: FileId) -> Option<PathBuf> {
        self.0
            .iter()
            .filter(|(_, root)| root.volume() == file.volume)
            .find_map(|(path, root)| beneath(path, root, file))
    }
}

/// The kernel gives the path beneath the directory that the root's private mount begins with.
fn beneath(path: &Path, root: &Root, file: FileId) -> Option<PathBuf> {
    if file == root.id() {
        return Some(path.into());
    }
    let fd = open_by_id(root, file, OFlags::PATH | OFlags::CLOEXEC).ok().flatten()?;
    let inside = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    let inside = inside.strip_prefix("/").ok().filter(|inside| !inside.as_os_str().is_empty())?;
    let whole = path.join(inside);
    rustix::fs::lstat(&whole).ok().filter(|stat| stat.st_ino == file.ino).map(|_| whole)
}
