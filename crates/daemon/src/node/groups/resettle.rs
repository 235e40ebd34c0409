//! Replicas get new places: other paths on the node that is restored, or another node in its place.

use std::collections::BTreeMap;

use stead_api::{Failure, FailureKind, MapArg, Restore};
use stead_failover::Record;
use stead_model::plan::{ConnectionPlan, GroupPlan};
use stead_model::{NodeName, SetName};
use tracing::info;

use super::Node;
use super::make::{self, Halves};
use crate::api_server::Responder;
use crate::failover::kept::GroupDir;
use crate::job::{self, JobDone};
use crate::peer::messages::{Ask, GroupAsk, ReplicaAsk, Tell};
use crate::peer::{Dialer, ask};
use crate::protect;
use crate::state::sets::SetState;

/// What was arranged with the node that is to keep the replicas.
pub(crate) struct Resettled {
    options: Restore,
    group: GroupPlan,
    sets: Vec<SetName>,
    old: NodeName,
    /// With the file systems that they are on.
    connections: Vec<ConnectionPlan>,
    secrets: Halves,
}

/// What is to be arranged.
struct Plan {
    options: Restore,
    group: GroupPlan,
    sets: Vec<SetName>,
    old: NodeName,
    new: NodeName,
    asks: Vec<ReplicaAsk>,
    /// How the replicas were kept before, where the same node keeps them on.
    before: BTreeMap<SetName, ReplicaAsk>,
    /// Where another node takes the place of the old one: what all of the group are asked, and whom.
    anew: Option<(GroupAsk, Halves)>,
}

impl Node {
    /// Has the replicas made elsewhere; then the restore begins.
    pub(super) fn resettle(&mut self, group: GroupPlan, sets: Vec<SetName>, options: Restore, responder: Responder) {
        let plan = match self.plan_resettling(group, sets, options) {
            Ok(plan) => plan,
            Err(failure) => return responder.failed(failure),
        };
        self.reserved.extend(plan.sets.iter().cloned());
        let world = self.world();
        job::spawn(&self.events, move || {
            let what = format!("group {} was not restored", plan.group.name);
            let sets = plan.sets.clone();
            let result = job::guarded(&what, || plan.run(&world, &responder));
            Some(JobDone::Resettled { sets, result: result.map(Box::new), responder })
        });
    }

    fn plan_resettling(&mut self, group: GroupPlan, sets: Vec<SetName>, options: Restore) -> Result<Plan, Failure> {
        let what = format!("group {} was not restored", group.name);
        let old = group.other(&self.name).cloned().unwrap_or_else(|| group.source.clone());
        let new = options.to.clone().unwrap_or_else(|| old.clone());
        if let Some(set) = sets.iter().find(|set| self.reserved.contains(*set)) {
            let why = format!("another command is at work on set {set}");
            return Err(Failure::new(what, why, "Wait for the other command to end"));
        }
        if options.to.is_some() {
            self.may_take_place(&group, &old, &new, &what)?;
        }
        self.are_paths_of(&sets, &options.map, &what)?;
        let (mut asks, mut before) = (Vec::new(), BTreeMap::new());
        for name in &sets {
            let along = self.along(&group, name, &what)?.clone();
            let ask = self.replica_ask(name, &along, &options, &what)?;
            let is_moved = ask.set.paths.iter().any(|path| options.map.iter().any(|map| map.from == path.path));
            if options.to.is_none() && !is_moved {
                continue;
            }
            let old_ask = ReplicaAsk { connection: along, into_non_empty: true, ..ask.clone() };
            before.insert(name.clone(), old_ask);
            asks.push(ask);
        }
        let moved = options.to.is_some().then(|| self.group_anew(&group, &old, &new, &what)).transpose()?;
        let group = moved.as_ref().map_or(group, |(ask, _)| ask.group.clone());
        Ok(Plan { options, group, sets, old, new, asks, before, anew: moved })
    }

