//! Which files a target has been told of.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use stead_model::FileId;

/// A compact set of file ids: 17 bytes for each slot of the table, one table for each volume.
///
/// Two generations of one inode may be in it at a time: a scan may come by the new one before the removal of the old one
/// has its turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced {
    volumes: Vec<Volume>,
}

type Volume = HashSet<(u64, u32), BuildHasherDefault<Mix>>;

/// Mixes inode and generation: a million of them are looked up and recalled several times as fast as with the usual hash.
#[derive(Clone, Copy, Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
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
            self.volumes.resize_with(index + 1, Volume::default);
        }
        self.volumes[index].insert((file.ino, file.generation))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = FileId> {
        let of_volume = |(index, volume): (usize, &Volume)| {
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
