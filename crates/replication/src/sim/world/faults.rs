//! What comes from outside: work of the application, commands of the administrator, crashes and restarts.

use super::source::source_config;
use super::target::target_config;
use super::{Event, Retained, World, rules};
use crate::frame::{Frame, HaltCode};
use crate::sim::operations::operate;
use crate::source::{Command, Recalled, Source, SourceInput, TargetId};
use crate::target::{Recovery, Target, TargetInput};

/// The longest that it may take until a replica stands in.
const STAND_IN_MAX: u64 = 200_000_000;

impl World {
    pub(super) fn operate(&mut self) {
        if self.operations_left == 0 {
            return;
        }
        for _ in 0..=self.rng.below(3) {
            operate(&mut self.tree, &mut self.rng);
        }
        self.report.operations += 1;
        self.operations_left -= 1;
        if !self.clean && self.rng.one_in(25) {
            self.fault();
        }
        let delay = self.rng.below(600);
        self.after(delay, Event::Operate);
    }

    pub(super) fn ask(&mut self) {
        if self.operations_left == 0 {
            return;
        }
        let target = self.rng.below(self.nodes.len() as u64) as TargetId;
        match self.rng.below(30) {
            9 if self.rng.one_in(3) => self.input(SourceInput::Command(Command::Undo { target })),
            10 => self.configure(),
            11 if self.rng.one_in(2) => self.other_rules(),
            2 => self.input(SourceInput::Command(Command::Mirror { target })),
            3 => self.input(SourceInput::Command(Command::Pause { target })),
            4 => self.input(SourceInput::Command(Command::Resume { target })),
            0 | 12 | 13 if !self.lossy => drop(self.ask_verify(false)),
            1 | 14 => {
                let dirs = self.tree.dirs();
                if let Some(dir) = self.rng.pick(&dirs).copied().filter(|_| self.lossy) {
                    self.tree.lose_subtree(dir);
                }
            }
            _ => self.ask_mark(),
        }
        let delay = 500 + self.rng.below(6_000);
        self.after(delay, Event::Ask);
    }

    /// Limits change while it runs.
    fn configure(&mut self) {
        let seed = self.rng.below(1_000);
        let config = source_config(self.incarnation, &self.rules, &self.tree, seed);
        self.input(SourceInput::Command(Command::Configure(config.settings)));
    }

    /// The rules change while it runs.
    fn other_rules(&mut self) {
        let choice = self.rng.below(4);
        self.rules = rules(choice);
        self.tree.set_rules(self.rules.clone());
        let config = source_config(self.incarnation, &self.rules, &self.tree, 0);
        self.input(SourceInput::Command(Command::Rules { roots: config.roots }));
    }

    pub(super) fn ask_mark(&mut self) {
        self.next_id += 1;
        let (id, captured) = (self.next_id, self.tree.captured);
        self.marks.insert(id, captured);
        self.input(SourceInput::Command(Command::Mark { id, captured }));
    }

