//! A data path that moves nothing: it takes part in everything but the data.

use std::collections::BTreeMap;

use stead_model::status::{ConnectionStatus, MirrorStatus, Positions, QueueStatus, State, Timestamp};
use stead_model::{NodeName, SetName};

use crate::peer::PeerStream;
use crate::seam::{
    Command, CommandId, Context, DataEvent, DataPlane, Failure, Outcome, SourceSpec, Stop, TargetSpec, VerifyReport,
};

/// Remembers what was started and answers every command as done.
pub(crate) struct Idle {
    context: Context,
    sources: BTreeMap<SetName, SourceSpec>,
    targets: BTreeMap<SetName, TargetSpec>,
}

impl Idle {
    pub(crate) fn new(context: Context) -> Idle {
        Idle { context, sources: BTreeMap::new(), targets: BTreeMap::new() }
    }
}

impl DataPlane for Idle {
    fn start_source(&mut self, spec: SourceSpec) -> Result<(), Failure> {
        self.sources.insert(spec.set.clone(), spec);
        Ok(())
    }

    fn stop_source(&mut self, set: &SetName, _how: Stop) -> Result<(), Failure> {
        self.sources.remove(set);
        Ok(())
    }

    fn start_target(&mut self, spec: TargetSpec) -> Result<(), Failure> {
        self.targets.insert(spec.set.clone(), spec);
        Ok(())
    }

    fn stop_target(&mut self, set: &SetName, _how: Stop) -> Result<(), Failure> {
        self.targets.remove(set);
        Ok(())
    }

    fn incoming(&mut self, _set: &SetName, _source: &NodeName, stream: PeerStream) {
        drop(stream);
    }

    fn command(&mut self, _set: &SetName, id: CommandId, command: Command) {
        let outcome = match command {
            Command::Verify { .. } => Outcome::Verified(VerifyReport::default()),
            _ => Outcome::Done,
        };
        let events = self.context.events.clone();
        std::thread::spawn(move || events.send(DataEvent::CommandDone { id, result: Ok(outcome) }));
    }

    fn forget(&mut self, _id: CommandId) {}

    fn status(&self) -> Vec<ConnectionStatus> {
        let from_here = self.sources.values().flat_map(|s| s.targets.iter().map(move |t| (&s.set, &s.node, &t.node)));
        let to_here = self.targets.values().map(|t| (&t.set, &t.source, &t.node));
        from_here.chain(to_here).map(|(set, source, target)| replicating(set, source, target)).collect()
    }
}

fn replicating(set: &SetName, source: &NodeName, target: &NodeName) -> ConnectionStatus {
    ConnectionStatus {
        set: set.clone(),
        source: source.clone(),
        target: target.clone(),
        state: State::Replicating,
        reason: None,
        since: Timestamp(0),
        mirror: MirrorStatus::default(),
        queue: QueueStatus::default(),
        lag_seconds: Some(0.0),
        consistent_at: None,
        capture: "none".into(),
        epoch: 1,
        positions: Positions::default(),
    }
}
