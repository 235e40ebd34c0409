//! What some target may lack, although it is announced: files that lost a name, left, or came with a scan for others.

use stead_model::FileId;

use super::{Dir, Files, Known, LOOSE_MAX, Place};

impl Files {
    /// May a target lack it, although it is announced?
    pub(in crate::source) fn is_loose(&self, file: FileId) -> bool {
        self.stale || self.loose.contains(&file)
    }

    /// A file lost a name of the set and has others. Where the rules take all, they are in the set as well, or can never
    /// come into it.
    pub(in crate::source) fn loosen(&mut self, file: FileId) {
        if self.take_all {
            return;
        }
        let new = self.loose.insert(file);
        self.note(new, Known::Loose(file));
        if self.loose.len() > LOOSE_MAX {
            self.loose.clear();
            self.note(true, Known::NoLoose);
            self.set_stale(true);
            self.stale_since = true;
        }
    }

    /// Some target lacks it still: not even a name in the set tells that all have it.
    pub(in crate::source) fn lack(&mut self, file: FileId) {
        if self.dropped.len() >= LOOSE_MAX {
            self.crowded = true;
            return;
        }
        let (loose, dropped) = (self.loose.insert(file), self.dropped.insert(file));
        self.note(loose, Known::Loose(file));
        self.note(dropped, Known::Dropped(file));
    }

    /// Do targets lack more than is remembered file by file? Asked once: then they have to be told of everything.
    pub(in crate::source) fn take_crowded(&mut self) -> bool {
        std::mem::take(&mut self.crowded)
    }

    /// A file leaves the set by a name, which may have been its `last` one anywhere.
    pub(in crate::source) fn leave(&mut self, file: FileId, is_dir: bool, last: bool) {
        if self.seen.is_some() && self.left.len() < LOOSE_MAX {
            self.left.insert(file);
        }
        match (is_dir, last) {
            (true, _) => self.forget_tree(file),
            (false, true) => self.forget(file),
            (false, false) => self.loosen(file),
        }
    }

    /// A scan finds it under a name that the rules leave out, as they may only since a directory above it moved: the
    /// targets drop it when the scan ends.
    pub(in crate::source) fn found_left_out(&mut self, file: FileId, parent: FileId, name: &[u8], is_dir: bool) {
        let is_there = |known: &Dir| known.parent == parent && *known.name == *name;
        if !is_dir && self.holds(file) {
            self.loosen(file);
        } else if self.dirs.get(&file).is_some_and(is_there) {
            self.leave(file, true, true);
        }
    }

    /// It has a place in the set again, or is forgotten.
    pub(in crate::source) fn came_back(&mut self, file: FileId) {
        let was = self.away.remove(&file).is_some();
        self.note(was, Known::NotAway(file));
        self.not_dropped(file);
    }

    /// May the targets have dropped it, although it is announced?
    pub(in crate::source) fn is_dropped(&self, file: FileId) -> bool {
        self.dropped.contains(&file)
    }

    /// A directory came into the set, or is found in one that did. What lies in it may still count as announced, from
    /// before it left.
    pub(in crate::source) fn comes(&mut self, dir: FileId) {
        if self.coming.len() < LOOSE_MAX {
            self.coming.insert(dir);
        } else {
            self.set_stale(true);
            self.stale_since = true;
        }
    }

    /// It was listed to its end, for all targets.
    pub(in crate::source) fn listed(&mut self, dir: FileId) {
        if self.alone {
            self.coming.remove(&dir);
        }
    }

    /// Did that very directory come, and was not listed since?
    pub(in crate::source) fn is_coming(&self, dir: FileId) -> bool {
        self.coming.contains(&dir)
    }

    /// May the targets lack a file that counts as announced and has a name in that directory?
    pub(in crate::source) fn may_be_lacking(&self, file: FileId, parent: FileId) -> bool {
        // Where no rules ask for directories, those beneath one that left still count as announced, too.
        let beneath = || !self.coming.is_empty() && !parent.is_none() && self.root_of(parent).is_none();
        self.is_dropped(file) || self.is_coming(parent) || beneath()
    }

    /// Did it leave, or may it have left, since the running scan began?
    pub(in crate::source) fn has_left(&self, file: FileId) -> bool {
        self.stale_since || self.left.len() >= LOOSE_MAX || self.left.contains(&file)
    }

    /// Did that very file leave since the running scan began, as far as that was noted?
    pub(in crate::source) fn left_since(&self, file: FileId) -> bool {
        self.seen.is_some() && self.left.contains(&file)
    }

    /// A file went to a directory that is not listed yet, and may never be: the targets hold it until the scan ends.
    pub(in crate::source) fn held_away(&mut self, file: FileId, is_dir: bool) {
        self.loosen(file);
        self.away.insert(file, is_dir);
        self.note(true, Known::Away(file, is_dir));
    }

    /// A file takes a name of the set, not from another one: may a target lack it, although it is announced?
    pub(in crate::source) fn tighten(&mut self, file: FileId) -> bool {
        let doubtful = self.not_loose(file) | self.not_dropped(file) | self.stale;
        if doubtful {
            self.unknow(file);
        }
        doubtful
    }

    /// A file leaves that place for one in the set: may a target lack it, although it is announced? Then it is no more.
    pub(in crate::source) fn lacks(&mut self, file: FileId, from: Place, parent: FileId) -> bool {
        let from_coming = from == Place::Taken && self.is_coming(parent);
        let outside = from != Place::Taken || self.may_be_lacking(file, parent);
        let doubtful = outside && self.tighten(file);
        if from_coming && !doubtful {
            self.unknow(file);
        }
        doubtful || from_coming
    }

    /// As [`Files::lacks`], where nothing tells in which directories its names are.
    pub(in crate::source) fn lacks_somewhere(&mut self, file: FileId) -> bool {
        let doubtful = self.tighten(file);
        if !doubtful && !self.coming.is_empty() {
            self.unknow(file);
        }
        doubtful || !self.coming.is_empty()
    }
}