    pub(super) fn ask_verify(&mut self, repair: bool) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.verified.insert(id, Err("running".into()));
        let content = repair || id.is_multiple_of(2);
        self.input(SourceInput::Command(Command::Verify { repair, content, id }));
        id
    }

    /// Power is cut: what was not synced may be there or not.
    pub(super) fn crash(&mut self, target: TargetId) -> Result<(), String> {
        self.cut(target, "power cut");
        let now = self.now();
        let kept = self.rng.one_in(2) || self.quiet;
        let node = self.nodes.get_mut(&target).expect("targets stay");
        node.process += 1;
        if !kept {
            node.replica = node.durable.clone();
        }
        (node.writing, node.checkpointing) = (None, None);
        node.applying.clear();
        (node.at_point, node.standing) = (None, None);
        node.replica.replaying = false;
        let recovery = Recovery {
            epoch: node.epoch,
            checkpoint: node.checkpoint,
            partial: !node.replica.is_empty(),
            kept: node.kept.as_ref().map(|(kept, _)| *kept),
            capture: node.capture,
            journal: node.journal.clone(),
        };
        if self.trace {
            let entry = |changes: &crate::frame::Changes| {
                let header = changes.header;
                (header.incarnation, header.first, header.last, header.is_consistent(), changes.captured())
            };
            let journal: Vec<_> = recovery.journal.iter().map(entry).collect();
            println!("== target {target} begins with {:?} {:?} {journal:?}", recovery.checkpoint, recovery.kept);
        }
        node.target = Target::recover(target_config(target, node.on_no_room, node.removals_max), recovery, now);
        let journaled = node.target.view().journaled;
        node.timer = None;
        let held = node.checkpoint.is_some_and(|checkpoint| checkpoint.mirrored && !checkpoint.stood_in);
        let short = |told: &(u64, u64)| *told > (journaled.incarnation, journaled.sequence);
        if let Some(told) = node.acknowledged.filter(|told| held && short(told)) {
            return Err(format!("target {target} acknowledged {told:?}, and has {journaled} after a power cut"));
        }
        Ok(())
    }

    /// The source's daemon is restarted: what it had drained and not sent is gone with it.
    pub(super) fn restart_source(&mut self) {
        let targets: Vec<TargetId> = self.nodes.keys().copied().collect();
        targets.iter().for_each(|target| self.cut(*target, "source restarts"));
        self.incarnation += 1;
        self.reading.clear();
        self.disk.clear();
        let mut config = source_config(self.incarnation, &self.rules, &self.tree, self.count);
        let memory: Vec<Vec<u8>> = self.retained.memory.values().cloned().collect();
        let captured = self.tree.captured;
        (config.capture, config.captured_now) = (self.retained.run, captured);
        config.recalled = Recalled::read(&memory, self.retained.released).filter(|_| !self.rng.one_in(4));
        let warm = config.recalled.is_some();
        if !warm {
            self.retained = Retained { run: self.retained.run + 1, ..Retained::default() };
            config.capture = self.retained.run;
            self.tree.ring.clear();
        }
        self.report.warm += u64::from(warm);
        (self.retained.again, self.retained.told) = (self.retained.drained.clone(), false);
        config.unclean = self.unclean;
        self.source = Source::new(config, self.now());
        self.source_timer = None;
        targets.iter().for_each(|target| self.input(SourceInput::AddTarget { target: *target }));
        if !warm {
            self.input(SourceInput::Captured { records: Vec::new(), captured, time: captured });
        }
        self.verified.retain(|_, result| result.is_ok());
        let marks: Vec<_> = self.marks.clone().into_iter().collect();
        marks.into_iter().for_each(|(id, captured)| {
            self.input(SourceInput::Command(Command::Mark { id, captured }));
        });
    }

    /// The machine of the source loses its power, and comes up again.
    pub(super) fn cut_source(&mut self) {
        self.report.source_cuts += 1;
        self.tree.cut_power(&mut self.rng);
        // For as long as the machine is up: not every target may have been told by the first source after the cut.
        self.unclean = true;
        // Neither capture nor the memory outlives it.
        self.retained = Retained { run: self.retained.run, ..Retained::default() };
        self.restart_source();
    }

    /// The source's file system is synced from time to time.
    pub(super) fn sync_source(&mut self) {
        let delay = 2_000 + self.rng.below(20_000);
        self.after(delay, Event::Sync);
        if self.quiet {
            return;
        }
        self.tree.sync();
        let (incarnation, captured) = (self.incarnation, self.tree.captured);
        let delay = self.rng.below(2_000);
        self.after(delay, Event::Synced(incarnation, captured));
    }

    pub(super) fn synced_source(&mut self, incarnation: u64, captured: u64) {
        if self.incarnation == incarnation {
            self.input(SourceInput::Synced { captured });
        }
    }

    /// Somebody answers the mass-change brake: undoes first, or lets it pass.
    pub(super) fn answer(&mut self, target: TargetId) {
        let now = self.now();
        let undoes = self.rng.one_in(3) && !self.quiet;
        let delay = 1_000 + self.rng.below(20_000);
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.target.view().halt_code == HaltCode::Other {
            return;
        }
        self.after(delay, Event::Answer(target));
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.connected {
            let frame = if undoes { Frame::Undo } else { Frame::Accept };
            node.target.handle(TargetInput::Received(frame), now);
        }
    }

    /// The source is said to be dead: the replica has to become the image of one instant.
    pub(super) fn stand_in(&mut self, target: TargetId) {
        let now = self.now();
        let node = self.nodes.get_mut(&target).expect("targets stay");
        if node.standing.is_none() {
            node.standing = Some(self.now + STAND_IN_MAX);
            node.target.handle(TargetInput::StandIn, now);
        }
    }

    fn fault(&mut self) {
        let targets: Vec<TargetId> = self.nodes.keys().copied().collect();
        let target = *self.rng.pick(&targets).expect("there is one");
        self.report.faults += 1;
        let event = match self.rng.below(9) {
            8 => Event::CutHalf(target),
            0..=2 => Event::Cut(target),
            3..=4 => Event::Crash(target),
            5 => Event::StandIn(target),
            6 => Event::CutSource,
            _ => Event::RestartSource,
        };
        self.after(0, event);
        if self.rng.one_in(4) {
            let node = self.nodes.get_mut(&target).expect("picked from them");
            node.fails = 1 + self.rng.below(4);
        }
    }
}
