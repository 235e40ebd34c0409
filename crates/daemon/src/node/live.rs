//! Changes of sets that run: pause, limits, the brake's answer, further targets, and whatever a new plan says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use stead_api::{Answer, Failure};
use stead_model::plan::{Change, ConnectionPlan, Limit, Plan, Rate, SetPlan};
use stead_model::status::{ConnectionStatus, State};
use stead_model::{NodeName, SetName};
use tracing::{info, warn};

use super::ops::{Op, of_set};
use super::{Applying, Node};
use crate::api_server::Responder;
use crate::apply::{self, Steps};
use crate::job::{self, JobDone, Rest, Then};
use crate::peer::ask;
use crate::peer::messages::{Ask, Meant, ReplicaChange, Tell};
use crate::protect;
use crate::protect::source::Existing;
use crate::seam::{BrakeAnswer, Stop};
use crate::state::sets::SetState;

/// How long `pause` and `resume` look whether it happened.
const SETTLE: Duration = Duration::from_secs(3);
/// How often a target is told again what it could not be told.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Targets that do not know yet how their set is run, and when they are asked again.
pub(crate) type Untold = BTreeMap<(SetName, NodeName), Instant>;

impl Node {
    pub(super) fn pause(&mut self, set: &SetName, on: Option<&NodeName>, paused: bool, responder: Responder) {
        let what = format!("set {set} was not {}", if paused { "paused" } else { "resumed" });
        let changed = self.as_source(set, &what).and_then(|()| match paused {
            true => Ok(()),
            false => self.is_not_braked(set, on, &what),
        });
        let changed = changed.and_then(|()| self.set_paused(set, on, paused, &responder, &what));
        let changed = changed.and_then(|()| if paused { Ok(()) } else { self.go_on(set, on) });
        match changed {
            Ok(()) => {
                let deadline = Instant::now() + SETTLE;
                self.ops.push(Op::Settle { set: set.clone(), on: on.cloned(), paused, deadline, responder });
            }
            Err(failure) => responder.failed(failure),
        }
    }

    fn set_paused(
        &mut self,
        set: &SetName,
        on: Option<&NodeName>,
        paused: bool,
        responder: &Responder,
        what: &str,
    ) -> Result<(), Failure> {
        let plan = self.plan.with_changed(set, on, |c| c.paused = paused);
        let plan = plan.map_err(|e| Failure::new(what, e.to_string(), "Look at: stead status"))?;
        let before = self.plan.clone();
        self.adopt(plan)?;
        let meant: Vec<_> =
            self.plan.connections_of(set).filter(|c| on.is_none_or(|on| c.target == *on)).cloned().collect();
        for connection in &meant {
            if paused {
                self.pulse.pause(connection);
            } else if let Some(until) = self.pulse.resume(connection, &self.plan.settings_of(connection)) {
                let target = &connection.target;
                responder.notice(format!("{target}: the schedule pauses it until {until}; that pause is over"));
            }
        }
        if let Err(failure) = self.keep_time_of(set) {
            self.adopt(before)?;
            return Err(failure);
        }
        Ok(())
    }

    /// Refuses to resume where all connections that are meant wait for an answer to the brake.
    fn is_not_braked(&self, set: &SetName, on: Option<&NodeName>, what: &str) -> Result<(), Failure> {
        let statuses = self.plane.status();
        let mut meant = statuses.iter().filter(|c| c.set == *set && on.is_none_or(|on| c.target == *on)).peekable();
        let braked = |c: &ConnectionStatus| c.state == State::Halted && c.details.brake.is_some_and(|b| b.halted);
        if meant.peek().is_none() || !meant.all(braked) {
            return Ok(());
        }
        let remedy = format!(
            "Answer it: stead resume {set} --accept-deletions if they are meant, else stead resume {set} --undo"
        );
        Err(Failure::new(what, "the mass-change brake has halted it", remedy))
    }

    /// Connections whose last changes were taken back go on.
    fn go_on(&mut self, set: &SetName, on: Option<&NodeName>) -> Result<(), Failure> {
        self.commands += 1;
        self.plane.answer_brake(set, on, self.commands, BrakeAnswer::GoOn)
    }

    pub(super) fn limit(&mut self, set: &SetName, on: Option<&NodeName>, to: Option<Rate>) -> Result<Answer, Failure> {
        let what = format!("set {set} was not limited");
        self.as_source(set, &what)?;
        let plan = self.plan.with_changed(set, on, |c| c.settings.bandwidth = Some(Limit::of(to)));
        self.adopt(plan.map_err(|e| Failure::new(what, e.to_string(), "Look at: stead status"))?)?;
        self.keep_time_of(set)?;
        Ok(Answer::Done)
    }

