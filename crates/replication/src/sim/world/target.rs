//! The targets: what they are told to store and to apply, and when that is done.

use std::time::Duration;

use super::trace::show;
use super::{Event, Node, World};
use crate::frame::{Changes, Frame, Header, decode_header};
use crate::source::TargetId;
use crate::target::{OnNoRoom, Replay, TargetConfig, TargetEvent, TargetInput, TargetOutput};

pub(super) fn target_config(target: TargetId, on_no_room: OnNoRoom, removals_max: Option<u64>) -> TargetConfig {
    let name = ["lyon", "oslo", "rome"][target as usize];
    let mut config = TargetConfig::new("notes".parse().expect("a good name"), name.parse().expect("a good name"));
    config.group_bytes_max = 2_000;
    config.checkpoint_bytes = 20_000;
    config.checkpoint_every = Duration::from_secs(1);
    config.keeps_images = true;
    (config.on_no_room, config.removals_max) = (on_no_room, removals_max);
    config
}

impl World {
    pub(super) fn drain_target(&mut self, target: TargetId) -> Result<(), String> {
        loop {
            let node = self.nodes.get_mut(&target).expect("targets stay");
            let Some(output) = node.target.poll_output() else { break };
            let (process, slow) = (node.process, node.slow);
            match output {
                TargetOutput::Send(frame) => {
                    match Frame::decode(&header(&frame.header), frame.to_vec().into()) {
                        Ok(Frame::Ack(ack)) => node.note_told(ack.journaled),
                        Ok(Frame::Undone(undone)) => self.report.undone += u64::from(undone.result.is_ok()),
                        _ => {}
                    }
                    self.send_to_source(target, frame);
                }
                TargetOutput::Journal { frames, last, capture } => {
                    let changes = frames.into_iter().map(|frame| match Frame::decode(&header(&frame), frame.clone()) {
                        Ok(Frame::Changes(changes)) => changes,
                        other => panic!("the journal is handed {other:?}"),
                    });
                    node.writing = Some((changes.collect(), last, capture));
                    let delay = self.rng.below(400) * slow;
                    self.after(delay, Event::Journaled(target, process));
                }
                TargetOutput::Apply(batches) => {
                    node.applying.extend(batches);
                    let delay = self.rng.below(400) * slow;
                    self.after(delay, Event::Applied(target, process));
                }
                TargetOutput::Checkpoint(checkpoint) => {
                    node.checkpointing = Some((checkpoint, node.replica.clone()));
                    let delay = self.rng.below(1_000);
                    self.after(delay, Event::Checkpointed(target, process));
                }
                TargetOutput::DropJournal(position) => {
                    let covered = |changes: &Changes| {
                        let header = changes.header;
                        let same = (header.epoch, header.incarnation) == (position.epoch, position.incarnation);
                        same && header.last <= position.sequence
                    };
                    let covered = node.journal.iter().rposition(covered).map_or(0, |at| at + 1) as u64;
                    // Only whole segments go.
                    let gone = if self.rng.one_in(2) { covered } else { self.rng.below(covered + 1) };
                    node.journal.drain(..gone as usize);
                }
                TargetOutput::ResetJournal => {
                    node.journal.clear();
                    (node.acknowledged, node.stream_begin) = (None, None);
                }
                TargetOutput::SaveEpoch(epoch) => {
                    node.epoch = Some(epoch);
                    let delay = self.rng.below(300);
                    self.after(delay, Event::EpochSaved(target, process));
                }
                TargetOutput::Close(reason) => self.cut(target, &reason.to_string()),
                TargetOutput::Doubt => node.replica.doubt(),
                TargetOutput::KeepPreImages(kept) => node.kept = Some((kept, node.replica.clone())),
                TargetOutput::DropPreImages => node.kept = None,
                TargetOutput::RollBack(_) | TargetOutput::PutBack => {
                    let delay = self.rng.below(1_000);
                    self.after(delay, Event::RolledBack(target, process));
                }
                TargetOutput::Spoil(checkpoint) => (node.checkpoint, node.kept) = (Some(checkpoint), None),
                TargetOutput::Event(TargetEvent::StoodIn { consistent_time, .. }) => {
                    self.stood_in(target, consistent_time)?;
                }
                TargetOutput::Event(TargetEvent::Welcomed { resume: None, .. }) => node.stream_begin = None,
                TargetOutput::Event(_) => {}
            }
        }
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.standing.is_some_and(|until| until < self.now) {
            return Err(format!("target {target} does not come to stand in: {:?}", node.target.view()));
        }
        let due = node.target.poll_timeout().map(|(at, _)| at);
        if due != node.timer {
            node.timer = due;
            if let Some(at) = due {
                let delay = at.saturating_duration_since(now).as_micros() as u64;
                self.after(delay, Event::TargetTimer(target));
            }
        }
        Ok(())
    }

    pub(super) fn target_due(&mut self, target: TargetId) -> Result<(), String> {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        node.timer = None;
        let due = |node: &Node| node.target.poll_timeout().filter(|(at, _)| *at <= now);
        if due(node).is_some() {
            node.target.handle_timeout(now);
        }
        match due(node) {
            Some((_, timer)) => Err(format!("timer {timer:?} of target {target} is due for ever: {:?}", node.target)),
            None => Ok(()),
        }
    }

