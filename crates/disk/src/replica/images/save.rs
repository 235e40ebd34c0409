//! Saving what is about to change.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;
use stead_model::record::{Extras, records};
use stead_model::{Attr, FileId, Kind as RecordKind, Record};
use xxhash_rust::xxh3::xxh3_128;
use zerocopy::{FromBytes, IntoBytes};

use super::{Images, Kind, Undo, Unsaved};
use crate::ID_XATTR;
use crate::read::describe;
use crate::replica::ground::{DIR, Ground};
use crate::replica::holding::{KEPT_NAME, entries, is_apart};
use crate::replica::names::Dir;
use crate::replica::{ApplyError, Replica};
use crate::volume::{Root, file_id_at, file_id_of, open_by_id};
use crate::xattr::{self, Target};

/// Ranges are saved in whole blocks of that many bytes.
const BLOCK_BYTES: u64 = 4096;
const PIECE_BYTES_MAX: u64 = 1 << 20;

impl Replica {
    /// Saves what these encoded records will change, with one sync. Nothing depends on it but speed: call it with each
    /// batch before it is applied. Does nothing where no images are kept.
    ///
    /// # Errors
    /// [`ApplyError::NoRoom`], or what the kernel said; nothing was changed by then.
    pub fn foresee(&mut self, batch: &[u8]) -> Result<(), ApplyError> {
        if self.images.is_none() {
            return Ok(());
        }
        for record in records(batch) {
            // What cannot be read is refused when it is applied.
            let Ok(record) = record else { break };
            self.foresee_one(&record)?;
        }
        self.commit_images()
    }

    fn foresee_one(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let file = record.file;
        match record.kind {
            RecordKind::Write => self.note_content(file, record.a, record.data.len() as u64),
            RecordKind::Truncate => self.note_content(file, record.a, u64::MAX),
            RecordKind::Allocate => self.note_content(file, record.a, record.b),
            RecordKind::Chunk => self.note_content(file, record.a, record.b.max(record.data.len() as u64)),
            RecordKind::NodeEnd if record.attr.is_file() => self.note_content(file, record.attr.size, u64::MAX),
            RecordKind::Node => self.foresee_node(record),
            RecordKind::Create | RecordKind::Link | RecordKind::Unlink | RecordKind::Rename => {
                self.foresee_name(record.parent, record.name)?;
                self.foresee_name(record.names.parent2, record.name2)?;
                self.note_object(record.names.victim)?;
                self.note_object(file)
            }
            RecordKind::Sync | RecordKind::Lost | RecordKind::Hash | RecordKind::DirBegin => Ok(()),
            _ => self.note_object(file),
        }
    }

    fn foresee_node(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let file = record.file;
        if self.scan.as_ref().is_some_and(|scan| scan.is_verify()) {
            return Ok(());
        }
        if self.map.get(file).is_none() || !self.is_proven(file, &record.attr) {
            self.note_object(file)?;
        }
        let Some(dir) = (if record.parent.is_none() { None } else { self.dir(record.parent)? }) else { return Ok(()) };
        let Ok(name) = crate::replica::names::checked_name(record, record.name) else { return Ok(()) };
        if self.is_listed(file, &dir, &name) || self.is_at(file, &dir, &name)? {
            return Ok(());
        }
        self.note_name(&dir, &name)
    }

    fn foresee_name(&mut self, parent: FileId, name: &[u8]) -> Result<(), ApplyError> {
        if parent.is_none() || name.is_empty() {
            return Ok(());
        }
        let Ok(name) = std::ffi::CString::new(name) else { return Ok(()) };
        let Some(dir) = self.dir(parent)? else { return Ok(()) };
        self.note_name(&dir, &name)
    }

    /// Before the name goes to somebody else, or to nobody.
    pub(in crate::replica) fn before_name(&mut self, dir: &Dir, name: &CStr) -> Result<(), ApplyError> {
        if self.images.is_none() {
            return Ok(());
        }
        self.note_name(dir, name)?;
        self.commit_images()
    }

    /// Before anything but the content of a file changes.
    pub(in crate::replica) fn before_object(&mut self, file: FileId) -> Result<(), ApplyError> {
        if self.images.is_none() {
            return Ok(());
        }
        self.note_object(file)?;
        self.commit_images()
    }

    /// Before something in that range of a file changes, or the range goes.
    pub(in crate::replica) fn before_content(&mut self, file: FileId, offset: u64, len: u64) -> Result<(), ApplyError> {
        if self.images.is_none() {
            return Ok(());
        }
        self.note_content(file, offset, len)?;
        self.commit_images()
    }

