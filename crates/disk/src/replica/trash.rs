//! What was removed lately and can be put back: for a window of time, bytes and objects.
//!
//! The file `removed` in the state directory:
//!
//! ```text
//!   header   magic "STEADRMV" 8 B · version u16 · zeros 6 B
//!   record   len u32 of the name · crc32 u32 of what follows, and the name
//!            · epoch u64 · incarnation u64 · sequence u64 · time u64 · directory 16 B · object 16 B · bytes u64 · last u64
//!            · name
//! ```
//! `directory`, `object`: the replica's own file ids. `last`: 1 where the object lost its last name, and is kept. The
//! file is synced with each checkpoint; a record that is cut off or whose checksum is wrong ends it.

use std::collections::{HashSet, VecDeque};
use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;
use stead_model::{FileId, Position, Record};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::create::read_id;
use super::ground::DIR;
use super::images::give_name;
use super::map::Slot;
use super::names::Dir;
use super::{ApplyError, Replica, TrashLimits};
use crate::DiskError;
use crate::volume::{file_id_at, open_by_id};
use crate::xattr::Target;

const NAME: &str = "removed";
const MAGIC: [u8; 8] = *b"STEADRMV";
const VERSION: u16 = 1;
const NAME_BYTES_MAX: u32 = 255;
const HEADER_BYTES: u64 = size_of::<Header>() as u64;
/// Records of what has expired may take that many times the room of the others.
const SLACK: usize = 2;
const SLACK_RECORDS: usize = 1000;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: u16,
    zeros: [u8; 6],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Raw {
    len: u32,
    crc: u32,
    epoch: u64,
    incarnation: u64,
    sequence: u64,
    time: u64,
    dir: FileId,
    local: FileId,
    bytes: u64,
    last: u64,
}

/// A name that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Removed {
    at: Position,
    /// Nanoseconds since 1970.
    time: u64,
    dir: FileId,
    local: FileId,
    bytes: u64,
    last: bool,
    name: CString,
}

/// What [`Replica::removed`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedKept {
    /// Names that can be put back.
    pub names: u64,
    /// Bytes on the disk of the objects that are kept.
    pub bytes: u64,
    /// What was removed after this position can be put back; `None` where nothing was removed.
    pub since: Option<Position>,
}

/// What [`Replica::undo_removals`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Names that are there again.
    pub names: u64,
    /// Names that are somebody else's by now, or whose object or directory is gone.
    pub left: u64,
}

#[derive(Debug)]
pub(super) struct Trash {
    pub limits: TrashLimits,
    path: PathBuf,
    file: Option<File>,
    len: u64,
    /// Records in the file.
    records: usize,
    /// Oldest first.
    entries: VecDeque<Removed>,
    kept: HashSet<FileId>,
    bytes: u64,
    /// Where in the stream the replica is.
    at: Position,
}

impl Trash {
    /// Reads what is kept.
    pub(super) fn open(state_dir: &Path) -> Result<Trash, DiskError> {
        let path = state_dir.join(NAME);
        let (entries, kept) = (VecDeque::new(), HashSet::new());
        let (limits, at) = (TrashLimits::default(), Position::default());
        let mut trash = Trash { limits, path, file: None, len: 0, records: 0, entries, kept, bytes: 0, at };
        match std::fs::read(&trash.path) {
            Ok(bytes) => trash.load(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(DiskError::new("read", trash.path.display(), error)),
        }
        Ok(trash)
    }

    pub(super) fn is_on(&self) -> bool {
        self.limits.objects_max > 0
    }

    /// Is the object kept so that it can be put back?
    pub(super) fn needs(&self, local: FileId) -> bool {
        self.kept.contains(&local)
    }

    /// The file, to be synced with the next checkpoint.
    pub(super) fn to_sync(&self) -> io::Result<Option<File>> {
        self.file.as_ref().map(File::try_clone).transpose()
    }

    fn load(&mut self, bytes: &[u8]) {
        let header = Header::read_from_prefix(bytes).ok().map(|(header, _)| header);
        if header.is_none_or(|header| header.magic != MAGIC || header.version > VERSION) {
            return;
        }
        let mut at = HEADER_BYTES as usize;
        while let Some((removed, next)) = parse(bytes, at) {
            self.note(removed);
            at = next;
        }
    }

    fn note(&mut self, removed: Removed) {
        if removed.last {
            self.kept.insert(removed.local);
            self.bytes += removed.bytes;
        }
        self.entries.push_back(removed);
    }

    fn add(&mut self, removed: Removed) -> io::Result<()> {
        if self.file.is_none() || self.records > SLACK_RECORDS + SLACK * self.entries.len() {
            self.rewrite()?;
        }
        let bytes = encode(&removed);
        let file = self.file.as_ref().expect("it was just opened");
        file.write_all_at(&bytes, self.len)?;
        self.len += bytes.len() as u64;
        self.records += 1;
        self.note(removed);
        Ok(())
    }

    /// Writes the file anew: what is in it need not be durable before the next checkpoint.
    fn rewrite(&mut self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&new)?;
        let mut bytes = Header { magic: MAGIC, version: VERSION, zeros: [0; 6] }.as_bytes().to_vec();
        self.entries.iter().for_each(|removed| bytes.extend(encode(removed)));
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        (self.len, self.records, self.file) = (bytes.len() as u64, self.entries.len(), Some(file));
        Ok(())
    }

