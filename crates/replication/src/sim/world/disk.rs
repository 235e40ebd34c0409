//! The queue's disk: takes its time, is full at times, fails, and brings something else than what was written.

use std::collections::BTreeMap;

use super::{Event, World};
use crate::frame::CAPTURED_BYTES;
use crate::source::SourceInput;

/// What is on it, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct QueueDisk {
    bodies: BTreeMap<u64, Vec<u8>>,
    /// One in so many writes and reads fails; 0: none.
    fails: u64,
    /// One in so many reads brings a byte that was not written; 0: none.
    damages: u64,
}

impl QueueDisk {
    pub(super) fn new(seed: u64) -> QueueDisk {
        let fails = if seed % 3 == 1 { 6 } else { 0 };
        let damages = if seed % 2 == 1 { 5 } else { 0 };
        QueueDisk { bodies: BTreeMap::new(), fails, damages }
    }

    pub(super) fn forget(&mut self, firsts: &[u64]) {
        firsts.iter().for_each(|first| drop(self.bodies.remove(first)));
    }

    pub(super) fn clear(&mut self) {
        self.bodies.clear();
    }
}

impl World {
    pub(super) fn spill(&mut self, first: u64, body: Vec<u8>) {
        self.disk.bodies.insert(first, body);
        let delay = self.rng.below(2_000);
        self.after(delay, Event::Spilled(self.incarnation, first));
    }

    pub(super) fn fetch(&mut self, first: u64) {
        let delay = self.rng.below(2_000);
        self.after(delay, Event::Fetched(self.incarnation, first));
    }

    pub(super) fn spilled(&mut self, incarnation: u64, first: u64) {
        if self.incarnation != incarnation {
            return;
        }
        let result = if self.disk_fails() {
            self.disk.bodies.remove(&first);
            Err("the queue's disk is full".into())
        } else {
            Ok(())
        };
        self.input(SourceInput::Spilled { first, result });
    }

    pub(super) fn fetched(&mut self, incarnation: u64, first: u64) {
        if self.incarnation != incarnation {
            return;
        }
        let damaged = self.disk.damages > 0 && self.rng.one_in(self.disk.damages);
        self.report.disk_faults += u64::from(damaged);
        let mut body = self.disk.bodies.get(&first).cloned();
        // In the last word of the last record, which is data where it has any.
        let word = body.as_mut().filter(|_| damaged).and_then(|body| body.iter_mut().rev().nth(CAPTURED_BYTES + 7));
        word.into_iter().for_each(|byte| *byte ^= 1);
        let failed = self.disk_fails();
        let result = body.filter(|_| !failed).ok_or_else(|| "the queue's disk fails".to_owned());
        self.report.fetched += u64::from(result.is_ok());
        self.input(SourceInput::Fetched { first, result });
    }

    fn disk_fails(&mut self) -> bool {
        let fails = self.disk.fails > 0 && self.rng.one_in(self.disk.fails);
        self.report.disk_faults += u64::from(fails);
        fails
    }
}