    /// Refuses a node that cannot be the source, and a source that is not beyond repair.
    fn may_take_place(&self, group: &GroupPlan, old: &NodeName, new: &NodeName, what: &str) -> Result<(), Failure> {
        let no = |why: String, remedy: String| Err(Failure::new(what, why, remedy).kind(FailureKind::No));
        let monitor = self.monitor_of(&group.name);
        let doing = monitor.as_ref().map_or("", |monitor| monitor.doing.as_str());
        // What it said last counts for as long as it is heard.
        let heard = monitor.as_ref().filter(|monitor| monitor.time_to_fail_seconds > 0.0);
        let other = heard.and_then(|monitor| monitor.other.as_deref()).unwrap_or_default();
        match () {
            () if *old != group.source => {
                let why = format!("{old} is the node that stands in, not the source");
                no(why, format!("Protect the sets on {new}, and watch them from there: stead protect, stead monitor"))
            }
            () if doing != "active" => no(format!("{} does not serve", self.name), "Look at: stead status".into()),
            () if matches!(other, "active" | "moving") => no(format!("{old} serves, too"), "Stop it first".into()),
            () if other == "standby" => {
                no(format!("{old} is restored, and stands by"), format!("Have it serve: stead failback {}", group.name))
            }
            () if *new == self.name => no(format!("{new} is the node that serves"), "Name a third node".into()),
            () if new == old => {
                no(format!("{new} is its source already"), format!("Restore it: stead restore {}", group.name))
            }
            () if group.witness.as_ref() == Some(new) => {
                let why = format!("{new} is its witness, which has to be neither of the two");
                no(why, format!("Name another node, or first another witness: stead monitor {} …", group.name))
            }
            () if !self.dialer.knows(new) => {
                let why = format!("{new} is not a node that this one trusts");
                Err(Failure::new(what, why, "Let it join first: stead invite, stead join"))
            }
            () => Ok(()),
        }
    }

    fn are_paths_of(&self, sets: &[SetName], map: &[MapArg], what: &str) -> Result<(), Failure> {
        let usage = |why: String, remedy: &str| Err(Failure::new(what, why, remedy).kind(FailureKind::Usage));
        let paths: Vec<_> = sets.iter().filter_map(|set| self.plan.set(set)).flat_map(|set| &set.paths).collect();
        for MapArg { from, to } in map {
            if !paths.iter().any(|path| path.path == *from) {
                let known: Vec<_> = paths.iter().map(|path| path.path.display().to_string()).collect();
                let why = format!("--map names {}, and the paths here are {}", from.display(), known.join(", "));
                return usage(why, "Map the paths of the sets where they are served now");
            }
            if !to.is_absolute() {
                return usage(format!("{} is not an absolute path", to.display()), "Use --map SRC=DST");
            }
        }
        Ok(())
    }

    /// What the node is asked that is to keep a replica.
    fn replica_ask(
        &self,
        name: &SetName,
        along: &ConnectionPlan,
        options: &Restore,
        what: &str,
    ) -> Result<ReplicaAsk, Failure> {
        let set = self.known(name, what)?.clone();
        let kept = SetState::load(&self.state, name)?;
        let epoch = kept.epoch().ok_or_else(|| Failure::new(what, format!("the epoch of set {name} is unread"), ""))?;
        let mut connection = along.clone();
        if let Some(to) = &options.to {
            (connection.target, connection.route, connection.return_route) = (to.clone(), None, None);
        }
        for mapping in &mut connection.mapping {
            mapping.volume = None;
            if let Some(map) = options.map.iter().find(|map| map.from == mapping.from) {
                mapping.to = map.to.components().collect();
            }
        }
        let into_non_empty = options.into_non_empty;
        Ok(ReplicaAsk { set, connection, dirs: kept.dirs, epoch, bytes: 0, files: 0, into_non_empty })
    }

    /// The group with another source, and who has to know it; under the epoch that stands.
    fn group_anew(
        &mut self,
        group: &GroupPlan,
        old: &NodeName,
        new: &NodeName,
        what: &str,
    ) -> Result<(GroupAsk, Halves), Failure> {
        let record = GroupDir::of(&self.state, &group.name).record::<Record>()?;
        let epoch = record
            .map(|record| record.epoch)
            .ok_or_else(|| Failure::new(what, "what was saved of the group is missing", "Look at the daemon's log"))?;
        let mut group = GroupPlan { source: new.clone(), paths: Vec::new(), ..group.clone() };
        group.fence.remove(old);
        for dns in &mut group.dns {
            // Until the plan says what the new node's own is.
            let value = dns.values.remove(old);
            dns.values.extend(value.map(|value| (new.clone(), value)));
        }
        let others = [Some(new), group.witness.as_ref()].into_iter().flatten().cloned().collect::<Vec<_>>();
        let halves = others.into_iter().map(|node| self.groups.secrets.ours(&node).map(|ours| (node, ours)));
        let halves = halves.collect::<Result<_, _>>()?;
        let (newest, in_place_of) = (Some(epoch), Some(old.clone()));
        Ok((GroupAsk { group, volumes: Vec::new(), epoch: epoch.number, newest, in_place_of }, halves))
    }