    /// Takes the oldest one out if it is beyond the limits.
    fn expired(&mut self, now: u64) -> Option<Removed> {
        let oldest = self.entries.front()?;
        let limits = self.limits;
        // What was removed in the future was so before the clock was set back.
        let too_old = now.abs_diff(oldest.time) > limits.seconds_max.saturating_mul(1_000_000_000);
        let too_many = self.entries.len() as u64 > limits.objects_max || self.bytes > limits.bytes_max;
        if !too_old && !too_many && self.is_on() {
            return None;
        }
        let removed = self.entries.pop_front()?;
        self.dropped(&removed);
        Some(removed)
    }

    /// Is the object known to leave that very name? Where it left another one before, it has come back since, and that
    /// is forgotten.
    fn knows(&mut self, local: FileId, dir: FileId, name: &CStr) -> bool {
        if !self.needs(local) {
            return false;
        }
        let Some(at) = self.entries.iter().rposition(|removed| removed.last && removed.local == local) else {
            return false;
        };
        if self.entries[at].dir == dir && *self.entries[at].name == *name {
            return true;
        }
        if let Some(removed) = self.entries.remove(at) {
            self.dropped(&removed);
        }
        false
    }

    fn dropped(&mut self, removed: &Removed) {
        if removed.last {
            self.kept.remove(&removed.local);
            self.bytes -= removed.bytes;
        }
    }

    /// Takes out what was removed after that position, newest first.
    fn take_since(&mut self, since: Position) -> Vec<Removed> {
        let same = |at: Position| (at.epoch, at.incarnation) == (since.epoch, since.incarnation);
        let later = |removed: &Removed| !same(removed.at) || removed.at.sequence > since.sequence;
        let known = self.entries.iter().rposition(|removed| same(removed.at) && removed.at.sequence <= since.sequence);
        let from = match known {
            Some(at) => at + 1,
            None => self.entries.iter().position(|removed| same(removed.at) && later(removed)).unwrap_or(0),
        };
        let taken: Vec<_> = self.entries.drain(from..).rev().collect();
        taken.iter().for_each(|removed| self.dropped(removed));
        taken
    }
}

impl Replica {
    /// Where in the stream the records are that are applied from now on: only what is removed is noted with it.
    pub fn set_place(&mut self, position: Position) {
        self.trash.at = position;
    }

    /// What can be put back.
    pub fn removed(&self) -> RemovedKept {
        let since = self
            .trash
            .entries
            .front()
            .map(|removed| Position { sequence: removed.at.sequence.saturating_sub(1), ..removed.at });
        RemovedKept { names: self.trash.entries.len() as u64, bytes: self.trash.bytes, since }
    }

    /// Puts back the names that were removed after that position and are still kept, with all that they stood for.
    /// Nothing is proven of what comes back.
    ///
    /// # Errors
    /// What the kernel said; what was not put back by then stays removed for good.
    pub fn undo_removals(&mut self, since: Position) -> Result<Undone, ApplyError> {
        let mut undone = Undone::default();
        for removed in self.trash.take_since(since) {
            if self.put_back(&removed)? {
                undone.names += 1;
            } else {
                undone.left += 1;
            }
        }
        self.settle()?;
        let rewritten = self.trash.rewrite();
        rewritten.map_err(DiskError::at("write", self.trash.path.display()))?;
        if self.images.is_none() {
            self.tidy_again();
        }
        Ok(undone)
    }

