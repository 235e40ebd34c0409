//! Which files and names belong to the set, as far as the stream has come.

mod lacking;

use std::collections::{HashMap, HashSet};

use stead_model::{Attr, FileId, Kind, Record, Stamp};

use super::announced::Announced;
use super::api::RootConfig;
use super::known::{Known, Recollection};
use super::memory::{Entry, Log};
use crate::planted::{Planted, is_planted};

/// Directories deeper than this are not looked for: a loop of damaged parents.
const DEPTH_MAX: usize = 4096;
/// Files that are remembered as loose.
const LOOSE_MAX: usize = 65_536;

/// Number of a file that is followed.
pub(super) type OpenId = u64;

/// How a name lies to the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In it.
    Taken,
    /// In an announced directory, but the rules leave it out.
    LeftOut,
    /// In no announced directory.
    Elsewhere,
}

#[derive(Debug)]
struct Dir {
    parent: FileId,
    name: Box<[u8]>,
    /// [`Files::last_open`] when that was told last.
    noted: OpenId,
}

/// What the targets know.
#[derive(Debug)]
pub(super) struct Files {
    roots: Vec<RootConfig>,
    take_all: bool,
    /// What every following target knows.
    pub(super) common: Announced,
    /// What the running scan has come by: all else still has to be looked at.
    pub(super) seen: Option<Announced>,
    /// Directories beneath roots whose rules leave something out.
    dirs: HashMap<FileId, Dir>,
    /// The latest attributes, in stream order, of files whose scan is not finished.
    open: HashMap<FileId, Vec<(OpenId, Attr)>>,
    last_open: OpenId,
    /// No other target follows than those that the running scan is for.
    pub(super) alone: bool,
    /// A directory left the set: what lay in it may still count as announced.
    stale: bool,
    /// And that since the running scan began.
    stale_since: bool,
    /// Directories that came, or came back, and were not listed to their end since: the targets have nothing in them.
    coming: HashSet<FileId>,
    /// Files that lost a name and have others, of which none may be in the set; or that not all targets have yet.
    loose: HashSet<FileId>,
    /// Files that left while the running scan went on: what targets asked for of them may have been dropped.
    left: HashSet<FileId>,
    /// What went where the targets hold it at most until the running scan ends; is it a directory that the scan has not
    /// come by since?
    away: HashMap<FileId, bool>,
    /// Files that the targets held until a scan ended, and may have dropped then, or that some lack still.
    dropped: HashSet<FileId>,
    /// More are lacking than are remembered one by one.
    crowded: bool,
    /// What changed and is not written down yet.
    pub(super) log: Log,
}

impl Files {
    pub(super) fn new(roots: Vec<RootConfig>) -> Files {
        let take_all = roots.iter().all(|root| root.rules.take_all());
        Files {
            roots,
            take_all,
            common: Announced::default(),
            seen: None,
            dirs: HashMap::new(),
            open: HashMap::new(),
            last_open: 0,
            alone: true,
            stale: false,
            stale_since: false,
            coming: HashSet::new(),
            loose: HashSet::new(),
            left: HashSet::new(),
            away: HashMap::new(),
            dropped: HashSet::new(),
            crowded: false,
            log: Log::default(),
        }
    }

    /// With what was known before.
    pub(super) fn recall(mut roots: Vec<RootConfig>, known: Recollection) -> Files {
        for (at, file) in &known.roots {
            if let Some(root) = roots.get_mut(*at) {
                root.file = *file;
            }
        }
        let dirs = known.dirs.into_iter().map(|(dir, (parent, name))| (dir, Dir { parent, name, noted: 0 }));
        Files {
            common: known.common,
            dirs: dirs.collect(),
            loose: known.loose,
            dropped: known.dropped,
            away: known.away,
            stale: known.stale,
            ..Files::new(roots)
        }
    }

    /// All that is known beside the running scan.
    pub(super) fn known(&self) -> impl Iterator<Item = Known> {
        let dirs = self.dirs.iter().map(|(dir, at)| Known::Dir(*dir, at.parent, at.name.clone()));
        let roots = self.roots.iter().enumerate().map(|(at, root)| Known::Root(at, root.file));
        (self.common.iter().map(Known::File).chain(dirs))
            .chain(self.loose.iter().map(|file| Known::Loose(*file)))
            .chain(self.dropped.iter().map(|file| Known::Dropped(*file)))
            .chain(self.away.iter().map(|(file, is_dir)| Known::Away(*file, *is_dir)))
            .chain([Known::Stale(self.stale)])
            .chain(roots)
    }