    /// Before an object changes that the map may not know.
    pub(in crate::replica) fn before_object_at(&mut self, volume: usize, fd: BorrowedFd<'_>) -> Result<(), ApplyError> {
        let Some(images) = &mut self.images else { return Ok(()) };
        let local = file_id_of(&self.ground.volumes[volume].root, fd).map_err(Unsaved::Read);
        let saved = local.and_then(|local| images.object(&self.ground, local, None));
        saved.map_err(|unsaved| images.explain(unsaved))?;
        self.commit_images()
    }

    /// As [`Replica::before_object_at`], by its own file id.
    pub(in crate::replica) fn before_local(&mut self, local: FileId) -> Result<(), ApplyError> {
        let Some(images) = &mut self.images else { return Ok(()) };
        let saved = images.object(&self.ground, local, None);
        saved.map_err(|unsaved| images.explain(unsaved))?;
        self.commit_images()
    }

    /// The object was just made: of it nothing need be saved.
    pub(in crate::replica) fn note_new(&mut self, local: FileId) -> Result<(), ApplyError> {
        let Some(images) = &mut self.images else { return Ok(()) };
        if !images.known.new.insert(local) {
            return Ok(());
        }
        let noted = images.append(&Undo { kind: Kind::New, file: local, a: 0, b: 0, payload: &[] });
        // Without the note more is saved than need be.
        noted.or_else(|unsaved| if matches!(unsaved, Unsaved::Full) { Ok(()) } else { Err(images.explain(unsaved)) })
    }

    pub(in crate::replica) fn note_name(&mut self, dir: &Dir, name: &CStr) -> Result<(), ApplyError> {
        let Some(images) = &mut self.images else { return Ok(()) };
        let saved = images.name(&self.ground, dir, name);
        saved.map_err(|unsaved| images.explain(unsaved))
    }

    pub(in crate::replica) fn commit_images(&mut self) -> Result<(), ApplyError> {
        let Some(images) = &mut self.images else { return Ok(()) };
        let saved = images.commit();
        saved.map_err(|unsaved| images.explain(unsaved))
    }

    fn note_object(&mut self, file: FileId) -> Result<(), ApplyError> {
        let (Some(images), Some(slot)) = (&mut self.images, self.map.get(file)) else { return Ok(()) };
        let open = self.handles.get(file);
        let saved = images.object(&self.ground, slot.local, open.as_ref().map(|handle| handle.target()));
        saved.map_err(|unsaved| images.explain(unsaved))
    }

    fn note_content(&mut self, file: FileId, offset: u64, len: u64) -> Result<(), ApplyError> {
        let Some(handle) = self.handle(file)?.filter(|handle| !handle.path_only) else { return Ok(()) };
        let (Some(images), Some(slot)) = (&mut self.images, self.map.get(file)) else { return Ok(()) };
        let saved = images.content(&self.ground, slot.local, handle.target(), offset, len);
        saved.map_err(|unsaved| images.explain(unsaved))
    }
}

impl Images {
    /// Saves who has the name, once.
    fn name(&mut self, ground: &Ground, dir: &Dir, name: &CStr) -> Result<(), Unsaved> {
        let volume = &ground.volumes[dir.volume()];
        if Arc::ptr_eq(&dir.fd, &volume.holding) {
            // All that was held at the point is in the log.
            return Ok(());
        }
        let local = if dir.local.ino > 0 { dir.local } else { file_id_of(&volume.root, dir.fd())? };
        let key = (local, xxh3_128(name.to_bytes()));
        if self.known.new.contains(&local) || self.known.names.contains(&key) {
            return Ok(());
        }
        // What is kept was removed since: a replay may take it from there, and it was not there at the point.
        if dir.id.is_none() && file_id_at(&volume.root, volume.holding.as_fd(), KEPT_NAME)? == Some(local) {
            return Ok(());
        }
        let occupant = file_id_at(&volume.root, dir.fd(), name)?;
        self.object(ground, local, Some(Target { fd: dir.fd(), path_only: false }))?;
        if let Some(occupant) = occupant {
            // A directory's own times may change when it moves.
            self.object(ground, occupant, None)?;
        }
        self.append_name(local, occupant, name)?;
        self.known.names.insert(key);
        Ok(())
    }

    fn append_name(&mut self, dir: FileId, occupant: Option<FileId>, name: &CStr) -> Result<(), Unsaved> {
        let mut payload = occupant.unwrap_or(FileId::NONE).as_bytes().to_vec();
        payload.extend_from_slice(name.to_bytes());
        self.append(&Undo { kind: Kind::Name, file: dir, a: 0, b: 0, payload: &payload })
    }

