//! The server: threads that read the kernel's requests, carry them out on the file system beneath, put a record of each
//! change into the ring, and answer.
//!
//! The order for every change is: carry out, reserve a place in the ring, write the record, commit it, answer. While a
//! request is carried out the kernel holds the lock of the inodes concerned, so two changes of one file are never in
//! the ring in another order than they took effect.
//!
//! **There are no file handles.** OPEN, OPENDIR and CREATE are answered with ENOSYS once, after which the kernel opens
//! files by itself, as fast as any local file system, and keeps page and directory caches across opens. All input and
//! output names the node, whose cached descriptor serves it. The price: files with the inode flags immutable or append
//! refuse a write at the write, not at the open.

mod attrs;
mod data;
mod dirs;
mod dispatch;
mod names;
mod reply;
mod worker;
mod xattr;

use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use stead_model::{AttrMask, Kind, Record};

use crate::nodes::{Access, Nodes, flag};
use crate::ring::{FLIGHTS, Ring};
use crate::root::Root;
use crate::slots::Slots;
use crate::sys;

/// Threads that wait for requests of one mount.
const THREADS: usize = 3;
/// Threads of one mount, those included that wait for a disk.
const THREADS_MAX: usize = 24;
/// Files whose time of access is looked at again soon.
const RECENTLY_READ_MAX: usize = 4096;
/// How soon.
const ATIME_TICK: Duration = Duration::from_secs(1);

/// Everything that the threads share.
pub struct Server {
    pub nodes: Nodes,
    pub ring: Ring,
    pub slots: Slots,
    /// Threads started so far.
    threads: AtomicUsize,
    /// Which half of slots and flights is ours: the other holds what the dead predecessor was doing.
    half: usize,
    gates: Vec<Gate>,
    recently_read: Mutex<Vec<(u32, u64)>>,
    stopping: AtomicBool,
}

/// Who waits for requests of one mount.
#[derive(Default)]
struct Gate {
    /// Threads that are not busy with something slow.
    ready: AtomicUsize,
    /// All threads.
    all: AtomicUsize,
    /// Threads that sleep, since enough others are ready; a futex word that rises with each call.
    calls: AtomicU32,
    asleep: AtomicUsize,
}

impl Server {
    /// A server over state that is new, or was left by a dead one; `restarts` counts those before.
    pub fn new(nodes: Nodes, ring: Ring, slots: Slots, restarts: u32) -> Server {
        let gates = nodes.roots().iter().map(|_| Gate::default()).collect();
        Server {
            nodes,
            ring,
            slots,
            threads: AtomicUsize::new(0),
            half: restarts as usize % 2,
            gates,
            recently_read: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Serves until every mount is gone.
    pub fn run(&self) {
        std::thread::scope(|scope| {
            let ticker = scope.spawn(|| {
                while !self.stopping.load(Relaxed) {
                    std::thread::park_timeout(ATIME_TICK);
                    self.look_at_atimes();
                }
            });
            let mounts: Vec<_> = self.nodes.roots().iter().map(|root| scope.spawn(|| self.serve(root))).collect();
            for mount in mounts {
                let _ = mount.join();
            }
            self.stopping.store(true, Relaxed);
            ticker.thread().unpark();
        });
    }

    fn serve(&self, root: &Root) {
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                self.start_worker(scope, root);
            }
        });
    }

    fn start_worker<'s>(&'s self, scope: &'s std::thread::Scope<'s, '_>, root: &'s Root) {
        let gate = &self.gates[root.index as usize];
        let started = self.threads.fetch_add(1, Relaxed);
        if started >= FLIGHTS / 2 {
            self.threads.fetch_sub(1, Relaxed);
            return;
        }
        let index = self.half * (FLIGHTS / 2) + started;
        gate.all.fetch_add(1, Relaxed);
        gate.ready.fetch_add(1, Relaxed);
        scope.spawn(move || worker::Worker::new(self, root, index, scope).run());
    }

    // --- times of access

    /// Notes that a file was read; whether that changed its time of access is looked at later.
    fn note_read(&self, root: &Root, id: u64) {
        let mut list = self.recently_read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if list.len() < RECENTLY_READ_MAX {
            list.push((root.index, id));
        }
    }

    fn look_at_atimes(&self) {
        let list = std::mem::take(&mut *self.recently_read.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for (root, id) in list {
            let Some(root) = self.nodes.roots().get(root as usize) else { continue };
            if let Ok(node) = self.nodes.get(root, id) {
                self.record_atime(node);
            }
        }
    }

    fn record_atime(&self, node: crate::nodes::NodeRef<'_>) {
        if node.mark(0, flag::WAS_READ) & flag::WAS_READ == 0 || node.is_silent() {
            return;
        }
        let Ok(pin) = self.nodes.pin(&node, Access::Any) else { return };
        let Ok(stat) = stat(pin.fd) else { return };
        let age = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec - stat.st_atime as i64;
        // Only where reading moved it just now: most reads leave it alone (relatime).
        if stat.st_ino == node.file.ino && age <= 2 * ATIME_TICK.as_secs() as i64 + 1 {
            let attr = reply::attr_of(&stat);
            self.ring.put(&Record { c: AttrMask::ATIME.0, attr, ..Record::new(Kind::SetAttr, node.file) });
        }
    }
}

fn stat(fd: RawFd) -> sys::Result<rustix::fs::Stat> {
    rustix::fs::fstat(sys::fd(fd))
}