    pub(super) fn journaled(&mut self, target: TargetId, process: u64) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process != process {
            return;
        }
        let Some((frames, last, capture)) = node.writing.take() else { return };
        if node.fails > 0 && !self.quiet {
            node.fails -= 1;
            // Some of it may have come through.
            let some = self.rng.below(frames.len() as u64 + 1) as usize;
            node.journal.extend(frames.into_iter().take(some));
            node.capture = if some > 0 { capture } else { node.capture };
            return node.target.handle(TargetInput::JournalFailed { reason: "no room".into() }, now);
        }
        node.journal.extend(frames);
        node.capture = capture;
        node.target.handle(TargetInput::Journaled { last }, now);
    }

    pub(super) fn applied(&mut self, target: TargetId, process: u64) -> Result<(), String> {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process != process {
            return Ok(());
        }
        let Some(batch) = node.applying.pop_front() else { return Ok(()) };
        if node.fails > 0 && !self.quiet {
            node.fails -= 1;
            node.applying.clear();
            let reason = "no room".into();
            let input = if node.kept.is_some() && self.rng.one_in(2) {
                TargetInput::NoRoom { reason }
            } else {
                TargetInput::ApplyFailed { reason }
            };
            node.target.handle(input, now);
            return Ok(());
        }
        node.replica.replaying |= batch.replay != Replay::No;
        node.replica.removals_max = batch.removals_max;
        let (needs, differences) = node.replica.apply(&batch.records);
        if let Some(removals) = node.replica.take_braked() {
            node.applying.clear();
            self.report.braked += 1;
            node.target.handle(TargetInput::Braked { removals }, now);
            self.after(500, Event::Answer(target));
            return Ok(());
        }
        if self.trace {
            let consistent = batch.consistent;
            println!("-- {} target {target} applies to {} {consistent:?}", self.now, batch.position);
            print!("{}", show(&batch.records));
            needs.iter().for_each(|need| println!("   needs {need:?}"));
        }
        let last = batch.position.sequence;
        let exact = batch.replay != Replay::Amid;
        node.at_point = batch.consistent.filter(|_| exact);
        node.had_point |= node.at_point.is_some();
        if batch.replay == Replay::Last {
            node.replica.replayed();
        }
        node.target.handle(TargetInput::Applied { last, needs, differences }, now);
        if !node.applying.is_empty() {
            let delay = self.rng.below(200);
            self.after(delay, Event::Applied(target, process));
        }
        match batch.consistent.filter(|_| exact && !self.corrupted) {
            Some(time) => self.check_point(target, time),
            None => Ok(()),
        }
    }

    pub(super) fn checkpointed(&mut self, target: TargetId, process: u64) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process != process {
            return;
        }
        let Some((checkpoint, replica)) = node.checkpointing.take() else { return };
        node.durable = replica;
        node.checkpoint = Some(checkpoint);
        node.target.handle(TargetInput::Checkpointed(checkpoint), now);
    }

    pub(super) fn rolled_back(&mut self, target: TargetId, process: u64) {
        let now = self.now();
        let fails = self.rng.one_in(6) && !self.quiet;
        let puts_back = self.rng.one_in(2);
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process != process {
            return;
        }
        let lately = node.durable.unproven();
        let Some(image) = node.kept.as_ref().map(|(_, image)| image).or(puts_back.then_some(&lately)) else {
            return node.target.handle(TargetInput::RolledBack(Err("nothing is kept".into())), now);
        };
        if self.trace {
            println!("== {} target {target} rolled back", self.now);
        }
        if fails {
            return node.target.handle(TargetInput::RolledBack(Err("no room".into())), now);
        }
        node.replica = image.clone();
        node.at_point = None;
        self.report.rolled_back += 1;
        node.target.handle(TargetInput::RolledBack(Ok(())), now);
    }

    /// What stands in is the source at an earlier instant; later it becomes a replica again.
    fn stood_in(&mut self, target: TargetId, time: u64) -> Result<(), String> {
        self.report.stood_in += 1;
        let node = self.nodes.get_mut(&target).expect("targets stay");
        // Until it is a replica again.
        node.standing = Some(u64::MAX);
        if time > 0 && !self.corrupted {
            let then = self.tree.history.get(&time).ok_or(format!("there is no change {time}"))?;
            if let Some(difference) = then.difference(&node.replica.image()) {
                return Err(format!("target {target} stands in with another image than of {time}:\n  {difference}"));
            }
        }
        let process = node.process;
        let delay = self.rng.below(20_000);
        self.after(delay, Event::Return(target, process));
        Ok(())
    }

    pub(super) fn epoch_saved(&mut self, target: TargetId, process: u64) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process == process
            && let Some(epoch) = node.epoch
        {
            node.target.handle(TargetInput::EpochSaved(epoch), now);
        }
    }
}

impl Node {
    /// The first one of a stream only says where it began.
    fn note_told(&mut self, journaled: u64) {
        let told = (self.followed, journaled);
        match self.stream_begin.filter(|begin| begin.0 == self.followed) {
            Some(begin) if told > begin => self.acknowledged = self.acknowledged.max(Some(told)),
            Some(_) => {}
            None => self.stream_begin = Some(told),
        }
    }
}

fn header(frame: &[u8]) -> Header {
    let bytes = frame.first_chunk().expect("frames have a header");
    decode_header(bytes).expect("the source encodes headers")
}
