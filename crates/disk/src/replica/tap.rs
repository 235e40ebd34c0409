//! The tap: what was applied, told again as a capture of the replica would tell it, for a set that hands the replica on.
//!
//! Files are named by the replica's own ids. A plain change is told as the same change, a file that comes into the set as
//! the rename of one that was never told of. Of anything else (pieces of scans, what failed half-way) only the scope is
//! told, and whoever hands the replica on compares it.
//!
//! Only the last record of a file in a batch carries a ctime: the one that the file has once the batch is settled, so that
//! it proves nothing of a state that the file did not end in. A record's time is not later than this machine's own clock,
//! for that is the clock of these ctimes.

use std::collections::{HashMap, HashSet};

use rustix::fs::RenameFlags;
use stead_model::record::{CUT, Purpose, flags};
use stead_model::{Attr, FileId, Kind, Record, Stamp, Time, record};

use super::{Replica, now};
use crate::read::{inode_flags, stat};
use crate::xattr;

/// Scopes that are told one by one; beyond, it is everything.
const LOST_MAX: usize = 256;
/// Files that came since the last point; beyond, they are told as scopes.
const CAME_MAX: usize = 1024;
/// What a file was called before it came: outside of the set, whatever it was.
const OUTSIDE: &[u8] = b".stead-outside";
/// What [`Kind::Sync`] says where the source's own file systems were synced.
const SOURCE_SYNCED: u32 = 3;

/// What was applied.
#[derive(Debug, Default)]
pub struct Tapped {
    /// Records of changes, in order, in the replica's own file ids.
    pub records: Vec<u8>,
    /// Files and directories that have to be compared after these; true: with all beneath.
    pub lost: Vec<(FileId, bool)>,
    /// Everything has to be compared; then nothing else is told.
    pub whole: bool,
}

/// What was told and not taken yet.
#[derive(Debug, Default)]
pub(super) struct Tap {
    told: Tapped,
    /// Where the last record about a file begins.
    last: HashMap<FileId, usize>,
    /// Records whose attributes are not told whole.
    partial: Vec<(FileId, usize)>,
    scans: Option<Purpose>,
    /// Files that came since the last point: whoever hands the replica on reads all of them.
    came: HashSet<FileId>,
    /// The last record was about an object that had been there before.
    adopted: bool,
}

/// Whom a record is about, in the replica's own ids, before it was applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    file: Option<FileId>,
    victim: Option<FileId>,
    parents: [Option<FileId>; 2],
}

/// It cannot be told as a change: everything has to be compared.
struct Inexact;

/// What a record has the tap tell, if anything.
type Told<'a> = Result<Option<Record<'a>>, Inexact>;

impl Replica {
    /// From now on what is applied is told, or no longer.
    pub fn set_tap(&mut self, on: bool) {
        if self.tap.is_some() != on {
            self.tap = on.then(Tap::default);
        }
    }

    /// Takes what was applied since it was asked last. To be called when the batch is settled; `at_point`: the replica is
    /// its source at one instant now.
    pub fn tapped(&mut self, at_point: bool) -> Tapped {
        let Some(mut tap) = self.tap.take() else { return Tapped::default() };
        for (local, at) in std::mem::take(&mut tap.partial) {
            self.complete(&mut tap.told.records, local, at);
        }
        for (local, at) in std::mem::take(&mut tap.last) {
            self.prove_last(&mut tap.told.records, local, at);
        }
        let told = std::mem::take(&mut tap.told);
        if at_point {
            tap.came.clear();
        }
        self.tap = Some(tap);
        told
    }

    /// The replica became another in a way that no record tells.
    pub(super) fn tap_lost(&mut self) {
        self.tap.iter_mut().for_each(Tap::lose_all);
    }

    /// Whom the record is about now; `None` where nobody listens.
    pub(super) fn tap_before(&self, record: &Record<'_>) -> Option<Before> {
        let tap = self.tap.as_ref()?;
        let listens = !tap.told.whole && (record.kind.is_change() || record.flags & flags::MOVE_IN != 0);
        let local = |file| if listens { self.local(file) } else { None };
        let parents = [local(record.parent), local(record.names.parent2)];
        Some(Before { file: local(record.file), victim: local(record.names.victim), parents })
    }

