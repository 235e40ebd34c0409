//! Steps that need the data path: the replica becomes the image of one instant, its capture is mounted, the last changes go
//! to the other node.

use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Instant;

use stead_api::Failure;
use stead_failover::heartbeat::Event;
use stead_failover::machine::{Action, Outcome, Step, Turn};
use stead_model::plan::GroupPlan;
use stead_model::status::Timestamp;
use stead_model::{GroupName, SetName};
use tracing::warn;

use super::{Commands, Node};
use crate::job::{self, JobDone};
use crate::seam::{Command, CommandId, StandIn};
use crate::state::sets::SetState;

type Reply = SyncSender<Outcome>;

/// What became of replicas that were to become images.
pub(crate) struct StoodIn {
    action: Action,
    results: Vec<(SetName, Result<Timestamp, Failure>)>,
    reply: Reply,
}

/// Sets whose last changes are on their way to the other node.
pub(super) struct Handing {
    sets: Vec<SetName>,
    waits: Commands,
    until: Instant,
    reply: Reply,
}

impl Node {
    pub(super) fn step(&mut self, group: &GroupName, action: Action, reply: Reply) {
        let Some(group) = self.plan.group(group).cloned() else {
            return answer(&reply, Outcome::Unknown("the group is no longer in the plan".into()));
        };
        match (action.step, action.turn) {
            (Step::Drain, Turn::Do) => self.drain(&group, action, reply),
            (Step::Capture, Turn::Do) => answer(&reply, self.capture(&group)),
            // Whose the files are is decided by the epoch: where another node's is newer, they are taken from it at once.
            (Step::Capture, Turn::Undo) => answer(&reply, Outcome::Already),
            (Step::HandOver, Turn::Do) => self.hand_over(&group, action, reply),
            _ => answer(&reply, Outcome::Done),
        }
    }

    fn drain(&mut self, group: &GroupPlan, action: Action, reply: Reply) {
        let mut works: Vec<(SetName, StandIn)> = Vec::new();
        let replicas: Vec<_> = group.sets.iter().filter(|set| !self.is_source_of(set)).collect();
        for set in replicas {
            match self.plane.stand_in(set, self.is_no_image(set)) {
                Ok(work) => works.push((set.clone(), work)),
                Err(failure) => {
                    let failure = self.unstarted.get(set).unwrap_or(&failure);
                    warn!("set {set} cannot be drained: {failure}");
                    return answer(&reply, Outcome::Failed(failure.to_string()));
                }
            }
        }
        if works.is_empty() {
            return answer(&reply, Outcome::Already);
        }
        job::spawn(&self.events, move || {
            let results = stand_in(works);
            Some(JobDone::StoodIn(Box::new(StoodIn { action, results, reply })))
        });
    }

    fn is_source_of(&self, set: &SetName) -> bool {
        self.plan.set(set).is_some_and(|planned| planned.source == self.name)
    }

    /// Is there no image to go to? Where it is taken over, a person does so nevertheless.
    pub(super) fn is_no_image(&self, set: &SetName) -> bool {
        self.plane.status().iter().any(|c| c.set == *set && c.target == self.name && c.consistent_at.is_none())
    }

    /// The replicas became images, or not: those that did are this node's to write.
    pub(in super::super) fn stood_in(&mut self, done: StoodIn) {
        let StoodIn { action, results, reply } = done;
        let mut outcome = Outcome::Done;
        for (set, result) in results {
            let turned = result.and_then(|image| self.take(&set, image, action));
            if let Err(failure) = turned {
                warn!("set {set}: {failure}");
                outcome = Outcome::Failed(failure.to_string());
                self.unstarted.insert(set, failure);
                self.retry_at = Instant::now();
            }
        }
        answer(&reply, outcome);
    }

    fn take(&mut self, set: &SetName, image: Timestamp, action: Action) -> Result<(), Failure> {
        let mut kept = SetState::load(&self.state, set)?;
        if kept.is_past(action.epoch) {
            let why = format!("epoch {} is over", action.epoch.number);
            return Err(Failure::new(format!("set {set} stays a replica"), why, "Look at: stead explain"));
        }
        kept.restore = action.event == Event::Failover;
        kept.enter(action.epoch, self.applied(set));
        if kept.restore {
            kept.fork(image);
            self.groups.awaiting.insert(set.clone());
        }
        self.turn(set, kept, action.epoch, "source")
    }

