//! The data path: sessions that move the data of the sets. Each set has threads of its own, which own a mind of
//! `replication` and the hands of `disk` and `capture`; the loop only starts, stops and asks them.

mod cause;
mod relay;
mod source;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

use stead_model::status::ConnectionStatus;
use stead_model::{NodeName, SetName};

use crate::barrier;
use crate::peer::PeerStream;
use crate::seam::{
    BrakeAnswer, Command, CommandId, Context, DataEvent, DataPlane, Failure, SetLease, SourceSpec, StandIn, Stop,
    TargetSpec,
};

use relay::Relay;
use source::SourceSession;
use target::TargetSession;

/// The data path of this node, with no sets yet.
pub(crate) fn new(context: Context) -> Box<dyn DataPlane> {
    Box::new(Data { context, sources: BTreeMap::new(), targets: BTreeMap::new(), relays: BTreeMap::new() })
}

struct Data {
    context: Context,
    sources: BTreeMap<SetName, SourceSession>,
    targets: BTreeMap<SetName, TargetSession>,
    /// Where what is applied to a replica is handed on, by the replica's set.
    relays: BTreeMap<SetName, Arc<Relay>>,
}

impl DataPlane for Data {
    fn start_source(&mut self, spec: SourceSpec) -> Result<(), Failure> {
        let set = spec.set.clone();
        let relay = spec.from_replica.as_ref().map(|origin| self.relay(origin));
        // Over a replica that is handed on there is its guard by now.
        let own = spec.roots.iter().filter(|root| root.is_dir && relay.is_none());
        let dirs: Vec<_> = own.map(|root| root.path.clone()).collect();
        let session = barrier::lifted(dirs.into_iter(), || SourceSession::start(spec, relay.as_ref(), &self.context))?;
        self.sources.insert(set, session);
        Ok(())
    }

    fn stop_source(&mut self, set: &SetName, how: Stop) -> Result<(), Failure> {
        if let Some(session) = self.sources.get_mut(set) {
            session.stop(how)?;
            self.sources.remove(set);
        }
        Ok(())
    }

    fn reconfigure_source(&mut self, spec: SourceSpec) -> Result<(), Failure> {
        match self.sources.get_mut(&spec.set) {
            Some(session) => session.reconfigure(spec),
            None => Err(not_here(&spec.set)),
        }
    }

    fn answer_brake(
        &mut self,
        set: &SetName,
        target: Option<&NodeName>,
        id: CommandId,
        answer: BrakeAnswer,
    ) -> Result<(), Failure> {
        let session = self.sources.get(set).ok_or_else(|| not_here(set))?;
        session.answer_brake(target, id, answer)
    }

    fn start_target(&mut self, spec: TargetSpec) -> Result<(), Failure> {
        let set = spec.set.clone();
        let dirs: Vec<_> = spec.roots.iter().filter(|root| root.is_dir).map(|root| root.path.clone()).collect();
        let relay = self.relay(&set);
        let session = barrier::lifted(dirs.into_iter(), || TargetSession::start(spec, relay, &self.context))?;
        self.targets.insert(set, session);
        Ok(())
    }

    fn reconfigure_target(&mut self, spec: TargetSpec) -> Result<(), Failure> {
        let session = self.targets.remove(&spec.set).ok_or_else(|| not_here(&spec.set))?;
        if session.spec() == &spec {
            self.targets.insert(spec.set.clone(), session);
            return Ok(());
        }
        // The source connects again and goes on where it was.
        session.stop(Stop::Daemon)?;
        self.start_target(spec)
    }

    fn stop_target(&mut self, set: &SetName, how: Stop) -> Result<(), Failure> {
        match self.targets.remove(set) {
            Some(session) => session.stop(how),
            None => Ok(()),
        }
    }

    fn stand_in(&mut self, set: &SetName, as_is: bool) -> Result<StandIn, Failure> {
        let session = self.targets.remove(set).ok_or_else(|| not_here(set))?;
        Ok(Box::new(move || session.stand_in(as_is)))
    }

    fn runs_source(&self, set: &SetName) -> bool {
        self.sources.contains_key(set)
    }

    fn freeze(&mut self, set: &SetName, frozen: bool) -> Result<(), Failure> {
        self.sources.get(set).ok_or_else(|| not_here(set))?.freeze(frozen)
    }

    fn lease(&mut self, set: &SetName, lease: Option<&SetLease>) -> Result<(), Failure> {
        self.sources.get_mut(set).ok_or_else(|| not_here(set))?.lease(lease)
    }

    fn incoming(&mut self, set: &SetName, _source: &NodeName, stream: PeerStream) {
        match self.targets.get(set) {
            Some(session) => session.incoming(stream),
            None => drop(stream),
        }
    }

    fn command(&mut self, set: &SetName, id: CommandId, command: Command) {
        let done = match self.sources.get(set) {
            Some(session) => session.command(id, command),
            None => Err(not_here(set)),
        };
        if let Err(failure) = done {
            self.context.events.send(DataEvent::CommandDone { id, result: Err(failure) });
        }
    }

    fn forget(&mut self, id: CommandId) {
        for session in self.sources.values() {
            session.forget(id);
        }
    }

    fn limit(&mut self, set: &SetName, target: &NodeName, rate: Option<u64>) {
        if let Some(session) = self.sources.get(set) {
            session.limit(target, rate);
        }
    }

    fn status(&self) -> Vec<ConnectionStatus> {
        let sources = self.sources.values().flat_map(SourceSession::status);
        let targets = self.targets.values().map(TargetSession::status);
        sources.chain(targets).collect()
    }
}

impl Data {
    fn relay(&mut self, origin: &SetName) -> Arc<Relay> {
        self.relays.entry(origin.clone()).or_default().clone()
    }
}

fn not_here(set: &SetName) -> Failure {
    Failure::new(
        format!("set {set} does nothing on this node"),
        "its sessions are not running here",
        "Look at: stead status, and at the daemon's log",
    )
}