    pub(super) fn answer_brake(&mut self, set: &SetName, on: Option<&NodeName>, accept: bool, responder: Responder) {
        let what = format!("the brake of set {set} was not answered");
        if let Err(failure) = self.as_source(set, &what) {
            return responder.failed(failure);
        }
        self.commands += 1;
        let id = self.commands;
        let answer = if accept { BrakeAnswer::Accept } else { BrakeAnswer::Undo };
        match self.plane.answer_brake(set, on, id, answer) {
            Ok(()) => {
                self.ops.push(Op::Command { set: set.clone(), id, deadline: None, progress: false, what, responder })
            }
            Err(failure) => responder.failed(failure),
        }
    }

    pub(super) fn last_verify(&self, set: &SetName) -> Result<Answer, Failure> {
        self.known(set, &format!("no verify of set {set} was found"))?;
        Ok(Answer::LastVerify(self.pulse.last_verify(set).map(|last| (last.at, last.report.clone()))))
    }

    /// Protects what the first options say, then the rest.
    pub(super) fn protect(&mut self, mut rest: Rest, responder: Responder) {
        if rest.sets.is_empty() {
            return match rest.plan {
                Some(applying) => self.apply_further(applying, responder),
                None => responder.done(Answer::Done),
            };
        }
        let first = rest.sets.remove(0);
        let name = match protect::set_name(&first) {
            Ok(name) if !self.reserved.contains(&name) => name,
            Ok(name) => {
                let why = "another command is at work on that set";
                let remedy = "Wait for the other command to end";
                return responder.failed(Failure::new(format!("set {name} was not made"), why, remedy));
            }
            Err(failure) => return responder.failed(failure),
        };
        let existing = match self.existing(&name) {
            Ok(existing) => existing,
            Err(failure) => return responder.failed(failure),
        };
        self.reserved.insert(name.clone());
        let world = self.world();
        job::spawn(&self.events, move || {
            let what = format!("set {name} was not made");
            let arrange = || protect::source::arrange(&world, &name, existing, &first, &responder);
            let result = job::guarded(&what, arrange);
            let then = Then { no_wait: first.no_wait, rest };
            Some(JobDone::Protected { set: name, result: result.map(Box::new), responder, then })
        });
    }

    /// The set of that name, where it is one of this node and runs: it may get another target.
    fn existing(&self, name: &SetName) -> Result<Option<Existing>, Failure> {
        let Some(set) = self.plan.set(name).filter(|set| set.source == self.name) else { return Ok(None) };
        let what = format!("set {name} got no other target");
        self.as_source(name, &what)?;
        let kept = SetState::load(&self.state, name)?;
        let epoch = kept.epoch().ok_or_else(|| Failure::new(what, "its epoch cannot be read", ""))?;
        Ok(Some(Existing { set: set.clone(), dirs: kept.dirs, epoch }))
    }

    /// What the targets of the changed sets are to be told.
    pub(super) fn changes(&self, steps: &Steps) -> Vec<ReplicaChange> {
        // Later than what the plan says now, and earlier than whatever it says next.
        let meant = Some(Meant { number: self.meant.number + 1, ..self.meant });
        let plan = &steps.going_on;
        let of = |set: &SetName| {
            let planned = plan.set(set).cloned();
            let each = plan.connections_of(set).map(|c| for_target(plan, c)).collect::<Vec<_>>();
            planned.into_iter().flat_map(move |set| {
                each.clone().into_iter().map(move |connection| ReplicaChange { set: set.clone(), connection, meant })
            })
        };
        steps.changed.iter().flat_map(of).collect()
    }

    /// The targets were told what changes for them, as far as they answered: now it changes here.
    pub(super) fn changing(
        &mut self,
        steps: Steps,
        wanted: &Plan,
        applying: Applying,
        untold: BTreeMap<(SetName, NodeName), Failure>,
        responder: Responder,
    ) {
        let result = self.change(&steps, wanted, &untold);
        if let Err(failure) = result {
            self.meant.number += 2;
            steps.changed.iter().for_each(|set| self.tell_all(set));
            return responder.failed(failure);
        }
        for ((set, target), failure) in untold {
            responder.notice(format!("{target} does not know the change of set {set} yet ({})", failure.why));
            self.untold.insert((set, target), Instant::now() + TELL_AGAIN);
        }
        let mut ended: BTreeMap<SetName, Vec<NodeName>> = result.unwrap_or_default();
        for (set, target) in steps.dropped {
            ended.entry(set).or_default().push(target);
        }
        let plan = Some(Applying { are_sets_done: true, ..applying });
        self.release(ended.into_iter().collect(), responder, Rest { sets: steps.new, plan });
    }

