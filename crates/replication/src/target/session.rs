//! Talking with the source: greeting, frames, acknowledgements, silence.

use stead_model::Epoch;

use super::backlog::{Backlog, Item};
use super::scans::Scans;
use super::{Link, Target, TargetEvent, TargetOutput};
use crate::frame::{
    Ack, Changes, Difference, Frame, Goodbye, HaltCode, Halted, Hello, Need, NeedWhat, VERSION, VERSION_MIN, Welcome,
    writer_check,
};
use crate::planted::{Planted, is_planted};

/// Needs, their ranges, and differences of one frame.
const NEEDS_MAX: usize = 10_000;
const RANGES_MAX: usize = 100_000;

impl Target {
    pub(super) fn connected(&mut self) {
        self.link = Link::Greeting;
        self.greeting = None;
        self.told = None;
        self.heard = self.now;
    }

    pub(super) fn disconnected(&mut self) {
        self.link = Link::Down;
        self.greeting = None;
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

    /// Answers a Hello once its epoch is saved and nothing of the stream before is under way.
    pub(super) fn welcome(&mut self) {
        let busy = self.journal.running || self.apply.running || self.checkpointing.is_some();
        let Some(hello) = self.greeting.take_if(|hello| self.epoch == Some(hello.epoch) && !busy) else { return };
        let stream = (hello.epoch.number, hello.incarnation);
        let goes_on = self.stream == Some(stream) && self.resumable && !hello.anew;
        if !goes_on && self.is_replaying() {
            self.greeting = Some(hello);
            return;
        }
        let resume = goes_on.then(|| self.position(self.received));
        let holds = self.holds();
        if resume.is_none() {
            self.begin_anew(stream);
        }
        self.writer = writer_check(&hello.epoch);
        self.link = Link::Up;
        let (version, node) = (self.version, self.config.node.clone());
        let welcome = Welcome { version, node, epoch: hello.epoch, holds, resume, capture: 0, captured: 0 };
        self.send(&Frame::Welcome(welcome));
        if self.halted.is_some() {
            self.send(&Frame::Halted(Halted { reason: self.halted.clone(), code: HaltCode::Other }));
        }
        let needs = self.scans.unanswered();
        self.send_needs(needs);
        self.event(TargetEvent::Welcomed { epoch: hello.epoch, resume });
    }

    /// Follows another stream: what was not applied of the one before is dropped, a difference mirror brings it.
    fn begin_anew(&mut self, stream: (u64, u64)) {
        self.stream = Some(stream);
        self.backlog = Backlog::default();
        self.scans = Scans::default();
        self.begun = false;
        self.resumable = true;
        self.replay_until = 0;
        // A first mirror that ended and was not made durable counts for nothing in the next stream.
        (self.checkpoint_now, self.checkpoint_at) = (false, None);
        (self.received, self.journaled, self.applied, self.consistent_journaled) = (0, 0, 0, 0);
        (self.journal, self.apply) = (super::Turn::default(), super::Turn::default());
        self.outputs.push_back(TargetOutput::ResetJournal);
        self.recover_from_halt();
    }

    fn changes(&mut self, changes: Changes) {
        let header = changes.header;
        let same = self.stream == Some((header.epoch, header.incarnation)) && header.writer == self.writer;
        if !same {
            return self.close(Goodbye::Damaged("a frame of another epoch, writer or incarnation".into()));
        }
        if header.first == 0 {
            return self.close(Goodbye::Damaged("a frame that begins with number 0".into()));
        }
        if !self.begun {
            let before = header.first - 1;
            self.begun = true;
            (self.received, self.journaled, self.applied, self.consistent_journaled) = (before, before, before, before);
        }
        if header.first != self.received + 1 {
            return self.close(Goodbye::Gap { expected: self.received + 1, got: header.first });
        }
        let records = match changes.records() {
            Ok(records) => records,
            Err(error) => return self.close(Goodbye::Damaged(error.to_string())),
        };
        self.received = header.last;
        let item = Item::new(changes, records, false);
        self.scans.received(&item);
        self.backlog.push(item);
    }

    /// Tells what an apply found.
    pub(super) fn report(&mut self, mut needs: Vec<Need>, differences: Vec<Difference>) {
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
        let journaled = if is_planted(Planted::AcknowledgeEarly) { self.received } else { self.journaled };
        let ack = Ack { journaled, applied: self.applied, consistent_time: self.consistent_time };
        if self.link == Link::Up && self.begun && self.told != Some(ack) {
            self.told = Some(ack);
            self.send(&Frame::Ack(ack));
        }
    }

    pub(super) fn watch_silence(&mut self) {
        if self.link != Link::Down && self.now >= self.heard + self.config.silence_max {
            self.close(Goodbye::Silence(self.config.silence_max.as_secs()));
        }
    }

    fn refuse(&mut self, reason: Goodbye) {
        self.event(TargetEvent::Refused(reason.clone()));
        self.close(reason);
    }

    fn close(&mut self, reason: Goodbye) {
        self.send(&Frame::Goodbye(reason.clone()));
        self.disconnected();
        self.outputs.push_back(TargetOutput::Close(reason));
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        if self.link != Link::Down {
            self.outputs.push_back(TargetOutput::Send(frame.encode_for(self.version)));
        }
    }

    pub(super) fn event(&mut self, event: TargetEvent) {
        self.outputs.push_back(TargetOutput::Event(event));
    }
}
