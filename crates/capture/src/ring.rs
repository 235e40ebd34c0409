//! The ring: the ordered stream of a set in shared memory, from several writers to one reader in another process.
//!
//! ```text
//!   memory:  header · flights · dirty map · unconfirmed map (2 generations) · data (mapped twice in a row: a record
//!            never wraps)
//!   stream:  … free │ taken, kept │ committed … │ reserved, being written … │ 0 … free
//!                  tail         taken                                      head
//! ```
//! A writer takes the lock, reserves `[head, head + len)` and zeroes the length word behind it; it writes the record
//! without the lock, and stores the record's own length word last: that commits it. The reader takes committed records
//! from its own place up to the first length word that is zero. Numbers are byte offsets since the start and only rise.
//!
//! What the reader takes stays: a reader that dies has lost nothing, the next one begins at the tail. Space is freed
//! when a number is confirmed, or where room is needed; then the files of the records that are *let go* without being
//! confirmed enter the unconfirmed map first ([`retain`]).
//!
//! A writer never waits for the reader. Where there is no room, what was taken is let go; where that does not help, the
//! record is dropped, counted, and its files go into the dirty map; so do all changes after it, until half of the ring
//! is free and a [`Kind::Lost`] record for each of those files stands in the stream, before any later change.
//!
//! Before it writes, a writer notes in its flight which place it reserved: what it does not live to commit is *padding*
//! then, of a known length, which the reader passes over.

mod reader;
mod retain;
mod writer;

use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stead_model::record::{FIXED_BYTES, limits};
use stead_model::{Sequence, Time};

use crate::dirty::{self, DirtyMap};
use crate::sync::SyncBlock;
use crate::sys::{self, Atomics, Shared};
use crate::{CaptureError, DriverStatus, Order};

pub use reader::Reader;
pub use retain::{Resumed, Unconfirmed};

/// Most threads that write into one ring.
pub const FLIGHTS: usize = 256;
/// Version of the layout in the picture above. 1: what was taken was free at once; read still.
pub const VERSION: u32 = 2;

/// Bit of a length word: padding, nothing to be taken.
const PADDING: u64 = 1;
const MAGIC: u64 = 0x7374_6561_6472_6e67;
const SYNC_AT: usize = 2048;
const FLIGHTS_AT: usize = 4096;
const DIRTY_AT: usize = FLIGHTS_AT + FLIGHTS * size_of::<Flight>();
const UNCONFIRMED_AT: usize = DIRTY_AT + dirty::BYTES.next_multiple_of(64);
const DATA_AT: usize = (UNCONFIRMED_AT + 2 * dirty::BYTES.next_multiple_of(64)).next_multiple_of(1 << 16);
const DATA_AT_V1: usize = (DIRTY_AT + dirty::BYTES).next_multiple_of(1 << 16);

#[repr(C, align(64))]
struct Line<T>(T);

#[repr(C)]
struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    /// Is a [`Kind::Lost`](stead_model::Kind::Lost) owed to the stream?
    owing: AtomicU32,
    incarnation: AtomicU64,
    data_bytes: AtomicU64,
    dropped_records: AtomicU64,
    dropped_bytes: AtomicU64,
    /// Thread id of the holder, 0: free.
    lock: Line<AtomicU32>,
    head: Line<AtomicU64>,
    tail: Line<AtomicU64>,
    /// 1: the reader sleeps, or is about to.
    waiting: Line<AtomicU32>,
    /// What the reader has taken. Moved by the reader, or by who becomes the reader.
    taken: Line<AtomicU64>,
    /// How many readers there were: only the last one may take and release.
    readers: AtomicU64,
    /// Generation of the unconfirmed map that is being filled: 0 or 1.
    filling: AtomicU64,
    /// Number up to which each generation covers.
    until: [AtomicU64; 2],
    /// 1: the reader lets records gather for a moment.
    gathering: AtomicU32,
}

/// What one writing thread is doing.
#[repr(C, align(64))]
pub struct Flight {
    /// Odd while it executes an operation whose record is not committed yet.
    count: AtomicU64,
    /// Where it reserved room last, and how much.
    place: AtomicU64,
    len: AtomicU64,
    /// One more than the place of the operation's main record; 0: it has none yet.
    main: AtomicU64,
}

// SAFETY: atomics only.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Header {}
// SAFETY: atomics only.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Flight {}
// SAFETY: an atomic.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for AtomicU32 {}

