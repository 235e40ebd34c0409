//! Verify: differences that targets report are looked at again at later places of the stream, and count only if they
//! stay. A hash that was read after its place may hold a change that follows it; such a difference goes away.

use std::collections::{BTreeMap, BTreeSet};

use stead_model::record::{Purpose, flags};
use stead_model::{Attr, FileId, Kind, Record, Sequence};

use super::connection::TargetMask;
use super::job::{Job, Work};
use super::request::VerifyRequest;
use super::scan::Page;
use super::stream::How;
use super::{Source, TargetId, Verified, bit};
use crate::frame::{Difference, DifferenceKind, Range};
use crate::planted::{Planted, is_planted};
use crate::read::Node;

/// How often a difference has to be seen again.
const CHECKS: u32 = 5;
/// Differences that are looked at again; more are counted as they come.
const SUSPECTS_MAX: usize = 10_000;
/// Differences that are named.
const NAMED_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    target: TargetId,
    kind: DifferenceKind,
    file: FileId,
    parent: FileId,
    name: Vec<u8>,
}

/// How far a suspect is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be looked at again.
    New,
    /// That many jobs, or a listing, look at it.
    Looking(u32),
    /// What the look sent has to be applied.
    Waiting(Sequence),
    /// It stayed: it is put right.
    Repairing(u32),
}

#[derive(Debug)]
struct Suspect {
    phase: Phase,
    checks: u32,
    /// Where the content differs.
    ranges: Vec<Range>,
    /// Reported again since it is looked at, and where.
    again: bool,
    again_ranges: Vec<Range>,
}

/// A running verify.
#[derive(Debug)]
pub(super) struct Verify {
    pub(super) request: VerifyRequest,
    pub(super) found: Verified,
    /// Directories that the targets lack: copied after the verify.
    pub(super) deferred: Vec<(FileId, TargetMask)>,
    suspects: BTreeMap<Key, Suspect>,
    /// Directories that are listed again.
    listing: BTreeSet<FileId>,
    /// Names that such a listing found.
    present: BTreeSet<(FileId, Vec<u8>)>,
}

