//! The server: threads that read the kernel's requests, carry them out on the file system beneath, put a record of each
//! change into the ring, and answer.
//!
//! The order for every change is: carry out, reserve a place in the ring, write the record, commit it, answer. While a
//! request is carried out the kernel holds the lock of the inodes concerned, so two changes of one file are never in
//! the ring in another order than they took effect. What it writes back it orders by page only: there, and where a
//! record says no more than how a file is now, a lock of the server itself keeps attributes and places in one order.
//!
//! **There are no file handles.** OPEN, OPENDIR and CREATE are answered with ENOSYS once, after which the kernel opens
//! files by itself, as fast as any local file system, and keeps page and directory caches across opens. All input and
//! output names the node, whose cached descriptor serves it. The price: files with the inode flags immutable or append
//! refuse a write at the write, not at the open.

mod attrs;
mod beneath;
mod data;
mod dirs;
mod dispatch;
mod follow;
mod gate;
mod hold;
mod names;
mod reply;
mod suspend;
mod worker;
mod xattr;

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Scope, Thread};
use std::time::{Duration, Instant};

use stead_model::{AttrMask, FileId, Kind, Record};

use crate::Order;
use crate::bypass::Bypass;
use crate::nodes::{Access, Nodes, flag};
use crate::ring::{FLIGHTS, Flight, Ring};
use crate::root::Root;
use crate::slots::Slots;
use crate::sys;
use gate::Gate;
use hold::Hold;
use suspend::Suspended;
use worker::Worker;

/// Files whose time of access is looked at again soon.
const RECENTLY_READ_MAX: usize = 4096;
/// How soon.
const ATIME_TICK: Duration = Duration::from_secs(1);
/// Flight of the ticker; the threads have those before it.
const TICKER: usize = FLIGHTS - 1;
/// Flight of who watches beneath the mount.
const BENEATH: usize = FLIGHTS - 2;
/// How soon it is noticed that a thread is stuck in an operation.
const STUCK_TICK: Duration = Duration::from_millis(1);
/// Locks that the files share among them.
const SETTLING: usize = 64;

/// Everything that the threads share.
pub struct Server {
    pub nodes: Nodes,
    pub ring: Ring,
    pub slots: Slots,
    pub bypass: Bypass,
    /// Where the kernel reports what is changed beneath.
    pub reports: Option<RawFd>,
    order: Order,
    /// Threads started so far.
    threads: AtomicUsize,
    /// How many servers died before it.
    deaths: u32,
    gates: Vec<Gate>,
    hold: Hold,
    /// What waits for the lease, of each mount.
    suspended: Vec<Suspended>,
    settling: [Mutex<()>; SETTLING],
    recently_read: Mutex<Vec<(u32, u64)>>,
    ticker: OnceLock<Thread>,
    /// Does the ticker sleep until there is something to do?
    dozing: AtomicBool,
    stopping: AtomicBool,
}

