//! Sets and their sessions: what the plan wants is started, what it no longer wants is ended.

use std::time::Instant;

use stead_api::{Answer, Failure};
use stead_model::plan::{Brake, ConnectionPlan, Plan, SetPlan, Settings};
use stead_model::status::{
    Cause, ConnectionStatus, Details, MirrorStatus, Positions, QueueStatus, State, Status, Timestamp,
};
use stead_model::{NodeName, SetName};
use tracing::{info, warn};

use super::ops::{Op, of_set};
use super::{Node, RETRY};
use crate::api_server::Responder;
use crate::job::{self, JobDone, Kept, Rest, Then};
use crate::peer::ask;
use crate::peer::messages::{Ask, Standing};
use crate::protect;
use crate::seam::{SourceRoot, SourceSpec, Stop, TargetLink, TargetRoot, TargetSpec};
use crate::state::files;
use crate::state::replaced::Own;
use crate::state::sets::{self, SetState};

impl Node {
    /// Starts everything that the plan names.
    pub(super) fn start_all(&mut self) {
        // What is handed on comes after what it comes from.
        let hands_on = |set: &&SetPlan| set.relay.is_some() && set.source == self.name;
        let (relays, others): (Vec<_>, Vec<_>) = self.plan.sets.iter().partition(hands_on);
        let names: Vec<_> = others.into_iter().chain(relays).map(|set| set.name.clone()).collect();
        names.iter().for_each(|name| self.start_again(name));
    }

    pub(super) fn retry_unstarted(&mut self) {
        let names: Vec<_> = self.unstarted.keys().cloned().collect();
        names.iter().for_each(|name| self.start_again(name));
    }

    /// Ends all sessions; capture goes on.
    pub(super) fn stop_all(&mut self) {
        for set in self.plan.sets.clone() {
            let name = &set.name;
            if self.unstarted.contains_key(name) {
                continue;
            }
            let stopped = if set.source == self.name {
                self.plane.stop_source(name, Stop::Daemon)
            } else {
                self.plane.stop_target(name, Stop::Daemon)
            };
            if let Err(failure) = stopped {
                warn!("set {name}: {failure}");
            }
        }
    }

    /// Starts a session again that ended by itself: at once, and then as one that could not be started.
    pub(super) fn session_ended(&mut self, name: &SetName, failure: Failure) {
        warn!("set {name} ended and is started again: {failure}");
        if let Err(failure) = self.plane.stop_source(name, Stop::Daemon) {
            warn!("set {name}: {failure}");
        }
        self.unstarted.insert(name.clone(), failure);
        self.start_again(name);
    }

    pub(super) fn start_again(&mut self, name: &SetName) {
        match self.start(name, false, false) {
            Ok(()) => {
                self.unstarted.remove(name);
            }
            Err(failure) => {
                if self.unstarted.insert(name.clone(), failure.clone()) != Some(failure.clone()) {
                    warn!("set {name} is not started: {failure}");
                }
                self.retry_at = Instant::now() + RETRY;
            }
        }
    }

    /// What the clock and the targets have to do with a set that runs now.
    fn begun(&mut self, name: &SetName) {
        self.pulse.begun(name);
        self.load_report(name);
        self.tell_all(name);
        if let Err(failure) = self.keep_time_of(name) {
            warn!("set {name}: {failure}");
        }
    }

    fn start(&mut self, name: &SetName, fresh: bool, seeded: bool) -> Result<(), Failure> {
        let Some(set) = self.plan.set(name).cloned() else { return Ok(()) };
        let connections: Vec<_> = self.plan.connections_of(name).cloned().collect();
        let kept = SetState::load(&self.state, name)?;
        if set.source == self.name {
            self.has_origin(&set)?;
            let spec = self.source_spec(&set, &connections, &kept, &|_| fresh.then_some(seeded))?;
            self.plane.start_source(spec)?;
            self.begun(name);
            Ok(())
        } else if let Some(connection) = connections.iter().find(|c| c.target == self.name) {
            let spec = self.target_spec(&set, connection, &kept)?;
            self.plane.start_target(spec)
        } else {
            Ok(())
        }
    }