impl Verify {
    pub(super) fn new(request: VerifyRequest) -> Verify {
        Verify {
            request,
            found: Verified::default(),
            deferred: Vec::new(),
            suspects: BTreeMap::new(),
            listing: BTreeSet::new(),
            present: BTreeSet::new(),
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.suspects.is_empty()
    }

    fn report(&mut self, target: TargetId, difference: Difference) {
        let Difference { kind, file, parent, name, offset, len } = difference;
        let key = Key { target, kind, file, parent, name };
        let range = Range { offset, len };
        if self.suspects.len() >= SUSPECTS_MAX && !self.suspects.contains_key(&key) {
            self.found.different += 1;
            return;
        }
        let suspect = self.suspects.entry(key).or_insert(Suspect {
            phase: Phase::New,
            checks: 0,
            ranges: Vec::new(),
            again: false,
            again_ranges: Vec::new(),
        });
        match suspect.phase {
            Phase::New => suspect.ranges.push(range),
            Phase::Looking(_) | Phase::Waiting(_) => {
                suspect.again = true;
                suspect.again_ranges.push(range);
            }
            Phase::Repairing(_) => {}
        }
    }

    fn of_file(&mut self, file: FileId, targets: TargetMask) -> impl Iterator<Item = (&Key, &mut Suspect)> {
        self.suspects
            .iter_mut()
            .filter(move |(key, _)| key.file == file && targets & bit(key.target) != 0 && !key.kind.is_name())
    }

    fn of_dir(&mut self, dir: FileId) -> impl Iterator<Item = (&Key, &mut Suspect)> {
        self.suspects.iter_mut().filter(move |(key, _)| key.parent == dir && key.kind.is_name())
    }

    /// Counts a difference that stayed.
    fn count(&mut self, key: &Key, ranges: &[Range]) {
        self.found.different += 1;
        if self.found.differences.len() >= NAMED_MAX {
            return;
        }
        let offset = ranges.iter().map(|range| range.offset).min().unwrap_or(0);
        let end = ranges.iter().map(|range| range.end()).max().unwrap_or(0);
        let Key { target, kind, file, parent, name } = key.clone();
        let difference = Difference { kind, file, parent, name, offset, len: end.saturating_sub(offset) };
        self.found.differences.push((target, difference, false));
    }

    fn repaired(&mut self, key: &Key) {
        let same = |found: &&mut (TargetId, Difference, bool)| {
            let difference = &found.1;
            found.0 == key.target
                && (difference.kind, difference.file, difference.parent) == (key.kind, key.file, key.parent)
                && difference.name == key.name
        };
        if let Some(found) = self.found.differences.iter_mut().find(same) {
            found.2 = true;
        }
    }
}

impl DifferenceKind {
    /// Is it about a name, not about the file?
    fn is_name(self) -> bool {
        matches!(self, DifferenceKind::Missing | DifferenceKind::Extra)
    }
}

impl Source {
    pub(super) fn take_differences(&mut self, target: TargetId, differences: Vec<Difference>) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.targets & bit(target) != 0) else { return };
        let Some(verify) = &mut scan.verify else { return };
        differences.into_iter().for_each(|difference| verify.report(target, difference));
    }

    /// Looks again at what is suspect; says whether anything was begun.
    pub(super) fn check_verify(&mut self) -> bool {
        let Some(scan) = self.scan.as_mut() else { return false };
        let Some(verify) = &mut scan.verify else { return false };
        if verify.suspects.is_empty() {
            return false;
        }
        let connections = &self.connections;
        let up = |target: TargetId| scan.targets & bit(target) != 0 && connections.contains_key(&target);
        verify.suspects.retain(|key, _| up(key.target));
        let applied = |target: TargetId| connections.get(&target).map_or(0, |connection| connection.applied);
        let mut moved = false;
        let keys: Vec<Key> = verify.suspects.keys().cloned().collect();
        for key in keys {
            let suspect = verify.suspects.get_mut(&key).expect("its key was there");
            if let Phase::Waiting(at) = suspect.phase
                && applied(key.target) >= at
            {
                if !suspect.again {
                    verify.suspects.remove(&key);
                    moved = true;
                    continue;
                }
                suspect.phase = Phase::New;
                suspect.checks += 1;
                suspect.again = false;
                suspect.ranges = std::mem::take(&mut suspect.again_ranges);
            }
            if suspect.phase != Phase::New {
                continue;
            }
            moved = true;
            let stays = suspect.checks >= CHECKS || is_planted(Planted::VerifyOnce);
            let ranges = suspect.ranges.clone();
            if stays {
                verify.count(&key, &ranges);
                if !verify.request.repair {
                    verify.suspects.remove(&key);
                    continue;
                }
            }
            let suspect = verify.suspects.get_mut(&key).expect("its key was there");
            suspect.phase = if stays { Phase::Repairing(1) } else { Phase::Looking(1) };
            let work = match (key.kind, stays) {
                (DifferenceKind::Content, false) => Work::VerifyHashes,
                (DifferenceKind::Attributes, false) => Work::VerifyNode,
                (DifferenceKind::Content | DifferenceKind::Attributes, true) => Work::Repair,
                (DifferenceKind::Missing | DifferenceKind::Extra, _) => {
                    if verify.listing.insert(key.parent) {
                        scan.pages.push_back(Page { dir: key.parent, cookie: 0, how: How::Check, open: 0 });
                    }
                    continue;
                }
            };
            let ranges = if key.kind == DifferenceKind::Content { ranges } else { Vec::new() };
            let purpose = if stays { Purpose::Mirror } else { scan.purpose };
            self.jobs.push(Job::new(key.file, work, bit(key.target), purpose, ranges));
        }
        moved
    }

    /// A job looked, or put right, what is suspect of a file.
    pub(super) fn check_read(&mut self, file: FileId, targets: TargetMask) {
        let last = self.queue.last();
        let Some(verify) = self.scan.as_mut().and_then(|scan| scan.verify.as_mut()) else { return };
        let mut repaired = Vec::new();
        for (key, suspect) in verify.of_file(file, targets) {
            match suspect.phase {
                Phase::Looking(jobs) if jobs > 1 => suspect.phase = Phase::Looking(jobs - 1),
                Phase::Looking(_) => suspect.phase = Phase::Waiting(last),
                Phase::Repairing(_) => repaired.push(key.clone()),
                Phase::New | Phase::Waiting(_) => {}
            }
        }
        for key in repaired {
            verify.repaired(&key);
            verify.suspects.remove(&key);
        }
    }

    /// One more job looks at a file.
    pub(super) fn check_goes_on(&mut self, file: FileId, targets: TargetMask) {
        let Some(verify) = self.scan.as_mut().and_then(|scan| scan.verify.as_mut()) else { return };
        for (_, suspect) in verify.of_file(file, targets) {
            if let Phase::Looking(jobs) = suspect.phase {
                suspect.phase = Phase::Looking(jobs + 1);
            }
        }
    }

    /// A file changes too often to be compared.
    pub(super) fn unsettled(&mut self, file: FileId, targets: TargetMask) {
        let Some(verify) = self.scan.as_mut().and_then(|scan| scan.verify.as_mut()) else { return };
        verify.found.unsettled += 1;
        let keys: Vec<Key> = verify.of_file(file, targets).map(|(key, _)| key.clone()).collect();
        for key in keys {
            verify.suspects.remove(&key);
        }
    }

    /// A name that a second listing found: put right where it is missing.
    pub(super) fn repair_entry(&mut self, parent: FileId, name: &[u8], file: FileId, node: &Node, how: How) {
        let Some(verify) = self.scan.as_mut().and_then(|scan| scan.verify.as_mut()) else { return };
        if how != How::Check {
            return;
        }
        verify.present.insert((parent, name.to_vec()));
        let missing = verify.suspects.iter().filter(|(key, suspect)| {
            (key.kind, key.parent, key.file) == (DifferenceKind::Missing, parent, file)
                && key.name == name
                && matches!(suspect.phase, Phase::Repairing(_))
        });
        let keys: Vec<Key> = missing.map(|(key, _)| key.clone()).collect();
        for key in &keys {
            verify.repaired(key);
            verify.suspects.remove(key);
        }
        let targets = keys.iter().fold(0, |mask, key| mask | bit(key.target));
        if targets == 0 {
            return;
        }
        if node.attr.is_dir() {
            verify.deferred.push((file, targets));
        }
        self.send_node(file, parent, name, node, Purpose::Mirror, 0, targets);
        self.follow_up(file, node, Purpose::Mirror, targets);
    }

    /// A directory was listed again, to its end or not.
    pub(super) fn check_listed(&mut self, dir: FileId, how: How, whole: Option<Attr>) {
        if how != How::Check {
            return;
        }
        let last = self.queue.last();
        let Some(verify) = self.scan.as_mut().and_then(|scan| scan.verify.as_mut()) else { return };
        verify.listing.remove(&dir);
        let present = std::mem::take(&mut verify.present);
        let mut extra = Vec::new();
        let mut over = Vec::new();
        for (key, suspect) in verify.of_dir(dir) {
            match suspect.phase {
                Phase::Looking(_) => suspect.phase = Phase::Waiting(last),
                Phase::Repairing(_) => {
                    let here = present.contains(&(dir, key.name.clone()));
                    if whole.is_some() && key.kind == DifferenceKind::Extra && !here {
                        extra.push(key.clone());
                    }
                    over.push(key.clone());
                }
                Phase::New | Phase::Waiting(_) => {}
            }
        }
        extra.iter().for_each(|key| verify.repaired(key));
        over.iter().for_each(|key| drop(verify.suspects.remove(key)));
        for key in extra {
            let mut record = Record::new(Kind::Unlink, key.file);
            (record.parent, record.name) = (dir, &key.name);
            // A file that the source has is only called so as well; else nothing of it stays.
            record.flags = if self.files.holds(key.file) { 0 } else { flags::SUBTREE };
            record.attr.nlink = 1;
            record.names.stamp = whole.unwrap_or_default().stamp();
            self.emit(&record, bit(key.target));
        }
    }
}
