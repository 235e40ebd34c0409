//! The targets: what they are told to store and to apply, and when that is done.

use std::time::Duration;

use super::trace::show;
use super::{Event, World};
use crate::frame::{Frame, Header, decode_header};
use crate::source::TargetId;
use crate::target::{TargetConfig, TargetInput, TargetOutput};

pub(super) fn target_config() -> TargetConfig {
    let mut config = TargetConfig::new("notes".parse().expect("a good name"), "lyon".parse().expect("a good name"));
    config.group_bytes_max = 2_000;
    config.checkpoint_bytes = 20_000;
    config.checkpoint_every = Duration::from_secs(1);
    config
}

impl World {
    pub(super) fn drain_target(&mut self, target: TargetId) -> Result<(), String> {
        loop {
            let node = self.nodes.get_mut(&target).expect("targets stay");
            let Some(output) = node.target.poll_output() else { break };
            let process = node.process;
            match output {
                TargetOutput::Send(frame) => {
                    if let Ok(Frame::Ack(ack)) = Frame::decode(&header(&frame.header), frame.to_vec().into()) {
                        // The first one of a stream only says where it began.
                        let begun = *node.stream_begin.get_or_insert(ack.journaled);
                        if ack.journaled > begun {
                            node.acknowledged = node.acknowledged.max(ack.journaled);
                        }
                    }
                    self.send_to_source(target, frame);
                }
                TargetOutput::Journal { frames, last, .. } => {
                    let changes = frames.into_iter().map(|frame| match Frame::decode(&header(&frame), frame.clone()) {
                        Ok(Frame::Changes(changes)) => changes,
                        other => panic!("the journal is handed {other:?}"),
                    });
                    node.writing = Some((changes.collect(), last));
                    let delay = self.rng.below(400);
                    self.after(delay, Event::Journaled(target, process));
                }
                TargetOutput::Apply(batches) => {
                    node.applying.extend(batches);
                    let delay = self.rng.below(400);
                    self.after(delay, Event::Applied(target, process));
                }
                TargetOutput::Checkpoint(checkpoint) => {
                    node.checkpointing = Some((checkpoint, node.replica.clone()));
                    let delay = self.rng.below(1_000);
                    self.after(delay, Event::Checkpointed(target, process));
                }
                TargetOutput::DropJournal(position) => node.journal.retain(|changes| {
                    let header = changes.header;
                    (header.epoch, header.incarnation) != (position.epoch, position.incarnation)
                        || header.last > position.sequence
                }),
                TargetOutput::ResetJournal => {
                    node.journal.clear();
                    (node.acknowledged, node.stream_begin) = (0, None);
                }
                TargetOutput::SaveEpoch(epoch) => {
                    node.epoch = Some(epoch);
                    let delay = self.rng.below(300);
                    self.after(delay, Event::EpochSaved(target, process));
                }
                TargetOutput::Close(reason) => self.cut(target, &reason.to_string()),
                TargetOutput::Doubt
                | TargetOutput::KeepPreImages(_)
                | TargetOutput::DropPreImages
                | TargetOutput::RollBack(_)
                | TargetOutput::Spoil(_)
                | TargetOutput::Event(_) => {}
            }
        }
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
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

    pub(super) fn target_due(&mut self, target: TargetId) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        node.timer = None;
        if node.target.poll_timeout().is_some_and(|(at, _)| at <= now) {
            node.target.handle_timeout(now);
        }
    }

    pub(super) fn journaled(&mut self, target: TargetId, process: u64) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.process != process {
            return;
        }
        let Some((frames, last)) = node.writing.take() else { return };
        if node.fails > 0 && !self.quiet {
            node.fails -= 1;
            return node.target.handle(TargetInput::JournalFailed { reason: "no room".into() }, now);
        }
        node.journal.extend(frames);
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
            node.target.handle(TargetInput::ApplyFailed { reason: "no room".into() }, now);
            return Ok(());
        }
        let (needs, differences) = node.replica.apply(&batch.records);
        if self.trace {
            let consistent = batch.consistent;
            println!("-- {} target {target} applies to {} {consistent:?}", self.now, batch.position);
            print!("{}", show(&batch.records));
            needs.iter().for_each(|need| println!("   needs {need:?}"));
        }
        let last = batch.position.sequence;
        let replaying = last <= node.replay_until;
        node.at_point = batch.consistent.filter(|_| !replaying);
        if node.replica.replaying && !replaying {
            node.replica.replayed();
        }
        node.target.handle(TargetInput::Applied { last, needs, differences }, now);
        if !node.applying.is_empty() {
            let delay = self.rng.below(200);
            self.after(delay, Event::Applied(target, process));
        }
        match batch.consistent.filter(|_| !replaying && !self.corrupted) {
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

fn header(frame: &[u8]) -> Header {
    let bytes = frame.first_chunk().expect("frames have a header");
    decode_header(bytes).expect("the source encodes headers")
}
