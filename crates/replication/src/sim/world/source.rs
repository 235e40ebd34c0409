//! The source: what it captures, reads and tells.

use stead_model::{Epoch, Rules};

use super::trace::show;
use super::{Event, Reading, World, hash};
use crate::read::Ticket;
use crate::sim::tree::Tree;
use crate::source::{Command, Compression, RootConfig, Source, SourceConfig, SourceEvent, SourceInput, SourceOutput};

pub(super) fn source_config(incarnation: u64, rules: &Rules, tree: &Tree, seed: u64) -> SourceConfig {
    let roots = vec![RootConfig { file: tree.root, rules: rules.clone(), index: 0 }];
    let set = "notes".parse().expect("a good name");
    let node = "paris".parse().expect("a good name");
    let mut config = SourceConfig::new(set, node, roots, epoch(), incarnation);
    config.capture = 1;
    config.settings.brake.deletions_max = if seed % 7 == 3 { 4 } else { 10_000 };
    config.chunk_bytes_max = 16;
    config.small_bytes_max = 8;
    config.entries_max = 3;
    config.reads_max = 3;
    config.difference_block = 4;
    config.verify_block = 8;
    config.settings.window_bytes_max = if seed.is_multiple_of(3) { 3_000 } else { 1 << 20 };
    config.settings.queue_bytes_max = if seed.is_multiple_of(5) { 8_000 } else { 1 << 20 };
    if seed % 5 == 4 {
        config.settings.queue_bytes_max = 8_000;
        config.settings.queue_disk_bytes_max = if seed % 4 == 1 { 12_000 } else { 1 << 20 };
    }
    config.settings.dirty_max = if seed % 11 == 5 { 3 } else { 100_000 };
    config.compression = if seed.is_multiple_of(2) { Compression::Adaptive } else { Compression::Off };
    config
}

impl World {
    pub(super) fn drain(&mut self) {
        let delay = if self.quiet { 400 } else { self.rng.below(400) };
        self.after(delay, Event::Drain);
        if let Some((captured, records)) = self.retained.again.front().cloned().filter(|_| self.source.wants_captured())
        {
            self.retained.again.pop_front();
            return self.input(SourceInput::Captured { records, captured, time: captured });
        }
        if !self.retained.again.is_empty() {
            return;
        }
        if !self.source.wants_captured() {
            return;
        }
        if self.tree.ring.is_empty() {
            if !std::mem::replace(&mut self.retained.told, true) {
                let captured = self.tree.captured;
                self.input(SourceInput::Captured { records: Vec::new(), captured, time: captured });
            }
            return;
        }
        let count = 1 + self.rng.below(6) as usize;
        let (lose, whole) = (self.lossy && !self.quiet && self.rng.one_in(12), self.rng.one_in(3));
        let (records, captured) = self.tree.drain(count, lose, whole);
        if self.trace {
            print!("++ {} captured until {captured}\n{}", self.now, show(&records));
        }
        self.retained.drained.push_back((captured, records.clone()));
        self.input(SourceInput::Captured { records, captured, time: captured });
    }

    pub(super) fn input(&mut self, input: SourceInput) {
        let now = self.now();
        if let SourceInput::Command(command) = &input
            && self.trace
        {
            println!("== {} asked for {command:?}", self.now);
        }
        self.source.handle(input, now);
    }