    fn note(&mut self, changed: bool, known: Known) {
        if changed {
            self.log.push(&Entry::Known(known));
        }
    }

    fn know(&mut self, file: FileId) {
        let new = self.common.insert(file);
        self.note(new, Known::File(file));
    }

    fn unknow(&mut self, file: FileId) {
        let was = self.common.remove(file);
        self.note(was, Known::NoFile(file));
    }

    fn not_loose(&mut self, file: FileId) -> bool {
        let was = self.loose.remove(&file);
        self.note(was, Known::NotLoose(file));
        was
    }

    fn not_dropped(&mut self, file: FileId) -> bool {
        let was = self.dropped.remove(&file);
        self.note(was, Known::NotDropped(file));
        was
    }

    fn set_stale(&mut self, stale: bool) {
        self.note(self.stale != stale, Known::Stale(stale));
        self.stale = stale;
    }

    /// Other rules for the same roots. What was known counts for nothing: where a directory lies was noted only as far as
    /// the rules before asked for it.
    pub(super) fn set_rules(&mut self, roots: &[RootConfig]) {
        let rules_of = |known: &RootConfig| roots.iter().find(|root| root.index == known.index).map(|root| &root.rules);
        let other =
            |known: &RootConfig| RootConfig { rules: rules_of(known).unwrap_or(&known.rules).clone(), ..known.clone() };
        *self = Files {
            last_open: self.last_open,
            alone: self.alone,
            log: std::mem::take(&mut self.log),
            ..Files::new(self.roots.iter().map(other).collect())
        };
    }

    pub(super) fn roots(&self) -> &[RootConfig] {
        &self.roots
    }

    /// Has any target been told of it?
    pub(super) fn holds(&self, file: FileId) -> bool {
        self.common.has(file) || self.seen.as_ref().is_some_and(|seen| seen.has(file))
    }

    /// Does every target know it, and no running scan has to come by it still?
    pub(super) fn is_done(&self, file: FileId) -> bool {
        match &self.seen {
            Some(seen) => seen.has(file) && (self.alone || self.common.has(file)),
            None => self.common.has(file),
        }
    }

