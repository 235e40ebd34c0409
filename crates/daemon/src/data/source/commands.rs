//! What is asked of a running set, until it is answered.

use stead_api::FailureKind;
use stead_model::SetName;
use stead_model::status::State;
use stead_replication::source::TargetId;

use crate::seam::{CommandId, DataEvent, Events, Failure, Outcome};

/// Commands that are not answered yet.
#[derive(Default)]
pub(super) struct Pending {
    waits: Vec<CommandId>,
    verifies: Vec<CommandId>,
    /// Each with the targets whose mirror has not ended, bit n for target n.
    mirrors: Vec<(CommandId, u32)>,
    /// Each with the targets that have not taken back, and why one could not.
    undos: Vec<(CommandId, u32, Option<String>)>,
}

impl Pending {
    pub(super) fn add_wait(&mut self, id: CommandId) {
        self.waits.push(id);
    }

    pub(super) fn add_verify(&mut self, id: CommandId) {
        self.verifies.push(id);
    }

    pub(super) fn add_mirror(&mut self, id: CommandId, targets: impl Iterator<Item = TargetId>) {
        self.mirrors.push((id, targets.fold(0, |mask, target| mask | 1 << target)));
    }

    pub(super) fn add_undo(&mut self, id: CommandId, targets: &[TargetId]) {
        self.undos.push((id, targets.iter().fold(0, |mask, target| mask | 1 << target), None));
    }

    /// A target took back what the brake halted at, or could not.
    pub(super) fn undone(&mut self, target: TargetId, result: Result<u64, String>, events: &Events) {
        for (id, left, failed) in &mut self.undos {
            *left &= !(1 << target);
            *failed = failed.take().or_else(|| result.clone().err());
            if *left == 0 {
                let failure = |why| Failure::new("not everything was taken back", why, "Look at the target's log");
                let result = failed.take().map_or(Ok(Outcome::Done), |why| Err(failure(why)));
                events.send(DataEvent::CommandDone { id: *id, result });
            }
        }
        self.undos.retain(|(_, left, _)| *left != 0);
    }

    /// Is somebody still waiting for it?
    pub(super) fn has_wait(&self, id: CommandId) -> bool {
        self.waits.contains(&id)
    }

    pub(super) fn forget(&mut self, id: CommandId) {
        self.waits.retain(|wait| *wait != id);
        self.verifies.retain(|verify| *verify != id);
        self.mirrors.retain(|(mirror, _)| *mirror != id);
        self.undos.retain(|(undo, ..)| *undo != id);
    }

    /// Answers a wait or a verify, if somebody still waits.
    pub(super) fn done(&mut self, id: CommandId, result: Result<Outcome, Failure>, events: &Events) {
        if self.waits.contains(&id) || self.verifies.contains(&id) {
            self.forget(id);
            events.send(DataEvent::CommandDone { id, result });
        }
    }

    /// A mirror of the whole set ended on these targets.
    pub(super) fn mirrored(&mut self, targets: u32, events: &Events) {
        for (id, left) in &mut self.mirrors {
            *left &= !targets;
            if *left == 0 {
                events.send(DataEvent::CommandDone { id: *id, result: Ok(Outcome::Done) });
            }
        }
        self.mirrors.retain(|(_, left)| *left != 0);
    }

    /// A connection cannot go on: whoever waits for it is told.
    pub(super) fn stopped(&mut self, failure: &Failure, events: &Events) {
        for id in self.take() {
            events.send(DataEvent::CommandDone { id, result: Err(failure.clone()) });
        }
    }

    /// The set ends: everybody is told.
    pub(super) fn end(&mut self, events: &Events) {
        let undos = std::mem::take(&mut self.undos).into_iter().map(|(id, ..)| id);
        for id in self.take().into_iter().chain(undos) {
            let failure = Failure::new("the set was stopped", "its daemon ends, or it is no longer protected", "");
            events.send(DataEvent::CommandDone { id, result: Err(failure) });
        }
    }
}

impl Pending {
    fn take(&mut self) -> Vec<CommandId> {
        let mirrors = std::mem::take(&mut self.mirrors).into_iter().map(|(id, _)| id);
        let waits = std::mem::take(&mut self.waits).into_iter();
        waits.chain(std::mem::take(&mut self.verifies)).chain(mirrors).collect()
    }
}

/// Why a wait is in vain.
pub(super) fn stuck(set: &SetName, target: &str, state: State, reason: &str) -> Failure {
    let what = format!("the connection of set {set} to {target} is {state}");
    let (reason, remedy) = match state {
        State::Paused => ("nothing is sent until it is resumed", format!("Go on with: stead resume {set}")),
        _ => {
            (reason, "Look at stead status: it says what to do, or what to remove so that it goes on by itself".into())
        }
    };
    Failure::new(what, reason, remedy).kind(FailureKind::Failed)
}