    pub(super) fn drain_source(&mut self) -> Result<(), String> {
        while let Some(output) = self.source.poll_output() {
            match output {
                SourceOutput::Read(ticket, request) => {
                    self.reading.insert(ticket, Reading { request, begun: None, captured: 0, ended: false });
                    let delay = self.rng.below(300);
                    self.after(delay, Event::ReadBegin(ticket));
                }
                SourceOutput::Send { target, frame } => self.send_to_target(target, frame),
                SourceOutput::Close { target, reason } => self.cut(target, &reason.to_string()),
                SourceOutput::Remember { part, bytes } => self.retained.memory.entry(part).or_default().extend(bytes),
                SourceOutput::ForgetBefore { part } => self.retained.memory = self.retained.memory.split_off(&part),
                SourceOutput::Spill { first, body } => self.spill(first, body.to_vec()),
                SourceOutput::Fetch { first } => self.fetch(first),
                SourceOutput::ForgetSpilled { firsts } => self.disk.forget(&firsts),
                SourceOutput::Event(event) => self.source_event(event)?,
            }
        }
        let due = self.source.poll_timeout().map(|(at, _)| at);
        if due != self.source_timer {
            self.source_timer = due;
            if let Some(at) = due {
                let delay = at.saturating_duration_since(self.now()).as_micros() as u64;
                self.after(delay, Event::SourceTimer);
            }
        }
        Ok(())
    }

    pub(super) fn source_due(&mut self) -> Result<(), String> {
        self.source_timer = None;
        let now = self.now();
        let due = |source: &Source| source.poll_timeout().filter(|(at, _)| *at <= now);
        if due(&self.source).is_some() {
            self.source.handle_timeout(now);
        }
        match due(&self.source) {
            Some((_, timer)) => Err(format!("timer {timer:?} of the source is due for ever: {}", self.describe())),
            None => Ok(()),
        }
    }

    pub(super) fn read_begin(&mut self, ticket: Ticket) {
        let Some(reading) = self.reading.get_mut(&ticket) else { return };
        reading.begun = Some(self.tree.read_begin(&reading.request));
        let delay = self.rng.below(300);
        self.after(delay, Event::ReadEnd(ticket));
    }

    pub(super) fn read_end(&mut self, ticket: Ticket) {
        let Some(reading) = self.reading.get_mut(&ticket) else { return };
        // An event of a read of the source before its restart has nothing to end.
        let Some(begun) = reading.begun.take() else { return };
        reading.begun = Some(self.tree.read_end(&reading.request, begun, hash));
        reading.captured = self.tree.captured;
        reading.ended = true;
        let delay = self.rng.below(300);
        self.after(delay, Event::ReadDone(ticket));
    }

    pub(super) fn read_done(&mut self, ticket: Ticket) {
        if !self.reading.get(&ticket).is_some_and(|reading| reading.ended) {
            return;
        }
        let Some(reading) = self.reading.remove(&ticket) else { return };
        let result = reading.begun.expect("it was begun");
        self.input(SourceInput::Read { ticket, result, captured: reading.captured });
    }

    fn source_event(&mut self, event: SourceEvent) -> Result<(), String> {
        match event {
            SourceEvent::Marked { id } => {
                let Some(captured) = self.marks.remove(&id) else { return Err("a mark ends twice".into()) };
                self.report.marks += 1;
                self.check_mark(captured)
            }
            SourceEvent::Verified { id, result } => {
                self.report.verifies += 1;
                if let Ok(found) = &result
                    && found.different > 0
                    && !self.quiet
                {
                    return Err(format!("a verify of a live set finds {found:?}"));
                }
                self.verified.insert(id, result);
                Ok(())
            }
            SourceEvent::State { target, .. } if self.source.view(target).is_some_and(|view| view.braked.is_some()) => {
                self.report.braked += 1;
                self.input(SourceInput::Command(Command::AcceptDeletions { target }));
                Ok(())
            }
            SourceEvent::Confirmed { captured } => {
                self.retained.released = captured;
                self.retained.drained.retain(|(until, _)| *until > captured);
                Ok(())
            }
            SourceEvent::Unreadable { file, reason } => Err(format!("{file} is unreadable: {reason}")),
            SourceEvent::Superseded { .. } => Err("an epoch that nobody raised".into()),
            _ => Ok(()),
        }
    }
}

fn epoch() -> Epoch {
    Epoch { number: 3, writer: [7; 16], random: 5 }
}
