//! Batches that were received and are not applied.

use std::collections::VecDeque;
use std::sync::Arc;

use stead_model::Sequence;

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
    pub(super) records: Arc<[u8]>,
    pub(super) consistent: Option<u64>,
    pub(super) unjournaled: bool,
    frame: Option<Arc<[u8]>>,
    durable: Durable,
    applying: bool,
}

impl Item {
    pub(super) fn new(changes: Changes, records: Vec<u8>, journaled: bool) -> Item {
        let header = changes.header;
        Item {
            first: header.first,
            last: header.last,
            records: records.into(),
            consistent: header.is_consistent().then_some(header.time),
            unjournaled: header.is_unjournaled(),
            frame: (!journaled).then_some(changes.frame),
            durable: if journaled { Durable::Yes } else { Durable::No },
            applying: false,
        }
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

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames for the journal, at least one if there is one, and the last sequence of the last.
    pub(super) fn take_for_journal(&mut self, bytes_max: usize) -> (Vec<Arc<[u8]>>, Sequence) {
        let (mut frames, mut bytes, mut last) = (Vec::new(), 0, 0);
        for item in self.items.iter_mut().filter(|item| item.durable == Durable::No && !item.unjournaled) {
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

    /// Up to where everything is durable, or applied.
    pub(super) fn journaled_until(&self, applied: Sequence) -> Sequence {
        let durable = self.items.iter().take_while(|item| item.durable == Durable::Yes);
        durable.last().map_or(applied, |item| item.last)
    }

    /// The last consistent point that is durable.
    pub(super) fn last_consistent(&self, journaled: Sequence) -> Option<Sequence> {
        let durable = self.items.iter().take_while(|item| item.last <= journaled);
        durable.filter(|item| item.consistent.is_some()).last().map(|item| item.last)
    }

    /// What is applied next: durable, and up to `until` (what never goes through the journal, without that limit).
    pub(super) fn take_for_apply<T>(&mut self, until: Sequence, bytes_max: usize, make: impl Fn(&Item) -> T) -> Vec<T> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        let ready = |item: &&mut Item| item.may_be_applied() && (item.last <= until || item.unjournaled);
        for item in self.items.iter_mut().take_while(ready) {
            if !batches.is_empty() && bytes + item.records.len() > bytes_max {
                break;
            }
            bytes += item.records.len();
            item.applying = true;
            batches.push(make(item));
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
