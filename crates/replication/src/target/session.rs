//! Talking with the source: greeting, frames, acknowledgements, silence.

use std::time::Instant;

use stead_model::Epoch;

use super::backlog::{Backlog, Item};
use super::images::Images;
use super::runs::{Run, Runs};
use super::scans::Scans;
use super::{Captured, Link, Target, TargetEvent, TargetOutput, TargetTimer, Turn};
use crate::frame::{
    Ack, Changes, Difference, Frame, Goodbye, Hello, Need, NeedWhat, VERSION, VERSION_MIN, Welcome, writer_check,
};
use crate::planted::{Planted, is_planted};

/// Needs, their ranges, and differences of one frame.
const NEEDS_MAX: usize = 10_000;
const RANGES_MAX: usize = 100_000;
/// So many times within the longest silence it says that it is there, while it reads nothing.
const KEEP_ALIVE: u32 = 4;

impl Target {
    pub(super) fn connected(&mut self) {
        self.link = Link::Greeting;
        self.greeting = None;
        self.told = None;
        (self.heard, self.spoke) = (self.now, self.now);
        if self.stands() {
            self.close(Goodbye::Ended("the replica stands in for the source".into()));
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.link = Link::Down;
        self.greeting = None;
        self.gather_no_more();
    }

    pub(super) fn received(&mut self, frame: Frame) {
        self.heard = self.now;
        match (&self.link, frame) {
            (Link::Down, _) => {}
            (_, Frame::Goodbye(reason)) => self.goodbye_received(reason),
            (_, Frame::Control(bytes)) => self.event(TargetEvent::Control(bytes)),
            (_, Frame::Ping(number)) => self.send(&Frame::Pong(number)),
            (_, Frame::Pong(_)) => {}
            (Link::Greeting, Frame::Hello(hello)) => self.greet(hello),
            (Link::Up, Frame::Hello(hello)) if hello.anew => {
                self.link = Link::Greeting;
                self.greet(hello);
            }
            (Link::Up, Frame::Changes(changes)) => self.changes(changes),
            (Link::Up, Frame::Accept) => self.accept(),
            (Link::Up, Frame::Undo) => self.undo(),
            (_, _) => self.close(Goodbye::Damaged("a frame that a source does not send, or not now".into())),
        }
    }

    fn goodbye_received(&mut self, reason: Goodbye) {
        self.disconnected();
        self.outputs.push_back(TargetOutput::Close(reason));
    }

    fn greet(&mut self, hello: Hello) {
        if hello.version_min > VERSION || hello.version_max < VERSION_MIN {
            return self.refuse(Goodbye::Version { min: VERSION_MIN, max: VERSION });
        }
        self.version = VERSION.min(hello.version_max);
        if hello.set != self.config.set {
            return self.refuse(Goodbye::Set);
        }
        match self.epoch {
            Some(ours) if ours.number > hello.epoch.number => return self.refuse(Goodbye::OlderEpoch(ours)),
            Some(ours) if ours.number == hello.epoch.number && ours != hello.epoch => {
                return self.refuse(Goodbye::Fork(ours));
            }
            Some(ours) if ours == hello.epoch => {}
            _ => self.outputs.push_back(TargetOutput::SaveEpoch(hello.epoch)),
        }
        self.greeting = Some(hello);
    }

    pub(super) fn epoch_saved(&mut self, epoch: Epoch) {
        if self.epoch.is_none_or(|ours| ours.number <= epoch.number) {
            self.epoch = Some(epoch);
        }
    }

    /// Answers a Hello once its epoch is saved, and nothing is being written for the stream before.
    pub(super) fn welcome(&mut self) {
        let unfinished = self.apply.running || self.checkpoints.is_making() || self.first_ended;
        let busy = self.journal.running || self.images.is_rewinding() || !self.mirrored && unfinished;
        let Some(hello) = self.greeting.take_if(|hello| self.epoch == Some(hello.epoch) && !busy) else { return };
        let stream = (hello.epoch.number, hello.incarnation);
        let goes_on = self.begun && self.stream == Some(stream) && self.resumable && !hello.anew;
        let resume = goes_on.then(|| self.runs.position(self.received));
        let holds = self.holds();
        if resume.is_none() {
            self.begin_anew(stream, hello.unclean);
        }
        let Captured { capture, number: captured } =
            if self.mirrored { self.captured_journaled } else { Captured::default() };
        (self.capture, self.wanted) = (hello.capture, None);
        self.writer = writer_check(&hello.epoch);
        self.link = Link::Up;
        let (version, node) = (self.version, self.config.node.clone());
        self.send(&Frame::Welcome(Welcome { version, node, epoch: hello.epoch, holds, resume, capture, captured }));
        if self.halted.is_some() {
            self.tell_halted();
        }
        let needs = self.scans.unanswered();
        self.send_needs(needs);
        self.event(TargetEvent::Welcomed { epoch: hello.epoch, resume });
    }

    /// Follows another stream. What is durable of the one before goes first.
    fn begin_anew(&mut self, stream: (u64, u64), unclean: bool) {
        (self.stream, self.begun, self.resumable) = (Some(stream), false, true);
        if self.mirrored && is_planted(Planted::ForgetJournal) {
            self.forget_all();
        } else if self.mirrored {
            self.forget_undurable(unclean);
            self.scans.cut();
            self.repeating = true;
            self.forget_set_aside();
        } else {
            self.forget_all();
            if unclean {
                self.outputs.push_back(TargetOutput::Doubt);
            }
        }
        self.recover_from_halt();
    }

    /// A first mirror that was broken off counts for nothing, its journal neither.
    fn forget_all(&mut self) {
        (self.runs, self.backlog, self.scans) = (Runs::default(), Backlog::default(), Scans::default());
        (self.received, self.journaled, self.applied, self.consistent_journaled) = (0, 0, 0, 0);
        (self.replay_until, self.repeating, self.first_ended) = (0, false, false);
        (self.captured_journaled, self.captured_applied) = (Captured::default(), Captured::default());
        (self.journal, self.apply, self.images) = (Turn::default(), Turn::default(), Images::default());
        self.checkpoints.forget_places();
        self.outputs.push_back(TargetOutput::ResetJournal);
    }

    fn changes(&mut self, changes: Changes) {
        let header = changes.header;
        let stream = (header.epoch, header.incarnation);
        if self.stream != Some(stream) || header.writer != self.writer {
            return self.close(Goodbye::Damaged("a frame of another epoch, writer or incarnation".into()));
        }
        if header.first == 0 {
            return self.close(Goodbye::Damaged("a frame that begins with number 0".into()));
        }
        let (begin, capture) = (self.received, self.capture);
        let anew = Run { stream, begin, before: header.first - 1, capture };
        let run = self.runs.last().copied().filter(|_| self.begun).unwrap_or(anew);
        let expected = run.sequence(self.received) + 1;
        if header.first != expected {
            return self.close(Goodbye::Gap { expected, got: header.first });
        }
        let records = match changes.records() {
            Ok(records) => records,
            Err(error) => return self.close(Goodbye::Damaged(error.to_string())),
        };
        if !self.begun {
            self.begun = true;
            self.runs.push(run);
        }
        let mut item = Item::new(changes, records, &run, false);
        (item.repeats, item.ends_repeats) = match item.consistent {
            Some(_) => (false, std::mem::take(&mut self.repeating)),
            None => (self.repeating, false),
        };
        self.received = item.at;
        self.scans.received(&item);
        self.backlog.push(item);
    }

    /// Tells what an apply found.
    pub(super) fn report(&mut self, mut needs: Vec<Need>, differences: Vec<Difference>) {
        // What a scan of an earlier stream found does not matter any more.
        if !self.begun || self.runs.last().is_none_or(|run| self.applied <= run.begin) {
            return;
        }
        self.scans.asked(&mut needs);
        self.send_needs(needs);
        if self.link == Link::Up {
            for part in differences.chunks(NEEDS_MAX) {
                self.send(&Frame::Differences(part.to_vec()));
            }
        }
    }

    fn send_needs(&mut self, needs: Vec<Need>) {
        if self.link != Link::Up {
            return;
        }
        let (mut part, mut ranges) = (Vec::new(), 0);
        for need in needs {
            ranges += if let NeedWhat::Content(ranges) = &need.what { ranges.len() } else { 0 };
            part.push(need);
            if part.len() >= NEEDS_MAX || ranges >= RANGES_MAX {
                self.send(&Frame::Needs(std::mem::take(&mut part)));
                ranges = 0;
            }
        }
        if !part.is_empty() {
            self.send(&Frame::Needs(part));
        }
    }

    /// Tells the watermarks where they moved.
    pub(super) fn acknowledge(&mut self) {
        let Some(run) = self.runs.last().filter(|_| self.begun && self.link == Link::Up) else { return };
        let journaled = if is_planted(Planted::AcknowledgeEarly) { self.received } else { self.journaled };
        let (journaled, applied) = (run.sequence(journaled), run.sequence(self.applied));
        let ack = Ack { journaled, applied, consistent_time: self.images.time };
        if self.told != Some(ack) {
            self.told = Some(ack);
            self.send(&Frame::Ack(ack));
        }
    }

    pub(super) fn link_due(&self) -> Option<(Instant, TargetTimer)> {
        if self.link == Link::Down {
            None
        } else if self.wants_frames() {
            Some((self.heard + self.config.silence_max, TargetTimer::Silence))
        } else {
            Some((self.spoke + self.config.silence_max / KEEP_ALIVE, TargetTimer::KeepAlive))
        }
    }

    pub(super) fn watch_silence(&mut self) {
        if self.link == Link::Down {
            return;
        }
        if !self.wants_frames() {
            // The source may speak, it is not listened to.
            self.heard = self.now;
            if self.now >= self.spoke + self.config.silence_max / KEEP_ALIVE {
                self.send(&Frame::Pong(0));
            }
        } else if self.now >= self.heard + self.config.silence_max {
            self.close(Goodbye::Silence(self.config.silence_max.as_secs()));
        }
    }

    fn refuse(&mut self, reason: Goodbye) {
        self.event(TargetEvent::Refused(reason.clone()));
        self.close(reason);
    }

    pub(super) fn close(&mut self, reason: Goodbye) {
        self.send(&Frame::Goodbye(reason.clone()));
        self.disconnected();
        self.outputs.push_back(TargetOutput::Close(reason));
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        if self.link != Link::Down {
            self.spoke = self.now;
            self.outputs.push_back(TargetOutput::Send(frame.encode_for(self.version)));
        }
    }

    pub(super) fn event(&mut self, event: TargetEvent) {
        self.outputs.push_back(TargetOutput::Event(event));
    }
}
