//! The dirty map: which files changed while the ring had no room; in the same form, the unconfirmed map. Bounded, in shared memory, touched only by the
//! holder of the ring's lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stead_model::FileId;

use crate::sys::{Atomics, Shared};

/// Places in the table.
const PLACES: usize = 1 << 16;
/// Files that it holds at most; beyond that the whole set counts as dirty.
pub const FILES_MAX: u64 = 48 << 10;
/// Bytes of shared memory that the map takes.
pub const BYTES: usize = size_of::<Table>();

#[repr(C)]
struct Place {
    ino: AtomicU64,
    /// Generation, volume in the upper half.
    rest: AtomicU64,
}

impl Place {
    fn file(&self) -> FileId {
        let (ino, rest) = (self.ino.load(Relaxed), self.rest.load(Relaxed));
        FileId { ino, generation: rest as u32, volume: (rest >> 32) as u32 }
    }
}

#[repr(C)]
struct Table {
    files: AtomicU64,
    /// 1 where the whole set is dirty.
    whole: AtomicU64,
    /// Where the search for the next file to name goes on.
    cursor: AtomicU64,
    places: [Place; PLACES],
}

// SAFETY: atomics and arrays of structs of atomics.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Table {}

/// A view of the map in shared memory; the caller holds the ring's lock.
pub struct DirtyMap<'a>(&'a Table);

impl<'a> DirtyMap<'a> {
    /// The map at `offset` of the memory.
    pub fn at(memory: &'a Shared, offset: usize) -> Self {
        DirtyMap(memory.atomics(offset))
    }

    /// Remembers a file; beyond the bound the map forgets all files and means the whole set.
    pub fn insert(&self, file: FileId) {
        if self.is_whole() {
            return;
        }
        let rest = u64::from(file.generation) | u64::from(file.volume) << 32;
        let mut at = spread(file.ino ^ rest.rotate_left(32));
        for _ in 0..PLACES {
            let place = &self.0.places[at % PLACES];
            match place.ino.load(Relaxed) {
                0 if self.0.files.load(Relaxed) >= FILES_MAX => break,
                0 => {
                    // Counted first: who dies here leaves a file too many, which `recount` mends.
                    self.0.files.fetch_add(1, Relaxed);
                    place.rest.store(rest, Relaxed);
                    place.ino.store(file.ino, Relaxed);
                    return;
                }
                ino if ino == file.ino && place.rest.load(Relaxed) == rest => return,
                _ => at += 1,
            }
        }
        self.insert_whole();
    }

    /// Remembers that everything changed.
    pub fn insert_whole(&self) {
        self.0.whole.store(1, Relaxed);
    }

    /// All files, in no order.
    pub fn files(&self) -> impl Iterator<Item = FileId> {
        let wanted = if self.0.files.load(Relaxed) == 0 { 0 } else { PLACES };
        let places = self.0.places[..wanted].iter();
        places.filter(|place| place.ino.load(Relaxed) != 0).map(Place::file)
    }

    /// One of the files, with its place; `FileId::NONE` means the whole set. It stays until [`DirtyMap::remove`], so
    /// that nothing is forgotten by who dies in between.
    pub fn peek(&self) -> Option<(FileId, usize)> {
        if self.is_whole() {
            return Some((FileId::NONE, 0));
        }
        if self.0.files.load(Relaxed) == 0 {
            return None;
        }
        let start = self.0.cursor.load(Relaxed) as usize;
        let at = (start..start + PLACES).map(|at| at % PLACES).find(|at| self.0.places[*at].ino.load(Relaxed) != 0)?;
        Some((self.0.places[at].file(), at))
    }

    /// Removes what [`DirtyMap::peek`] returned: a file, or all of them.
    pub fn remove(&self, file: FileId, at: usize) {
        if file.is_none() {
            // Not untouched pages: clearing would make them present.
            for place in self.0.places.iter().filter(|place| place.ino.load(Relaxed) != 0) {
                place.ino.store(0, Relaxed);
            }
            self.0.files.store(0, Relaxed);
            self.0.whole.store(0, Relaxed);
        } else if self.0.places[at].ino.swap(0, Relaxed) != 0 {
            self.0.cursor.store(at as u64 + 1, Relaxed);
            self.0.files.fetch_sub(1, Relaxed);
        }
    }

    /// Counts anew: who died while it changed the map may have left one too many.
    pub fn recount(&self) {
        let count = self.files().count();
        self.0.files.store(count as u64, Relaxed);
    }

    /// How many [`DirtyMap::peek`] and [`DirtyMap::remove`] will yield.
    pub fn pending(&self) -> u64 {
        if self.is_whole() { 1 } else { self.0.files.load(Relaxed) }
    }

    /// Does it mean everything?
    pub fn is_whole(&self) -> bool {
        self.0.whole.load(Relaxed) != 0
    }
}

fn spread(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::sys::shared_memory;

    fn take(map: &DirtyMap<'_>) -> Option<FileId> {
        let (file, at) = map.peek()?;
        map.remove(file, at);
        Some(file)
    }

    fn memory() -> Shared {
        let memory = shared_memory(c"test", BYTES.next_multiple_of(4096)).unwrap();
        Shared::map(memory.as_raw_fd(), 0, BYTES.next_multiple_of(4096)).unwrap()
    }

    fn file(n: u64) -> FileId {
        FileId { ino: n, generation: n as u32 * 7, volume: (n % 3) as u32 }
    }

    #[test]
    fn what_was_put_in_comes_out_once() {
        let memory = memory();
        let map = DirtyMap::at(&memory, 0);
        let mut wanted = BTreeSet::new();
        for n in 1..=5000 {
            map.insert(file(n % 1000 + 1));
            wanted.insert(file(n % 1000 + 1));
        }
        assert_eq!(map.pending(), 1000);
        let got: Vec<_> = std::iter::from_fn(|| take(&map)).collect();
        assert_eq!(got.len(), 1000);
        assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), wanted);
    }

    #[test]
    fn beyond_the_bound_it_means_the_whole_set() {
        let memory = memory();
        let map = DirtyMap::at(&memory, 0);
        for n in 1..=FILES_MAX + 1 {
            map.insert(file(n));
        }
        assert_eq!(map.pending(), 1);
        assert_eq!(take(&map), Some(FileId::NONE));
        assert_eq!(take(&map), None);
        map.insert(file(9));
        assert_eq!(take(&map), Some(file(9)));
    }

    #[test]
    fn files_taken_and_put_in_again_are_never_forgotten() {
        let memory = memory();
        let map = DirtyMap::at(&memory, 0);
        for round in 0..200 {
            for n in 1..=500 {
                map.insert(file(round * 100 + n));
            }
            for _ in 0..100 {
                assert!(take(&map).is_some());
            }
            map.insert(file(round * 100 + 77));
        }
        let rest: BTreeSet<_> = std::iter::from_fn(|| take(&map)).collect();
        assert!(rest.contains(&file(199 * 100 + 77)));
        assert_eq!(map.pending(), 0);
    }
}
