//! What servers and supervisors know together: who serves, which processes are ours, what others changed beneath the
//! mount, and which lease counts. In shared memory, so that it outlives each of them.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use stead_model::FileId;

use crate::lease::Told;
use crate::sys::{self, Atomics, Shared};

/// Bytes of shared memory.
pub const BYTES: usize = 4096;
/// Servers that are remembered: reports of what they did may come after their death.
const PIDS: usize = 64;
/// Files that are remembered.
const FILES: usize = 16;

#[repr(C)]
struct Table {
    pids_added: AtomicU32,
    pids: [AtomicU32; PIDS],
    watches: AtomicU32,
    server: AtomicU32,
    deaths: AtomicU32,
    ready: AtomicU32,
    files_added: AtomicU64,
    files: [[AtomicU64; 2]; FILES],
    lease: Told,
}

// SAFETY: atomics and arrays of atomics.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Table {}

/// A view of the shared memory.
pub struct Bypass(Shared);

impl Bypass {
    /// The table in `memory`.
    pub fn new(memory: Shared) -> Bypass {
        Bypass(memory)
    }

    /// A process is ours from now on.
    pub fn add_own(&self, pid: u32) {
        let at = self.table().pids_added.fetch_add(1, Relaxed) as usize % PIDS;
        self.table().pids[at].store(pid, Release);
    }

    /// Is a process one of ours?
    pub fn is_own(&self, pid: u32) -> bool {
        pid != 0 && self.table().pids.iter().any(|own| own.load(Acquire) == pid)
    }

    /// A server was started, after so many deaths.
    pub fn set_server(&self, pid: u32, deaths: u32) {
        self.table().server.store(pid, Relaxed);
        self.table().deaths.store(deaths, Release);
    }

    /// The server that was started last, and how many had died before.
    pub fn server(&self) -> (u32, u32) {
        (self.table().server.load(Relaxed), self.table().deaths.load(Acquire))
    }

    /// A server has looked through what it inherits.
    pub fn set_ready(&self, pid: u32) {
        self.table().ready.store(pid, Release);
        sys::futex_wake(&self.table().ready, 1);
    }

    /// Has this server done so? Waits for it, at most `timeout`.
    pub fn is_ready(&self, pid: u32, timeout: Duration) -> bool {
        let ready = &self.table().ready;
        let seen = ready.load(Acquire);
        if seen != pid {
            sys::futex_wait(ready, seen, timeout);
        }
        ready.load(Acquire) == pid
    }

    /// The directory beneath is watched.
    pub fn set_watched(&self) {
        self.table().watches.store(1, Relaxed);
    }

    /// Is the directory beneath watched?
    pub fn is_watched(&self) -> bool {
        self.table().watches.load(Relaxed) != 0
    }

    /// Somebody else changed a file.
    pub fn add(&self, file: FileId) {
        let added = self.table().files_added.load(Relaxed);
        let place = &self.table().files[added as usize % FILES];
        place[0].store(file.ino, Relaxed);
        place[1].store(u64::from(file.generation) | u64::from(file.volume) << 32, Relaxed);
        self.table().files_added.store(added + 1, Release);
    }

    /// How many such changes were seen, and the last different files, the last one last.
    pub fn seen(&self) -> (u64, Vec<FileId>) {
        let added = self.table().files_added.load(Acquire);
        let mut files: Vec<FileId> = Vec::new();
        for at in added.saturating_sub(FILES as u64)..added {
            let [ino, rest] = &self.table().files[at as usize % FILES];
            let (ino, rest) = (ino.load(Relaxed), rest.load(Relaxed));
            let file = FileId { ino, generation: rest as u32, volume: (rest >> 32) as u32 };
            files.retain(|other| *other != file);
            files.push(file);
        }
        (added, files)
    }

    /// The lease that counts.
    pub fn lease(&self) -> &Told {
        &self.table().lease
    }

    fn table(&self) -> &Table {
        self.0.atomics(0)
    }
}

const _: () = assert!(size_of::<Table>() <= BYTES);
