//! The protected tree: a file system in memory, whose every operation leaves a record in the ring.

use std::collections::BTreeMap;

use stead_model::record::{Extras, flags};
use stead_model::{Attr, AttrMask, FileId, Kind, Record, Rules, Stamp, Time};

use super::image::{Image, Meta};
use super::rng::Rng;
use crate::read::{Entry, Listing, Node, Piece, ReadRequest, ReadResult};

/// What a file is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    File(Vec<u8>),
    Dir(BTreeMap<Vec<u8>, FileId>),
    Symlink(Vec<u8>),
}

/// A file.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) mtime: u64,
    pub(super) ctime: u64,
    pub(super) nlink: u32,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The tree with its ring.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: FileId,
    pub(super) nodes: BTreeMap<FileId, Inode>,
    /// Records and the number after each.
    pub(super) ring: Vec<(Vec<u8>, u64)>,
    pub(super) captured: u64,
    /// What belonged to the set after each number.
    pub(super) history: BTreeMap<u64, Image>,
    rules: Rules,
    clock: u64,
    next_ino: u64,
    free: Vec<FileId>,
    /// What a power cut leaves at least.
    synced: BTreeMap<FileId, Inode>,
    /// Generations are not used again after a power cut.
    generation: u32,
}

fn time(at: u64) -> Time {
    Time { sec: at as i64, nsec: 0 }
}

impl Tree {
    pub(super) fn new(rules: Rules) -> Tree {
        let root = FileId { ino: 2, generation: 1, volume: 0 };
        let mut tree = Tree {
            root,
            nodes: BTreeMap::new(),
            ring: Vec::new(),
            captured: 0,
            history: BTreeMap::new(),
            rules,
            clock: 1,
            next_ino: 10,
            free: Vec::new(),
            synced: BTreeMap::new(),
            generation: 0,
        };
        tree.nodes.insert(root, inode(Body::Dir(BTreeMap::new()), 0o040_755, 1));
        tree.history.insert(0, tree.image());
        tree.sync();
        tree
    }