    /// Did the running scan come by it?
    pub(super) fn is_seen(&self, file: FileId) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.has(file))
    }

    /// A file was made in `parent`: whoever knows the directory knows it now.
    pub(super) fn announce_in(&mut self, parent: FileId, file: FileId) {
        self.not_loose(file);
        self.came_back(file);
        if parent.is_none() || self.common.has(parent) {
            self.know(file);
        }
        if let Some(seen) = &mut self.seen
            && (parent.is_none() || seen.has(parent))
        {
            seen.insert(file);
        }
    }

    /// The running scan came by the file, but not by a name of it: whether the targets have it is not settled.
    pub(super) fn announce_nameless(&mut self, file: FileId) {
        self.know(file);
        if let Some(seen) = &mut self.seen {
            seen.insert(file);
        }
    }

    /// The running scan came by the file.
    pub(super) fn announce_seen(&mut self, file: FileId, whole: bool) {
        if self.alone || self.seen.is_none() {
            self.came_back(file);
        } else if let Some(is_dir) = self.away.get_mut(&file) {
            // The scan's targets have it whatever it is: doubt it for the others' sake, but do not forget it.
            *is_dir = false;
        }
        match &mut self.seen {
            Some(seen) => {
                seen.insert(file);
                if self.alone {
                    self.not_loose(file);
                }
                if !whole && !self.common.has(file) {
                    self.know(file);
                    if !self.alone {
                        self.lack(file);
                    }
                }
            }
            None => {
                self.know(file);
                self.not_loose(file);
            }
        }
    }

    pub(super) fn forget(&mut self, file: FileId) {
        self.unknow(file);
        if let Some(seen) = &mut self.seen {
            seen.remove(file);
        }
        let was = self.dirs.remove(&file).is_some();
        self.note(was, Known::NoDir(file));
        self.open.remove(&file);
        self.coming.remove(&file);
        self.not_loose(file);
        self.came_back(file);
    }

    /// A scan begins that has to come by everything.
    pub(super) fn scan_begins(&mut self) {
        self.seen = Some(Announced::default());
        self.stale_since = false;
        self.left.clear();
    }

    /// A scan of the whole set ended: what it came by is what every target knows.
    pub(super) fn scan_ended(&mut self, whole: bool) {
        for (file, is_dir) in std::mem::take(&mut self.away) {
            self.note(true, Known::NotAway(file));
            if is_dir {
                self.forget_tree(file);
            } else {
                self.dropped.insert(file);
                self.note(true, Known::Dropped(file));
            }
        }
        self.set_stale(self.stale | (self.dropped.len() > LOOSE_MAX));
        let seen = self.seen.take();
        if whole {
            if let Some(seen) = seen.as_ref().filter(|_| !self.alone) {
                let lacking: Vec<_> = seen.iter().filter(|file| !self.common.has(*file)).take(LOOSE_MAX + 1).collect();
                lacking.into_iter().for_each(|file| self.lack(file));
            }
            self.common = seen.unwrap_or_default();
            self.set_stale(self.stale_since);
        }
        if whole && !self.stale {
            self.coming.clear();
        }
    }

    /// Forgets a directory that left the set, and the directories beneath it.
    pub(super) fn forget_tree(&mut self, dir: FileId) {
        self.set_stale(true);
        self.stale_since = true;
        let beneath: Vec<FileId> = self.dirs.keys().copied().filter(|known| self.is_beneath(*known, dir)).collect();
        beneath.into_iter().for_each(|known| self.forget(known));
        self.forget(dir);
    }

    pub(super) fn place(&self, parent: FileId, name: &[u8], is_dir: bool) -> Place {
        if parent.is_none() {
            return if self.root_called(name).is_some() { Place::Taken } else { Place::Elsewhere };
        }
        if !self.holds(parent) {
            return Place::Elsewhere;
        }
        if self.take_all || self.takes(parent, name, is_dir) { Place::Taken } else { Place::LeftOut }
    }

    /// Notes where a directory is, as far as the rules ask for it.
    pub(super) fn note_dir(&mut self, dir: FileId, parent: FileId, name: &[u8]) {
        if self.take_all || parent.is_none() {
            return;
        }
        if self.root_of(parent).is_some() {
            self.dirs.insert(dir, Dir { parent, name: name.into(), noted: self.last_open });
            self.note(true, Known::Dir(dir, parent, name.into()));
        } else {
            let was = self.dirs.remove(&dir).is_some();
            self.note(was, Known::NoDir(dir));
        }
    }

    pub(super) fn note_dir_if(&mut self, is_dir: bool, dir: FileId, parent: FileId, name: &[u8]) {
        if is_dir {
            self.note_dir(dir, parent, name);
        }
    }

    /// Directories whose place is in one of these, which were listed from that time on, and which nothing told there since:
    /// how they went was lost, and the targets drop them as the scan ends.
    pub(super) fn forget_untold(&mut self, listed: &HashMap<FileId, OpenId>) {
        let is_gone = |at: &Dir| listed.get(&at.parent).is_some_and(|from| at.noted < *from);
        let gone: Vec<FileId> = self.dirs.iter().filter(|(_, at)| is_gone(at)).map(|(dir, _)| *dir).collect();
        gone.into_iter().for_each(|dir| self.forget_tree(dir));
    }

    pub(super) fn is_known_dir(&self, file: FileId) -> bool {
        self.dirs.contains_key(&file)
    }

    /// Can the rules see what lies beneath a directory differently once it goes from `parent` to `parent2`?
    pub(super) fn sees_differently(&self, parent: FileId, parent2: FileId) -> bool {
        if self.take_all {
            return false;
        }
        match (self.root_of(parent), self.root_of(parent2)) {
            (None, None) => false,
            (Some(a), Some(b)) if a == b => self.roots[a].rules.are_anchored(),
            _ => true,
        }
    }

    /// Was a directory noted in another place than `parent`, where the rules can see what lies beneath it differently?
    pub(super) fn lay_elsewhere(&self, dir: FileId, parent: FileId) -> bool {
        self.dirs.get(&dir).is_some_and(|known| known.parent != parent && self.sees_differently(known.parent, parent))
    }

    /// Follows a file whose scan goes on for a while, until it is closed or leaves the set.
    pub(super) fn open(&mut self, file: FileId, attr: Attr) -> OpenId {
        self.last_open += 1;
        self.open.entry(file).or_default().push((self.last_open, attr));
        self.last_open
    }

    /// Its attributes as of this place of the stream; `None`: it left the set since.
    pub(super) fn attr(&self, file: FileId, open: OpenId) -> Option<Attr> {
        let of_file = self.open.get(&file)?;
        of_file.iter().find(|(id, _)| *id == open).map(|(_, attr)| *attr)
    }

    /// Follows it no more; its attributes as of this place.
    pub(super) fn close(&mut self, file: FileId, open: OpenId) -> Option<Attr> {
        let of_file = self.open.get_mut(&file)?;
        let at = of_file.iter().position(|(id, _)| *id == open)?;
        let (_, attr) = of_file.remove(at);
        if of_file.is_empty() {
            self.open.remove(&file);
        }
        Some(attr)
    }

    /// Changes were lost: what is followed in that scope proves nothing any more, and is left. Where that is more than
    /// the scope itself, says what has to be looked at again besides.
    pub(super) fn lose(&mut self, scope: Option<(FileId, bool)>) -> Vec<FileId> {
        match scope {
            Some((file, false)) => {
                self.open.remove(&file);
                Vec::new()
            }
            Some((_, true)) => self.open.drain().map(|(file, _)| file).collect(),
            None => {
                self.open.clear();
                Vec::new()
            }
        }
    }

    /// Brings what is open up to a change that goes to the targets.
    pub(super) fn follow(&mut self, record: &Record<'_>) {
        if self.open.is_empty() || is_planted(Planted::StaleAttributes) {
            return;
        }
        if record.kind != Kind::Sync
            && let Some(of_file) = self.open.get_mut(&record.file)
        {
            of_file.iter_mut().for_each(|(_, attr)| *attr = record.attr);
        }
        if record.kind.has_names() {
            self.follow_stamp(record.parent, record.names.stamp);
            if record.kind == Kind::Rename {
                self.follow_stamp(record.names.parent2, record.names.stamp2);
            }
        }
    }

    pub(super) fn follow_stamp(&mut self, dir: FileId, stamp: Stamp) {
        for (_, attr) in self.open.get_mut(&dir).into_iter().flatten() {
            attr.set_mtime(stamp.mtime());
            attr.set_ctime(stamp.ctime());
        }
    }

    pub(super) fn root_called(&self, name: &[u8]) -> Option<usize> {
        let index: u32 = std::str::from_utf8(name).ok()?.parse().ok()?;
        self.roots.iter().position(|root| root.index == index)
    }

    pub(super) fn set_root(&mut self, at: usize, file: FileId) {
        self.note(self.roots[at].file != file, Known::Root(at, file));
        self.roots[at].file = file;
    }

    fn takes(&self, parent: FileId, name: &[u8], is_dir: bool) -> bool {
        let Some(root) = self.root_of(parent) else { return true };
        let mut parts = vec![name];
        let mut dir = parent;
        while dir != self.roots[root].file {
            let Some(known) = self.dirs.get(&dir).filter(|_| parts.len() < DEPTH_MAX) else { return true };
            parts.push(&known.name);
            dir = known.parent;
        }
        parts.reverse();
        self.roots[root].rules.take(&parts.join(&b'/'), is_dir)
    }

    /// The root with rules above a directory; `None` beneath one that takes all.
    fn root_of(&self, dir: FileId) -> Option<usize> {
        let mut dir = dir;
        for _ in 0..DEPTH_MAX {
            if let Some(at) = self.roots.iter().position(|root| root.file == dir) {
                return (!self.roots[at].rules.take_all()).then_some(at);
            }
            dir = self.dirs.get(&dir)?.parent;
        }
        None
    }

    fn is_beneath(&self, dir: FileId, above: FileId) -> bool {
        let mut dir = dir;
        for _ in 0..DEPTH_MAX {
            if dir == above {
                return true;
            }
            match self.dirs.get(&dir) {
                Some(known) => dir = known.parent,
                None => return false,
            }
        }
        false
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
