//! The map from the source's file ids to the replica's files, in memory: about 80 bytes for each file.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;
use stead_model::{FileId, Time};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::map_file::Stored;

/// What is known about one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The source's file; none in a free slot.
    pub id: FileId,
    /// The replica's file; its volume is an index into the replica's volumes.
    pub local: FileId,
    /// Type bits of the mode, shifted right by 12; [`UNNAMED`].
    kind: u8,
    /// The scan that named it last.
    pub mark: u8,
    /// Are `ctime` and `size` proven equal?
    pub proven: bool,
    dirty: bool,
    ctime_nsec: u32,
    /// The source's state of sync in which something of it came last.
    pub generation: u32,
    ctime_sec: i64,
    size: u64,
}

const _: () = assert!(size_of::<Slot>() <= 64);

/// In [`Slot::kind`]: made without a name (O_TMPFILE), and never named since.
const UNNAMED: u8 = 0x80;

/// In [`Slot::ctime_sec`]: a time that no file has.
const VOID: i64 = i64::MIN;

impl Slot {
    pub(super) fn new(id: FileId, local: FileId, mode: u32) -> Slot {
        let kind = (mode >> 12) as u8;
        let (mark, proven, dirty, ctime_nsec, generation, ctime_sec, size) = (0, false, false, 0, 0, 0, 0);
        Slot { id, local, kind, mark, proven, dirty, ctime_nsec, generation, ctime_sec, size }
    }
    pub(super) fn is_dir(&self) -> bool {
        self.kind() == 0o04
    }
    /// Type bits of the mode, shifted right by 12.
    pub(super) fn kind(&self) -> u8 {
        self.kind & !UNNAMED
    }
    /// Made without a name, and never named since.
    pub(super) fn is_unnamed(&self) -> bool {
        self.kind & UNNAMED != 0
    }
    /// The source's ctime and size when it was last known equal.
    pub(super) fn proof(&self) -> Option<(Time, u64)> {
        self.proven.then_some((Time { sec: self.ctime_sec, nsec: self.ctime_nsec }, self.size))
    }
}

/// All slots, found by either file id.
#[derive(Debug, Default)]
pub(super) struct FileMap {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: HashTable<u32>,
    by_local: HashTable<u32>,
    dirty: Vec<u32>,
    removed: Vec<FileId>,
    /// Generation of what changes now.
    pub generation: u32,
}

