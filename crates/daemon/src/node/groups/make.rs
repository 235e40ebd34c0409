//! Groups begin and end: written into the plans of all nodes that take part in them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use stead_api::{Answer, Failure, FailureKind, Monitor};
use stead_failover::Record;
use stead_model::plan::{GroupPlan, Mapping, Plan};
use stead_model::{Epoch, GroupName, NodeName, SetName};
use tracing::{info, warn};

use super::super::peers::with_volumes;
use super::super::sets::meant;
use super::Node;
use super::fits::{Question, asked};
use crate::api_server::Responder;
use crate::apply;
use crate::failover::Order;
use crate::failover::config::{self, node_id};
use crate::failover::kept::GroupDir;
use crate::failover::{lease, watchdog};
use crate::job::{self, JobDone};
use crate::node::Applying;
use crate::peer::messages::{Ask, GroupAsk, Tell};
use crate::peer::{Dialer, ask};
use crate::protect;
use crate::seam::Stop;
use crate::state::sets::SetState;

const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// Nodes, each with a half of the secret for its heartbeats.
pub(super) type Halves = Vec<(NodeName, String)>;

/// A group that the other nodes know by now, with the halves of their secrets.
pub(crate) struct Grouped {
    ask: GroupAsk,
    secrets: Halves,
}

impl Node {
    pub(in super::super) fn monitor(&mut self, options: Monitor, responder: Responder) {
        match self.group_of(options) {
            Ok(group) => self.make(group, responder, None),
            Err(failure) => responder.failed(failure),
        }
    }

    /// Has all nodes of a group take part; then the rest of that plan follows.
    fn make(&mut self, group: GroupPlan, responder: Responder, then: Option<Applying>) {
        let question = Question::of(&group, self.plan.group(&group.name));
        let (ask, others) = match self.arrange(group) {
            Ok(arranged) => arranged,
            Err(failure) => return responder.failed(failure),
        };
        let (dialer, own) = (self.dialer.clone(), self.name.clone());
        job::spawn(&self.events, move || {
            let fits = asked(&dialer, &own, question.as_slice());
            let fits = fits.map_err(|unfit| unfit.failure(&format!("group {} was not made", ask.group.name)));
            let result = fits.and_then(|()| tell_others(&dialer, &ask, others));
            let result = result.map(|secrets| Box::new(Grouped { ask, secrets }));
            Some(JobDone::Grouped { result, responder, then })
        });
    }

    /// The group that `stead monitor` asks for, this node being its target.
    fn group_of(&self, options: Monitor) -> Result<GroupPlan, Failure> {
        let what = format!("group {} was not made", options.group);
        let old = self.plan.group(&options.group);
        let (source, target) = match (old, options.sets.first(), &options.source) {
            (Some(old), ..) => (old.source.clone(), old.target.clone()),
            (None, Some(set), _) => (self.known(set, &what)?.source.clone(), self.name.clone()),
            (None, None, Some(source)) => (source.clone(), self.name.clone()),
            (None, None, None) => {
                return Err(Failure::new(what, "nothing says whom to watch", "Name a set with --set"));
            }
        };
        if source == self.name && old.is_none() {
            let remedy = "Run it on the node that is to stand in for this one";
            return Err(Failure::new(what, "the node that is watched is this one", remedy));
        }
        Ok(GroupPlan {
            name: options.group,
            source,
            target,
            witness: options.witness,
            takeover: options.takeover,
            heartbeat: options.heartbeat,
            timeout: options.timeout,
            wait: old.and_then(|old| old.wait),
            on_lease_lost: old.map(|old| old.on_lease_lost).unwrap_or_default(),
            switch_back: options.switch_back,
            references: options.references,
            sets: options.sets,
            paths: options.paths,
            addresses: options.addresses,
            services: options.services,
            resources: old.map(|old| old.resources.clone()).unwrap_or_default(),
            role_files: old.map(|old| old.role_files.clone()).unwrap_or_default(),
            checks: if options.checks.is_empty() {
                old.map(|old| old.checks.clone()).unwrap_or_default()
            } else {
                options.checks
            },
            dns: old.map(|old| old.dns.clone()).unwrap_or_default(),
            hooks: old.map(|old| old.hooks.clone()).unwrap_or_default(),
            scripts: old.map_or(options.scripts.clone(), |old| options.scripts.with_details_of(&old.scripts)),
            fence: old.map(|old| old.fence.clone()).unwrap_or_default(),
        })
    }

