//! A replica in memory: what records mean, in the plainest words.

use std::collections::{BTreeMap, BTreeSet};

use stead_model::record::{DISPROVED, Extras, Purpose, flags, records};
use stead_model::{Attr, FileId, Kind, Record, Stamp};

use super::image::{Image, Meta};
use super::tree::write_at;
use crate::frame::{Difference, DifferenceKind, Need, NeedWhat, Range};

type Name = (FileId, Vec<u8>);

/// A file of the replica.
#[derive(Clone, Debug, Default)]
struct File {
    meta: Meta,
    names: BTreeSet<Name>,
    /// ctime and size when it was last known to be equal.
    proven: Option<(i64, u64)>,
    /// In which generation that was.
    generation: u64,
    /// Blocks that differ, while hashes come.
    differing: Vec<Range>,
    asked: bool,
}

/// A running scan.
#[derive(Clone, Debug, Default)]
struct Scan {
    listed: BTreeSet<FileId>,
    claimed: BTreeSet<(Name, FileId)>,
    begin: u64,
}

/// A ctime that no file has: its proof is void until a change proves it again.
const VOID: i64 = i64::MIN;

/// The replica.
#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    files: BTreeMap<FileId, File>,
    names: BTreeMap<Name, FileId>,
    scan: Option<Scan>,
    /// Where changes were lost, when last, and whether everything beneath is meant: what comes since proves nothing,
    /// and what loses its name may have another one.
    gaps: BTreeMap<FileId, (u64, bool)>,
    /// Directories whose names are being compared, with those that were told.
    comparing: BTreeMap<FileId, BTreeSet<Vec<u8>>>,
    /// Files without a name are kept: what comes may name them.
    pub(super) replaying: bool,
    /// Completed syncs of the source.
    generation: u64,
    hash: Option<fn(&[u8]) -> u128>,
    /// A scan that removes more names than that does not end.
    pub(super) removals_max: Option<u64>,
    /// So many would have been removed.
    braked: Option<u64>,
    needs: Vec<Need>,
    differences: Vec<Difference>,
}