    /// The replicas have new places, or it came to nothing.
    pub(in super::super) fn resettled(
        &mut self,
        sets: &[SetName],
        result: Result<Box<Resettled>, Failure>,
        responder: Responder,
    ) {
        self.reserved.retain(|set| !sets.contains(set));
        let done = result.and_then(|done| {
            self.settle_in(&done)?;
            Ok(done)
        });
        match done {
            Ok(done) => self.follow_restore(done.group, done.sets, done.options.no_wait, responder),
            Err(failure) => responder.failed(failure),
        }
    }

    fn settle_in(&mut self, done: &Resettled) -> Result<(), Failure> {
        let what = format!("group {} was not restored", done.group.name);
        for (peer, theirs) in &done.secrets {
            self.learn_secret(peer, theirs.clone())?;
        }
        let anew = done.options.to.as_ref();
        let plan = self.plan.resettled(&done.old, &done.connections, anew.map(|_| &done.group));
        let plan = plan.map_err(|e| Failure::new(what, e.to_string(), "Look at: stead plan show"))?;
        if anew.is_some() {
            self.note_replaced(&done.group, &done.old)?;
        }
        self.adopt(plan)?;
        if anew.is_some() {
            self.run_group(&done.group, false)?;
            info!("group {}: {} is its source in the place of {}", done.group.name, done.group.source, done.old);
        }
        for set in &done.sets {
            self.may_be_restored(set)?;
            match done.connections.iter().find(|connection| connection.set == *set) {
                Some(connection) => self.send_anew(set, &connection.target.clone(), done.options.into_non_empty)?,
                None => self.reconfigure(set)?,
            }
        }
        Ok(())
    }

    /// A connection begins anew, also where it went to the same node before.
    fn send_anew(&mut self, name: &SetName, target: &NodeName, seeded: bool) -> Result<(), Failure> {
        let Some(set) = self.plan.set(name).cloned() else { return Ok(()) };
        let kept = SetState::load(&self.state, name)?;
        let others: Vec<_> = self.plan.connections_of(name).filter(|c| c.target != *target).cloned().collect();
        let without = self.source_spec(&set, &others, &kept, &|_| None)?;
        self.plane.reconfigure_source(without)?;
        self.reconfigure_with(name, &|c| (c.target == *target).then_some(seeded))
    }
}

impl Plan {
    fn run(self, world: &protect::World, responder: &Responder) -> Result<Resettled, Failure> {
        let Plan { options, group, sets, old, new, asks, before, anew } = self;
        let put = |message: Ask| ask(&world.dialer, &new, &message, protect::ASK_TIMEOUT);
        let asks: Vec<_> = asks.into_iter().map(protect::source::measured).collect::<Result<_, _>>()?;
        let agree =
            |question: &ReplicaAsk, told: &_| protect::source::agree_to_delete(question, told, options.yes, responder);
        let undo = |set: &SetName| match before.get(set).filter(|_| options.to.is_none()) {
            Some(before) => Ask::Keep(Box::new(before.clone())),
            None => Ask::Release { set: set.clone(), undo: true },
        };
        protect::keep_all(&put, &asks, &agree, &undo)?;
        let settled = asks.iter().map(|ask| with_volumes(&put, ask)).collect::<Result<Vec<_>, _>>();
        let secrets = settled.as_ref().map_err(Clone::clone).and_then(|_| match &anew {
            Some((group, others)) => make_anew(&world.dialer, group, others),
            None => Ok(Vec::new()),
        });
        match (settled, secrets) {
            (Ok(connections), Ok(secrets)) => Ok(Resettled { options, group, sets, old, connections, secrets }),
            (Err(failure), _) | (_, Err(failure)) => {
                asks.iter().for_each(|ask| drop(put(undo(&ask.set.name))));
                Err(failure)
            }
        }
    }
}

/// The connection with the file systems that its replica is on.
fn with_volumes(put: &dyn Fn(Ask) -> Result<Tell, Failure>, ask: &ReplicaAsk) -> Result<ConnectionPlan, Failure> {
    let set = ask.set.name.clone();
    let Tell::Volumes(volumes) = put(Ask::Volumes { set })? else {
        return Err(Failure::new("the file systems are not known", "it answered something else", ""));
    };
    let mut connection = ask.connection.clone();
    for mapping in &mut connection.mapping {
        let found = volumes.iter().find(|(from, _)| *from == mapping.from);
        mapping.volume = found.map(|(_, volume)| volume.clone());
    }
    Ok(connection)
}

/// Has the new source take part, then the witness.
fn make_anew(dialer: &Dialer, group: &GroupAsk, others: &Halves) -> Result<Halves, Failure> {
    let told = make::tell_others(dialer, group, others.clone());
    if told.is_err() {
        let ungroup = Ask::Ungroup { group: group.group.name.clone() };
        let _ = ask(dialer, &group.group.source, &ungroup, super::requests::ASK_TIMEOUT);
    }
    told
}