    /// Checks a group, and says what the other nodes are to be asked; with this node's halves of their secrets.
    fn arrange(&mut self, group: GroupPlan) -> Result<(GroupAsk, Halves), Failure> {
        let what = format!("group {} was not made", group.name);
        // The witness first: it grants as soon as the source asks.
        let others = [group.witness.as_ref(), Some(&group.source), Some(&group.target)];
        let others: Vec<_> = others.into_iter().flatten().filter(|node| **node != self.name).cloned().collect();
        if let Some(stranger) = others.iter().find(|node| !self.dialer.knows(node)) {
            let why = format!("{stranger} is not trusted here");
            return Err(Failure::new(what, why, "Let it join first: stead invite, stead join"));
        }
        let volumes = self.volumes_of(&group, &what)?;
        let (newest, in_place_of) = (None, None);
        let ask = GroupAsk { epoch: self.first_epoch(&group), group, volumes, newest, in_place_of };
        let plan = with_group(&self.plan, &ask, &what)?;
        for set in &ask.group.sets {
            let turned = plan.turned(set).map_err(|e| Failure::new(&what, e.to_string(), "Nothing was changed"))?;
            drop(turned);
        }
        config::machine(&ask.group, &ask.group.target, false, 1)?;
        let halves = others.into_iter().map(|node| self.groups.secrets.ours(&node).map(|ours| (node, ours)));
        Ok((ask, halves.collect::<Result<_, _>>()?))
    }

    /// The file systems on which the sets are on the target.
    fn volumes_of(&self, group: &GroupPlan, what: &str) -> Result<Vec<(SetName, PathBuf, String)>, Failure> {
        let mut volumes = Vec::new();
        for name in &group.sets {
            let set = self.known(name, what)?;
            if set.source == group.target {
                continue;
            }
            let dirs = SetState::load(&self.state, name)?.dirs;
            let connection = self.plan.connections_of(name).find(|c| c.target == group.target);
            let connection = connection.ok_or_else(|| {
                let remedy = format!("Protect it there first: stead protect … --on {}", group.target);
                Failure::new(what, format!("{} keeps no replica of set {name}", group.target), remedy)
            })?;
            for (path, is_dir) in set.paths.iter().zip(dirs) {
                let Some(mapping) = connection.mapping.iter().find(|mapping| mapping.from == path.path) else {
                    continue;
                };
                volumes.push((name.clone(), path.path.clone(), self.volume_of(mapping, is_dir, group, what)?));
            }
        }
        Ok(volumes)
    }

    /// Only the target sees on which file system its replica is; elsewhere the plan has to know it.
    fn volume_of(&self, mapping: &Mapping, is_dir: bool, group: &GroupPlan, what: &str) -> Result<String, Failure> {
        let (to, target) = (&mapping.to, &group.target);
        if self.name == *target {
            return protect::source::volume_of(to, is_dir);
        }
        mapping.volume.clone().ok_or_else(|| {
            let why = format!("on which file system {} is on {target} is not known here", to.display());
            Failure::new(what, why, format!("Make it on {target}"))
        })
    }

    /// The number of the epoch with which a new group begins.
    fn first_epoch(&self, group: &GroupPlan) -> u64 {
        let epochs = group.sets.iter().filter_map(|set| SetState::load(&self.state, set).ok()?.epoch());
        epochs.map(|epoch| epoch.number).max().unwrap_or(1)
    }

    /// The other nodes know the group: this one begins to run it.
    pub(in super::super) fn grouped(
        &mut self,
        result: Result<Box<Grouped>, Failure>,
        responder: Responder,
        then: Option<Applying>,
    ) {
        let done = result.and_then(|grouped| {
            for (peer, theirs) in grouped.secrets {
                self.learn_secret(&peer, theirs)?;
            }
            self.begin_group(&grouped.ask)
        });
        match (done, then) {
            (Ok(()), Some(applying)) => self.apply_further(applying, responder),
            (done, _) => responder.end(done.map(|()| Answer::Done)),
        }
    }