    /// The record was applied.
    pub(super) fn tap(&mut self, record: &Record<'_>, before: Before) {
        if self.tap.as_ref().is_none_or(|tap| tap.told.whole) {
            return;
        }
        let adopted = self.tap.as_mut().is_some_and(|tap| std::mem::take(&mut tap.adopted));
        if record.kind == Kind::Node && record.flags & flags::MOVE_IN != 0 && !adopted && self.tap_comes(record, before)
        {
            return;
        }
        let cuts = record.kind == Kind::Truncate && record.c == CUT;
        if !record.kind.is_change() || record.kind == Kind::Lost || cuts {
            return self.tap_scan(record);
        }
        let told = self.told(record, before);
        let Some(tap) = &mut self.tap else { return };
        match told {
            Ok(told) => told.iter().for_each(|told| tap.push(told)),
            Err(Inexact) => tap.lose_all(),
        }
    }

    fn local(&self, file: FileId) -> Option<FileId> {
        self.map.get(file).map(|slot| slot.local)
    }

    fn told<'a>(&self, record: &Record<'a>, before: Before) -> Told<'a> {
        let file = self.local(record.file);
        match record.kind {
            Kind::Sync if record.c == SOURCE_SYNCED => Ok(None),
            Kind::Sync if record.file.is_none() => Ok(Some(*record)),
            Kind::SetXattr | Kind::RemoveXattr if !xattr::is_replicated(record.name) => Ok(None),
            Kind::Create | Kind::Link => self.told_name(record, before),
            Kind::Unlink => self.told_unlink(record, before),
            Kind::Rename => self.told_rename(record, before),
            _ => Ok(file.map(|file| Record { file, ..*record })),
        }
    }

    fn told_name<'a>(&self, record: &Record<'a>, before: Before) -> Told<'a> {
        let nameless = record.parent.is_none() && record.name.is_empty();
        match (self.local(record.file), before.parents[0]) {
            (Some(file), None) if nameless => Ok(Some(Record { file, ..*record })),
            (Some(file), Some(parent)) => Ok(Some(Record { file, parent, ..*record })),
            (None, _) if record.kind == Kind::Link => Ok(None),
            _ => Err(Inexact),
        }
    }

    fn told_unlink<'a>(&self, record: &Record<'a>, before: Before) -> Told<'a> {
        let Some(file) = before.file else { return Ok(None) };
        let Some(parent) = before.parents[0] else { return Err(Inexact) };
        let mut told = Record { file, parent, ..*record };
        if self.local(record.file).is_none() {
            // Where it lives on, if it does, is outside of the set.
            told.attr.nlink = 0;
        }
        Ok(Some(told))
    }

    fn told_rename<'a>(&self, record: &Record<'a>, before: Before) -> Told<'a> {
        let [parent, parent2] = before.parents;
        let (Some(file), Some(parent), Some(parent2)) = (self.local(record.file), parent, parent2) else {
            return Err(Inexact);
        };
        let mut told = Record { file, parent, ..*record };
        told.names.parent2 = parent2;
        told.names.victim = before.victim.unwrap_or(FileId::NONE);
        let swaps = record.c & RenameFlags::EXCHANGE.bits() != 0;
        if swaps && before.victim.is_none() {
            return Err(Inexact);
        }
        if !swaps && self.local(record.names.victim).is_none() {
            told.a = 0;
        }
        Ok(Some(told))
    }

    /// An object of that name was there, and became the source's file.
    pub(super) fn tap_adopted(&mut self) {
        self.tap.iter_mut().for_each(|tap| tap.adopted = true);
    }

    /// A file that was made for what comes into the set cannot be known to whoever hands the replica on.
    fn tap_comes(&mut self, record: &Record<'_>, before: Before) -> bool {
        let (Some(file), Some(parent), None) = (self.local(record.file), before.parents[0], before.file) else {
            return false;
        };
        let Some(dir) = self.attr_of(parent) else { return false };
        let Some(tap) = self.tap.as_mut().filter(|tap| tap.came.len() < CAME_MAX) else { return false };
        let mut comes = Record::new(Kind::Rename, file);
        (comes.parent, comes.name, comes.name2) = (parent, OUTSIDE, record.name);
        (comes.attr, comes.time, comes.names.parent2) = (record.attr, record.time, parent);
        (comes.names.stamp, comes.names.stamp2) = (dir.stamp(), dir.stamp());
        tap.came.insert(file);
        tap.push(&comes);
        true
    }

    /// Of a scan only its scope is told; of what comes by itself, the file and the directory of its name.
    fn tap_scan(&mut self, record: &Record<'_>) {
        let purpose = Purpose::from_u32(record.c);
        let deep = record.flags & flags::SUBTREE != 0;
        match record.kind {
            Kind::Lost => self.tap_lose(record.file, deep),
            Kind::ScanBegin => {
                self.set_tap_scans(purpose);
                self.tap_scope(record, purpose);
            }
            Kind::ScanEnd => {
                self.set_tap_scans(None);
                self.tap_scope(record, purpose);
            }
            _ if self.tap.as_ref().is_some_and(|tap| tap.scans.is_some()) && record.flags & flags::MOVE_IN == 0 => {}
            Kind::Node if purpose != Some(Purpose::Verify) => {
                if !record.parent.is_none() {
                    self.tap_lose(record.parent, false);
                }
                self.tap_lose(record.file, record.attr.is_dir());
            }
            Kind::Truncate | Kind::Chunk | Kind::NodeEnd | Kind::DirEnd => self.tap_lose(record.file, false),
            _ => {}
        }
    }

    fn set_tap_scans(&mut self, purpose: Option<Purpose>) {
        if let Some(tap) = &mut self.tap {
            tap.scans = purpose;
        }
    }

    fn tap_scope(&mut self, record: &Record<'_>, purpose: Option<Purpose>) {
        if purpose != Some(Purpose::Verify) {
            self.tap_lose(record.file, record.flags & flags::SUBTREE != 0);
        }
    }

    fn tap_lose(&mut self, file: FileId, deep: bool) {
        let local = self.local(file);
        let Some(tap) = &mut self.tap else { return };
        match local {
            _ if file.is_none() => tap.lose_all(),
            Some(local) if tap.came.contains(&local) => {}
            Some(local) => tap.lose(local, deep),
            None => {}
        }
    }

    /// Attributes that the record does not tell whole are those of the file.
    fn complete(&mut self, records: &mut [u8], local: FileId, at: usize) {
        let Some(mut attr) = self.attr_of(local) else { return };
        attr.set_ctime(Time::default());
        if let Some(told) = record::attr(&records[at..]) {
            attr.nlink = told.nlink;
        }
        record::set_attr(&mut records[at..], &attr);
    }

    fn prove_last(&mut self, records: &mut [u8], local: FileId, at: usize) {
        let (Some(is), Some(mut told)) = (self.attr_of(local), record::attr(&records[at..])) else { return };
        told.set_ctime(is.ctime());
        record::set_attr(&mut records[at..], &told);
    }

    fn attr_of(&mut self, local: FileId) -> Option<Attr> {
        let handle = self.handle(self.map.id_of(local)?).ok()??;
        let (mut attr, _) = stat(handle.fd()).ok()?;
        if attr.is_file() || attr.is_dir() {
            attr.flags = inode_flags(handle.fd()).ok()?;
        }
        Some(attr)
    }
}

