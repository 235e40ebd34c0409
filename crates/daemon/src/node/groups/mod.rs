//! Groups as the loop sees them: which are run here, by which hands, and what has to be done for them from time to time.

mod checks;
mod failback;
mod fitness;
pub(super) mod fits;
mod inspect;
mod leases;
pub(super) mod make;
mod requests;
mod resettle;
mod restore;
mod secrets;
mod steps;
pub(super) mod trials;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use stead_api::Failure;
use stead_failover::machine::{Fitness, Outcome};
use stead_model::plan::{GroupPlan, Mode, SetPlan};
use stead_model::{Epoch, GroupName, NodeName, SetName};
use stead_resource::{Stop, ocf};
use tracing::{info, warn};

use super::Node;
use crate::event::{Event, GroupEvent};
use crate::failover::config;
use crate::failover::hands::{DataSteps, Hands, Job as HandsJob, Listeners, Places, role_files};
use crate::failover::kept::GroupDir;
use crate::failover::lease::LeaseFile;
use crate::failover::outside::Teller;
use crate::failover::secrets::Secrets;
use crate::failover::watchdog::{self, Orders};
use crate::failover::{Failover, Order, Part, Setup, Told};
use crate::names;
use crate::seam::{CommandId, SetLease};

pub(crate) use resettle::Resettled;
pub(crate) use steps::StoodIn;

/// How often it is looked what has to be done for groups, at most, and for what is not urgent.
const EVERY: Duration = Duration::from_millis(200);
const REST_EVERY: Duration = Duration::from_secs(1);
/// How often a step that waits for the loop looks whether it is to be given up.
const LOOK: Duration = Duration::from_millis(20);

/// What the loop knows of groups.
pub(crate) struct Groups {
    pub(crate) failover: Failover,
    pub(crate) secrets: Secrets,
    /// The watchdog starts this daemon again when it dies.
    is_kept: bool,
    /// What the watcher was told of replicas.
    told: BTreeMap<GroupName, Fitness>,
    /// Sets that this node sends in the place of another one that has to be restored first.
    pub(super) awaiting: BTreeSet<SetName>,
    /// Groups of which a set could not be turned round to that epoch yet.
    unturned: BTreeMap<GroupName, Epoch>,
    /// Sets that are being handed over.
    handing: Vec<steps::Handing>,
    comparisons: Vec<failback::Comparison>,
    checks: checks::Checks,
    /// Since when groups could switch back.
    well_since: BTreeMap<GroupName, Instant>,
    /// Groups that were just made and held no lease yet.
    unheld: BTreeSet<GroupName>,
    /// Which lease the capture of each set follows.
    leases: BTreeMap<SetName, Option<SetLease>>,
    /// Nodes that are being asked for their half of a secret.
    exchanging: BTreeSet<NodeName>,
    exchange_at: Instant,
    /// When it is looked what has to be done, and what is not urgent.
    next: Instant,
    next_rest: Instant,
}

impl Groups {
    pub(crate) fn new(failover: Failover, secrets: Secrets, is_kept: bool) -> Groups {
        Groups {
            failover,
            secrets,
            is_kept,
            told: BTreeMap::new(),
            awaiting: BTreeSet::new(),
            unturned: BTreeMap::new(),
            handing: Vec::new(),
            comparisons: Vec::new(),
            checks: checks::Checks::default(),
            well_since: BTreeMap::new(),
            unheld: BTreeSet::new(),
            leases: BTreeMap::new(),
            exchanging: BTreeSet::new(),
            exchange_at: Instant::now(),
            next: Instant::now(),
            next_rest: Instant::now(),
        }
    }
}

impl Node {
    /// Runs all groups in which this node takes part.
    pub(super) fn run_groups(&mut self) {
        let groups: Vec<_> = self.plan.groups.iter().filter(|group| group.has(&self.name)).cloned().collect();
        for group in groups {
            if let Err(failure) = self.run_group(&group, false) {
                warn!("group {} is not run: {failure}", group.name);
            }
        }
    }

    /// Groups of which this node is one of the two.
    fn own_groups(&self) -> Vec<GroupPlan> {
        self.plan.groups.iter().filter(|group| group.other(&self.name).is_some()).cloned().collect()
    }

    /// The other nodes of all groups in which this node takes part.
    fn partners(&self) -> BTreeSet<NodeName> {
        self.plan.partners(&self.name)
    }

