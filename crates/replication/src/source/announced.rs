//! Which files a target has been told of.

use std::collections::HashSet;

use stead_model::FileId;

/// A compact set of file ids: 17 bytes for each slot of the table, one table for each volume.
///
/// Two generations of one inode may be in it at a time: a scan may come by the new one before the removal of the old one
/// has its turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced {
    volumes: Vec<HashSet<(u64, u32)>>,
}

impl Announced {
    pub(super) fn has(&self, file: FileId) -> bool {
        let volume = self.volumes.get(file.volume as usize);
        volume.is_some_and(|volume| volume.contains(&(file.ino, file.generation)))
    }

    /// Says whether it is new.
    pub(super) fn insert(&mut self, file: FileId) -> bool {
        let index = file.volume as usize;
        if index >= self.volumes.len() {
            self.volumes.resize_with(index + 1, HashSet::new);
        }
        self.volumes[index].insert((file.ino, file.generation))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = FileId> {
        let of_volume = |(index, volume): (usize, &HashSet<(u64, u32)>)| {
            let file = move |(ino, generation): &(u64, u32)| FileId {
                ino: *ino,
                generation: *generation,
                volume: index as u32,
            };
            volume.iter().map(file).collect::<Vec<_>>()
        };
        self.volumes.iter().enumerate().flat_map(of_volume)
    }

    /// Says whether it was there.
    pub(super) fn remove(&mut self, file: FileId) -> bool {
        let volume = self.volumes.get_mut(file.volume as usize);
        volume.is_some_and(|volume| volume.remove(&(file.ino, file.generation)))
    }
}