    fn change(
        &mut self,
        steps: &Steps,
        wanted: &Plan,
        untold: &BTreeMap<(SetName, NodeName), Failure>,
    ) -> Result<BTreeMap<SetName, Vec<NodeName>>, Failure> {
        let refused = |why: String, remedy: &str| Failure::new("the plan was not applied", why, remedy);
        if apply::steps(&self.plan, wanted, &self.name)? != *steps {
            return Err(refused("the plan was changed by another command meanwhile".into(), "Apply it again"));
        }
        let other_rules =
            |set: &SetName| self.plan.set(set).map(|now| &now.rules) != steps.going_on.set(set).map(|next| &next.rules);
        if let Some(((set, target), failure)) = untold.iter().find(|((set, _), _)| other_rules(set)) {
            let why = format!("the rules of set {set} change, and {target} cannot be told: {}", failure.why);
            return Err(refused(why, "Apply the plan again once all targets of the set answer"));
        }
        let before = self.plan.clone();
        let mut ended = BTreeMap::new();
        for set in &steps.ended {
            ended.insert(set.clone(), self.end_source(set)?);
        }
        self.adopt(steps.going_on.clone())?;
        for set in &steps.changed {
            if let Err(failure) = self.reconfigure(set) {
                self.take_back(&before, set)?;
                return Err(failure);
            }
            self.keep_time_of(set)?;
            info!("set {set} runs as the plan says now");
        }
        Ok(ended)
    }

    /// Has the plan say again of a set what it said before.
    fn take_back(&mut self, before: &Plan, set: &SetName) -> Result<(), Failure> {
        let Some(old) = before.set(set).cloned() else { return Ok(()) };
        let connections = before.connections_of(set).cloned().collect();
        let mut plan = self.plan.with_set_changed(old, connections).unwrap_or_else(|_| before.clone());
        plan.defaults = before.defaults.clone();
        self.adopt(plan)
    }

    /// Has the data path run a set as the plan and the time say.
    pub(super) fn reconfigure(&mut self, set: &SetName) -> Result<(), Failure> {
        if self.unstarted.contains_key(set) {
            return Ok(());
        }
        self.reconfigure_with(set, &|_| None)
    }

    /// Writes another target of a running set down, and begins to send to it; or leaves the set as it was.
    pub(super) fn begin_connection(&mut self, connection: ConnectionPlan, seeded: bool) -> Result<(), Failure> {
        let (set, target) = (connection.set.clone(), connection.target.clone());
        let what = format!("set {set} got no other target");
        let before = self.plan.clone();
        let plan = self.plan.with_connection(connection).map_err(|e| Failure::new(what, e.to_string(), ""))?;
        self.adopt(plan)?;
        let begun = self.reconfigure_with(&set, &|c| (c.target == target).then_some(seeded));
        match &begun {
            Ok(()) => info!("set {set} goes to {target} as well from now on"),
            Err(_) => self.adopt(before)?,
        }
        begun
    }

    /// Has a running set follow the plan; `fresh` as in [`Node::source_spec`].
    pub(super) fn reconfigure_with(
        &mut self,
        name: &SetName,
        fresh: &dyn Fn(&ConnectionPlan) -> Option<bool>,
    ) -> Result<(), Failure> {
        let Some(set) = self.plan.set(name).cloned() else { return Ok(()) };
        let connections: Vec<_> = self.plan.connections_of(name).cloned().collect();
        let kept = SetState::load(&self.state, name)?;
        let spec = self.source_spec(&set, &connections, &kept, fresh)?;
        self.plane.reconfigure_source(spec)
    }

    /// A source says how a replica here is run from now on.
    pub(super) fn change_replica(&mut self, change: ReplicaChange, source: &NodeName) -> Result<Tell, Failure> {
        let ReplicaChange { set, connection, meant } = change;
        if self.is_outdated(&set.name, meant) {
            return Ok(Tell::Done);
        }
        let what = format!("replica {} was not changed on {}", set.name, self.name);
        let refused = |why: &str| Failure::new(&what, why, "Look at: stead status, on both nodes");
        let now = self.plan.set(&set.name).ok_or_else(|| refused("no replica of it is kept here"))?;
        let kept = self.plan.connections_of(&set.name).find(|c| c.target == self.name);
        let kept = kept.ok_or_else(|| refused("no replica of it is kept here"))?;
        if now.source != *source || connection.target != self.name || connection.set != set.name {
            return Err(refused("its plan names other nodes"));
        }
        match (now.change_to(&set), kept.change_to(&connection)) {
            (Change::None, Change::None) => return Ok(Tell::Done),
            (Change::Anew(what), _) | (_, Change::Anew(what)) => {
                return Err(refused(&format!("{what} would be another")));
            }
            _ => {}
        }
        let name = set.name.clone();
        let plan = self.plan.with_set_changed(set.clone(), vec![connection.clone()]);
        let plan = plan.map_err(|e| refused(&e.to_string()))?;
        let before = std::mem::replace(&mut self.plan, plan.clone());
        let spec = SetState::load(&self.state, &name).and_then(|state| self.target_spec(&set, &connection, &state));
        self.plan = before;
        let spec = spec?;
        if !self.unstarted.contains_key(&name)
            && let Err(failure) = self.plane.reconfigure_target(spec)
        {
            // What became of it is not known: it is started again, as the plan says.
            warn!("replica {name} is started again: {failure}");
            self.plane.stop_target(&name, Stop::Daemon)?;
            self.unstarted.insert(name.clone(), failure);
            self.retry_at = Instant::now() + Duration::from_secs(1);
        }
        self.adopt(plan)?;
        self.follow_rules(&name).unwrap_or_else(|failure| warn!("{failure}"));
        Ok(Tell::Done)
    }