    /// Runs a group, or goes on running it by another plan. `is_new`: it was just made.
    pub(super) fn run_group(&mut self, group: &GroupPlan, is_new: bool) -> Result<(), Failure> {
        let dir = GroupDir::of(&self.state, &group.name);
        dir.make()?;
        let part = match group.other(&self.name) {
            None => Part::Witness { config: config::witness(group)?, ballot: dir.ballot()? },
            Some(_) => {
                let config = config::machine(group, &self.name, self.is_synchronous(group), self.groups.secrets.run())?;
                let record = dir.record()?.ok_or_else(|| {
                    let remedy = format!("Make it again: stead unmonitor {0}, then stead monitor {0}", group.name);
                    Failure::new(format!("group {} is not run", group.name), "what was saved of it is missing", remedy)
                })?;
                Orders::of(&self.on_this_node(group), config.times.stop_budget, names::program()).write(dir.path())?;
                let (hands, lease) = (self.hands(group, &dir)?, LeaseFile::open(dir.path())?);
                let teller = self.teller(&group.name);
                Part::Node { config: Box::new(config), record, hands, lease, teller }
            }
        };
        self.groups.told.remove(&group.name);
        if is_new {
            self.groups.unheld.insert(group.name.clone());
        }
        // Its file may be another one.
        group.sets.iter().for_each(|set| drop(self.groups.leases.remove(set)));
        self.groups.failover.give(Order::Run(Box::new(Setup { plan: group.clone(), dir, part, is_new })));
        info!("group {} is run", group.name);
        self.keep_watchdog();
        Ok(())
    }

    /// Has a watchdog run for as long as a lease may end here, or this daemon is to be started again.
    pub(super) fn keep_watchdog(&self) {
        if !self.groups.is_kept && !self.may_lose_a_lease() {
            return;
        }
        watchdog::ensure(names::program(), self.state.path()).unwrap_or_else(|failure| warn!("{failure}"));
    }

    /// The daemon ends in order: nobody is to be started again.
    pub(super) fn end_watchdog(&self) {
        if self.groups.is_kept && !self.may_lose_a_lease() {
            watchdog::end(self.state.path()).unwrap_or_else(|failure| warn!("{failure}"));
        }
    }

    fn may_lose_a_lease(&self) -> bool {
        self.own_groups().iter().any(|group| group.witness.is_some())
    }

    fn is_synchronous(&self, group: &GroupPlan) -> bool {
        group.sets.iter().flat_map(|set| self.plan.connections_of(set)).any(|c| c.mode == Mode::Sync)
    }

    fn hands(&self, group: &GroupPlan, dir: &GroupDir) -> Result<Hands, Failure> {
        let (events, orders, name) = (self.events.clone(), self.groups.failover.orders(), group.name.clone());
        let data = LoopSteps { group: name.clone(), events };
        let (tells, fails) = (orders.clone(), orders.clone());
        let (told, failed, ended) = (name.clone(), name.clone(), name);
        let listeners = Listeners {
            tell: Arc::new(move |text| tells.give(Order::Say(told.clone(), text))),
            failed: Arc::new(move |reach| fails.give(Order::ResourcesFailed(failed.clone(), reach))),
        };
        Hands::new(
            self.on_this_node(group),
            self.name.clone(),
            self.places_of(group, dir),
            Box::new(data),
            listeners,
            Box::new(move |end| orders.give(Order::Ended(ended.clone(), end))),
        )
    }

    fn places_of(&self, group: &GroupPlan, dir: &GroupDir) -> Places {
        let (roots, paths) = (self.roots_of(group), self.paths_of(group));
        Places { dir: dir.path().to_path_buf(), roots, paths, agents: ocf::root(), program: names::program().into() }
    }

    /// What was in the place of role files that are no longer switched is kept beside them.
    fn release_role_files(&self, group: &GroupPlan, wanted: Option<&GroupPlan>) {
        let dir = GroupDir::of(&self.state, &group.name);
        let stays = |path: &Path| wanted.is_some_and(|wanted| wanted.role_files.iter().any(|file| file.path == path));
        for file in role_files(group, &[], dir.path()).into_iter().filter(|file| !stays(&file.path)) {
            match file.release() {
                Ok(None) => {}
                Ok(Some(kept)) => info!("{} stays; what was there is kept in {}", file.path.display(), kept.display()),
                Err(why) => warn!("what was in the place of {} is lost: {why}", file.path.display()),
            }
        }
    }

    /// The group as it is on this node: with the paths that its sets have here.
    pub(super) fn on_this_node(&self, group: &GroupPlan) -> GroupPlan {
        let paths: Vec<_> = self.sets_of(group).flat_map(|set| self.paths_on(&group.source, set, group)).collect();
        group.with_paths(&paths.into_iter().filter(|(from, to)| from != to).collect::<Vec<_>>())
    }