    /// Begins to keep a replica that was just written down, or forgets it again.
    pub(super) fn start_replica(&mut self, name: &SetName) -> Result<(), Failure> {
        let started = self.start(name, true, false);
        if started.is_err() {
            let plan = self.plan.without_set(name).unwrap_or_else(|_| self.plan.clone());
            let undone = self.adopt(plan).and_then(|()| sets::remove(&self.state, name));
            undone.unwrap_or_else(|failure| warn!("set {name}: {failure}"));
        }
        started
    }

    /// `fresh` says of a connection whether it was just made, and if so whether its replica was filled from a copy.
    pub(super) fn source_spec(
        &self,
        set: &SetPlan,
        connections: &[ConnectionPlan],
        kept: &SetState,
        fresh: &dyn Fn(&ConnectionPlan) -> Option<bool>,
    ) -> Result<SourceSpec, Failure> {
        let broken = |why: String| Failure::new(format!("set {} cannot be started", set.name), why, "Protect it again");
        let root = |(path, is_dir): (&stead_model::plan::PathPlan, &bool)| {
            let volume = path.volume_id().map_err(|e| broken(e.to_string()))?;
            Ok(SourceRoot { path: path.path.clone(), volume, is_dir: *is_dir })
        };
        let link = |c: &ConnectionPlan| {
            let settings = unbraked(set, self.plan.settings_of(c));
            TargetLink {
                node: c.target.clone(),
                route: c.route,
                mode: c.mode,
                fresh: fresh(c).is_some(),
                seeded: fresh(c).unwrap_or_default(),
                paused: kept.restore || self.pulse.is_paused(c, &settings),
                settings,
            }
        };
        Ok(SourceSpec {
            set: set.name.clone(),
            node: self.name.clone(),
            roots: set.paths.iter().zip(&kept.dirs).map(root).collect::<Result<_, _>>()?,
            rules: self.rules_of(set),
            capture: set.capture,
            order: set.order,
            epoch: kept.epoch().ok_or_else(|| broken("its epoch cannot be read".into()))?,
            state_dir: self.state.set(&set.name).join("source"),
            from_replica: set.relay.clone(),
            lease: self.lease_to_begin_with(&set.name)?,
            targets: connections.iter().map(link).collect(),
        })
    }

    pub(super) fn target_spec(
        &self,
        set: &SetPlan,
        connection: &ConnectionPlan,
        kept: &SetState,
    ) -> Result<TargetSpec, Failure> {
        let broken =
            |why: &str| Failure::new(format!("replica {} cannot be started", set.name), why, "Protect it again");
        let root = |(path, is_dir): (&stead_model::plan::PathPlan, &bool)| {
            let to = connection.replica_of(&path.path).ok_or_else(|| broken("a path has no mapping"))?;
            Ok(TargetRoot { path: to.to_path_buf(), is_dir: *is_dir })
        };
        Ok(TargetSpec {
            set: set.name.clone(),
            node: self.name.clone(),
            source: set.source.clone(),
            epoch: kept.epoch().ok_or_else(|| broken("its epoch cannot be read"))?,
            roots: set.paths.iter().zip(&kept.dirs).map(root).collect::<Result<_, _>>()?,
            rules: set.rules.clone(),
            without: connection.without.clone(),
            mode: connection.mode,
            settings: unbraked(set, self.plan.settings_of(connection).at_target()),
            state_dir: self.state.set(&set.name).join("target"),
        })
    }

