//! The thread that sends and takes heartbeats and runs the minds of all groups. Nothing in it waits but for the next
//! datagram, order or time-out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use stead_api::TimelineEntry;
use stead_failover::heartbeat::{Drops, Key, NOTES_MAX, Note};
use stead_failover::machine::{Fitness, Want};
use stead_failover::resources::Reach;
use stead_failover::{self as failover, GroupId, MonitorConfig, NodeId};
use stead_model::plan::GroupPlan;
use stead_model::status::MonitorStatus;
use stead_model::{GroupName, NodeName};
use tracing::warn;

use super::config::{group_id, node_id};
use super::group::{Answerer, Group, Lines, Reply, Setup, Wants};
use super::hands::JobEnd;
use super::wire::Wire;
use super::{Told, drops, kept};
use crate::clock;
use crate::life::Beats;
use crate::peer::Book;
use crate::threads::lock;

/// Addresses of a node that get a heartbeat each, where the plan names no paths.
const ADDRESSES_MAX: usize = 4;
/// The longest that nothing is looked at.
const IDLE: Duration = Duration::from_secs(1);

/// What the watcher is told.
pub(crate) enum Order {
    /// Run that group from now on, in the place of one of the same name.
    Run(Box<Setup>),
    /// Run it no longer.
    End(GroupName),
    /// Heartbeats of that node are signed so; its last start that was seen.
    Know { node: NodeName, key: Key, run: u64 },
    /// That node is no longer trusted: nothing of it is taken.
    Forget(NodeName),
    /// The addresses of nodes are others.
    Look,
    /// The replicas of a group are like that.
    Replica(GroupName, Fitness),
    /// For the timeline of that group.
    Say(GroupName, String),
    /// The resources of that group were up and cannot be kept up.
    ResourcesFailed(GroupName, Reach),
    /// An action of the hands has ended.
    Ended(GroupName, JobEnd),
    /// Something to tell of a group.
    Line(GroupName, Box<TimelineEntry>),
    /// That record and all before are durable.
    Saved(GroupName, u64),
    /// A person asks for something.
    Request { group: GroupName, want: Want, expires: Duration, answer: Answerer },
    /// What would have been concluded from what was heard, by that configuration?
    WhatIf { group: GroupName, monitor: MonitorConfig, told: Box<dyn FnOnce(Vec<TimelineEntry>) + Send> },
    /// The daemon goes down in order.
    Stop,
}

/// How the groups of this node stand. Shared with the loop.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) monitors: BTreeMap<GroupName, MonitorStatus>,
    pub(crate) timelines: BTreeMap<GroupName, Lines>,
    pub(super) dropped: drops::Seen,
    /// When the monitors were looked at.
    at: Option<Instant>,
}

/// One way to another node.
struct Way {
    path: u32,
    to: NodeId,
    from: Option<IpAddr>,
    address: SocketAddr,
}

pub(super) struct Watcher {
    pub(super) me: NodeName,
    pub(super) book: Book,
    pub(super) wire: Wire,
    pub(super) sender: failover::Sender,
    pub(super) receiver: failover::Receiver,
    pub(super) drops: Drops,
    pub(super) orders: Receiver<Order>,
    pub(super) wake: OwnedFd,
    pub(super) kept: Sender<kept::Job>,
    pub(super) beats: Beats,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) tell: Box<dyn Fn(Told) + Send>,
    pub(super) groups: Groups,
}

/// The groups, with the ways to their nodes and what is known of these.
#[derive(Default)]
pub(super) struct Groups {
    by_id: BTreeMap<GroupId, (Group, Vec<Way>)>,
    names: BTreeMap<NodeId, NodeName>,
    runs: BTreeMap<NodeId, u64>,
    /// The last counter that was heard, by group, node and path.
    heard: BTreeMap<(GroupId, NodeId, u32), u64>,
}