impl Server {
    /// A server over state that is new, or was left by dead ones; `deaths` counts those.
    pub fn new(nodes: Nodes, ring: Ring, slots: Slots, bypass: Bypass, order: Order, deaths: u32) -> Server {
        bypass.add_own(std::process::id());
        if deaths > 0 {
            slots.take_over(&ring, deaths.into());
        }
        let gates = nodes.roots().iter().map(|_| Gate::new(seats())).collect();
        let suspended = nodes.roots().iter().map(|_| Suspended::default()).collect();
        Server {
            nodes,
            ring,
            slots,
            bypass,
            reports: None,
            order,
            threads: AtomicUsize::new(0),
            deaths,
            gates,
            hold: Hold::default(),
            suspended,
            settling: [const { Mutex::new(()) }; SETTLING],
            recently_read: Mutex::default(),
            ticker: OnceLock::new(),
            dozing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// Serves until every mount is gone.
    pub fn run(&self) {
        std::thread::scope(|scope| {
            let ticker = scope.spawn(|| self.tick(scope));
            let _ = self.ticker.set(ticker.thread().clone());
            scope.spawn(|| self.watch_beneath());
            if let Some(sync) = self.ring.sync() {
                scope.spawn(|| self.hold.run(sync, || self.stopping.load(Relaxed)));
            }
            for root in self.nodes.roots() {
                for _ in 0..seats() {
                    self.start_worker(scope, root);
                }
            }
        });
    }

    /// Starts one more thread for a mount, if it may have more.
    fn start_worker<'s>(&'s self, scope: &'s Scope<'s, '_>, root: &'s Root) -> bool {
        self.start_thread(scope, root, Worker::run)
    }

    /// Starts one more thread for a mount, that does that. False: it may have no more.
    fn start_thread<'s, 'e>(
        &'s self,
        scope: &'s Scope<'s, 'e>,
        root: &'s Root,
        body: impl FnOnce(Worker<'s, 'e>) + Send + 's,
    ) -> bool {
        let Some(desk) = self.gates[root.index as usize].new_desk() else { return false };
        let index = self.threads.fetch_add(1, Relaxed);
        if index >= BENEATH {
            self.gates[root.index as usize].leave();
            return false;
        }
        scope.spawn(move || {
            body(Worker::new(self, root, index, desk, scope));
            self.gates[root.index as usize].leave();
            if self.gates.iter().all(Gate::is_closed) {
                self.stopping.store(true, Relaxed);
                self.wake_ticker();
                if let Some(sync) = self.ring.sync() {
                    sync.ring_bell();
                }
            }
        });
        true
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    // --- the ticker

    fn tick<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        if self.deaths == 0 {
            self.ring.populate();
        }
        let mut atimes_at = Instant::now();
        while !self.stopping.load(Relaxed) {
            let mut active = false;
            for (gate, root) in self.gates.iter().zip(self.nodes.roots()) {
                let (moved, stuck) = gate.look();
                active |= moved || stuck > 0;
                for _ in 0..stuck {
                    if !gate.call() {
                        self.start_worker(scope, root);
                    }
                }
            }
            self.nodes.close_unused();
            if atimes_at.elapsed() >= ATIME_TICK {
                atimes_at = Instant::now();
                self.look_at_atimes();
            }
            self.dozing.store(!active, Relaxed);
            std::thread::park_timeout(if active { STUCK_TICK } else { ATIME_TICK });
        }
    }

    /// Something begins that may get stuck.
    fn watch(&self) {
        if self.dozing.load(Relaxed) && self.dozing.swap(false, Relaxed) {
            self.wake_ticker();
        }
    }

    fn wake_ticker(&self) {
        if let Some(ticker) = self.ticker.get() {
            ticker.unpark();
        }
    }

    // --- times of access

    /// Notes that a file was read; whether that changed its time of access is looked at later.
    fn note_read(&self, root: &Root, id: u64) {
        let mut list = self.recently_read.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < RECENTLY_READ_MAX {
            list.push((root.index, id));
        }
    }

    fn look_at_atimes(&self) {
        let list = std::mem::take(&mut *self.recently_read.lock().unwrap_or_else(PoisonError::into_inner));
        for (root, id) in list {
            let Some(root) = self.nodes.roots().get(root as usize) else { continue };
            if let Ok(node) = self.nodes.get(root, id) {
                self.record_atime(node, self.ring.flight(TICKER));
            }
        }
    }

    /// From a change of a file until its record is in the ring: the attributes in it must not be those of before another
    /// record's. The kernel orders most requests of one file, but not what it writes back.
    fn settle(&self, file: FileId) -> MutexGuard<'_, ()> {
        self.settling[file.ino as usize % SETTLING].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_atime(&self, node: crate::nodes::NodeRef<'_>, flight: &Flight) {
        if node.mark(0, flag::WAS_READ) & flag::WAS_READ == 0 || node.is_silent() {
            return;
        }
        let Ok(pin) = self.nodes.pin(&node, Access::Any) else { return };
        let _settled = self.settle(node.file);
        let Ok(stat) = stat(pin.fd) else { return };
        let age = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec - stat.st_atime;
        // Only where reading moved it just now: most reads leave it alone (relatime).
        if stat.st_ino == node.file.ino && age <= 10 * ATIME_TICK.as_secs() as i64 {
            let attr = reply::attr_of(&stat);
            let record = Record { c: AttrMask::ATIME.0, attr, ..Record::new(Kind::SetAttr, node.file) };
            self.ring.put(flight, &record);
        }
    }
}

/// Threads that wait at the device of one mount: a quarter of the processors.
pub fn seats() -> u32 {
    static SEATS: OnceLock<u32> = OnceLock::new(); // asking takes a millisecond, which an heir does not have
    *SEATS.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        (processors as u32 / 4).clamp(1, 4)
    })
}

pub(crate) use reply::attr_of;

fn stat(fd: RawFd) -> sys::Result<rustix::fs::Stat> {
    rustix::fs::fstat(sys::fd(fd))
}