    /// The end of what `protect` arranges with the target: write it down and begin, or undo it there.
    pub(super) fn protected(
        &mut self,
        name: &SetName,
        result: Result<Box<Kept>, Failure>,
        responder: Responder,
        then: Then,
    ) {
        self.reserved.remove(name);
        let kept = match result {
            Ok(kept) => kept,
            Err(failure) => return responder.failed(failure),
        };
        let target = kept.connection.target.clone();
        let begun = match kept.joins {
            true => self.begin_connection(kept.connection, kept.seeded),
            false => self.begin_source(*kept),
        };
        match begun {
            Ok(()) if !then.rest.is_none() => self.protect(then.rest, responder),
            Ok(()) if then.no_wait => {
                let status = of_set(&self.local_status(), name);
                responder.done(Answer::Protected { set: name.clone(), status });
            }
            Ok(()) => self.ops.push(Op::FirstMirror { set: name.clone(), responder }),
            Err(failure) => self.undo_at(target, name.clone(), failure, responder),
        }
    }

    fn begin_source(&mut self, kept: Kept) -> Result<(), Failure> {
        let name = kept.set.name.clone();
        let what = format!("set {name} was not made");
        let seeded = kept.seeded;
        let plan =
            self.plan.with_set(kept.set, vec![kept.connection]).map_err(|e| Failure::new(what, e.to_string(), ""))?;
        SetState::begin(kept.epoch, kept.dirs, Vec::new()).save(&self.state, &name, "source")?;
        let before = self.plan.clone();
        let begun = self.adopt(plan).and_then(|()| self.start(&name, true, seeded));
        if begun.is_err() {
            let undone = self.adopt(before).and_then(|()| sets::remove(&self.state, &name));
            undone.unwrap_or_else(|failure| warn!("set {name}: {failure}"));
        } else {
            info!("set {name} is protected from now on");
        }
        begun
    }

    fn undo_at(&self, target: NodeName, set: SetName, failure: Failure, responder: Responder) {
        let dialer = self.dialer.clone();
        job::spawn(&self.events, move || {
            if let Err(undo) =
                ask(&dialer, &target, &Ask::Release { set: set.clone(), undo: true }, protect::ASK_TIMEOUT)
            {
                responder.notice(format!("{target} still holds what was prepared for set {set}: {undo}"));
            }
            responder.failed(failure);
            None
        });
    }

    pub(super) fn unprotect(&mut self, name: &SetName, force: bool, responder: Responder) {
        let what = format!("set {name} is still protected");
        if let Some(group) = self.plan.group_of(name).filter(|_| !force) {
            let why = format!("it goes with group {}, which is watched", group.name);
            let remedy = format!("End that first: stead unmonitor {}", group.name);
            return responder.failed(Failure::new(what, why, remedy));
        }
        let ended = match self.known(name, &what).cloned() {
            Ok(set) if set.source != self.name => {
                return responder.end(self.release_replica(&set, force, &what).map(|()| Answer::Done));
            }
            Ok(_) => self.end_source_as(name, Stop::Unprotect),
            Err(failure) => return responder.failed(failure),
        };
        match ended {
            Ok(targets) => self.release(vec![(name.clone(), targets)], responder, Rest::default()),
            Err(_) => self.name_those_at_work(name, responder),
        }
    }

    /// Says who works in a set that is to end.
    fn name_those_at_work(&self, name: &SetName, responder: Responder) {
        let (set, paths) = (name.clone(), self.plan.set(name).map(|set| set.paths.clone()).unwrap_or_default());
        job::spawn(&self.events, move || {
            paths.iter().for_each(|path| protect::source::name_busy(&path.path, &responder));
            Some(JobDone::Named { set, responder })
        });
    }

    /// Ends the protection of a set in which somebody works.
    pub(super) fn unprotect_open(&mut self, name: &SetName, responder: Responder) {
        match self.end_source_as(name, Stop::UnprotectOpen) {
            Ok(targets) => self.release(vec![(name.clone(), targets)], responder, Rest::default()),
            Err(failure) => responder.failed(failure),
        }
    }

    /// Ends the protection of a set whose source this node is; returns the targets that do not know it yet.
    pub(super) fn end_source(&mut self, name: &SetName) -> Result<Vec<NodeName>, Failure> {
        self.end_source_as(name, Stop::Unprotect).or_else(|_| self.end_source_as(name, Stop::UnprotectOpen))
    }