impl Replica {
    pub(super) fn new(hash: fn(&[u8]) -> u128) -> Replica {
        Replica { hash: Some(hash), ..Replica::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn image(&self) -> Image {
        let mut image = Image::default();
        if let Some(root) = self.names.get(&(FileId::NONE, b"0".to_vec())) {
            self.gather(*root, Vec::new(), &mut image);
        }
        image
    }

    fn gather(&self, file: FileId, path: Vec<u8>, image: &mut Image) {
        let Some(known) = self.files.get(&file) else { return };
        image.files.insert(file, known.meta.clone());
        image.names.insert(path.clone(), file);
        for (name, child) in self.children(file) {
            let path = if path.is_empty() { name } else { [&path[..], b"/", &name].concat() };
            self.gather(child, path, image);
        }
    }

    fn children(&self, dir: FileId) -> Vec<(Vec<u8>, FileId)> {
        let of_dir = self.names.range((dir, Vec::new())..).take_while(|((parent, _), _)| *parent == dir);
        of_dir.map(|((_, name), file)| (name.clone(), *file)).collect()
    }

    /// Changes something behind the source's back.
    pub(super) fn corrupt(&mut self, choice: u64) -> bool {
        let files: Vec<FileId> = self.image().files.into_keys().collect();
        let Some(file) = files.get(choice as usize % files.len().max(1)) else { return false };
        let known = self.files.get_mut(file).expect("its key was there");
        let is_file = known.meta.mode & 0o170_000 == 0o100_000;
        match choice / 7 % 4 {
            0 if is_file && !known.meta.content.is_empty() => known.meta.content[0] ^= 0x55,
            1 if is_file => known.meta.content.push(9),
            2 if known.names.iter().any(|(parent, _)| !parent.is_none()) && is_file => {
                let name = known.names.first().cloned().expect("looked at above");
                self.remove_name(&name);
            }
            _ => known.meta.mode ^= 0o7,
        }
        true
    }

    /// Applies records; what is needed and what differs.
    pub(super) fn apply(&mut self, bytes: &[u8]) -> (Vec<Need>, Vec<Difference>) {
        for record in records(bytes) {
            self.apply_one(&record.expect("checked by the target half"));
            if self.braked.is_some() {
                break;
            }
        }
        (std::mem::take(&mut self.needs), std::mem::take(&mut self.differences))
    }

    /// Did the last end of a scan want to remove too much?
    pub(super) fn take_braked(&mut self) -> Option<u64> {
        self.braked.take()
    }

    /// As it was once, with nothing known about it.
    pub(super) fn unproven(&self) -> Replica {
        let mut replica = self.clone();
        replica.files.values_mut().for_each(|file| file.proven = None);
        (replica.scan, replica.replaying) = (None, false);
        replica
    }

    /// All of the journal was applied again.
    pub(super) fn replayed(&mut self) {
        self.replaying = false;
        self.sweep();
    }

    /// What was proven since the last sync of the source may have been lost there.
    pub(super) fn doubt(&mut self) {
        let since = self.generation.saturating_sub(1);
        self.files.values_mut().filter(|file| file.generation >= since).for_each(|file| file.proven = None);
    }

    fn apply_one(&mut self, record: &Record<'_>) {
        match record.kind {
            Kind::Create => self.create(record),
            Kind::Link => self.name(record.file, record.parent, record.name),
            Kind::Unlink => self.unlink(record),
            Kind::Rename => self.rename(record),
            Kind::Write => self.content(record.file, |content| write_at(content, record.a, record.data)),
            Kind::Truncate => self.content(record.file, |content| content.resize(record.a as usize, 0)),
            Kind::Lost if record.c == DISPROVED => {
                self.files.entry(record.file).and_modify(|file| file.proven = None);
            }
            Kind::Lost => {
                let wide = record.file.is_none() || record.flags & flags::SUBTREE != 0;
                let known = self.gaps.get(&record.file).is_some_and(|gap| gap.1);
                self.gaps.insert(record.file, (record.sequence, wide || known));
                if let Some(file) = self.files.get_mut(&record.file) {
                    file.proven = None;
                }
            }
            Kind::Sync if record.file.is_none() && record.c == 3 => self.generation += 1,
            Kind::Allocate | Kind::Sync | Kind::SetFlags => {}
            Kind::SetAttr => {}
            Kind::SetXattr => {
                if let Some(file) = self.files.get_mut(&record.file) {
                    file.meta.xattrs.insert(record.name.to_vec(), record.data.to_vec());
                }
            }
            Kind::RemoveXattr => {
                if let Some(file) = self.files.get_mut(&record.file) {
                    file.meta.xattrs.remove(record.name);
                }
            }
            Kind::ScanBegin | Kind::ScanEnd | Kind::DirBegin | Kind::DirEnd => self.scan(record),
            Kind::Node if is_comparison(record) => self.compare_node(record),
            Kind::Node => self.node(record),
            Kind::Chunk => self.chunk(record),
            Kind::NodeEnd => self.node_end(record),
            Kind::Hash => self.hashes(record),
        }
        match record.kind {
            Kind::SetAttr if record.c == 8 => self.stamp(record.file, record.attr.stamp()),
            kind if kind.is_change() && !matches!(kind, Kind::Sync | Kind::Lost) => self.attr(record),
            _ => {}
        }
        if record.kind.has_names() {
            self.stamp(record.parent, record.names.stamp);
            if record.kind == Kind::Rename {
                self.stamp(record.names.parent2, record.names.stamp2);
            }
        }
    }

    fn attr(&mut self, record: &Record<'_>) {
        // Made up from a look at the name that is gone: no attributes are in it.
        if record.attr.mode == 0 {
            return;
        }
        let generation = self.generation;
        let Some(file) = self.files.get_mut(&record.file) else { return };
        set_meta(&mut file.meta, &record.attr);
        file.generation = generation;
        if file.proven.is_some() {
            let doubtful = self.gaps.values().any(|(_, wide)| *wide);
            let ctime = if doubtful { VOID } else { record.attr.ctime().sec };
            file.proven = Some((ctime, file.meta.content.len() as u64));
        }
    }

    fn stamp(&mut self, dir: FileId, stamp: Stamp) {
        if let Some(dir) = self.files.get_mut(&dir) {
            dir.meta.mtime = stamp.mtime().sec;
        }
    }

    fn content(&mut self, file: FileId, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(file) = self.files.get_mut(&file) {
            change(&mut file.meta.content);
        }
    }

    fn create(&mut self, record: &Record<'_>) {
        let file = self.files.entry(record.file).or_default();
        if record.attr.file_type() == Some(stead_model::FileType::Symlink) {
            file.meta.content = record.data.to_vec();
        }
        (file.proven, file.generation) = (Some((0, 0)), self.generation);
        self.name(record.file, record.parent, record.name);
    }

    /// The file is (also) called that; who was called so is displaced.
    fn name(&mut self, file: FileId, parent: FileId, name: &[u8]) {
        let name = (parent, name.to_vec());
        if !self.files.contains_key(&file) {
            return;
        }
        if let Some(scan) = &mut self.scan {
            scan.claimed.insert((name.clone(), file));
        }
        if let Some(told) = self.comparing.get_mut(&parent) {
            told.insert(name.1.clone());
        }
        if self.names.get(&name) == Some(&file) {
            return;
        }
        if self.names.contains_key(&name) {
            self.remove_name(&name);
        }
        if !parent.is_none() && !self.files.contains_key(&parent) {
            return self.drop_nameless(file);
        }
        self.names.insert(name.clone(), file);
        self.files.get_mut(&file).expect("looked at above").names.insert(name);
    }

    fn remove_name(&mut self, name: &Name) {
        let Some(file) = self.names.remove(name) else { return };
        if let Some(known) = self.files.get_mut(&file) {
            known.names.remove(name);
        }
        self.drop_nameless(file);
    }

    fn drop_nameless(&mut self, file: FileId) {
        let nameless = self.files.get(&file).is_some_and(|known| known.names.is_empty());
        if nameless && !self.holds() {
            self.remove_tree(file);
        }
    }

    fn remove_tree(&mut self, file: FileId) {
        for (name, _) in self.children(file) {
            self.remove_name(&(file, name));
        }
        if let Some(known) = self.files.remove(&file) {
            for name in known.names {
                self.names.remove(&name);
            }
        }
    }

    /// Is what has no name kept, since it may get one?
    fn holds(&self) -> bool {
        self.scan.is_some() || self.replaying || !self.gaps.is_empty()
    }

    fn sweep(&mut self) {
        if self.holds() {
            return;
        }
        loop {
            let nameless: Vec<FileId> =
                self.files.iter().filter(|(_, known)| known.names.is_empty()).map(|(file, _)| *file).collect();
            if nameless.is_empty() {
                return;
            }
            nameless.into_iter().for_each(|file| self.remove_tree(file));
        }
    }

    fn unlink(&mut self, record: &Record<'_>) {
        let name = (record.parent, record.name.to_vec());
        if let Some(told) = self.comparing.get_mut(&record.parent) {
            told.insert(name.1.clone());
        }
        if self.names.get(&name) == Some(&record.file) {
            if record.flags & flags::SUBTREE != 0 {
                self.leave(record.file);
            }
            self.remove_name(&name);
        }
        if record.attr.nlink == 0 && !self.replaying {
            self.remove_tree(record.file);
        }
    }

    /// A directory leaves the set: what lies beneath leaves with it.
    fn leave(&mut self, dir: FileId) {
        for (name, child) in self.children(dir) {
            self.leave(child);
            self.remove_name(&(dir, name));
        }
    }

    fn rename(&mut self, record: &Record<'_>) {
        let (file, victim) = (record.file, record.names.victim);
        let here = (record.parent, record.name.to_vec());
        let there = (record.names.parent2, record.name2.to_vec());
        for (parent, name) in [&here, &there] {
            if let Some(told) = self.comparing.get_mut(parent) {
                told.insert(name.clone());
            }
        }
        let kept = std::mem::replace(&mut self.replaying, true);
        if self.names.get(&here) == Some(&file) {
            self.remove_name(&here);
        }
        if self.names.get(&there) == Some(&victim) {
            self.remove_name(&there);
        }
        self.name(file, there.0, &there.1);
        if record.c & 2 != 0 {
            self.name(victim, here.0, &here.1);
        }
        self.replaying = kept;
        self.drop_nameless(file);
        if record.c & 2 == 0 && record.a == 0 && !victim.is_none() && !kept {
            self.remove_tree(victim);
        }
        self.drop_nameless(victim);
    }

    fn scan(&mut self, record: &Record<'_>) {
        match (record.kind, is_comparison(record)) {
            (Kind::ScanBegin, false) => {
                self.scan = Some(Scan { begin: record.sequence, ..Scan::default() });
                self.files.values_mut().for_each(|file| file.asked = false);
            }
            (Kind::DirBegin, true) => drop(self.comparing.insert(record.file, BTreeSet::new())),
            (Kind::DirBegin, false) => {
                // What was told of its names before counts for nothing: the listing tells all that are left.
                if let Some(scan) = &mut self.scan {
                    scan.claimed.retain(|(name, _)| name.0 != record.file);
                }
            }
            (Kind::DirEnd, true) => self.compare_names(record.file),
            (Kind::DirEnd, false) => {
                if let Some(scan) = &mut self.scan {
                    scan.listed.insert(record.file);
                }
                if let Some(dir) = self.files.get_mut(&record.file) {
                    set_meta(&mut dir.meta, &record.attr);
                }
            }
            (Kind::ScanEnd, false) => self.end_scan(record.file),
            _ => {}
        }
    }

    fn end_scan(&mut self, scope: FileId) {
        let Some(scan) = self.scan.take() else { return };
        let unclaimed = self.unclaimed(&scan);
        if self.removals_max.is_some_and(|max| unclaimed.len() as u64 > max) {
            self.braked = Some(unclaimed.len() as u64);
            self.scan = Some(scan);
            return;
        }
        self.gaps.retain(|file, (at, _)| *at > scan.begin || !(scope.is_none() || scope == *file));
        self.scan = Some(Scan::default());
        unclaimed.iter().for_each(|name| self.remove_name(name));
        self.scan = None;
        self.sweep();
    }

    fn unclaimed(&self, scan: &Scan) -> Vec<Name> {
        let is_unclaimed = |(name, file): &(&Name, &FileId)| {
            scan.listed.contains(&name.0) && !scan.claimed.contains(&((*name).clone(), **file))
        };
        self.names.iter().filter(is_unclaimed).map(|(name, _)| name.clone()).collect()
    }

    fn node(&mut self, record: &Record<'_>) {
        let known = self.files.contains_key(&record.file);
        let unnamed = record.parent.is_none() && record.name.is_empty();
        if unnamed && !known {
            return;
        }
        let extras = Extras::parse(record.data).expect("the source encodes extras");
        let file = self.files.entry(record.file).or_default();
        set_meta(&mut file.meta, &record.attr);
        file.meta.xattrs = extras.xattrs.into_iter().collect();
        if !record.attr.is_file() && !record.attr.is_dir() {
            file.meta.content = extras.target;
        }
        let is_dir = record.attr.is_dir();
        if is_dir && !unnamed {
            let others: Vec<Name> = file.names.iter().cloned().collect();
            for name in others.into_iter().filter(|name| *name != (record.parent, record.name.to_vec())) {
                self.names.remove(&name);
                self.files.get_mut(&record.file).expect("made above").names.remove(&name);
            }
        }
        if !unnamed {
            self.name(record.file, record.parent, record.name);
        }
        if !record.attr.is_file() {
            return;
        }
        if record.c == Purpose::Difference as u32 {
            self.need(record, known);
        } else if let Some(file) = self.files.get_mut(&record.file) {
            // What it was before it came proves nothing until all of its content has come.
            file.proven = None;
        }
    }

    fn need(&mut self, record: &Record<'_>, known: bool) {
        let Some(file) = self.files.get_mut(&record.file) else { return };
        if file.asked {
            return;
        }
        file.asked = true;
        let size = file.meta.content.len() as u64;
        if file.proven == Some((record.attr.ctime().sec, record.attr.size)) && size == record.attr.size {
            return;
        }
        file.proven = None;
        file.differing.clear();
        let what = if known { NeedWhat::Hashes } else { NeedWhat::Content(vec![Range::ALL]) };
        self.needs.push(Need { file: record.file, what });
    }

    fn chunk(&mut self, record: &Record<'_>) {
        self.content(record.file, |content| {
            if !record.data.is_empty() {
                return write_at(content, record.a, record.data);
            }
            let len = content.len() as u64;
            let (from, to) = (record.a.min(len), (record.a + record.b).min(len));
            content[from as usize..to as usize].fill(0);
        });
    }

    fn node_end(&mut self, record: &Record<'_>) {
        let Some(file) = self.files.get_mut(&record.file) else { return };
        if record.attr.is_file() {
            file.meta.content.resize(record.attr.size as usize, 0);
        }
        set_meta(&mut file.meta, &record.attr);
        file.proven = Some((record.attr.ctime().sec, record.attr.size));
        file.generation = self.generation;
    }

    fn hashes(&mut self, record: &Record<'_>) {
        let hash = self.hash.expect("replicas are made with a hash");
        let compare = is_comparison(record);
        let Some(file) = self.files.get_mut(&record.file) else { return };
        let size = file.meta.content.len() as u64;
        if record.data.is_empty() {
            if compare && size != record.attr.size {
                self.differences.push(content_difference(record.file, size.min(record.attr.size), record.b));
            } else if !compare {
                let ranges = std::mem::take(&mut file.differing);
                self.needs.push(Need { file: record.file, what: NeedWhat::Content(ranges) });
            }
            return;
        }
        for (index, theirs) in record.data.as_chunks::<16>().0.iter().enumerate() {
            let offset = record.a + index as u64 * record.b;
            let (from, to) = (offset.min(size) as usize, (offset + record.b).min(size) as usize);
            if hash(&file.meta.content[from..to]) == u128::from_le_bytes(*theirs) {
                continue;
            }
            if compare {
                self.differences.push(content_difference(record.file, offset, record.b));
            } else {
                file.differing.push(Range { offset, len: record.b });
            }
        }
    }

    fn compare_node(&mut self, record: &Record<'_>) {
        let mut report = |kind| {
            let (parent, name) = (record.parent, record.name.to_vec());
            let (parent, name) =
                if kind == DifferenceKind::Missing { (parent, name) } else { (FileId::NONE, Vec::new()) };
            self.differences.push(Difference { kind, file: record.file, parent, name, offset: 0, len: 0 });
        };
        let unnamed = record.parent.is_none() && record.name.is_empty();
        if let Some(told) = self.comparing.get_mut(&record.parent) {
            told.insert(record.name.to_vec());
        }
        if !unnamed && self.names.get(&(record.parent, record.name.to_vec())) != Some(&record.file) {
            return report(DifferenceKind::Missing);
        }
        let Some(file) = self.files.get(&record.file) else { return };
        let extras = Extras::parse(record.data).expect("the source encodes extras");
        let mut meta = file.meta.clone();
        set_meta(&mut meta, &record.attr);
        meta.xattrs = extras.xattrs.into_iter().collect();
        if meta != file.meta {
            report(DifferenceKind::Attributes);
        }
    }

    fn compare_names(&mut self, dir: FileId) {
        let Some(told) = self.comparing.remove(&dir) else { return };
        for (name, file) in self.children(dir) {
            if !told.contains(&name) {
                let kind = DifferenceKind::Extra;
                self.differences.push(Difference { kind, file, parent: dir, name, offset: 0, len: 0 });
            }
        }
    }
}

fn is_comparison(record: &Record<'_>) -> bool {
    record.c == Purpose::Verify as u32 || record.c == Purpose::Repair as u32
}

fn content_difference(file: FileId, offset: u64, len: u64) -> Difference {
    Difference { kind: DifferenceKind::Content, file, parent: FileId::NONE, name: Vec::new(), offset, len }
}

fn set_meta(meta: &mut Meta, attr: &Attr) {
    meta.mode = attr.mode;
    meta.uid = attr.uid;
    meta.mtime = attr.mtime().sec;
}
