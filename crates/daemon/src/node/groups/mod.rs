//! Groups as the loop sees them: which are run here, which way their sets go, and how fit their replicas are.

mod checks;
pub(super) mod make;
mod requests;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use stead_api::Failure;
use stead_failover::Record;
use stead_failover::machine::{Fitness, Outcome};
use stead_model::plan::{GroupPlan, Mode};
use stead_model::status::{ConnectionStatus, State, SyncState};
use stead_model::{Epoch, GroupName, NodeName, Position, SetName};
use tracing::{info, warn};

use super::Node;
use crate::event::{Event, GroupEvent};
use crate::failover::config::{self, node_id};
use stead_resource::Stop as HandsStop;

use crate::failover::hands::{DataSteps, Hands, Job as HandsJob};
use crate::failover::kept::GroupDir;
use crate::failover::lease::LeaseFile;
use crate::failover::secrets::Secrets;
use crate::failover::watchdog::{self, Orders};
use crate::failover::{Failover, Order, Part, Setup, Told};
use crate::job::{self, JobDone};
use crate::peer::ask;
use crate::peer::messages::{Ask, Tell};
use crate::seam::{CommandId, Stop};
use crate::state::sets::{self, SetState};

pub(crate) use steps::StoodIn;

/// How often nodes whose half of a secret is not known are asked for it.
const EXCHANGE_AGAIN: Duration = Duration::from_secs(10);
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a step that waits for the loop looks whether it is to be given up.
const LOOK: Duration = Duration::from_millis(20);

/// What the loop knows of groups.
pub(crate) struct Groups {
    pub(crate) failover: Failover,
    pub(crate) secrets: Secrets,
    /// What the watcher was told of replicas.
    told: BTreeMap<GroupName, Fitness>,
    /// Sets that this node sends in the place of another one that has to be restored first.
    pub(super) awaiting: BTreeSet<SetName>,
    /// Sets that are being handed over.
    handing: Vec<steps::Handing>,
    checks: checks::Checks,
    /// Since when groups could switch back.
    well_since: BTreeMap<GroupName, Instant>,
    /// Nodes that are being asked for their half of a secret.
    exchanging: BTreeSet<NodeName>,
    exchange_at: Instant,
}

impl Groups {
    pub(crate) fn new(failover: Failover, secrets: Secrets) -> Groups {
        Groups {
            failover,
            secrets,
            told: BTreeMap::new(),
            awaiting: BTreeSet::new(),
            handing: Vec::new(),
            checks: checks::Checks::default(),
            well_since: BTreeMap::new(),
            exchanging: BTreeSet::new(),
            exchange_at: Instant::now(),
        }
    }
}

impl Node {
    /// Has the sets of groups go the way that the newest epoch says, before any of them is started.
    pub(super) fn orient_groups(&mut self) {
        for group in self.own_groups() {
            match GroupDir::of(&self.state, &group.name).record::<Record>() {
                Ok(Some(record)) => self.orient(&group, record.epoch),
                Ok(None) => {}
                Err(failure) => warn!("group {}: {failure}", group.name),
            }
            for set in &group.sets {
                if SetState::load(&self.state, set).is_ok_and(|kept| kept.restore) {
                    self.groups.awaiting.insert(set.clone());
                }
            }
        }
    }