    fn end_source_as(&mut self, name: &SetName, how: Stop) -> Result<Vec<NodeName>, Failure> {
        let targets: Vec<_> = self.plan.connections_of(name).map(|c| c.target.clone()).collect();
        if !self.unstarted.contains_key(name) {
            self.plane.stop_source(name, how)?;
        }
        self.unstarted.remove(name);
        let what = format!("set {name} is still protected");
        let plan = self.plan.without_set(name).map_err(|e| Failure::new(what, e.to_string(), ""))?;
        self.adopt(plan)?;
        sets::remove(&self.state, name)?;
        info!("set {name} is no longer protected");
        Ok(targets)
    }

    /// Tells targets that sets are no longer protected, then protects the rest; the client is answered in the end.
    pub(super) fn release(&mut self, ended: Vec<(SetName, Vec<NodeName>)>, responder: Responder, rest: Rest) {
        let sets: Vec<_> = ended.iter().map(|(set, _)| set.clone()).collect();
        self.reserved.extend(sets.iter().cloned());
        let dialer = self.dialer.clone();
        job::spawn(&self.events, move || {
            for (set, target) in ended.iter().flat_map(|(set, targets)| targets.iter().map(move |t| (set, t))) {
                let question = Ask::Release { set: set.clone(), undo: false };
                if let Err(failure) = ask(&dialer, target, &question, protect::ASK_TIMEOUT) {
                    let remedy = format!("run there, once it is back: stead unprotect {set} --force");
                    responder
                        .notice(format!("{target} still guards the replica of set {set} ({}); {remedy}", failure.why));
                }
            }
            Some(JobDone::Released { sets, responder, rest })
        });
    }

    fn release_replica(&mut self, set: &SetPlan, force: bool, what: &str) -> Result<(), Failure> {
        if let Some(relay) = self.relays_of(&set.name).first().filter(|_| force) {
            let why = format!("set {relay} hands its replica on");
            return Err(Failure::new(what, why, format!("End that first: stead unprotect {relay}")));
        }
        if !force {
            let why = format!("this node only keeps its replica; its source is {}", set.source);
            let remedy = format!(
                "Run stead unprotect {0} on {1}; where {1} is gone for good: stead unprotect {0} --force",
                set.name, set.source
            );
            return Err(Failure::new(what, why, remedy));
        }
        self.drop_replica(&set.name, false)
    }

    /// Keeps a replica no longer. The files stay; with `undo` the empty directories go that were made for it.
    pub(super) fn drop_replica(&mut self, name: &SetName, undo: bool) -> Result<(), Failure> {
        let what = format!("replica {name} is still kept");
        self.end_relays(name)?;
        if self.unstarted.remove(name).is_none() {
            self.plane.stop_target(name, Stop::Unprotect)?;
        }
        let made = SetState::load(&self.state, name).map(|kept| kept.made).unwrap_or_default();
        let plan = self.plan.without_set(name).map_err(|e| Failure::new(what, e.to_string(), ""))?;
        self.adopt(plan)?;
        sets::remove(&self.state, name)?;
        if undo {
            protect::target::unmake(&made);
        }
        Ok(())
    }

    /// Makes that the plan.
    pub(super) fn adopt(&mut self, plan: Plan) -> Result<(), Failure> {
        files::write(&self.state.file("plan.toml"), plan.to_toml().as_bytes(), 0o600)?;
        self.plan = plan;
        self.meant.number += 2;
        self.heard.retain(|set, _| self.plan.set(set).is_some());
        Ok(())
    }

    pub(super) fn known(&self, name: &SetName, what: &str) -> Result<&SetPlan, Failure> {
        self.plan.set(name).ok_or_else(|| {
            let known =
                meant(name.as_str(), self.plan.sets.iter().map(|set| set.name.as_str()), "this node knows no set");
            Failure::new(what, format!("there is no set {name}; {known}"), "Look at: stead status")
        })
    }

