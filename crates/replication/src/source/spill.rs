//! The part of the queue that is on disk: a target that is away or slow keeps its place in the stream beyond what memory
//! holds. What a batch touched stays in memory, so that a target can go behind whatever becomes of the disk.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use stead_model::Sequence;

use super::connection::bit;
use super::{Source, SourceOutput, TargetId};

/// Bodies on their way to the disk.
const WRITING_MAX: usize = 16;
/// Batches that are kept in memory or fetched for one target.
const NEAR_MAX: usize = 32;
/// How long capture waits for a disk that does not make room in memory; its ring bears as much.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so long a body that was asked for counts as one that cannot be read.
const FETCH_MAX: Duration = Duration::from_secs(20);
/// After a failure the disk is tried again so often.
const RETRY: Duration = Duration::from_secs(1);
/// Notes about batches may always take up so much.
const NOTES_BYTES_MIN: usize = 64 << 10;

/// How it stands with the disk.
#[derive(Debug, Default)]
pub(super) struct Spilling {
    /// Since when memory is full.
    full: Option<Instant>,
    /// Why the last write failed, and when the next is tried.
    failed: Option<(String, Instant)>,
}

impl Source {
    /// Writes what is needed last, fetches what is needed next.
    pub(super) fn turn_disk(&mut self) {
        self.note_full();
        let wanted = self.config.settings.queue_disk_bytes_max > 0 && self.is_half_full();
        if self.queue.disk.bytes == 0 && self.queue.writing().0 == 0 && !wanted {
            return;
        }
        let near = self.near();
        for first in &near {
            if self.queue.begin_fetch(*first, self.now) {
                self.outputs.push_back(SourceOutput::Fetch { first: *first });
            }
        }
        self.queue.unload(&near);
        self.spill(&near);
    }

    pub(super) fn spilled(&mut self, first: Sequence, result: Result<(), String>) {
        self.queue.spilled(first, result.is_ok());
        self.spilling.failed = result.err().map(|why| (why, self.now + RETRY));
    }

    /// Who needs a body that cannot be read goes behind.
    pub(super) fn leave_lost(&mut self) {
        if let Some(asked) = self.now.checked_sub(FETCH_MAX) {
            self.queue.lose_asked_until(asked);
        }
        let lost: Vec<(Sequence, String)> = self.queue.disk.lost.clone().into_iter().collect();
        for (first, why) in lost {
            let Some(batch) = self.queue.batch(first) else { continue };
            let (last, for_whom) = (batch.last, batch.targets);
            let needs = |(id, c): &(&TargetId, &super::Connection)| {
                c.following && c.behind.is_none() && for_whom & bit(**id) != 0 && c.kept_after() < last
            };
            let needing: Vec<TargetId> = self.connections.iter().filter(needs).map(|(id, _)| *id).collect();
            for target in needing {
                self.go_behind(target, why.clone());
                self.put_off(target);
            }
        }
    }

    pub(super) fn forget_spilled(&mut self) {
        let firsts = std::mem::take(&mut self.queue.disk.forgotten);
        if !firsts.is_empty() {
            self.outputs.push_back(SourceOutput::ForgetSpilled { firsts });
        }
    }

    /// Why somebody has to go behind.
    pub(super) fn is_full(&self) -> Option<String> {
        let settings = &self.config.settings;
        let uses_disk = self.queue.disk.bytes > 0 || settings.queue_disk_bytes_max > 0;
        if self.queue.disk.bytes > settings.queue_disk_bytes_max {
            return Some("the queue is full".into());
        }
        if uses_disk && self.queue.disk.notes > (settings.queue_bytes_max / 2).max(NOTES_BYTES_MIN) {
            return Some("the queue is full: it holds too many small changes".into());
        }
        if self.queue.bytes() < settings.queue_bytes_max || self.waits_for_disk() {
            return None;
        }
        Some(match &self.spilling.failed {
            Some((why, _)) => why.clone(),
            None if self.queue.writing().0 > 0 => "the queue's disk is too slow".into(),
            None => "the queue is full".into(),
        })
    }

