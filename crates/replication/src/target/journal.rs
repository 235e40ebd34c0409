//! Making what was received durable, and finding it again.

use std::time::Duration;

use super::backlog::Item;
use super::checkpoint::Checkpoints;
use super::images::Images;
use super::runs::Run;
use super::scans::Scans;
use super::{Books, Captured, Checkpoint, Kept, Target, TargetOutput, Turn};
use crate::frame::Changes;
use crate::planted::{Planted, is_planted};

/// How long changes gather for one sync, where the source says what it waits for.
const GATHER: Duration = Duration::from_millis(2);

impl Target {
    pub(super) fn start_journal(&mut self) {
        let waits = self.journal_waits || self.books.is_some() || self.images.is_rewinding();
        if waits {
            self.gathers_until = None;
            return self.journal.rest();
        }
        if !self.journal.is_due(self.now) || self.gathers() {
            return;
        }
        self.gathers_until = None;
        let (frames, last) = self.backlog.take_for_journal(self.config.group_bytes_max);
        if frames.is_empty() {
            return self.journal.rest();
        }
        self.journal.begin();
        let capture = self.runs.last().map_or(0, |run| run.capture);
        self.outputs.push_back(TargetOutput::Journal { frames, last, capture });
    }

    /// Is it worth while to wait for more?
    fn gathers(&mut self) -> bool {
        let wanted = self.wanted.is_none_or(|wanted| wanted > self.captured_journaled.number);
        if wanted || !self.backlog.has_for_journal() {
            return false;
        }
        self.now < *self.gathers_until.get_or_insert(self.now + GATHER)
    }

    /// The source is gone, or is not followed any more: what came counts.
    pub(super) fn gather_no_more(&mut self) {
        self.wanted = None;
        self.start_journal();
    }

    pub(super) fn journaled(&mut self, last: u64) {
        if self.journal.running {
            self.journal = Turn::default();
            self.backlog.journaled(last);
            self.recover_from_halt();
            self.advance_journaled();
        }
    }

    pub(super) fn journal_failed(&mut self, reason: String) {
        if self.journal.running {
            self.journal.fail(self.now, self.config.retry);
            self.backlog.journal_again();
            self.halt(format!("the journal cannot be written: {reason}"));
        }
    }

    /// Unjournaled batches count as journaled when they are applied.
    pub(super) fn advance_journaled(&mut self) {
        self.journaled = self.journaled.max(self.applied);
        let before = self.journaled;
        for item in self.backlog.durable().skip_while(|item| item.at <= before) {
            self.journaled = item.at;
            self.captured_journaled.follow(item, self.runs.of(item.at).map_or(0, |run| run.capture));
            if item.consistent.is_some() {
                self.consistent_journaled = item.at;
            }
        }
    }

    /// After a restart: what the journal holds is applied again from the checkpoint on.
    pub(super) fn recover_from(
        &mut self,
        checkpoint: Checkpoint,
        kept: Option<Kept>,
        capture: u64,
        journal: Vec<Changes>,
    ) {
        let position = checkpoint.position;
        let stream = (position.epoch, position.incarnation);
        let run = Run { stream, begin: 0, before: position.sequence, capture: checkpoint.capture };
        self.runs.push(run);
        self.mirrored = true;
        self.scans = Scans::new(checkpoint.scanning);
        self.images = Images::recovered(&checkpoint, kept);
        self.checkpoints = Checkpoints::of(checkpoint);
        self.captured_applied = Captured { capture: checkpoint.capture, number: checkpoint.captured };
        self.captured_journaled = self.captured_applied;
        if checkpoint.stood_in {
            return;
        }
        let whole = self.take_journal(stream, capture, journal);
        self.stream = self.runs.last().map(|run| run.stream);
        (self.begun, self.repeating) = (true, self.consistent_journaled == 0);
        let ahead = kept.is_some() || checkpoint.consistent_time == 0;
        self.replay_until = if ahead { self.received } else { self.consistent_journaled };
        self.resumable = whole && !self.scans.is_open();
    }

    /// Says whether the journal goes on where the checkpoint is.
    fn take_journal(&mut self, stream: (u64, u64), capture: u64, journal: Vec<Changes>) -> bool {
        let of = |changes: &Changes| (changes.header.epoch, changes.header.incarnation);
        let last_stream = journal.last().map(of);
        // Entries of streams before that of the checkpoint are covered by it.
        let begin = journal.iter().position(|changes| of(changes) == stream).unwrap_or(0);
        for changes in journal.into_iter().skip(begin) {
            let header = changes.header;
            let run = *self.runs.last().expect("that of the checkpoint is there");
            let here = of(&changes);
            if here == run.stream && header.last <= run.sequence(self.received) {
                continue;
            }
            let Ok(records) = changes.records() else { return false };
            let goes_on = here == run.stream && header.first == run.sequence(self.received) + 1;
            let run = if goes_on {
                run
            } else {
                let capture = if Some(here) == last_stream { capture } else { 0 };
                Run { stream: here, begin: self.received, before: header.first.saturating_sub(1), capture }
            };
            let item = Item::new(changes, records, &run, true);
            // A stream that begins anew amid its numbers says so. Else what came before is missing.
            if !goes_on && here == self.runs.last().expect("as above").stream && !item.signs.lost {
                return false;
            }
            if !goes_on {
                self.runs.push(run);
                self.scans.cut();
            }
            self.take_recovered(item);
        }
        true
    }

    fn take_recovered(&mut self, item: Item) {
        (self.received, self.journaled) = (item.at, item.at);
        let capture = self.runs.last().map_or(0, |run| run.capture);
        self.captured_journaled.follow(&item, capture);
        if item.consistent.is_some() {
            self.consistent_journaled = item.at;
        }
        self.scans.received(&item);
        self.backlog.push(item);
    }

    /// What was received and is not durable is forgotten: the source has it still, or will compare.
    pub(super) fn forget_undurable(&mut self, unclean: bool) {
        self.backlog.cut_after(self.journaled);
        self.received = self.journaled;
        // A part of what was to be written may be in the journal, and would come again after a restart.
        let resets = self.journal.failures > 0;
        self.journal = Turn::default();
        if resets || unclean {
            self.books = Some(Books { at: self.received, doubts: unclean, resets, closed: false });
            self.close_books();
        }
    }

    /// Everything of the streams before may be applied now: does what has to be done then.
    pub(super) fn close_books(&mut self) {
        let making = self.checkpoints.is_making();
        let Some(books) = self.books.as_mut().filter(|books| !making && !books.closed && self.applied >= books.at)
        else {
            return;
        };
        books.closed = true;
        if books.doubts && !is_planted(Planted::NoDoubt) {
            self.outputs.push_back(TargetOutput::Doubt);
        }
        self.checkpoints.wanted = true;
    }

    /// A checkpoint was made.
    pub(super) fn books_are_closed(&mut self) {
        if let Some(books) = self.books.take_if(|books| books.closed)
            && books.resets
        {
            self.outputs.push_back(TargetOutput::ResetJournal);
        }
        self.close_books();
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.applied < self.replay_until
    }

    /// Must everything of the streams before be applied?
    pub(super) fn flushes(&self) -> bool {
        self.books.is_some_and(|books| self.applied < books.at)
    }
}
