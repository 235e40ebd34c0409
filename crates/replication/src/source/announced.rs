//! Which files a target has been told of.

use std::collections::HashMap;

use stead_model::FileId;

/// A compact set of file ids: 17 bytes for each slot of the table, one table for each volume.
#[derive(Debug, Default)]
pub(super) struct Announced {
    volumes: Vec<HashMap<u64, u32>>,
}

impl Announced {
    pub(super) fn has(&self, file: FileId) -> bool {
        let volume = self.volumes.get(file.volume as usize);
        volume.is_some_and(|volume| volume.get(&file.ino) == Some(&file.generation))
    }

    /// An inode has one generation at a time: a new one takes the place of the old one.
    pub(super) fn insert(&mut self, file: FileId) {
        let index = file.volume as usize;
        if index >= self.volumes.len() {
            self.volumes.resize_with(index + 1, HashMap::new);
        }
        self.volumes[index].insert(file.ino, file.generation);
    }

    pub(super) fn remove(&mut self, file: FileId) {
        if self.has(file) {
            self.volumes[file.volume as usize].remove(&file.ino);
        }
    }
}