    /// Other rules from here on.
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.emit(Record::new(Kind::Sync, FileId::NONE));
    }

    /// All of it is durable.
    pub(super) fn sync(&mut self) {
        self.synced = self.nodes.clone();
    }

    /// The power is cut: what was not synced may be lost, all of it or the content of some files, whose attributes may
    /// look as if it were there.
    pub(super) fn cut_power(&mut self, rng: &mut Rng) {
        if rng.one_in(3) {
            self.nodes = self.synced.clone();
            self.free.clear();
        } else {
            for (file, node) in &mut self.nodes {
                let before = self.synced.get(file).map(|before| &before.body);
                let (Body::File(content), Some(Body::File(before))) = (&mut node.body, before) else { continue };
                if rng.one_in(2) {
                    let size = content.len();
                    content.clone_from(before);
                    content.resize(size, 0);
                }
            }
        }
        self.generation += 100;
        self.ring.clear();
        self.captured += 8;
        self.history.insert(self.captured, self.image());
        self.sync();
    }

    pub(super) fn dirs(&self) -> Vec<FileId> {
        self.nodes.iter().filter(|(_, node)| matches!(node.body, Body::Dir(_))).map(|(id, _)| *id).collect()
    }

    pub(super) fn files(&self) -> Vec<FileId> {
        self.nodes.iter().filter(|(_, node)| matches!(node.body, Body::File(_))).map(|(id, _)| *id).collect()
    }

    pub(super) fn entries(&self, dir: FileId) -> Vec<(Vec<u8>, FileId)> {
        match self.nodes.get(&dir).map(|node| &node.body) {
            Some(Body::Dir(names)) => names.iter().map(|(name, file)| (name.clone(), *file)).collect(),
            _ => Vec::new(),
        }
    }

    /// Everything that belongs to the set now.
    pub(super) fn image(&self) -> Image {
        let mut image = Image::default();
        self.gather(self.root, Vec::new(), &mut image);
        image
    }

    fn gather(&self, dir: FileId, path: Vec<u8>, image: &mut Image) {
        let node = &self.nodes[&dir];
        image.files.insert(dir, meta(node));
        image.names.insert(path.clone(), dir);
        let Body::Dir(names) = &node.body else { return };
        for (name, file) in names {
            let child = &self.nodes[file];
            let is_dir = matches!(child.body, Body::Dir(_));
            let path = if path.is_empty() { name.clone() } else { [&path[..], b"/", name].concat() };
            if !self.rules.take(&path, is_dir) {
                continue;
            }
            if is_dir {
                self.gather(*file, path, image);
            } else {
                image.files.insert(*file, meta(child));
                image.names.insert(path, *file);
            }
        }
    }

    pub(super) fn attr(&self, file: FileId) -> Attr {
        self.nodes.get(&file).map(attr_of).unwrap_or_default()
    }

    fn stamp(&self, dir: FileId) -> Stamp {
        self.attr(dir).stamp()
    }

    fn emit(&mut self, mut record: Record<'_>) {
        record.time = self.clock;
        let mut bytes = Vec::new();
        record.append_to(&mut bytes);
        self.captured += bytes.len() as u64;
        self.ring.push((bytes, self.captured));
        self.history.insert(self.captured, self.image());
    }

    fn touch_dir(&mut self, dir: FileId) {
        self.clock += 1;
        let clock = self.clock;
        let node = self.nodes.get_mut(&dir).expect("directories exist");
        (node.mtime, node.ctime) = (clock, clock);
    }

    fn names(&mut self, dir: FileId) -> &mut BTreeMap<Vec<u8>, FileId> {
        match &mut self.nodes.get_mut(&dir).expect("directories exist").body {
            Body::Dir(names) => names,
            _ => unreachable!("only directories are asked for names"),
        }
    }

    pub(super) fn create(&mut self, dir: FileId, name: &[u8], body: Body) {
        if self.names(dir).contains_key(name) {
            return;
        }
        let file = match self.free.pop() {
            Some(old) => FileId { generation: old.generation + 1 + self.generation, ..old },
            None => {
                self.next_ino += 1;
                FileId { ino: self.next_ino, generation: 7, volume: 0 }
            }
        };
        self.touch_dir(dir);
        let mode = match body {
            Body::File(_) => 0o100_644,
            Body::Dir(_) => 0o040_755,
            Body::Symlink(_) => 0o120_777,
        };
        let target = if let Body::Symlink(target) = &body { target.clone() } else { Vec::new() };
        self.nodes.insert(file, inode(body, mode, self.clock));
        self.names(dir).insert(name.to_vec(), file);
        let mut record = Record::new(Kind::Create, file);
        (record.parent, record.name, record.data) = (dir, name, &target);
        record.attr = self.attr(file);
        record.names.stamp = self.stamp(dir);
        self.emit(record);
    }

    pub(super) fn link(&mut self, file: FileId, dir: FileId, name: &[u8]) {
        if self.names(dir).contains_key(name) {
            return;
        }
        self.touch_dir(dir);
        self.names(dir).insert(name.to_vec(), file);
        let node = self.nodes.get_mut(&file).expect("linked files exist");
        node.nlink += 1;
        node.ctime = self.clock;
        let mut record = Record::new(Kind::Link, file);
        (record.parent, record.name, record.attr) = (dir, name, self.attr(file));
        record.names.stamp = self.stamp(dir);
        self.emit(record);
    }

    /// unlink and rmdir.
    pub(super) fn unlink(&mut self, dir: FileId, name: &[u8]) {
        let Some(file) = self.names(dir).get(name).copied() else { return };
        if !self.entries(file).is_empty() {
            return;
        }
        self.touch_dir(dir);
        self.names(dir).remove(name);
        let attr = self.lose_name(file);
        let mut record = Record::new(Kind::Unlink, file);
        (record.parent, record.name, record.attr) = (dir, name, attr);
        record.names.stamp = self.stamp(dir);
        self.emit(record);
    }

    fn lose_name(&mut self, file: FileId) -> Attr {
        let clock = self.clock;
        let node = self.nodes.get_mut(&file).expect("files with names exist");
        node.nlink -= 1;
        node.ctime = clock;
        let attr = attr_of(node);
        if node.nlink == 0 {
            self.nodes.remove(&file);
            self.free.push(file);
        }
        attr
    }

    fn is_beneath(&self, dir: FileId, above: FileId) -> bool {
        dir == above || self.entries(above).iter().any(|(_, child)| self.is_beneath(dir, *child))
    }

    pub(super) fn rename(&mut self, dir: FileId, name: &[u8], dir2: FileId, name2: &[u8], exchange: bool) {
        let Some(file) = self.names(dir).get(name).copied() else { return };
        let victim = self.names(dir2).get(name2).copied();
        let is_dir = |tree: &Tree, file: FileId| matches!(tree.nodes[&file].body, Body::Dir(_));
        if victim == Some(file) || (is_dir(self, file) && self.is_beneath(dir2, file)) {
            return;
        }
        if let Some(victim) = victim {
            let loops = is_dir(self, victim) && self.is_beneath(dir, victim);
            let kinds = is_dir(self, victim) != is_dir(self, file) || !self.entries(victim).is_empty();
            if loops || (!exchange && kinds) {
                return;
            }
        } else if exchange {
            return;
        }
        self.touch_dir(dir);
        let clock = self.clock;
        if dir2 != dir {
            let node = self.nodes.get_mut(&dir2).expect("directories exist");
            (node.mtime, node.ctime) = (clock, clock);
        }
        self.nodes.get_mut(&file).expect("it has a name").ctime = clock;
        let mut record = Record::new(Kind::Rename, file);
        self.names(dir).remove(name);
        self.names(dir2).insert(name2.to_vec(), file);
        if let Some(victim) = victim {
            record.names.victim = victim;
            if exchange {
                self.names(dir).insert(name.to_vec(), victim);
                self.nodes.get_mut(&victim).expect("it has a name").ctime = clock;
                record.c = 2;
            } else {
                record.a = self.lose_name(victim).nlink.into();
            }
        }
        (record.parent, record.name, record.name2) = (dir, name, name2);
        record.names.parent2 = dir2;
        record.attr = self.attr(file);
        record.names.stamp = self.stamp(dir);
        record.names.stamp2 = self.stamp(dir2);
        self.emit(record);
    }

    pub(super) fn write(&mut self, file: FileId, offset: u64, data: &[u8]) {
        let node = self.changed(file, true);
        let Body::File(content) = &mut node.body else { return };
        write_at(content, offset, data);
        let mut record = Record::new(Kind::Write, file);
        (record.a, record.data, record.attr) = (offset, data, self.attr(file));
        self.emit(record);
    }

    pub(super) fn truncate(&mut self, file: FileId, size: u64) {
        let node = self.changed(file, true);
        let Body::File(content) = &mut node.body else { return };
        content.resize(size as usize, 0);
        let mut record = Record::new(Kind::Truncate, file);
        (record.a, record.attr) = (size, self.attr(file));
        self.emit(record);
    }

    pub(super) fn set_attr(&mut self, file: FileId, mode: u32, uid: u32) {
        let node = self.changed(file, false);
        node.mode = node.mode & 0o170_000 | mode;
        node.uid = uid;
        let mut record = Record::new(Kind::SetAttr, file);
        record.c = (AttrMask::MODE | AttrMask::OWNER).0;
        record.attr = self.attr(file);
        self.emit(record);
    }

    pub(super) fn set_xattr(&mut self, file: FileId, name: &[u8], value: &[u8]) {
        self.changed(file, false).xattrs.insert(name.to_vec(), value.to_vec());
        let mut record = Record::new(Kind::SetXattr, file);
        (record.name, record.data, record.attr) = (name, value, self.attr(file));
        self.emit(record);
    }

    pub(super) fn remove_xattr(&mut self, file: FileId, name: &[u8]) {
        if self.nodes[&file].xattrs.contains_key(name) {
            self.changed(file, false).xattrs.remove(name);
            let mut record = Record::new(Kind::RemoveXattr, file);
            (record.name, record.attr) = (name, self.attr(file));
            self.emit(record);
        }
    }

    fn changed(&mut self, file: FileId, content: bool) -> &mut Inode {
        self.clock += 1;
        let clock = self.clock;
        let node = self.nodes.get_mut(&file).expect("changed files exist");
        node.ctime = clock;
        if content {
            node.mtime = clock;
        }
        node
    }

    /// First half of a read: names and attributes.
    pub(super) fn read_begin(&self, request: &ReadRequest) -> ReadResult {
        match *request {
            ReadRequest::List { dir, cookie, entries_max, .. } => {
                let Some(node) = self.nodes.get(&dir) else { return ReadResult::Gone };
                let all = self.entries(dir);
                // Names after the cookie's hash in hash order, so that names come and go between the pages.
                let mut all: Vec<_> = all.into_iter().map(|(name, file)| (place(&name), name, file)).collect();
                all.sort();
                let page: Vec<_> = all.into_iter().filter(|(at, ..)| *at > cookie).collect();
                let more = page.len() > entries_max;
                let page: Vec<_> = page.into_iter().take(entries_max).collect();
                let next = page.last().map(|(at, ..)| *at).filter(|_| more);
                let entries =
                    page.into_iter().map(|(_, name, file)| Entry { name, file, node: self.node(file), content: None });
                ReadResult::Listing(Listing { attr: attr_of(node), entries: entries.collect(), next })
            }
            ReadRequest::Node { file } if self.nodes.contains_key(&file) => ReadResult::Node(self.node(file)),
            ReadRequest::Node { .. } => ReadResult::Gone,
            ReadRequest::Content { .. } | ReadRequest::Hashes { .. } => ReadResult::Gone,
        }
    }

    /// Second half: content.
    pub(super) fn read_end(&self, request: &ReadRequest, begun: ReadResult, hash: fn(&[u8]) -> u128) -> ReadResult {
        match (request, begun) {
            (ReadRequest::List { content_max, .. }, ReadResult::Listing(mut listing)) => {
                for entry in &mut listing.entries {
                    if let Some(Inode { body: Body::File(content), .. }) = self.nodes.get(&entry.file)
                        && entry.node.attr.size <= *content_max
                        && *content_max > 0
                    {
                        entry.content = Some(pieces(content, 0, content.len() as u64));
                    }
                }
                ReadResult::Listing(listing)
            }
            (ReadRequest::Content { file, offset, len }, _) => match self.content(*file) {
                Some(content) => ReadResult::Pieces(pieces(content, *offset, *len)),
                None => ReadResult::Gone,
            },
            (ReadRequest::Hashes { file, offset, len, block }, _) => match self.content(*file) {
                Some(content) => {
                    let end = (content.len() as u64).min(offset + len);
                    let part = &content[(*offset).min(end) as usize..end as usize];
                    ReadResult::Hashes(part.chunks(*block as usize).map(hash).collect())
                }
                None => ReadResult::Gone,
            },
            (_, begun) => begun,
        }
    }

    fn content(&self, file: FileId) -> Option<&Vec<u8>> {
        match self.nodes.get(&file).map(|node| &node.body) {
            Some(Body::File(content)) => Some(content),
            _ => None,
        }
    }

    fn node(&self, file: FileId) -> Node {
        let inode = &self.nodes[&file];
        let target = if let Body::Symlink(target) = &inode.body { target.clone() } else { Vec::new() };
        let xattrs = inode.xattrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Node { attr: attr_of(inode), extras: Extras { target, xattrs } }
    }

    /// Takes records out of the ring; where `lose` says so, they are lost and only what they were about is told.
    pub(super) fn drain(&mut self, count: usize, lose: bool, whole: bool) -> (Vec<u8>, u64) {
        let count = count.min(self.ring.len());
        let drained: Vec<_> = self.ring.drain(..count).collect();
        let captured = drained.last().map_or(self.captured_before(), |(_, after)| *after);
        let bytes: Vec<u8> = drained.into_iter().flat_map(|(record, _)| record).collect();
        if !lose || bytes.is_empty() {
            return (bytes, captured);
        }
        let mut lost = Vec::new();
        if whole {
            Record::new(Kind::Lost, FileId::NONE).append_to(&mut lost);
            return (lost, captured);
        }
        let mut about = Vec::new();
        for record in stead_model::record::records(&bytes).flatten() {
            about.extend([record.parent, record.names.parent2, record.file, record.names.victim]);
        }
        about.sort();
        about.dedup();
        for file in about.into_iter().filter(|file| !file.is_none()) {
            Record::new(Kind::Lost, file).append_to(&mut lost);
        }
        (lost, captured)
    }

    fn captured_before(&self) -> u64 {
        self.ring.first().map_or(self.captured, |(record, after)| after - record.len() as u64)
    }

    /// A record that says that everything beneath is lost.
    pub(super) fn lose_subtree(&mut self, dir: FileId) {
        let mut record = Record::new(Kind::Lost, dir);
        record.flags = flags::SUBTREE;
        self.emit(record);
    }
}