    fn put_back(&mut self, removed: &Removed) -> Result<bool, ApplyError> {
        let failed = || DiskError::at("put back", removed.name.to_string_lossy());
        let Some(volume) = self.ground.volumes.get(removed.dir.volume as usize) else { return Ok(false) };
        let Some(fd) = open_by_id(&volume.root, removed.dir, DIR).map_err(failed())? else { return Ok(false) };
        let dir = Dir { id: self.map.id_of(removed.dir), local: removed.dir, fd: fd.into() };
        if self.lookup(&dir, &removed.name)?.is_some() || removed.last && !self.is_nameless(removed.local)? {
            return Ok(false);
        }
        self.before_name(&dir, &removed.name)?;
        self.keep_mtime(&dir)?;
        self.unlock_dir(&dir)?;
        let root = &self.ground.volumes[removed.dir.volume as usize].root;
        give_name(root, removed.local, dir.fd(), &removed.name).map_err(failed())?;
        if file_id_at(root, dir.fd(), &removed.name).map_err(failed())? != Some(removed.local) {
            return Ok(false);
        }
        self.know_again(removed.local, &dir)?;
        self.stated(&dir, &removed.name);
        Ok(true)
    }

    /// Is the object among what is kept or held? Else it has got another name since, or is gone.
    fn is_nameless(&mut self, local: FileId) -> Result<bool, ApplyError> {
        let held = self.map.id_of(local).is_some_and(|file| self.held.contains(&file));
        let volume = &self.ground.volumes[local.volume as usize];
        let kept = super::kept::holds(volume, local).map_err(DiskError::at("look for", local))?;
        Ok(held || kept || super::holding::holds(volume, local).map_err(DiskError::at("look for", local))?)
    }

    /// The object is the source's file again, if it was one.
    fn know_again(&mut self, local: FileId, dir: &Dir) -> Result<(), ApplyError> {
        let failed = || DiskError::at("read the id of", local);
        if let Some(file) = self.map.id_of(local) {
            self.map.disprove(file);
            if !self.held.contains(&file) {
                return Ok(());
            }
            // A directory has left the holding directory by now.
            if self.map.get(file).is_some_and(Slot::is_dir) {
                self.held.remove(&file);
                return Ok(());
            }
            return self.unhold(file);
        }
        let root = &self.ground.volumes[dir.volume()].root;
        let Some((fd, path_only)) = super::images::open_object(root, local).map_err(failed())? else { return Ok(()) };
        if let Some(file) = read_id(Target { fd: fd.as_fd(), path_only })
            && self.map.get(file).is_none()
        {
            let mode = rustix::fs::fstat(&fd).map_err(failed())?.st_mode;
            self.map.insert(Slot::new(file, local, mode));
        }
        Ok(())
    }

    /// The object is about to leave the name for the holding directory, where it will be removed.
    pub(super) fn note_leaving(&mut self, dir: &Dir, name: &CStr, stat: &Stat) -> Result<(), ApplyError> {
        if self.trash.is_on()
            && let Some(local) = self.lookup(dir, name)?
        {
            self.note_removed(dir, name, local, stat);
        }
        Ok(())
    }

    /// The name is about to be removed. Is the object to be kept?
    pub(super) fn note_removed(&mut self, dir: &Dir, name: &CStr, local: FileId, stat: &Stat) -> bool {
        if !self.trash.is_on() {
            return false;
        }
        let volume = &self.ground.volumes[dir.volume()];
        if std::sync::Arc::ptr_eq(&dir.fd, &volume.holding) {
            // Its name before that is what counts.
            return self.trash.needs(local);
        }
        let dir_local = match dir.local.ino {
            0 => crate::volume::file_id_of(&volume.root, dir.fd()),
            _ => Ok(dir.local),
        };
        let Ok(dir_local) = dir_local else { return false };
        if self.trash.knows(local, dir_local, name) {
            return true;
        }
        let is_dir = stat.st_mode & 0o170_000 == 0o040_000;
        let last = is_dir || stat.st_nlink <= 1;
        let bytes = if last { stat.st_blocks as u64 * 512 } else { 0 };
        let (at, time, name) = (self.trash.at, super::now(), name.to_owned());
        let added = self.trash.add(Removed { at, time, dir: dir_local, local, bytes, last, name });
        if let Err(error) = &added {
            tracing::warn!(%error, "what was removed cannot be noted: it cannot be put back");
        }
        added.is_ok() && last
    }

    /// Forgets what is beyond the limits.
    pub(super) fn expire_removed(&mut self) -> Result<(), ApplyError> {
        let now = super::now();
        while let Some(removed) = self.trash.expired(now) {
            if removed.last {
                self.tidy_one(removed.local);
            }
        }
        Ok(())
    }