    /// Saves all names in the holding directories.
    pub(super) fn save_held(&mut self, ground: &Ground) -> Result<(), Unsaved> {
        for (at, volume) in ground.volumes.iter().enumerate() {
            let holding = file_id_of(&volume.root, volume.holding.as_fd())?;
            let local = FileId { ino: 0, generation: 0, volume: at as u32 };
            let dir = Dir { id: None, local, fd: Arc::clone(&volume.holding) };
            for (name, _) in entries(&dir)?.into_iter().filter(|(name, _)| !is_apart(name)) {
                let occupant = file_id_at(&volume.root, dir.fd(), &name)?;
                self.append_name(holding, occupant, &name)?;
            }
        }
        Ok(())
    }

    /// Saves attributes and xattrs of an object, once.
    pub(super) fn object(&mut self, ground: &Ground, local: FileId, open: Option<Target<'_>>) -> Result<(), Unsaved> {
        if self.known.new.contains(&local) || self.known.objects.contains_key(&local) {
            return Ok(());
        }
        let opened;
        let target = match open {
            Some(target) => target,
            None => {
                let Some(found) = open_object(&ground.volumes[local.volume as usize].root, local)? else {
                    return Ok(());
                };
                opened = found;
                Target { fd: opened.0.as_fd(), path_only: opened.1 }
            }
        };
        let (attr, mut extras, _) = describe(target.fd, target.path_only)?;
        if let Ok(Some(id)) = xattr::get(target, ID_XATTR.as_bytes()) {
            extras.xattrs.push((ID_XATTR.into(), id));
        }
        let mut payload = attr.as_bytes().to_vec();
        extras.append_to(&mut payload);
        self.append(&Undo { kind: Kind::Object, file: local, a: 0, b: 0, payload: &payload })?;
        self.known.objects.insert(local, attr.size);
        Ok(())
    }

    /// Saves what the range held and was not saved yet.
    fn content(
        &mut self,
        ground: &Ground,
        local: FileId,
        target: Target<'_>,
        offset: u64,
        len: u64,
    ) -> Result<(), Unsaved> {
        self.object(ground, local, Some(target))?;
        let Some(&size) = self.known.objects.get(&local) else { return Ok(()) };
        let end = offset.saturating_add(len).min(size).next_multiple_of(BLOCK_BYTES).min(size);
        let from = offset - offset % BLOCK_BYTES;
        if from >= end {
            return Ok(());
        }
        let gaps = self.known.saved.get(&local).map_or_else(|| vec![(from, end)], |saved| saved.gaps(from, end));
        for (from, end) in gaps {
            self.range(local, target.fd, from, end)?;
        }
        Ok(())
    }

    fn range(&mut self, local: FileId, fd: BorrowedFd<'_>, from: u64, end: u64) -> Result<(), Unsaved> {
        let mut at = from;
        while at < end {
            let data = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
                Ok(data) => data.min(end),
                Err(Errno::NXIO) => end,
                Err(errno) => return Err(errno.into()),
            };
            let mut payload = Vec::new();
            let next = if data > at {
                data
            } else {
                let hole = rustix::fs::seek(fd, SeekFrom::Hole(at))?;
                let until = hole.min(end).min(at + PIECE_BYTES_MAX);
                payload.resize((until - at) as usize, 0);
                super::super::content::read_at(fd, &mut payload, at)?;
                until
            };
            let b = if payload.is_empty() { next - at } else { 0 };
            self.append(&Undo { kind: Kind::Data, file: local, a: at, b, payload: &payload })?;
            self.known.saved.entry(local).or_default().add(at, next);
            at = next;
        }
        Ok(())
    }
}

/// Attributes and extras of a record of an object; `None` where they are malformed.
pub(super) fn parse_object(payload: &[u8]) -> Option<(Attr, Extras)> {
    let (attr, rest) = Attr::read_from_prefix(payload).ok()?;
    Some((attr, Extras::parse(rest).ok()?))
}

/// Opens an object by its id, for its attributes: `true`, as a path only. `None` where it is gone.
pub(in crate::replica) fn open_object(root: &Root, local: FileId) -> Result<Option<(OwnedFd, bool)>, Errno> {
    let Some(path) = open_by_id(root, local, OFlags::PATH | OFlags::NOFOLLOW)? else { return Ok(None) };
    let flags = match rustix::fs::fstat(&path)?.st_mode & 0o170_000 {
        0o100_000 => crate::read::READ,
        0o040_000 => DIR,
        _ => return Ok(Some((path, true))),
    };
    Ok(open_by_id(root, local, flags)?.map(|fd| (fd, false)))
}