fn place(name: &[u8]) -> u64 {
    name.iter().fold(1, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))) % 1_000_003 + 1
}

/// Pieces of a range, with holes where it is zero.
fn pieces(content: &[u8], offset: u64, len: u64) -> Vec<Piece> {
    let end = (content.len() as u64).min(offset.saturating_add(len));
    let mut pieces = Vec::new();
    let mut at = offset;
    while at < end {
        let zero = content[at as usize] == 0;
        let run = content[at as usize..end as usize].iter().take_while(|byte| (**byte == 0) == zero).count() as u64;
        pieces.push(if zero {
            Piece::Hole { offset: at, len: run }
        } else {
            Piece::Data { offset: at, bytes: content[at as usize..(at + run) as usize].to_vec() }
        });
        at += run;
    }
    pieces
}

/// Writes into content, growing it.
pub(super) fn write_at(content: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let end = offset as usize + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(data);
}

fn inode(body: Body, mode: u32, clock: u64) -> Inode {
    Inode { body, mode, uid: 0, mtime: clock, ctime: clock, nlink: 1, xattrs: BTreeMap::new() }
}

fn attr_of(node: &Inode) -> Attr {
    let mut attr = Attr::default();
    attr.size = match &node.body {
        Body::File(content) => content.len() as u64,
        Body::Symlink(target) => target.len() as u64,
        Body::Dir(_) => 0,
    };
    (attr.mode, attr.uid, attr.nlink) = (node.mode, node.uid, node.nlink);
    attr.set_mtime(time(node.mtime));
    attr.set_ctime(time(node.ctime));
    attr
}

fn meta(node: &Inode) -> Meta {
    let content = match &node.body {
        Body::File(content) => content.clone(),
        Body::Symlink(target) => target.clone(),
        Body::Dir(_) => Vec::new(),
    };
    Meta { mode: node.mode, uid: node.uid, mtime: node.mtime as i64, xattrs: node.xattrs.clone(), content }
}