    /// Refuses unless this node is the set's source and it runs.
    pub(super) fn as_source(&self, name: &SetName, what: &str) -> Result<(), Failure> {
        let set = self.known(name, what)?;
        if set.source != self.name {
            let why = format!("this node only keeps its replica; its source is {}", set.source);
            return Err(Failure::new(what, why, format!("Run the command on {}", set.source)));
        }
        match self.unstarted.get(name) {
            Some(failure) => Err(Failure::new(what, failure.to_string(), "It is tried again every 10 s")),
            None => Ok(()),
        }
    }

    /// Says why there is no session, as the last attempt to make one found.
    fn explain(&self, connection: &mut ConnectionStatus) {
        if connection.state == State::Disconnected && connection.source == self.name {
            connection.reason = self.dialer.trouble(&connection.target).or(connection.reason.take());
        }
    }

    /// The connections of this node: as the data path tells them, and those that it could not start.
    pub(super) fn local_status(&self) -> Status {
        let mut connections = self.plane.status();
        connections.iter_mut().for_each(|connection| {
            self.explain(connection);
            self.awaits_restore(connection);
            self.awaits_fork(connection);
        });
        for (name, failure) in &self.unstarted {
            let Some(set) = self.plan.set(name) else { continue };
            let own = |c: &&ConnectionPlan| set.source == self.name || c.target == self.name;
            connections.extend(self.plan.connections_of(name).filter(own).map(|c| unstarted(set, c, failure)));
        }
        self.describe(&mut connections);
        connections.sort_by(|a, b| (&a.set, &a.target).cmp(&(&b.set, &b.target)));
        let monitors = self.groups.failover.monitors();
        let remarks = self.replaced.own.iter().map(Own::text).collect();
        let dropped_heartbeats = self.groups.failover.dropped(&self.name);
        Status { node: self.name.clone(), connections, monitors, unreachable: Vec::new(), remarks, dropped_heartbeats }
    }

    /// What this node tells others of how everything stands.
    pub(super) fn standing(&self) -> Standing {
        let Status { connections, monitors, dropped_heartbeats, .. } = self.local_status();
        Standing { connections, monitors, dropped_heartbeats }
    }

    /// What is sent in the place of a node that has to be restored first.
    fn awaits_restore(&self, connection: &mut ConnectionStatus) {
        if self.groups.awaiting.contains(&connection.set) && connection.source == self.name {
            let group = self.plan.group_of(&connection.set).map_or("", |group| group.name.as_str());
            connection.state = State::RestoreRequired;
            connection.reason = Some(format!("{} has to be restored: stead restore {group}", connection.target));
        }
    }
}

/// Which of the known names was meant, or which there are.
pub(super) fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>, none: &str) -> String {
    let known: Vec<_> = known.collect();
    match stead_model::nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => none.into(),
        None => format!("known are {}", known.join(", ")),
    }
}

/// What is handed on passed the brake of the set that it comes from.
fn unbraked(set: &SetPlan, settings: Settings) -> Settings {
    let brake = Brake { deletions: None, rewrites: None, ..settings.brake };
    if set.relay.is_some() { Settings { brake, ..settings } } else { settings }
}

fn unstarted(set: &SetPlan, connection: &ConnectionPlan, failure: &Failure) -> ConnectionStatus {
    ConnectionStatus {
        set: set.name.clone(),
        source: set.source.clone(),
        target: connection.target.clone(),
        state: State::Halted,
        reason: Some(format!("{}: {}", failure.what, failure.why)),
        since: Timestamp(0),
        mirror: MirrorStatus::default(),
        queue: QueueStatus::default(),
        lag_seconds: None,
        consistent_at: None,
        capture: "none".into(),
        epoch: 0,
        positions: Positions::default(),
        details: Details { cause: Some(Cause::NotStarted), remedy: Some(failure.remedy.clone()), ..Details::default() },
    }
}
