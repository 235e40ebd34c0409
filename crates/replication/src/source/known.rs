//! What is known of files, piece by piece: for the memory of a source.

use std::collections::{HashMap, HashSet};

use stead_model::FileId;

use super::announced::Announced;

/// One change of what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Every target has been told of it, or not any more.
    File(FileId),
    NoFile(FileId),
    /// Where a directory is, as far as rules ask for it.
    Dir(FileId, FileId, Box<[u8]>),
    NoDir(FileId),
    /// A target may lack it, or none does.
    Loose(FileId),
    NotLoose(FileId),
    NoLoose,
    Dropped(FileId),
    NotDropped(FileId),
    /// The targets hold it until a scan ends; is it a directory?
    Away(FileId, bool),
    NotAway(FileId),
    Stale(bool),
    /// The file of a root.
    Root(usize, FileId),
}

/// All that was known at one place of the stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Recollection {
    pub(super) common: Announced,
    pub(super) dirs: HashMap<FileId, (FileId, Box<[u8]>)>,
    pub(super) loose: HashSet<FileId>,
    pub(super) dropped: HashSet<FileId>,
    pub(super) away: HashMap<FileId, bool>,
    pub(super) stale: bool,
    pub(super) roots: HashMap<usize, FileId>,
}

impl Recollection {
    pub(super) fn take(&mut self, known: Known) {
        match known {
            Known::File(file) => drop(self.common.insert(file)),
            Known::NoFile(file) => drop(self.common.remove(file)),
            Known::Dir(dir, parent, name) => drop(self.dirs.insert(dir, (parent, name))),
            Known::NoDir(dir) => drop(self.dirs.remove(&dir)),
            Known::Loose(file) => drop(self.loose.insert(file)),
            Known::NotLoose(file) => drop(self.loose.remove(&file)),
            Known::NoLoose => self.loose.clear(),
            Known::Dropped(file) => drop(self.dropped.insert(file)),
            Known::NotDropped(file) => drop(self.dropped.remove(&file)),
            Known::Away(file, is_dir) => drop(self.away.insert(file, is_dir)),
            Known::NotAway(file) => drop(self.away.remove(&file)),
            Known::Stale(stale) => self.stale = stale,
            Known::Root(at, file) => drop(self.roots.insert(at, file)),
        }
    }
}