impl Tap {
    fn push(&mut self, record: &Record<'_>) {
        let mut told = Record { sequence: 0, time: record.time.min(now()), ..*record };
        told.attr.set_ctime(Time::default());
        (told.names.stamp, told.names.stamp2) = (without_ctime(told.names.stamp), without_ctime(told.names.stamp2));
        let at = self.told.records.len();
        told.append_to(&mut self.told.records);
        if told.file.is_none() {
            return;
        }
        if told.attr.permissions() == 0 && (told.attr.mode == 0 || told.kind == Kind::SetAttr) {
            self.partial.push((told.file, at));
        }
        self.last.insert(told.file, at);
    }

    fn lose(&mut self, file: FileId, deep: bool) {
        if self.told.lost.contains(&(file, deep)) || self.told.lost.contains(&(file, true)) {
            return;
        }
        self.told.lost.push((file, deep));
        if self.told.lost.len() > LOST_MAX {
            self.lose_all();
        }
    }

    fn lose_all(&mut self) {
        *self = Tap { told: Tapped { whole: true, ..Tapped::default() }, scans: self.scans, ..Tap::default() };
    }
}

/// The replica's own ctime of a directory is another.
fn without_ctime(stamp: Stamp) -> Stamp {
    if stamp == Stamp::default() { stamp } else { Stamp::new(stamp.mtime(), Time::default()) }
}