impl Watcher {
    pub(super) fn run(mut self) {
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            while let Ok(order) = self.orders.try_recv() {
                if matches!(order, Order::Stop) {
                    return self.leave();
                }
                self.order(order);
            }
            self.receive();
            self.time_out();
            self.show();
            let now = clock::now();
            let due = self.groups.by_id.values().filter_map(|(group, _)| group.poll_timeout()).min();
            let wait = due.map_or(IDLE, |at| at.saturating_duration_since(now)).min(IDLE);
            if self.orders.is_empty() {
                self.wire.wait(self.wake.as_fd(), wait);
                drain(&self.wake);
            }
        }
    }

    pub(super) fn order(&mut self, order: Order) {
        let now = clock::now();
        match order {
            Order::Run(setup) => self.begin(*setup, now),
            Order::End(name) => self.end(&name),
            Order::Know { node, key, run } => {
                let id = node_id(&node);
                self.sender.add(id, key.clone());
                self.receiver.add(id, key, run);
                self.groups.names.insert(id, node);
                self.groups.runs.insert(id, run);
                self.look();
            }
            Order::Forget(node) => self.receiver.remove(node_id(&node)),
            Order::Look => self.look(),
            Order::Replica(name, fitness) => self.with(&name, |group| group.replica(fitness, now)),
            Order::Say(name, text) => {
                let kept = self.kept.clone();
                self.with(&name, |group| group.say(&text, &kept));
            }
            Order::ResourcesFailed(name, reach) => self.with(&name, |group| group.resources_failed(reach, now)),
            Order::Ended(name, end) => self.with(&name, |group| group.ended(end, now)),
            Order::Line(name, line) => {
                let kept = self.kept.clone();
                self.with(&name, |group| group.add(*line, &kept));
            }
            Order::Saved(name, number) => self.with(&name, |group| group.saved(number, now)),
            Order::Request { group, want, expires, answer } => self.request(&group, want, expires, answer, now),
            Order::WhatIf { group, monitor, told } => {
                let groups = &self.groups.by_id;
                let found = groups.values().find(|(known, _)| known.plan.name == group);
                told(found.map(|(group, _)| group.what_if(monitor, now)).unwrap_or_default());
            }
            Order::Stop => {}
        }
    }

    fn begin(&mut self, setup: Setup, now: Instant) {
        let ways = self.ways(&setup.plan);
        let id = group_id(&setup.plan.name);
        let group = match self.groups.by_id.remove(&id) {
            Some((mut group, _)) => match group.change(setup, now) {
                Some(setup) => {
                    group.end();
                    Group::new(setup, now)
                }
                None => group,
            },
            None => Group::new(setup, now),
        };
        lock(&self.seen).timelines.insert(group.plan.name.clone(), group.lines.clone());
        self.groups.by_id.insert(id, (group, ways));
        self.settle(id);
    }

    fn end(&mut self, name: &GroupName) {
        if let Some((group, _)) = self.groups.by_id.remove(&group_id(name)) {
            group.end();
        }
        let mut seen = lock(&self.seen);
        seen.monitors.remove(name);
        seen.timelines.remove(name);
    }

    fn request(&mut self, name: &GroupName, want: Want, expires: Duration, answer: Answerer, now: Instant) {
        if self.id_of(name).is_some() {
            return self.with(name, |group| group.request(want, expires, answer, now));
        }
        let what = format!("group {name} was not moved");
        let why = "it is not run on this node";
        answer(Reply::Failed(stead_api::Failure::new(what, why, "Look at: stead status, and at the daemon's log")));
    }

    fn receive(&mut self) {
        let mut heartbeats = Vec::new();
        let (receiver, drops, now) = (&mut self.receiver, &mut self.drops, clock::now());
        let mut floods = false;
        self.wire.receive(|datagram, came| match receiver.receive(datagram) {
            Ok(heartbeat) => heartbeats.push(heartbeat),
            Err(why) => floods |= drops.count(came, why, now),
        });
        if floods {
            self.tell_flood(now);
        }
        for heartbeat in heartbeats {
            self.note_run(heartbeat.from, heartbeat.run);
            let mut ids: Vec<_> = heartbeat.notes.iter().map(|note| note.group).collect();
            ids.sort();
            ids.dedup();
            let now = clock::now();
            for id in ids {
                if let Some((group, _)) = self.groups.by_id.get_mut(&id) {
                    self.groups.heard.insert((id, heartbeat.from, heartbeat.path), heartbeat.counter);
                    group.heard(&heartbeat, now);
                    self.settle(id);
                }
            }
        }
    }

    /// Much that comes as heartbeats is dropped: each group's timeline says so.
    fn tell_flood(&mut self, now: Instant) {
        let Some(flood) = self.drops.flood(now) else { return };
        let text = drops::text(&flood);
        self.groups.by_id.values_mut().for_each(|(group, _)| group.say(&text, &self.kept));
    }

    /// A start of another daemon is remembered, so that what was recorded of earlier ones is not taken.
    fn note_run(&mut self, node: NodeId, run: u64) {
        let known = self.groups.runs.insert(node, run);
        if known.is_none_or(|known| known < run)
            && let Some(name) = self.groups.names.get(&node)
        {
            (self.tell)(Told::PeerStarted(name.clone(), run));
        }
    }

    fn time_out(&mut self) {
        let now = clock::now();
        let is_due = |group: &Group| group.poll_timeout().is_some_and(|at| at <= now);
        let due: Vec<_> = self.groups.by_id.iter().filter(|(_, (group, _))| is_due(group)).map(|(id, _)| *id).collect();
        for id in due {
            if let Some((group, _)) = self.groups.by_id.get_mut(&id) {
                group.handle_timeout(now);
                self.settle(id);
            }
        }
    }

    fn with(&mut self, name: &GroupName, act: impl FnOnce(&mut Group)) {
        let Some(id) = self.id_of(name) else { return };
        if let Some((group, _)) = self.groups.by_id.get_mut(&id) {
            act(group);
        }
        self.settle(id);
    }

    fn id_of(&self, name: &GroupName) -> Option<GroupId> {
        Some(group_id(name)).filter(|id| self.groups.by_id.contains_key(id))
    }

    /// Does what a group wants.
    fn settle(&mut self, id: GroupId) {
        let Some((group, _)) = self.groups.by_id.get_mut(&id) else { return };
        let mut wants = Wants::default();
        group.settle(&self.kept, &mut wants);
        let name = group.plan.name.clone();
        if let Some(epoch) = wants.epoch {
            (self.tell)(Told::Epoch(name.clone(), epoch));
        }
        self.send(id, wants.notes);
    }

    /// Notes to the same node share datagrams; each goes over every path to it.
    fn send(&mut self, id: GroupId, notes: Vec<(NodeId, Note)>) {
        let mut by_node: BTreeMap<NodeId, Vec<Note>> = BTreeMap::new();
        for (to, note) in notes {
            by_node.entry(to).or_default().push(note);
        }
        for (to, notes) in by_node {
            for some in notes.chunks(NOTES_MAX) {
                self.send_to(id, to, some);
            }
        }
    }

    fn send_to(&mut self, id: GroupId, to: NodeId, notes: &[Note]) {
        let Some((_, ways)) = self.groups.by_id.get(&id) else { return };
        for way in ways.iter().filter(|way| way.to == to) {
            let heard = self.groups.heard.get(&(id, to, way.path)).copied().unwrap_or(0);
            if let Some(datagram) = self.sender.datagram(to, way.path, heard, notes) {
                self.wire.send(way.from, way.address, &datagram);
            }
        }
    }

    /// Says to everyone that this daemon goes down in order.
    fn leave(mut self) {
        self.sender.leave();
        let last: Vec<_> =
            self.groups.by_id.iter().filter_map(|(id, (group, _))| Some((*id, group.last_role()?))).collect();
        for (id, (to, note)) in last {
            self.send(id, vec![(to, note)]);
        }
    }

    fn look(&mut self) {
        let ways: Vec<_> = self.groups.by_id.iter().map(|(id, (group, _))| (*id, self.ways(&group.plan))).collect();
        for (id, ways) in ways {
            if let Some((_, old)) = self.groups.by_id.get_mut(&id) {
                *old = ways;
            }
        }
    }

    /// The ways to the other nodes of a group.
    fn ways(&self, plan: &GroupPlan) -> Vec<Way> {
        let mut ways = match plan.other(&self.me) {
            Some(peer) if !plan.paths.is_empty() => self.ways_of_plan(plan, peer),
            Some(peer) => self.ways_anyhow(peer),
            None => [&plan.source, &plan.target].into_iter().flat_map(|node| self.ways_anyhow(node)).collect(),
        };
        if let Some(witness) = plan.witness.as_ref().filter(|witness| **witness != self.me) {
            ways.extend(self.ways_anyhow(witness));
        }
        ways
    }

    fn ways_of_plan(&self, plan: &GroupPlan, peer: &NodeName) -> Vec<Way> {
        let addresses = self.addresses(peer);
        let way = |(number, path): (u32, &stead_model::plan::HeartbeatPath)| {
            let is_source = plan.source == self.me;
            let (own, other) = if is_source { (path.source, path.target) } else { (path.target, path.source) };
            let port = addresses.iter().find(|address| address.ip() == other).or(addresses.first());
            let port = port.map_or(crate::start::PORT, SocketAddr::port);
            Way { path: number, to: node_id(peer), from: Some(own), address: SocketAddr::new(other, port) }
        };
        (0..).zip(&plan.paths).map(way).collect()
    }

    fn ways_anyhow(&self, node: &NodeName) -> Vec<Way> {
        let way = |address| Way { path: 0, to: node_id(node), from: None, address };
        self.addresses(node).into_iter().take(ADDRESSES_MAX).map(way).collect()
    }

    fn addresses(&self, node: &NodeName) -> Vec<SocketAddr> {
        let peer = self.book.by_name(node);
        if peer.is_none() {
            warn!("{node} takes part in a group and is not trusted: no heartbeats go there");
        }
        peer.map(|peer| peer.addresses).unwrap_or_default()
    }

    /// Shows how everything stands.
    fn show(&mut self) {
        let now = clock::now();
        let mut seen = lock(&self.seen);
        seen.at = Some(now);
        seen.dropped.look(&self.drops, now);
        for (group, _) in self.groups.by_id.values() {
            if let Some(status) = group.status(&self.me, now) {
                seen.monitors.insert(group.plan.name.clone(), status);
            }
        }
    }
}

impl Seen {
    /// The monitors as they stand now, however long ago they were looked at.
    pub(crate) fn monitors(&self) -> Vec<MonitorStatus> {
        let since = self.at.map_or(Duration::ZERO, |at| clock::now().saturating_duration_since(at)).as_secs_f64();
        let aged = |monitor: &MonitorStatus| MonitorStatus {
            time_to_fail_seconds: (monitor.time_to_fail_seconds - since).max(0.0),
            ..monitor.clone()
        };
        self.monitors.values().map(aged).collect()
    }
}

fn drain(wake: &OwnedFd) {
    let mut count = [0; 8];
    let _ = rustix::io::read(wake, &mut count);
}
