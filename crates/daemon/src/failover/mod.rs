//! Standing in: heartbeats, the minds of the groups, and their hands.
//!
//! ```text
//!   datagrams ─▸ watcher (one thread, never waits) ─▸ datagrams
//!                 │  ▴ outcomes          │ records, lines
//!         actions ▾  │                   ▾
//!                hands (one thread      kept (one thread,
//!                 for each group)        the disk)
//!                outside (another one: what others are told)
//!                 │  ▴
//!   drain, mount, ▾  │ outcomes
//!   hand over    the loop ─▸ data path
//! ```

pub(crate) mod config;
mod crash;
mod drops;
mod group;
pub(crate) mod hands;
pub(crate) mod kept;
pub(crate) mod lease;
pub(crate) mod outside;
pub(crate) mod secrets;
mod sys;
mod watch;
pub(crate) mod watchdog;
mod wire;
mod words;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, eventfd};
use stead_api::{Failure, Timeline};
use stead_model::status::{DroppedHeartbeats, MonitorStatus};
use stead_model::{Epoch, GroupName, NodeName};

use crate::clock;
use crate::life::Beats;
use crate::peer::Book;
use crate::threads::{self, lock};

pub(crate) use group::{Answerer, Part, Reply, Setup};
pub(crate) use watch::Order;
use watch::{Groups, Seen, Watcher};
use wire::Wire;

/// Orders that wait for the watcher.
const ORDERS_MAX: usize = 1024;

/// What the watcher tells the loop.
pub(crate) enum Told {
    /// A group's epoch is durable here.
    Epoch(GroupName, Epoch),
    /// A later start of a peer's daemon was heard.
    PeerStarted(NodeName, u64),
}

/// The way to the watcher. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Orders {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
}

/// The watcher, as the loop sees it.
pub(crate) struct Failover {
    orders: Orders,
    seen: Arc<Mutex<Seen>>,
}

impl Failover {
    /// Starts the watcher, with no groups yet; it raises `beats` while it lives. `known`: what it is told before it hears
    /// anybody.
    pub(crate) fn start(
        me: &NodeName,
        run: u32,
        listens: &[SocketAddr],
        book: Book,
        known: impl IntoIterator<Item = Order>,
        beats: Beats,
        tell: impl Fn(Told) + Send + 'static,
    ) -> Result<Failover, Failure> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| Failure::new("groups cannot be watched", e.to_string(), ""))?;
        let own = wake.try_clone().map_err(|e| Failure::new("groups cannot be watched", e.to_string(), ""))?;
        let (sender, receiver) = crossbeam_channel::bounded(ORDERS_MAX);
        let orders = Orders { orders: sender, wake: Arc::new(wake) };
        let saved = orders.clone();
        let kept = kept::spawn(move |group, number| saved.give(Order::Saved(group, number)))?;
        let seen = Arc::<Mutex<Seen>>::default();
        let id = config::node_id(me);
        let mut watcher = Watcher {
            me: me.clone(),
            book,
            wire: Wire::new(listens),
            sender: stead_failover::Sender::new(secrets::CLUSTER, id, u64::from(run)),
            receiver: stead_failover::Receiver::new(secrets::CLUSTER, id),
            drops: stead_failover::heartbeat::Drops::default(),
            orders: receiver,
            wake: own,
            kept,
            beats,
            seen: seen.clone(),
            tell: Box::new(tell),
            groups: Groups::default(),
        };
        known.into_iter().for_each(|order| watcher.order(order));
        threads::spawn("groups-watch", move || watcher.run())?;
        Ok(Failover { orders, seen })
    }

    /// The way to the watcher, for threads.
    pub(crate) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Tells the watcher something.
    pub(crate) fn give(&self, order: Order) {
        self.orders.give(order);
    }

    /// How the groups stand.
    pub(crate) fn monitors(&self) -> Vec<MonitorStatus> {
        lock(&self.seen).monitors()
    }

    /// What came here as a heartbeat and was dropped.
    pub(crate) fn dropped(&self, me: &NodeName) -> Vec<DroppedHeartbeats> {
        lock(&self.seen).dropped.statuses(me, clock::now(), clock::wall_clock())
    }

    /// Much of that at once, for people.
    pub(crate) fn flood(&self) -> Option<String> {
        lock(&self.seen).dropped.flood()
    }

    /// What happened to groups, or to that one.
    pub(crate) fn timelines(&self, node: &NodeName, group: Option<&GroupName>) -> Vec<Timeline> {
        let seen = lock(&self.seen);
        let meant = seen.timelines.iter().filter(|(name, _)| group.is_none_or(|group| group == *name));
        let timeline = |(name, lines): (&GroupName, &group::Lines)| Timeline {
            group: name.clone(),
            node: node.clone(),
            entries: lock(lines).iter().cloned().collect(),
        };
        meant.map(timeline).collect()
    }
}

impl Orders {
    pub(crate) fn give(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}