impl FileMap {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: FileId) -> Option<&Slot> {
        self.index(id).map(|at| &self.slots[at as usize])
    }

    pub(super) fn id_of(&self, local: FileId) -> Option<FileId> {
        let at = self.by_local.find(hash(local), |at| self.slots[*at as usize].local == local)?;
        Some(self.slots[*at as usize].id)
    }

    /// Inserts or replaces the slot of its id. Another id that stood for the same local file is forgotten.
    pub(super) fn insert(&mut self, slot: Slot) {
        self.insert_stored(Slot { generation: self.generation, ..slot });
    }

    fn insert_stored(&mut self, slot: Slot) {
        if let Some(other) = self.id_of(slot.local).filter(|other| *other != slot.id) {
            self.remove(other);
        }
        if let Some(at) = self.index(slot.id) {
            self.unlink_local(at);
            self.slots[at as usize] = slot;
            self.link_local(at);
            self.note(at);
            return;
        }
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.by_id.insert_unique(hash(slot.id), at, |at| hash(slots[*at as usize].id));
        self.link_local(at);
        self.note(at);
    }

    pub(super) fn remove(&mut self, id: FileId) {
        let slots = &self.slots;
        let Ok(found) = self.by_id.find_entry(hash(id), |at| slots[*at as usize].id == id) else { return };
        let (at, _) = found.remove();
        self.unlink_local(at);
        let slot = &mut self.slots[at as usize];
        let dirty = slot.dirty;
        *slot = Slot { dirty, ..Slot::new(FileId::NONE, FileId::NONE, 0) };
        self.removed.push(id);
        self.free.push(at);
    }

    pub(super) fn prove(&mut self, id: FileId, ctime: Time, size: u64) {
        let Some(at) = self.index(id) else { return };
        let slot = &mut self.slots[at as usize];
        let same = slot.proof() == Some((ctime, size)) && slot.generation == self.generation;
        (slot.proven, slot.ctime_sec, slot.ctime_nsec, slot.size) = (true, ctime.sec, ctime.nsec, size);
        slot.generation = self.generation;
        if !same {
            self.note(at);
        }
    }

    pub(super) fn disprove(&mut self, id: FileId) {
        let Some(at) = self.index(id).filter(|at| self.slots[*at as usize].proven) else { return };
        self.slots[at as usize].proven = false;
        self.note(at);
    }

    /// Its content is no more what its proof says; a change once nothing is in doubt may prove it again.
    pub(super) fn void(&mut self, id: FileId) {
        self.touch(id);
        let Some(at) = self.index(id).filter(|at| self.slots[*at as usize].proven) else { return };
        let slot = &mut self.slots[at as usize];
        if std::mem::replace(&mut slot.ctime_sec, VOID) != VOID {
            self.note(at);
        }
    }

    /// Something of the file came in the generation of now.
    pub(super) fn touch(&mut self, id: FileId) {
        let Some(at) = self.index(id).filter(|at| self.slots[*at as usize].generation != self.generation) else {
            return;
        };
        self.slots[at as usize].generation = self.generation;
        self.note(at);
    }

    /// Nothing that came in that generation or a later one is proven any more; returns how many files that are.
    pub(super) fn disprove_since(&mut self, generation: u32) -> u64 {
        let mut count = 0;
        for at in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[at as usize];
            if slot.id.is_none() || slot.generation < generation {
                continue;
            }
            count += 1;
            if std::mem::take(&mut slot.proven) {
                self.note(at);
            }
        }
        count
    }

    pub(super) fn set_unnamed(&mut self, id: FileId, unnamed: bool) {
        let Some(at) = self.index(id).filter(|at| self.slots[*at as usize].is_unnamed() != unnamed) else { return };
        self.slots[at as usize].kind ^= UNNAMED;
        self.note(at);
    }

    pub(super) fn mark(&mut self, id: FileId, mark: u8) {
        if let Some(at) = self.index(id) {
            self.slots[at as usize].mark = mark;
        }
    }

    pub(super) fn unmark_all(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.mark = 0);
    }

    /// What changed since the last call, as it is stored.
    pub(super) fn take_changes(&mut self, out: &mut Vec<Stored>) {
        // Removals first: an id that was removed and came back is among the dirty.
        out.extend(self.removed.drain(..).map(Stored::removed));
        for at in self.dirty.drain(..) {
            let slot = &mut self.slots[at as usize];
            if std::mem::take(&mut slot.dirty) && !slot.id.is_none() {
                out.push(stored(slot));
            }
        }
    }

    /// Everything, as it is stored; nothing counts as changed afterwards.
    pub(super) fn take_all(&mut self, out: &mut Vec<Stored>) {
        self.removed.clear();
        self.dirty.clear();
        self.slots.iter_mut().for_each(|slot| slot.dirty = false);
        out.extend(self.slots.iter().filter(|slot| !slot.id.is_none()).map(stored));
    }

    /// Takes over what was stored, without counting it as changed.
    pub(super) fn load(&mut self, stored: &Stored) {
        if stored.is_removed() {
            self.remove(stored.id);
        } else {
            self.insert_stored(Slot {
                generation: stored.generation,
                proven: stored.is_proven(),
                ctime_sec: stored.ctime_sec,
                ctime_nsec: stored.ctime_nsec,
                size: stored.size,
                kind: stored.kind,
                ..Slot::new(stored.id, stored.local, 0)
            });
        }
        if self.dirty.len() + self.removed.len() > 1 << 16 {
            self.forget_changes();
        }
    }

    pub(super) fn forget_changes(&mut self) {
        self.removed.clear();
        for at in self.dirty.drain(..) {
            self.slots[at as usize].dirty = false;
        }
    }

    pub(super) fn clear(&mut self) {
        *self = FileMap { generation: self.generation, ..FileMap::default() };
    }

    fn index(&self, id: FileId) -> Option<u32> {
        self.by_id.find(hash(id), |at| self.slots[*at as usize].id == id).copied()
    }

    fn note(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(at);
        }
    }

    fn link_local(&mut self, at: u32) {
        let slots = &self.slots;
        self.by_local.insert_unique(hash(slots[at as usize].local), at, |at| hash(slots[*at as usize].local));
    }

    fn unlink_local(&mut self, at: u32) {
        if let Ok(found) = self.by_local.find_entry(hash(self.slots[at as usize].local), |other| *other == at) {
            found.remove();
        }
    }
}

fn stored(slot: &Slot) -> Stored {
    let Slot { id, local, kind, proven, ctime_sec, ctime_nsec, generation, size, .. } = *slot;
    let mut stored = Stored::new(id, local, kind, proven, ctime_sec, ctime_nsec, size);
    stored.generation = generation;
    stored
}

fn hash(id: FileId) -> u64 {
    let mut hasher = Xxh3DefaultBuilder.build_hasher();
    hasher.write(zerocopy::IntoBytes::as_bytes(&id));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ino: u64) -> FileId {
        FileId { ino, generation: 1, volume: 0 }
    }

    #[test]
    fn a_file_is_found_both_ways_and_forgotten_both_ways() {
        let mut map = FileMap::default();
        for ino in 1..1000 {
            map.insert(Slot::new(id(ino), id(ino + 5000), 0o100_644));
        }
        assert_eq!(map.id_of(id(5500)), Some(id(500)));
        map.remove(id(500));
        assert_eq!(map.id_of(id(5500)), None);
        assert!(map.get(id(500)).is_none());
        map.insert(Slot::new(id(500), id(7), 0o100_644));
        assert_eq!(map.id_of(id(7)), Some(id(500)));
        assert_eq!(map.len(), 999);
    }

    #[test]
    fn only_changes_are_taken_and_removal_before_return() {
        let mut map = FileMap::default();
        map.insert(Slot::new(id(1), id(11), 0o100_644));
        map.insert(Slot::new(id(2), id(12), 0o100_644));
        let mut out = Vec::new();
        map.take_changes(&mut out);
        assert_eq!(out.len(), 2);
        out.clear();
        map.prove(id(1), Time { sec: 5, nsec: 6 }, 7);
        map.prove(id(1), Time { sec: 5, nsec: 6 }, 7);
        map.remove(id(2));
        map.insert(Slot::new(id(2), id(13), 0o040_755));
        map.take_changes(&mut out);
        let mut copy = FileMap::default();
        out.iter().for_each(|stored| copy.load(stored));
        assert_eq!(out.len(), 3);
        assert_eq!(copy.get(id(1)).and_then(Slot::proof), Some((Time { sec: 5, nsec: 6 }, 7)));
        assert!(copy.get(id(2)).is_some_and(|slot| slot.local == id(13) && slot.is_dir()));
    }
}