    /// Does the plan end a group, or, its sets being as they are wanted, want others?
    pub(in super::super) fn has_other_groups(&self, wanted: &Plan, are_sets_done: bool) -> bool {
        let ends = self.plan.groups.iter().any(|group| wanted.group(&group.name).is_none());
        let sets = Plan { groups: self.plan.groups.clone(), ..wanted.clone() };
        let are_so = || apply::steps(&self.plan, &sets, &self.name).is_ok_and(|steps| steps.are_none(&self.plan));
        ends || self.other_group(wanted).is_some() && (are_sets_done || are_so())
    }

    fn other_group<'a>(&self, wanted: &'a Plan) -> Option<&'a GroupPlan> {
        wanted.groups.iter().find(|group| self.plan.group(&group.name) != Some(group))
    }

    /// Ends the groups that are no longer wanted, or makes the first one that is wanted otherwise; then the rest follows.
    pub(in super::super) fn apply_groups(&mut self, wanted: &Plan, applying: Applying, responder: Responder) {
        let ended = self.plan.groups.iter().find(|group| wanted.group(&group.name).is_none()).cloned();
        if let Some(group) = ended {
            return self.end_everywhere(&group.name, responder, Some(applying));
        }
        match self.other_group(wanted) {
            Some(group) if group.other(&self.name).is_some() => {
                self.make(group.clone(), responder, Some(applying));
            }
            Some(group) => responder.failed(self.is_of_others(&group.name, [&group.target, &group.source])),
            None => responder.done(Answer::Done),
        }
    }

    /// Another node asks this one to take part in a group.
    pub(in super::super) fn take_part(&mut self, ask: &GroupAsk, from: &NodeName) -> Result<Tell, Failure> {
        let what = format!("{} does not take part in group {}", self.name, ask.group.name);
        if !ask.group.has(&self.name) || ask.group.other(from).is_none() {
            return Err(Failure::new(what, "its plan names other nodes", "Use releases that fit together"));
        }
        if let Some(known) = self.plan.group(&ask.group.name)
            && !is_of_the_same(known, ask)
        {
            let why = format!("it knows a group of that name already, of {} and {}", known.source, known.target);
            return Err(Failure::new(what, why, "Choose another name"));
        }
        let witness = ask.group.witness.as_ref().filter(|_| ask.in_place_of.is_some());
        if let Some(stranger) = witness.filter(|node| **node != self.name && !self.dialer.knows(node)) {
            let why = format!("it does not trust {stranger}, the witness");
            return Err(Failure::new(what, why, "Let them join first: stead invite, stead join"));
        }
        if ask.in_place_of.is_some() && ask.group.other(&self.name).is_some() {
            self.learn_volumes(&ask.group)?;
        }
        self.begin_group(ask).map(|()| Tell::Done)
    }

    /// The file systems of the replicas here, which were made before there was a group.
    fn learn_volumes(&mut self, group: &GroupPlan) -> Result<(), Failure> {
        let what = format!("{} does not take part in group {}", self.name, group.name);
        let mut plan = self.plan.clone();
        for name in &group.sets {
            let set = self.known(name, &what)?;
            let connection = self.plan.connections_of(name).find(|c| c.target == self.name).cloned();
            let connection =
                connection.ok_or_else(|| Failure::new(&what, format!("set {name} is not kept here"), ""))?;
            let connection = with_volumes(connection, set, &SetState::load(&self.state, name)?.dirs)?;
            plan = plan
                .with_changed(name, Some(&self.name), |known| *known = connection.clone())
                .map_err(|e| Failure::new(&what, e.to_string(), ""))?;
        }
        self.adopt(plan)
    }

    /// Writes a group down and runs it, in the place of one of that name.
    fn begin_group(&mut self, ask: &GroupAsk) -> Result<(), Failure> {
        let group = &ask.group;
        let what = format!("group {} was not made", group.name);
        let plan = with_group(&self.plan, ask, &what)?;
        let is_new = self.plan.group(&group.name).is_none();
        let dir = GroupDir::of(&self.state, &group.name);
        dir.make()?;
        self.plan.group(&group.name).into_iter().for_each(|old| self.release_role_files(old, Some(group)));
        if group.other(&self.name).is_some() && dir.record::<Record>()?.is_none() {
            let first = Record::new(node_id(&group.source));
            let begins = Epoch { number: ask.epoch, ..first.epoch };
            // Who comes to a group that has a history has nothing of it yet.
            let restore = ask.newest.is_some();
            dir.begin(&Record { epoch: ask.newest.unwrap_or(begins), restore, ..first })?;
        }
        self.adopt(plan)?;
        self.raise_epochs(group, ask.epoch);
        self.run_group(group, is_new)
    }

    /// Sets that were younger than others of their group are as old from now on.
    fn raise_epochs(&mut self, group: &GroupPlan, number: u64) {
        for set in &group.sets {
            let Some(planned) = self.plan.set(set).filter(|planned| planned.source == self.name).cloned() else {
                continue;
            };
            let raised = SetState::load(&self.state, set).and_then(|mut kept| {
                let Some(epoch) = kept.epoch().filter(|epoch| epoch.number < number) else { return Ok(()) };
                kept.enter(Epoch { number, ..epoch }, self.applied(set));
                kept.save(&self.state, &planned.name, "source")?;
                self.plane.stop_source(set, Stop::Daemon)?;
                self.start_again(set);
                Ok(())
            });
            raised.unwrap_or_else(|failure| warn!("set {set}: {failure}"));
        }
    }

    pub(in super::super) fn unmonitor(&mut self, group: &GroupName, responder: Responder) {
        if self.plan.group(group).is_none() && self.replaced.is_known(group) {
            return responder.end(self.forget_replaced(group).map(|()| Answer::Done));
        }
        self.end_everywhere(group, responder, None);
    }

    /// Ends a group on all its nodes; then the rest of that plan follows.
    fn end_everywhere(&mut self, group: &GroupName, responder: Responder, then: Option<Applying>) {
        let plan = match self.end_here(group) {
            Ok(plan) => plan,
            Err(failure) => return responder.failed(failure),
        };
        let nodes = [Some(plan.source), Some(plan.target), plan.witness].into_iter().flatten();
        let others: Vec<_> = nodes.filter(|node| *node != self.name).collect();
        let (dialer, group) = (self.dialer.clone(), group.clone());
        job::spawn(&self.events, move || {
            for node in others {
                if let Err(failure) = ask(&dialer, &node, &Ask::Ungroup { group: group.clone() }, ASK_TIMEOUT) {
                    let remedy = format!("run there, once it is back: stead unmonitor {group}");
                    responder.notice(format!("{node} still takes part in it ({}); {remedy}", failure.why));
                }
            }
            Some(JobDone::Ungrouped { responder, then })
        });
    }

    fn end_here(&mut self, group: &GroupName) -> Result<GroupPlan, Failure> {
        let what = format!("group {group} is still watched");
        let plan = self.known_group(group, &what)?.clone();
        self.is_at_home(&plan, &what)?;
        self.end_group(group)?;
        Ok(plan)
    }

    /// The other nodes of a group know that it has ended, as far as they answered.
    pub(in super::super) fn ungrouped(&mut self, responder: Responder, then: Option<Applying>) {
        match then {
            Some(applying) => self.apply_further(applying, responder),
            None => responder.done(Answer::Done),
        }
    }

    /// Refuses to end a group that is not where it belongs.
    pub(in super::super) fn is_at_home(&self, group: &GroupPlan, what: &str) -> Result<(), Failure> {
        let away = group.sets.iter().find(|set| self.plan.set(set).is_some_and(|set| set.source == group.target));
        match away {
            Some(_) => {
                let why = format!("{} stands in for {}", group.target, group.source);
                let remedy = format!("Bring it back first: stead failback {}", group.name);
                Err(Failure::new(what, why, remedy).kind(FailureKind::No))
            }
            None => Ok(()),
        }
    }

    /// Ends a group here; what is up stays up.
    pub(in super::super) fn end_group(&mut self, group: &GroupName) -> Result<(), Failure> {
        let Some(known) = self.plan.group(group) else { return Ok(()) };
        self.release_role_files(known, None);
        let plan = self.plan.without_group(group);
        self.adopt(plan.map_err(|e| Failure::new(format!("group {group} is still watched"), e.to_string(), ""))?)?;
        self.groups.failover.give(Order::End(group.clone()));
        self.groups.told.remove(group);
        self.groups.unheld.remove(group);
        self.keep_leases();
        let dir = GroupDir::of(&self.state, group);
        lease::remove(dir.path());
        dir.remove()?;
        if self.own_groups().is_empty() && !self.groups.is_kept {
            watchdog::end(self.state.path()).unwrap_or_else(|failure| warn!("{failure}"));
        }
        info!("group {group} is no longer watched");
        Ok(())
    }

    /// Another node says that a group has ended.
    pub(in super::super) fn leave_group(&mut self, group: &GroupName, from: &NodeName) -> Result<Tell, Failure> {
        match self.plan.group(group) {
            Some(known) if !known.has(from) => {
                Err(Failure::new(format!("group {group} is still watched"), format!("{from} takes no part in it"), ""))
            }
            _ => self.end_group(group).map(|()| Tell::Done),
        }
    }

    pub(super) fn known_group(&self, name: &GroupName, what: &str) -> Result<&GroupPlan, Failure> {
        self.plan.group(name).ok_or_else(|| {
            let names = self.plan.groups.iter().map(|group| group.name.as_str());
            let known = meant(name.as_str(), names, "this node knows none");
            Failure::new(what, format!("there is no group {name}; {known}"), "Look at: stead status")
        })
    }
}