impl Flight {
    /// An operation that changes something begins. `main`: of its main record, where a dead thread had written that
    /// already.
    pub fn begin(&self, main: u64) {
        self.main.store(main, Relaxed);
        self.count.store(self.count.load(Relaxed) | 1, SeqCst);
    }
    /// Its records are committed, or it failed.
    pub fn end(&self) {
        self.count.store((self.count.load(Relaxed) | 1) + 1, Release);
    }
    /// One more than the place of the operation's main record; 0: it has none.
    pub fn main(&self) -> u64 {
        self.main.load(Relaxed)
    }
    /// Clears what a dead thread was doing.
    pub fn reset(&self) {
        self.len.store(0, Relaxed);
        self.main.store(0, Relaxed);
        if self.count.load(Relaxed) & 1 == 1 {
            self.end();
        }
    }
}

/// Counts of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingState {
    /// Number of the last reserved record.
    pub head: Sequence,
    /// Number of the last record freed.
    pub tail: Sequence,
    /// Number of the last record taken.
    pub taken: Sequence,
    /// Bytes of data that fit.
    pub data_bytes: u64,
    /// Records dropped.
    pub dropped_records: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Lost records that are owed to the stream.
    pub owed: u64,
    /// Files that were let go and not confirmed.
    pub unconfirmed: u64,
}

/// The ring, mapped into this process.
#[derive(Debug)]
pub struct Ring {
    control: Shared,
    data: Shared,
    bytes: u64,
    version: u32,
}

impl Ring {
    /// A new ring of at least `bytes` (a power of two, 64 KiB at least), and the memory to share.
    ///
    /// # Errors
    /// Where memory is lacking.
    pub fn create(bytes: usize, incarnation: u64) -> sys::Result<(OwnedFd, Ring)> {
        Self::create_version(bytes, incarnation, VERSION)
    }

    fn create_version(bytes: usize, incarnation: u64, version: u32) -> sys::Result<(OwnedFd, Ring)> {
        use std::os::fd::AsRawFd;
        let bytes = bytes.max(1 << 16).next_power_of_two();
        let memory = sys::shared_memory(c"stead-ring", data_at(version) + bytes)?;
        let ring = Ring::map(memory.as_raw_fd(), bytes, version)?;
        let header = ring.header();
        header.data_bytes.store(bytes as u64, Relaxed);
        header.incarnation.store(incarnation, Relaxed);
        header.version.store(version, Relaxed);
        header.magic.store(MAGIC, Release);
        Ok((memory, ring))
    }

    /// Maps the ring that another process created.
    ///
    /// # Errors
    /// Where the memory holds something else, or a ring of an unknown version.
    pub fn open(memory: RawFd) -> Result<Ring, CaptureError> {
        let damaged = |why: &str| CaptureError::Damaged { at: 0, why: why.into() };
        let system =
            |source: rustix::io::Errno| CaptureError::System { what: "mapping the ring", source: source.into() };
        let len = rustix::fs::fstat(sys::fd(memory)).map_err(system)?.st_size as usize;
        if len < FLIGHTS_AT {
            return Err(damaged("it has an impossible size"));
        }
        let page = Shared::map(memory, 0, FLIGHTS_AT).map_err(system)?;
        let header: &Header = page.atomics(0);
        if header.magic.load(Acquire) != MAGIC {
            return Err(damaged("it is no ring"));
        }
        let version = header.version.load(Relaxed);
        if !(1..=VERSION).contains(&version) {
            return Err(CaptureError::Version { theirs: version, ours: VERSION });
        }
        let bytes = len.checked_sub(data_at(version)).filter(|bytes| bytes.is_power_of_two());
        let bytes = bytes.ok_or_else(|| damaged("it has an impossible size"))?;
        if header.data_bytes.load(Relaxed) != bytes as u64 {
            return Err(damaged("it is no ring"));
        }
        Ring::map(memory, bytes, version).map_err(system)
    }

    /// Makes its pages present, so that a record costs no page faults.
    pub fn populate(&self) {
        self.data.populate(0, self.bytes as usize);
    }

    fn map(memory: RawFd, bytes: usize, version: u32) -> sys::Result<Ring> {
        let control = Shared::map(memory, 0, data_at(version))?;
        let data = Shared::map_twice(memory, data_at(version), bytes)?;
        Ok(Ring { control, data, bytes: bytes as u64, version })
    }

    /// Which start of capture made it.
    pub fn incarnation(&self) -> u64 {
        self.header().incarnation.load(Relaxed)
    }

    /// What the writing thread `index` says that it does.
    pub fn flight(&self, index: usize) -> &Flight {
        assert!(index < FLIGHTS);
        self.control.atomics(FLIGHTS_AT + index * size_of::<Flight>())
    }

