//! Which entry of the node table a file has.

use std::sync::atomic::Ordering::{Relaxed, Release};

use stead_model::FileId;

use super::{Counter, NODES_MAX, Nodes, hash};

/// Finds entries by file: open addressing over indexes, so four bytes for each place.
#[derive(Default)]
pub(super) struct Index {
    pub(super) places: Vec<u32>,
    pub(super) count: usize,
    pub(super) free: Vec<u32>,
    pub(super) next: u32,
}

impl Index {
    pub(super) fn find(&self, nodes: &Nodes, root: u32, file: FileId) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mask = self.places.len() - 1;
        let mut place = hash(root, file.ino, file.generation) as usize & mask;
        loop {
            let at = self.places[place];
            if at == 0 {
                return None;
            }
            let node = nodes.node(at);
            if node.ino.load(Relaxed) == file.ino
                && node.generation.load(Relaxed) == file.generation
                && node.root.load(Relaxed) == root
            {
                return Some(at);
            }
            place = (place + 1) & mask;
        }
    }

    pub(super) fn allocate(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let at = self.next;
            ((at as usize) < NODES_MAX).then(|| {
                self.next += 1;
                at
            })
        })
    }

    /// Makes room for so many entries, while there are none.
    pub(super) fn reserve(&mut self, count: usize) {
        self.places = vec![0; (count.min(NODES_MAX) * 3 / 2).next_power_of_two().max(1024)];
    }

    pub(super) fn insert(&mut self, nodes: &Nodes, at: u32) {
        if (self.count + 1) * 4 > self.places.len() * 3 {
            let bigger = (self.places.len() * 2).max(1024);
            let old = std::mem::replace(&mut self.places, vec![0; bigger]);
            old.into_iter().filter(|at| *at != 0).for_each(|at| self.put(nodes, at));
        }
        self.put(nodes, at);
        self.count += 1;
        nodes.high_water().store(self.next, Release);
        nodes.memory.atomics::<Counter>(8).0.store(self.count as u64, Relaxed);
    }

    fn put(&mut self, nodes: &Nodes, at: u32) {
        let mask = self.places.len() - 1;
        let mut place = nodes.hash(at) as usize & mask;
        while self.places[place] != 0 {
            place = (place + 1) & mask;
        }
        self.places[place] = at;
    }

    pub(super) fn remove(&mut self, nodes: &Nodes, at: u32) {
        let mask = self.places.len() - 1;
        let mut place = nodes.hash(at) as usize & mask;
        while self.places[place] != at {
            if self.places[place] == 0 {
                return;
            }
            place = (place + 1) & mask;
        }
        self.count -= 1;
        nodes.memory.atomics::<Counter>(8).0.store(self.count as u64, Relaxed);
        // Close the gap, so that every chain stays whole.
        let mut next = (place + 1) & mask;
        while self.places[next] != 0 {
            let home = nodes.hash(self.places[next]) as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(place) & mask) {
                self.places[place] = self.places[next];
                place = next;
            }
            next = (next + 1) & mask;
        }
        self.places[place] = 0;
    }
}