    /// Memory is full, but the disk is taking what is in it.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.queue.bytes() >= self.config.settings.queue_bytes_max
            && self.queue.writing().0 > 0
            && !self.has_just_failed()
            && self.spilling.full.is_none_or(|since| self.now < since + PATIENCE)
    }

    /// Can the queue take what comes while a target catches up?
    pub(super) fn has_room_to_catch_up(&self) -> bool {
        let settings = &self.config.settings;
        let disk = self.spilling.failed.is_none() && self.queue.disk.bytes < settings.queue_disk_bytes_max / 2;
        let memory = if disk { settings.queue_bytes_max / 4 * 3 } else { settings.queue_bytes_max / 2 };
        self.queue.bytes() < memory
    }

    /// When the disk is to be tried again, or given up.
    pub(super) fn disk_due(&self) -> Option<Instant> {
        let retry = self.spilling.failed.as_ref().map(|(_, at)| *at).filter(|_| self.is_half_full());
        let patience = self.spilling.full.map(|since| since + PATIENCE).filter(|_| self.waits_for_disk());
        let fetch = self.queue.asked_first().map(|asked| asked + FETCH_MAX);
        retry.into_iter().chain(patience).chain(fetch).filter(|at| *at > self.now).min()
    }

    /// A disk that makes room by the drop is not fast enough: memory has to come down by an eighth.
    fn note_full(&mut self) {
        let (bytes, max) = (self.queue.bytes(), self.config.settings.queue_bytes_max);
        if bytes >= max {
            self.spilling.full.get_or_insert(self.now);
        } else if bytes < max / 8 * 7 {
            self.spilling.full = None;
        }
    }

    /// The youngest goes first: it is needed last, and the disk gets it in the order in which it is read again.
    fn spill(&mut self, near: &BTreeSet<Sequence>) {
        if self.has_just_failed() {
            return;
        }
        while self.must_spill() {
            let room = self.room_on_disk();
            let fits = |batch: &&super::queue::Batch| batch.body_len as u64 <= room;
            let Some(first) = self.queue.to_spill(near).filter(fits).map(|batch| batch.first) else { return };
            let Some(body) = self.queue.begin_spill(first) else { return };
            self.outputs.push_back(SourceOutput::Spill { first, body });
        }
    }

    fn must_spill(&self) -> bool {
        let (writing, bytes) = self.queue.writing();
        // After a failure one body shows whether there is room again.
        let writing_max = if self.spilling.failed.is_some() { 1 } else { WRITING_MAX };
        writing < writing_max && self.queue.bytes().saturating_sub(bytes) > self.config.settings.queue_bytes_max / 2
    }

    /// It is not tried yet whether the disk takes something again.
    fn has_just_failed(&self) -> bool {
        self.spilling.failed.as_ref().is_some_and(|(_, at)| self.now < *at)
    }

    fn room_on_disk(&self) -> u64 {
        self.config.settings.queue_disk_bytes_max.saturating_sub(self.queue.disk.bytes)
    }

    fn is_half_full(&self) -> bool {
        self.queue.bytes() > self.config.settings.queue_bytes_max / 2
    }

    /// What the connected targets are sent next: a share of memory for each, but always one batch.
    fn near(&self) -> BTreeSet<Sequence> {
        let up = self.up();
        let share = self.config.settings.queue_bytes_max / 4 / (up.count_ones() as usize).max(1);
        let mut near = BTreeSet::new();
        for (target, connection) in self.connections.iter().filter(|(id, _)| up & bit(**id) != 0) {
            let (mut sent, mut bytes) = (connection.sent, 0);
            for _ in 0..NEAR_MAX {
                let Some(batch) = self.queue.next_for(bit(*target), sent, connection.skip_until) else { break };
                let is_for_it = batch.targets & bit(*target) != 0;
                bytes += if is_for_it { batch.body_len } else { 0 };
                if is_for_it {
                    near.insert(batch.first);
                }
                if bytes >= share {
                    break;
                }
                sent = batch.last;
            }
        }
        near
    }
}

#[cfg(test)]
#[path = "spill_tests.rs"]
mod tests;
