//! What changes touched: remembered instead of the changes themselves, for a target that cannot be sent them any more.

use std::collections::HashMap;

use stead_model::record::flags;
use stead_model::{FileId, Kind, Record};

use crate::planted::{Planted, is_planted};

/// Flag of renameat2 that swaps two names.
const RENAME_EXCHANGE: u32 = 2;

/// What is known of a touched file.
pub(super) type Marks = u8;
/// Its content or attributes.
pub(super) const CHANGED: Marks = 1;
/// The names in it.
pub(super) const NAMES: Marks = 2;
/// All beneath it.
pub(super) const DEEP: Marks = 4;
/// The target has never heard of it: it is found in its directory, which is touched too.
pub(super) const NEW: Marks = 8;
/// Changes of it were let go while a scan for the target ran, whose end of it may be on its way.
pub(super) const UNPROVEN: Marks = 32;
/// It was written over from its begin.
const OVER: Marks = 16;

/// The file whose last name goes with that change.
pub(super) fn lost(record: &Record<'_>) -> Option<FileId> {
    let victim = record.names.victim;
    match record.kind {
        Kind::Unlink if record.attr.nlink == 0 || record.flags & flags::SUBTREE != 0 => Some(record.file),
        Kind::Rename if record.c & RENAME_EXCHANGE == 0 && !victim.is_none() && record.a == 0 => Some(victim),
        _ => None,
    }
}

/// What the changes of a batch touched, and how many files they took away or wrote over.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) files: HashMap<FileId, Marks>,
    /// All of the set.
    pub(super) whole: bool,
    /// Names that went with their last file; in the queue without files that were young.
    pub(super) deletions: u64,
    /// Files that were cut to nothing or written over from their begin; in the queue each once within the window, and
    /// without files that were young.
    pub(super) rewrites: u64,
    last: Option<(FileId, Marks)>,
}

impl Touched {
    /// One more change.
    pub(super) fn note(&mut self, record: &Record<'_>) {
        let names = record.names;
        self.deletions += u64::from(lost(record).is_some());
        match record.kind {
            Kind::Lost if record.file.is_none() => self.whole = true,
            Kind::Lost => {
                let deep = if record.flags & flags::SUBTREE != 0 { DEEP } else { 0 };
                self.touch(record.file, CHANGED | NAMES | deep);
            }
            Kind::Create => {
                self.touch(record.file, NEW);
                self.name(record.parent);
            }
            Kind::Link => {
                self.touch(record.file, CHANGED);
                self.name(record.parent);
            }
            Kind::Unlink => {
                self.touch(record.file, CHANGED);
                self.name(record.parent);
            }
            Kind::Rename => {
                self.touch(record.file, CHANGED);
                self.touch(names.victim, CHANGED);
                self.name(record.parent);
                self.name(names.parent2);
            }
            Kind::Node if !record.name.is_empty() => {
                self.touch(record.file, NEW);
                self.name(record.parent);
            }
            Kind::Sync | Kind::ScanBegin | Kind::ScanEnd | Kind::DirBegin | Kind::DirEnd | Kind::Hash => {}
            Kind::Write | Kind::Truncate => {
                let over = record.a == 0 && !self.has(record.file, NEW | OVER);
                self.rewrites += u64::from(over);
                self.touch(record.file, if over { CHANGED | OVER } else { CHANGED });
            }
            _ => self.touch(record.file, CHANGED),
        }
    }

    fn has(&self, file: FileId, any: Marks) -> bool {
        self.files.get(&file).is_some_and(|marks| marks & any != 0)
    }

    fn name(&mut self, dir: FileId) {
        if dir.is_none() {
            self.whole = true;
        }
        self.touch(dir, NAMES);
    }

    fn touch(&mut self, file: FileId, marks: Marks) {
        if file.is_none() || self.last == Some((file, marks)) {
            return;
        }
        self.last = Some((file, marks));
        *self.files.entry(file).or_default() |= marks;
    }
}

/// What was touched and has to be looked at for one target.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    files: HashMap<FileId, Marks>,
    whole: bool,
    /// Some are [`UNPROVEN`], and it is not remembered which.
    unproven: bool,
}

impl Dirty {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.whole
    }

    /// Has the whole set to be looked at?
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// May any file be [`UNPROVEN`]?
    pub(super) fn is_unproven(&self) -> bool {
        self.unproven
    }

    /// Any file may be [`UNPROVEN`].
    pub(super) fn unprove_all(&mut self) {
        self.add_all();
        self.unproven = true;
    }

    /// Files and directories; `None`: the whole set.
    pub(super) fn len(&self) -> Option<u64> {
        (!self.whole).then_some(self.files.len() as u64)
    }

    /// Adds a file, unless there are `max` already: then it is everything.
    pub(super) fn add(&mut self, file: FileId, marks: Marks, max: usize) {
        if self.whole {
            self.unproven |= marks & UNPROVEN != 0;
            return;
        }
        *self.files.entry(file).or_default() |= marks;
        if self.files.len() > max {
            self.add_all();
        }
    }

    pub(super) fn add_all(&mut self) {
        self.whole = true;
        let files = std::mem::take(&mut self.files);
        self.unproven |= files.values().any(|marks| marks & UNPROVEN != 0);
    }

    /// A listing told of a file that was new: from here on it is found without its directory.
    pub(super) fn hear(&mut self, file: FileId, is_dir: bool) {
        if let Some(marks) = self.files.get_mut(&file).filter(|marks| **marks & NEW != 0) {
            *marks = *marks & !NEW | CHANGED | if is_dir { NAMES | DEEP } else { 0 };
        }
    }

    /// May it have been touched?
    pub(super) fn has(&self, file: FileId) -> bool {
        self.whole || self.files.contains_key(&file)
    }

    /// Adds what was touched.
    pub(super) fn add_touched(&mut self, touched: &Touched, max: usize) {
        if is_planted(Planted::BehindForgets) {
            return;
        }
        if touched.whole {
            self.add_all();
        }
        touched.files.iter().for_each(|(file, touched)| self.add(*file, *touched, max));
    }

    pub(super) fn take(&mut self) -> Dirty {
        std::mem::take(self)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FileId, Marks)> {
        self.files.iter().map(|(file, marks)| (*file, *marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(ino: u64) -> FileId {
        FileId { ino, generation: 1, volume: 0 }
    }

    #[test]
    fn what_may_count_as_proven_is_not_forgotten_where_all_is_dirty() {
        let mut before = Dirty::default();
        before.add(file(1), CHANGED | UNPROVEN, 2);
        assert!(!before.is_unproven(), "it is known which");
        before.add(file(2), CHANGED, 2);
        before.add(file(3), CHANGED, 2);
        assert!(before.is_whole() && before.is_unproven());

        let mut after = Dirty::default();
        after.add_all();
        after.add(file(1), CHANGED, 2);
        assert!(!after.is_unproven());
        after.add(file(1), UNPROVEN, 2);
        assert!(after.take().is_unproven() && !after.is_unproven());
    }
}