    /// The place of a record, where it has a number.
    pub(super) fn note_place(&mut self, record: &Record<'_>) {
        if record.sequence > 0 {
            self.trash.at.sequence = record.sequence;
        }
    }
}

fn encode(removed: &Removed) -> Vec<u8> {
    let Position { epoch, incarnation, sequence } = removed.at;
    let Removed { time, dir, local, bytes, last, .. } = *removed;
    let (len, last) = (removed.name.to_bytes().len() as u32, last.into());
    let mut raw = Raw { len, crc: 0, epoch, incarnation, sequence, time, dir, local, bytes, last };
    raw.crc = checksum(&raw, removed.name.to_bytes());
    [raw.as_bytes(), removed.name.to_bytes()].concat()
}

fn parse(bytes: &[u8], at: usize) -> Option<(Removed, usize)> {
    let (raw, rest) = Raw::read_from_prefix(bytes.get(at..)?).ok()?;
    let name = rest.get(..Some(raw.len).filter(|len| *len <= NAME_BYTES_MAX)? as usize)?;
    if raw.crc != checksum(&raw, name) {
        return None;
    }
    let Raw { epoch, incarnation, sequence, time, dir, local, bytes, last, .. } = raw;
    let at_position = Position { epoch, incarnation, sequence };
    let name_len = name.len();
    let name = CString::new(name).ok()?;
    let removed = Removed { at: at_position, time, dir, local, bytes, last: last == 1, name };
    Some((removed, at + size_of::<Raw>() + name_len))
}

fn checksum(raw: &Raw, name: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&raw.as_bytes()[8..]);
    crc.update(name);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(sequence: u64) -> Removed {
        let file = |ino| FileId { ino, generation: 7, volume: 1 };
        let at = Position { epoch: 1, incarnation: 2, sequence };
        let (dir, local, name) = (file(3), file(sequence), CString::new("name").unwrap());
        Removed { at, time: sequence * 1_000_000_000, dir, local, bytes: 4096, last: sequence % 2 == 1, name }
    }

    fn open(dir: &Path) -> Trash {
        let mut trash = Trash::open(dir).unwrap();
        trash.limits = TrashLimits { seconds_max: 100, objects_max: 10, bytes_max: 1 << 20 };
        trash
    }

    #[test]
    fn the_format_is_as_drawn_and_what_is_torn_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut trash = open(dir.path());
        (5..8).for_each(|sequence| trash.add(removed(sequence)).unwrap());
        let bytes = std::fs::read(dir.path().join(NAME)).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../../tests/golden/removed.hex").trim());
        for len in 0..bytes.len() {
            std::fs::write(dir.path().join(NAME), &bytes[..len]).unwrap();
            let found: Vec<_> = open(dir.path()).entries.into();
            let whole = len.saturating_sub(HEADER_BYTES as usize) / (size_of::<Raw>() + 4);
            assert_eq!(found, (5..5 + whole as u64).map(removed).collect::<Vec<_>>(), "cut at {len}");
        }
    }

    #[test]
    fn the_oldest_expire_by_age_number_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut trash = open(dir.path());
        (1..=12).for_each(|sequence| trash.add(removed(sequence)).unwrap());
        let gone = |trash: &mut Trash, now: u64| {
            std::iter::from_fn(|| trash.expired(now * 1_000_000_000))
                .map(|removed| removed.at.sequence)
                .collect::<Vec<_>>()
        };
        assert_eq!(gone(&mut trash, 12), [1, 2]);
        assert_eq!(gone(&mut trash, 105), [3, 4]);
        trash.limits.bytes_max = 4096 * 2;
        assert_eq!(gone(&mut trash, 105), [5, 6, 7]);
        assert_eq!((trash.bytes, trash.kept.len()), (8192, 2));
    }

    #[test]
    fn what_came_after_a_position_is_taken_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let taken = |since: Position| {
            let mut trash = open(dir.path());
            (1..=5).for_each(|sequence| trash.note(removed(sequence)));
            let other = Position { epoch: 1, incarnation: 9, sequence: 2 };
            trash.note(Removed { at: other, ..removed(20) });
            trash.take_since(since).iter().map(|removed| removed.at.sequence).collect::<Vec<_>>()
        };
        assert_eq!(taken(Position { epoch: 1, incarnation: 2, sequence: 3 }), [2, 5, 4]);
        assert_eq!(taken(Position { epoch: 1, incarnation: 9, sequence: 1 }), [2]);
        assert_eq!(taken(Position { epoch: 1, incarnation: 9, sequence: 2 }), Vec::<u64>::new());
    }
}
