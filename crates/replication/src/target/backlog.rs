//! Batches that were received and are not applied.

use std::collections::VecDeque;
use std::sync::Arc;

use stead_model::record::{Purpose, records};
use stead_model::{Kind, Sequence};

use super::runs::{At, Run};
use crate::frame::Changes;

/// How far a batch is on its way into the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durable {
    No,
    Writing,
    Yes,
}

/// A batch.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    /// Where its last record is.
    pub(super) at: At,
    pub(super) records: Arc<[u8]>,
    pub(super) consistent: Option<u64>,
    pub(super) unjournaled: bool,
    /// Every change up to this number of capture is contained, where that is said.
    pub(super) captured: Option<u64>,
    /// What it says of scans and losses.
    pub(super) signs: Signs,
    /// It may repeat what was received in the stream before.
    pub(super) repeats: bool,
    /// It is the last one that may.
    pub(super) ends_repeats: bool,
    frame: Option<Arc<[u8]>>,
    durable: Durable,
    applying: bool,
}

/// What the target half has to know of the records of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signs {
    /// The last scan other than a comparison that begins in it.
    pub(super) begins: Option<Sequence>,
    /// The last one that ends in it, and whether it was of the whole set.
    pub(super) ends: Option<(Sequence, bool)>,
    /// Changes were lost.
    pub(super) lost: bool,
}

impl Signs {
    fn of(bytes: &[u8]) -> Signs {
        let mut signs = Signs::default();
        for record in records(bytes).flatten() {
            let mirrors = record.c == Purpose::Mirror as u32 || record.c == Purpose::Difference as u32;
            match record.kind {
                Kind::ScanBegin if mirrors => signs.begins = Some(record.sequence),
                Kind::ScanEnd if mirrors => signs.ends = Some((record.sequence, record.file.is_none())),
                Kind::Lost => signs.lost = true,
                _ => {}
            }
        }
        signs
    }
}

impl Item {
    pub(super) fn new(changes: Changes, records: Vec<u8>, run: &Run, journaled: bool) -> Item {
        let header = changes.header;
        Item {
            first: header.first,
            last: header.last,
            at: run.at(header.last),
            signs: Signs::of(&records),
            records: records.into(),
            consistent: header.is_consistent().then_some(header.time),
            unjournaled: header.is_unjournaled(),
            captured: changes.captured(),
            repeats: false,
            ends_repeats: false,
            frame: (!journaled).then_some(changes.frame),
            durable: if journaled { Durable::Yes } else { Durable::No },
            applying: false,
        }
    }

    /// Where the record with that sequence is.
    pub(super) fn at_of(&self, sequence: Sequence) -> At {
        self.at - (self.last - sequence)
    }

    fn is_for_journal(&self) -> bool {
        self.durable == Durable::No && !self.unjournaled
    }

    fn bytes(&self) -> usize {
        self.records.len() + self.frame.as_ref().map_or(0, |frame| frame.len())
    }

    fn may_be_applied(&self) -> bool {
        self.unjournaled || self.durable == Durable::Yes
    }
}

/// All of them, in order: being applied first, then durable, then being written, then new.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn first(&self) -> Option<&Item> {
        self.items.front()
    }

    /// Forgets what lies after that place.
    pub(super) fn cut_after(&mut self, at: At) {
        while let Some(item) = self.items.pop_back_if(|item| item.at > at) {
            self.bytes -= item.bytes();
        }
    }

    /// Is there something for the journal that it was not handed yet?
    pub(super) fn has_for_journal(&self) -> bool {
        self.items.iter().any(Item::is_for_journal)
    }

    /// Frames for the journal, at least one if there is one, and the last sequence of the last. All are of one run.
    pub(super) fn take_for_journal(&mut self, bytes_max: usize) -> (Vec<Arc<[u8]>>, Sequence) {
        let (mut frames, mut bytes, mut last) = (Vec::new(), 0, 0);
        for item in self.items.iter_mut().filter(|item| item.is_for_journal()) {
            let frame = item.frame.clone().expect("what is not durable has its frame");
            if !frames.is_empty() && bytes + frame.len() > bytes_max {
                break;
            }
            bytes += frame.len();
            last = item.last;
            item.durable = Durable::Writing;
            frames.push(frame);
        }
        (frames, last)
    }

    /// Everything handed out up to there is durable.
    pub(super) fn journaled(&mut self, last: Sequence) {
        for item in self.items.iter_mut().filter(|item| item.durable == Durable::Writing && item.last <= last) {
            item.durable = Durable::Yes;
            self.bytes -= item.frame.take().map_or(0, |frame| frame.len());
        }
        self.journal_again();
    }

    /// What was being written is not durable.
    pub(super) fn journal_again(&mut self) {
        let writing = self.items.iter_mut().filter(|item| item.durable == Durable::Writing);
        writing.for_each(|item| item.durable = Durable::No);
    }

    /// What is durable without a gap.
    pub(super) fn durable(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().take_while(|item| item.durable == Durable::Yes)
    }

    /// What is applied next: durable, of one run that ends at `run_end`, and up to `until` (what never goes through the
    /// journal, without that limit). The end of a scan ends a group.
    pub(super) fn take_for_apply<T>(
        &mut self,
        until: At,
        run_end: At,
        bytes_max: usize,
        make: impl Fn(&Item) -> T,
    ) -> Vec<T> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        let ready =
            |item: &&mut Item| item.may_be_applied() && item.at <= run_end && (item.at <= until || item.unjournaled);
        for item in self.items.iter_mut().take_while(ready) {
            let full = bytes + item.records.len() > bytes_max;
            if !batches.is_empty() && full {
                break;
            }
            bytes += item.records.len();
            item.applying = true;
            batches.push(make(item));
            if item.signs.ends.is_some() {
                break;
            }
        }
        batches
    }

    /// What was handed out is not applied.
    pub(super) fn apply_again(&mut self) {
        self.items.iter_mut().for_each(|item| item.applying = false);
    }

    pub(super) fn is_applying(&self) -> bool {
        self.items.front().is_some_and(|item| item.applying)
    }

    /// Takes what was handed out up to there.
    pub(super) fn applied(&mut self, last: Sequence) -> Vec<Item> {
        let mut done = Vec::new();
        while self.items.front().is_some_and(|item| item.applying && item.last <= last) {
            let item = self.items.pop_front().expect("looked at above");
            self.bytes -= item.bytes();
            done.push(item);
        }
        done
    }
}