    /// Paths of the group's sets on either node, each with where it is here: what was written on the other one, and what was
    /// written here.
    pub(super) fn paths_of(&self, group: &GroupPlan) -> Vec<(String, String)> {
        let on = |node| self.sets_of(group).flat_map(move |set| self.paths_on(node, set, group));
        let paths: Vec<_> = on(&group.source).chain(on(&group.target)).collect();
        if paths.iter().all(|(from, to)| from == to) { Vec::new() } else { paths }
    }

    fn sets_of<'a>(&'a self, group: &'a GroupPlan) -> impl Iterator<Item = &'a SetPlan> {
        group.sets.iter().filter_map(|set| self.plan.set(set))
    }

    /// Paths of a set on one of the group's nodes, each with where it is here.
    fn paths_on(&self, on: &NodeName, set: &SetPlan, group: &GroupPlan) -> Vec<(String, String)> {
        let Some(other) = group.other(&set.source) else { return Vec::new() };
        let replica = self.plan.connections_of(&set.name).find(|c| c.target == *other);
        let place = |node: &NodeName, path: &Path| {
            let there = replica.filter(|_| *node != set.source).and_then(|c| c.replica_of(path));
            there.unwrap_or(path).display().to_string()
        };
        set.paths.iter().map(|path| (place(on, &path.path), place(&self.name, &path.path))).collect()
    }

    fn teller(&self, group: &GroupName) -> Teller {
        let (orders, group) = (self.groups.failover.orders(), group.clone());
        let say = move |line| orders.give(Order::Line(group.clone(), Box::new(line)));
        Teller { me: self.name.clone(), say: Arc::new(say) }
    }

    /// Where the sets of a group are on this node.
    pub(super) fn roots_of(&self, group: &GroupPlan) -> Vec<std::path::PathBuf> {
        let mut roots = Vec::new();
        for set in group.sets.iter().filter_map(|set| self.plan.set(set)) {
            let own = set.source == self.name;
            let connection = self.plan.connections_of(&set.name).find(|c| own || c.target == self.name);
            for path in &set.paths {
                let there = connection.filter(|_| !own).and_then(|c| c.replica_of(&path.path));
                roots.push(there.unwrap_or(&path.path).to_path_buf());
            }
        }
        roots
    }

    pub(super) fn on_group(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Told(Told::Epoch(group, epoch)) => {
                self.remember_parts(&group, epoch);
                self.groups.unturned.insert(group, epoch);
                self.turn_the_rest();
                self.tell_fitness();
            }
            GroupEvent::Told(Told::PeerStarted(node, run)) => {
                self.groups.secrets.seen(&node, run).unwrap_or_else(|failure| warn!("{failure}"));
            }
            GroupEvent::Step { group, action, reply } => self.step(&group, action, reply),
        }
    }

    /// What has to be done from time to time.
    pub(super) fn tick_groups(&mut self) {
        let now = Instant::now();
        if now < self.groups.next {
            return;
        }
        self.groups.next = now + EVERY;
        self.keep_leases();
        if self.plan.groups.is_empty() {
            return;
        }
        self.tell_fitness();
        self.look_after_handing();
        self.look_after_comparisons();
        self.check_services();
        self.switch_back();
        if now >= self.groups.next_rest {
            self.groups.next_rest = now + REST_EVERY;
            self.turn_the_rest();
            self.exchange_secrets();
            self.tell_replaced();
            self.keep_watchdog();
        }
    }
}

/// Has the loop do what the data path has to do of a step.
struct LoopSteps {
    group: GroupName,
    events: SyncSender<Event>,
}

impl DataSteps for LoopSteps {
    fn perform(&mut self, job: &HandsJob, stop: &Stop) -> Outcome {
        let (reply, answer) = sync_channel(1);
        let step = GroupEvent::Step { group: self.group.clone(), action: job.action, reply };
        if self.events.send(Event::Group(step)).is_err() {
            return Outcome::Unknown("the daemon ends".into());
        }
        let deadline = Instant::now() + job.action.limit;
        while !stop.is_called() && Instant::now() < deadline {
            if let Ok(outcome) = answer.recv_timeout(LOOK) {
                return outcome;
            }
        }
        Outcome::Unknown("no outcome within its limit".into())
    }
}

/// Ids of commands of the data path that belong to a step.
type Commands = BTreeSet<CommandId>;