    /// Runs all groups in which this node takes part.
    pub(super) fn run_groups(&mut self) {
        for peer in self.partners() {
            if let Some((key, run)) = self.groups.secrets.key(&self.name, &peer) {
                self.groups.failover.give(Order::Know { node: peer, key, run });
            }
        }
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
        let groups = self.plan.groups.iter().filter(|group| group.has(&self.name));
        let nodes = groups.flat_map(|group| [Some(&group.source), Some(&group.target), group.witness.as_ref()]);
        nodes.flatten().filter(|node| **node != self.name).cloned().collect()
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
                Orders::of(group, config.times.stop_budget).write(dir.path())?;
                let (hands, lease) = (self.hands(group, &dir)?, LeaseFile::open(dir.path())?);
                Part::Node { config: Box::new(config), record, hands, lease }
            }
        };
        self.groups.told.remove(&group.name);
        self.groups.failover.give(Order::Run(Box::new(Setup { plan: group.clone(), dir, part, is_new })));
        info!("group {} is run", group.name);
        self.keep_watchdog();
        Ok(())
    }

    /// Has a watchdog run for as long as a lease may end here.
    fn keep_watchdog(&self) {
        if !self.own_groups().iter().any(|group| group.witness.is_some()) {
            return;
        }
        let executable = std::env::current_exe().unwrap_or_else(|_| "stead".into());
        watchdog::ensure(&executable, self.state.path()).unwrap_or_else(|failure| warn!("{failure}"));
    }

    fn is_synchronous(&self, group: &GroupPlan) -> bool {
        group.sets.iter().flat_map(|set| self.plan.connections_of(set)).any(|c| c.mode == Mode::Sync)
    }

    fn hands(&self, group: &GroupPlan, dir: &GroupDir) -> Result<Hands, Failure> {
        let (events, orders, name) = (self.events.clone(), self.groups.failover.orders(), group.name.clone());
        let data = LoopSteps { group: name.clone(), events };
        let (told, ended) = (name.clone(), name);
        Hands::new(
            group.clone(),
            self.name.clone(),
            dir.path().to_path_buf(),
            self.roots_of(group),
            Box::new(data),
            Box::new(move |text| warn!("group {told}: {text}")),
            Box::new(move |end| orders.give(Order::Ended(ended.clone(), end))),
        )
    }

    /// Where the sets of a group are on this node.
    fn roots_of(&self, group: &GroupPlan) -> Vec<std::path::PathBuf> {
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
                let Some(group) = self.plan.group(&group).cloned() else { return };
                self.orient(&group, epoch);
                self.tell_fitness();
            }
            GroupEvent::Told(Told::PeerStarted(node, run)) => {
                self.groups.secrets.seen(&node, run).unwrap_or_else(|failure| warn!("{failure}"));
            }
            GroupEvent::Step { group, action, reply } => self.step(&group, action, reply),
        }
    }

    /// Another node has the newest epoch: the sets come from there from now on.
    fn orient(&mut self, group: &GroupPlan, epoch: Epoch) {
        if node_id(&self.name).0 == epoch.writer {
            return;
        }
        for set in &group.sets {
            if let Err(failure) = self.become_target(set, epoch) {
                warn!("group {}, set {set}: {failure}", group.name);
            }
        }
    }

    fn become_target(&mut self, set: &SetName, epoch: Epoch) -> Result<(), Failure> {
        let Some(planned) = self.plan.set(set) else { return Ok(()) };
        let mut kept = SetState::load(&self.state, set)?;
        if planned.source != self.name {
            let is_newer = kept.epoch().is_none_or(|known| known.number < epoch.number);
            return if is_newer { self.follow_epoch(set, kept, epoch) } else { Ok(()) };
        }
        if self.plane.runs_source(set) {
            self.plane.stop_source(set, Stop::Unprotect).or_else(|failure| {
                warn!("set {set}: {failure}; what is open works on, on the directory beneath");
                self.plane.stop_source(set, Stop::UnprotectOpen)
            })?;
        }
        (kept.restore, self.groups.awaiting) = (false, without(&self.groups.awaiting, set));
        self.note_fork(set, &kept, epoch)?;
        self.turn(set, kept, epoch, "target")?;
        self.start_turned(set);
        self.tick_forks();
        Ok(())
    }

    /// A target stays what it is, under a newer epoch.
    fn follow_epoch(&mut self, set: &SetName, mut kept: SetState, epoch: Epoch) -> Result<(), Failure> {
        kept.enter(epoch, self.applied(set));
        kept.save(&self.state, set, "target")?;
        let connection = self.plan.connections_of(set).find(|c| c.target == self.name).cloned();
        let (Some(planned), Some(connection)) = (self.plan.set(set).cloned(), connection) else { return Ok(()) };
        if self.unstarted.contains_key(set) || !self.is_running {
            return Ok(());
        }
        let spec = self.target_spec(&planned, &connection, &kept)?;
        self.plane.reconfigure_target(spec)
    }

    /// Exchanges the roles of a set's two nodes, durably. The old role's session has ended.
    fn turn(&mut self, set: &SetName, mut kept: SetState, epoch: Epoch, role: &str) -> Result<(), Failure> {
        let plan = self.plan.turned(set).map_err(|e| {
            Failure::new(format!("set {set} was not turned round"), e.to_string(), "Look at: stead plan show")
        })?;
        kept.enter(epoch, self.applied(set));
        kept.save(&self.state, set, role)?;
        self.adopt(plan)?;
        let old = if role == "source" { "target" } else { "source" };
        sets::remove_role(&self.state, set, old)?;
        info!("set {set}: this node is its {role} from now on, under epoch {}", epoch.number);
        Ok(())
    }

    /// Starts a set in its new role; at the start of the daemon all are started later.
    fn start_turned(&mut self, set: &SetName) {
        if self.is_running {
            self.unstarted.remove(set);
            self.start_again(set);
        }
    }

    fn applied(&self, set: &SetName) -> Position {
        let status = self.plane.status().into_iter().find(|c| c.set == *set);
        status.map_or(Position::default(), |c| c.positions.applied)
    }

    /// What has to be done from time to time.
    pub(super) fn tick_groups(&mut self) {
        if self.plan.groups.is_empty() {
            return;
        }
        self.tell_fitness();
        self.exchange_secrets();
        self.look_after_handing();
        self.check_services();
        self.switch_back();
        self.keep_watchdog();
    }

    /// Has groups go back by themselves, where the plan says so and their source was well for long enough.
    fn switch_back(&mut self) {
        let now = Instant::now();
        let mut groups = self.own_groups();
        groups.retain(|group| group.source == self.name);
        for group in groups {
            let Some(after) = group.switch_back else { continue };
            let monitor = self.monitor_of(&group.name);
            let is_well = monitor.is_some_and(|monitor| {
                let waits = monitor.doing == "standby" && monitor.other.as_deref() == Some("active");
                waits && monitor.state == "online"
            });
            let is_fit = self.groups.told.get(&group.name).is_some_and(|fitness| fitness.consistent && !fitness.halted);
            if !is_well || !is_fit {
                self.groups.well_since.remove(&group.name);
                continue;
            }
            let since = *self.groups.well_since.entry(group.name.clone()).or_insert(now);
            if now.duration_since(since) >= after.0 {
                self.groups.well_since.remove(&group.name);
                self.ask_for(&group.name, stead_failover::machine::Want::Failback);
            }
        }
    }

    /// Tells the watcher how fit the replicas here are, where that changed.
    pub(super) fn tell_fitness(&mut self) {
        let statuses = self.plane.status();
        for group in self.own_groups() {
            let fitness = self.fitness(&group, &statuses);
            if self.groups.told.get(&group.name) != Some(&fitness) {
                self.groups.told.insert(group.name.clone(), fitness);
                self.groups.failover.give(Order::Replica(group.name.clone(), fitness));
            }
        }
    }

    fn fitness(&self, group: &GroupPlan, statuses: &[ConnectionStatus]) -> Fitness {
        let of = |set: &SetName| {
            let found = statuses.iter().find(|c| c.set == *set && c.target == self.name);
            found.filter(|_| !self.unstarted.contains_key(set)).map(fitness_of).unwrap_or_default()
        };
        let all: Vec<_> = group.sets.iter().map(of).collect();
        // Without sets there is nothing that could be of another epoch.
        let newest = || self.monitor_of(&group.name).map_or(0, |monitor| monitor.epoch);
        let epoch = all.iter().map(|fitness| fitness.epoch).min().unwrap_or_else(newest);
        let is_same = all.iter().all(|fitness| fitness.epoch == epoch);
        Fitness {
            epoch: if is_same { epoch } else { 0 },
            mirrored: all.iter().all(|fitness| fitness.mirrored),
            consistent: all.iter().all(|fitness| fitness.consistent),
            halted: all.iter().any(|fitness| fitness.halted),
            spoiled: all.iter().any(|fitness| fitness.spoiled),
            in_sync: all.iter().all(|fitness| fitness.in_sync),
        }
    }

    /// Asks nodes for their half of a secret where it is not known yet.
    fn exchange_secrets(&mut self) {
        if Instant::now() < self.groups.exchange_at {
            return;
        }
        self.groups.exchange_at = Instant::now() + EXCHANGE_AGAIN;
        let unknown = |peer: &NodeName| self.groups.secrets.key(&self.name, peer).is_none();
        let peers: Vec<_> = self.partners().into_iter().filter(unknown).collect();
        for peer in peers {
            if self.groups.exchanging.insert(peer.clone()) {
                self.exchange_with(peer);
            }
        }
    }

    fn exchange_with(&mut self, peer: NodeName) {
        let ours = match self.groups.secrets.ours(&peer) {
            Ok(ours) => ours,
            Err(failure) => return warn!("{failure}"),
        };
        let dialer = self.dialer.clone();
        job::spawn(&self.events, move || {
            let told = ask(&dialer, &peer, &Ask::Secret { secret: ours }, EXCHANGE_TIMEOUT);
            Some(JobDone::Exchanged { peer, told })
        });
    }

    pub(super) fn exchanged(&mut self, peer: &NodeName, told: Result<Tell, Failure>) {
        self.groups.exchanging.remove(peer);
        let learnt = told.and_then(|told| match told {
            Tell::Secret(theirs) => self.learn_secret(peer, theirs),
            other => Err(Failure::new("no secret was exchanged", format!("{peer} answered {other:?}"), "")),
        });
        learnt.unwrap_or_else(|failure| warn!("no heartbeats with {peer} yet: {failure}"));
    }

    /// Knows a peer's half from now on.
    fn learn_secret(&mut self, peer: &NodeName, theirs: String) -> Result<(), Failure> {
        self.groups.secrets.learn(peer, theirs)?;
        if let Some((key, run)) = self.groups.secrets.key(&self.name, peer) {
            self.groups.failover.give(Order::Know { node: peer.clone(), key, run });
        }
        Ok(())
    }

    /// A peer tells its half, and asks for ours.
    pub(super) fn tell_secret(&mut self, peer: &NodeName, theirs: String) -> Result<Tell, Failure> {
        self.learn_secret(peer, theirs)?;
        self.groups.secrets.ours(peer).map(Tell::Secret)
    }
}

fn fitness_of(status: &ConnectionStatus) -> Fitness {
    let consistent = status.consistent_at.is_some();
    Fitness {
        epoch: status.epoch,
        mirrored: consistent,
        consistent,
        halted: status.state == State::Halted,
        spoiled: status.details.spoiled,
        in_sync: status.details.sync.is_some_and(|sync| sync.state == SyncState::InSync),
    }
}

fn without(sets: &BTreeSet<SetName>, set: &SetName) -> BTreeSet<SetName> {
    sets.iter().filter(|other| *other != set).cloned().collect()
}

/// Has the loop do what the data path has to do of a step.
struct LoopSteps {
    group: GroupName,
    events: SyncSender<Event>,
}

impl DataSteps for LoopSteps {
    fn perform(&mut self, job: &HandsJob, stop: &HandsStop) -> Outcome {
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