/// Is it the group that is known, or the same with another source in the place of the one that is known?
fn is_of_the_same(known: &GroupPlan, ask: &GroupAsk) -> bool {
    let source = known.source == ask.group.source || ask.in_place_of.as_ref() == Some(&known.source);
    source && known.target == ask.group.target
}

/// The plan with a group, and with the file systems of its sets on the target.
fn with_group(plan: &Plan, ask: &GroupAsk, what: &str) -> Result<Plan, Failure> {
    let refused = |e: stead_model::plan::PlanError| Failure::new(what, e.to_string(), "Nothing was changed");
    let mut by_set: BTreeMap<&SetName, Vec<(&PathBuf, &String)>> = BTreeMap::new();
    for (set, path, volume) in &ask.volumes {
        by_set.entry(set).or_default().push((path, volume));
    }
    let mut plan = plan.clone();
    for (set, volumes) in by_set.into_iter().filter(|(set, _)| plan.set(set).is_some()).collect::<Vec<_>>() {
        let add = |connection: &mut stead_model::plan::ConnectionPlan| {
            for mapping in &mut connection.mapping {
                let found = volumes.iter().find(|(path, _)| **path == mapping.from);
                mapping.volume = found.map(|(_, volume)| volume.to_string()).or(mapping.volume.take());
            }
        };
        plan = plan.with_changed(set, Some(&ask.group.target), add).map_err(refused)?;
    }
    plan.with_group(ask.group.clone()).map_err(refused)
}

/// Exchanges secrets with the others, and has them take part.
pub(super) fn tell_others(dialer: &Dialer, group: &GroupAsk, others: Halves) -> Result<Halves, Failure> {
    let mut secrets = Vec::new();
    for (node, ours) in others {
        match ask(dialer, &node, &Ask::Secret { secret: ours }, ASK_TIMEOUT)? {
            Tell::Secret(theirs) => secrets.push((node.clone(), theirs)),
            other => {
                let why = format!("{node} answered {other:?}");
                return Err(Failure::new("no secret was exchanged", why, "Use releases that fit together"));
            }
        }
        ask(dialer, &node, &Ask::Group(Box::new(group.clone())), ASK_TIMEOUT)?;
    }
    Ok(secrets)
}