    /// What daemon and server tell each other about synchronous operation; `None` in a ring of version 1.
    pub fn sync(&self) -> Option<&SyncBlock> {
        (self.version >= 2).then(|| self.control.atomics(SYNC_AT))
    }

    /// Counts, as they are now.
    pub fn state(&self) -> RingState {
        let header = self.header();
        let _guard = self.lock();
        let tail = header.tail.0.load(Relaxed);
        RingState {
            head: header.head.0.load(Relaxed),
            tail,
            taken: if self.version >= 2 { header.taken.0.load(Relaxed).max(tail) } else { tail },
            data_bytes: self.bytes,
            dropped_records: header.dropped_records.load(Relaxed),
            dropped_bytes: header.dropped_bytes.load(Relaxed),
            owed: if header.owing.load(Relaxed) != 0 { self.dirty().pending() } else { 0 },
            unconfirmed: if self.version >= 2 {
                self.generation(0).pending() + self.generation(1).pending()
            } else {
                0
            },
        }
    }

    /// What the memory alone tells of the driver.
    pub fn status(&self, order: Order) -> DriverStatus {
        let state = self.state();
        DriverStatus {
            driver: "mount".into(),
            order,
            ring_bytes: state.data_bytes,
            ring_used_bytes: state.head - state.taken,
            retained_bytes: state.taken - state.tail,
            unconfirmed_files: state.unconfirmed,
            head: state.head,
            dropped_records: state.dropped_records,
            dropped_bytes: state.dropped_bytes,
            dirty_files: state.owed,
            sync: self.sync().map(SyncBlock::status),
            ..DriverStatus::default()
        }
    }

    /// Upper bound of the numbers of everything executed before the call; see [`Capture::captured`](crate::Capture::captured).
    pub fn captured(&self) -> Sequence {
        let deadline = Instant::now() + Duration::from_secs(1);
        fence(SeqCst);
        for index in 0..FLIGHTS {
            let flight = &self.flight(index).count;
            let seen = flight.load(SeqCst);
            let mut tries = 0_u32;
            while seen & 1 == 1 && flight.load(Acquire) == seen && Instant::now() < deadline {
                tries += 1;
                if tries > 20 { std::thread::sleep(Duration::from_micros(50)) } else { std::thread::yield_now() }
            }
        }
        self.promised()
    }

    /// Number that the stream reaches once everything is in it that has taken its place, or is owed to it.
    pub fn promised(&self) -> Sequence {
        let header = self.header();
        let _guard = self.lock();
        let owed = if header.owing.load(Relaxed) != 0 { self.dirty().pending() } else { 0 };
        header.head.0.load(Relaxed) + owed * FIXED_BYTES as u64
    }

    /// Frees the lock if its holder died with it.
    pub fn unlock_dead(&self) {
        let lock = &self.header().lock.0;
        let owner = lock.load(Relaxed);
        if owner != 0 && !sys::thread_is_alive(owner) {
            let _ = lock.compare_exchange(owner, 0, Release, Relaxed);
        }
    }

    fn header(&self) -> &Header {
        self.control.atomics(0)
    }

    fn dirty(&self) -> DirtyMap<'_> {
        DirtyMap::at(&self.control, DIRTY_AT)
    }

    fn length_word(&self, at: u64) -> &AtomicU32 {
        self.data.atomics((at % self.bytes) as usize)
    }

    fn lock(&self) -> Guard<'_> {
        let (lock, me) = (&self.header().lock.0, sys::thread_id());
        let mut tries = 0_u32;
        while let Err(owner) = lock.compare_exchange_weak(0, me, Acquire, Relaxed) {
            tries += 1;
            if tries < 100 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
            // The holder makes no system call, so it is only ever late by its time slices, or dead.
            if tries.is_multiple_of(10_000) && owner != 0 {
                self.unlock_dead();
            }
        }
        Guard(lock)
    }
}

struct Guard<'a>(&'a AtomicU32);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(0, Release);
    }
}

/// Where the data begin.
fn data_at(version: u32) -> usize {
    if version >= 2 { DATA_AT } else { DATA_AT_V1 }
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// A file time as a record has it.
pub fn time(sec: i64, nsec: i64) -> Time {
    Time { sec, nsec: nsec as u32 }
}

const _: () = assert!(limits::RECORD_BYTES_MAX < 2 << 20, "a few records fit into the smallest ring of a set");
const _: () = assert!(size_of::<Header>() <= SYNC_AT && SYNC_AT + size_of::<SyncBlock>() <= FLIGHTS_AT);

#[cfg(test)]
mod tests;