    /// Has all targets of a set told again how it is run.
    pub(super) fn tell_all(&mut self, set: &SetName) {
        let targets: Vec<_> = self.plan.connections_of(set).map(|c| c.target.clone()).collect();
        self.untold.extend(targets.into_iter().map(|target| ((set.clone(), target), Instant::now())));
    }

    /// Tells the targets that could not be told before.
    pub(super) fn tell_targets(&mut self) {
        let now = Instant::now();
        let plan = &self.plan;
        self.untold.retain(|(set, target), _| plan.connections_of(set).any(|c| c.target == *target));
        let due: BTreeSet<_> =
            self.untold.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).take(1).collect();
        for (set, target) in due {
            self.untold.insert((set.clone(), target.clone()), now + TELL_AGAIN);
            let Some(change) = self.change_for(&set, &target) else { continue };
            let dialer = self.dialer.clone();
            job::spawn(&self.events, move || {
                let told = ask_change(&dialer, change.clone());
                told.is_ok().then(|| JobDone::Told(Box::new(change)))
            });
        }
    }

    /// A target was told how its set is run; if that is another way by now, it may have heard of the two in either order.
    pub(super) fn change_told(&mut self, change: ReplicaChange) {
        let key = (change.set.name.clone(), change.connection.target.clone());
        let now = self.change_for(&key.0, &key.1);
        if now.is_some_and(|now| (now.set, now.connection) != (change.set, change.connection)) {
            self.untold.insert(key, Instant::now());
        } else {
            self.untold.remove(&key);
        }
    }

    fn change_for(&self, set: &SetName, target: &NodeName) -> Option<ReplicaChange> {
        let connection = self.plan.connections_of(set).find(|c| c.target == *target)?;
        let (set, connection) = (self.plan.set(set)?.clone(), for_target(&self.plan, connection));
        Some(ReplicaChange { set, connection, meant: Some(self.meant) })
    }

    /// Was something told already that is meant later? Two connections may bring changes in either order.
    fn is_outdated(&mut self, set: &SetName, meant: Option<Meant>) -> bool {
        let Some(meant) = meant else { return false };
        if self.heard.get(set).is_some_and(|heard| meant.is_outdated_by(*heard)) {
            return true;
        }
        self.heard.insert(set.clone(), meant);
        false
    }

    /// Does everybody whose pause or going on was asked for stand so? Tells the client when that is so or time is up.
    pub(super) fn settled(
        connections: &super::Status,
        set: &SetName,
        on: Option<&NodeName>,
        paused: bool,
        deadline: Instant,
    ) -> bool {
        let of_set = of_set(connections, set).connections;
        let mut meant = of_set.iter().filter(|c| on.is_none_or(|on| c.target == *on));
        Instant::now() >= deadline || meant.all(|c| (c.state == State::Paused) == paused)
    }
}

/// The connection as its target is told it: what the plan's defaults say here holds there.
pub(super) fn for_target(plan: &Plan, connection: &ConnectionPlan) -> ConnectionPlan {
    let settings = connection.settings.or(&plan.defaults.settings);
    ConnectionPlan { settings, ..connection.clone() }
}

pub(super) fn ask_change(dialer: &crate::peer::Dialer, change: ReplicaChange) -> Result<(), Failure> {
    let (set, target): (SetPlan, NodeName) = (change.set.clone(), change.connection.target.clone());
    match ask(dialer, &target, &Ask::Change(Box::new(change)), protect::ASK_TIMEOUT) {
        Ok(Tell::Done) => Ok(()),
        Ok(other) => {
            warn!("{target} was not understood about set {}: {other:?}", set.name);
            Err(Failure::new("it was not understood", format!("it answered {other:?}"), ""))
        }
        Err(failure) => Err(failure),
    }
}