    /// Capture is mounted on the sets, and they can be written.
    fn capture(&mut self, group: &GroupPlan) -> Outcome {
        let mut outcome = Outcome::Already;
        for set in &group.sets {
            let is_so = self.plane.runs_source(set);
            let opened = match () {
                () if !self.is_source_of(set) => {
                    Err(Failure::new(format!("set {set} is not captured"), "it is a replica here", ""))
                }
                () if is_so => self.plane.freeze(set, false),
                () => self.start_source_of(set),
            };
            match opened {
                Ok(()) if is_so => {}
                Ok(()) => outcome = Outcome::Done,
                Err(failure) => return Outcome::Failed(failure.to_string()),
            }
        }
        outcome
    }

    fn start_source_of(&mut self, set: &SetName) -> Result<(), Failure> {
        self.start_again(set);
        self.unstarted.get(set).cloned().map_or(Ok(()), Err)
    }

    /// Nothing can be written any more, then everything that was is brought to the other node.
    fn hand_over(&mut self, group: &GroupPlan, action: Action, reply: Reply) {
        if group.sets.is_empty() {
            return answer(&reply, Outcome::Already);
        }
        let frozen: Vec<_> = group.sets.iter().map(|set| (set.clone(), self.plane.freeze(set, true))).collect();
        if let Some((_, Err(failure))) = frozen.iter().find(|(_, frozen)| frozen.is_err()) {
            let failure = failure.to_string();
            self.thaw(&group.sets);
            return answer(&reply, Outcome::Failed(failure));
        }
        let mut waits = Commands::new();
        for set in &group.sets {
            self.commands += 1;
            waits.insert(self.commands);
            self.plane.command(set, self.commands, Command::Wait);
        }
        let until = Instant::now() + action.limit;
        self.groups.handing.push(Handing { sets: group.sets.clone(), waits, until, reply });
    }

    fn thaw(&mut self, sets: &[SetName]) {
        for set in sets.iter().filter(|set| self.plane.runs_source(set)).cloned().collect::<Vec<_>>() {
            self.plane.freeze(&set, false).unwrap_or_else(|failure| warn!("{failure}"));
        }
    }

    /// A command ended; was it one of a set that is handed over?
    pub(in super::super) fn handed_over(&mut self, id: CommandId, result: &Result<(), Failure>) -> bool {
        let Some(at) = self.groups.handing.iter().position(|handing| handing.waits.contains(&id)) else { return false };
        self.groups.handing[at].waits.remove(&id);
        match result {
            Err(failure) => self.give_up_handing(at, &failure.to_string()),
            Ok(()) if self.groups.handing[at].waits.is_empty() => {
                let handing = self.groups.handing.remove(at);
                answer(&handing.reply, Outcome::Done);
            }
            Ok(()) => {}
        }
        true
    }

    pub(super) fn look_after_handing(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.groups.handing.iter().position(|handing| handing.until <= now) {
            self.give_up_handing(at, "not everything was applied in time");
        }
    }

    fn give_up_handing(&mut self, at: usize, why: &str) {
        let handing = self.groups.handing.remove(at);
        handing.waits.iter().for_each(|id| self.plane.forget(*id));
        self.thaw(&handing.sets);
        answer(&handing.reply, Outcome::Failed(why.into()));
    }
}

/// All sets at once: each waits for its own disk.
fn stand_in(works: Vec<(SetName, StandIn)>) -> Vec<(SetName, Result<Timestamp, Failure>)> {
    let faulted = |set: &SetName| {
        let why = "the daemon ran into a fault of its own";
        Failure::new(format!("set {set} was not drained"), why, "Its log says where; please report it")
    };
    thread::scope(|scope| {
        let running: Vec<_> = works.into_iter().map(|(set, work)| (set, scope.spawn(work))).collect();
        let ended = running.into_iter().map(|(set, thread)| {
            let result = thread.join().unwrap_or_else(|_| Err(faulted(&set)));
            (set, result)
        });
        ended.collect()
    })
}

fn answer(reply: &Reply, outcome: Outcome) {
    let _ = reply.try_send(outcome);
}
