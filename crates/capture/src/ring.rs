//! The ring: the ordered stream of a set in shared memory, from several writers to one reader in another process.
//!
//! ```text
//!   memory:  header · flights · dirty map · data (mapped twice in a row: a record never wraps)
//!   stream:  … taken │ committed … │ reserved, being written … │ 0 … free
//!                   tail                                      head
//! ```
//! A writer takes the lock, reserves `[head, head + len)` and zeroes the length word behind it; it writes the record
//! without the lock, and stores the record's own length word last: that commits it. The reader takes committed records
//! from the tail up to the first length word that is zero. Numbers are byte offsets since the start and only rise.
//!
//! A writer never waits for the reader. Where there is no room the record is dropped, counted, and its files go into
//! the dirty map; so do all changes after it, until the reader has made half of the ring free and a [`Kind::Lost`]
//! record for each of those files stands in the stream, before any later change.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};
use std::time::{Duration, Instant};

use stead_model::record::{FIXED_BYTES, limits};
use stead_model::{FileId, Kind, Record, Sequence, Time};

use crate::CaptureError;
use crate::dirty::{self, DirtyMap};
use crate::sys::{self, Atomics, Shared};

/// Most threads that write into one ring.
pub const FLIGHTS: usize = 256;
/// Version of the layout in the picture above.
pub const VERSION: u32 = 1;

/// How long the reader of a busy stream sleeps without asking to be woken.
const GATHER: Duration = Duration::from_micros(250);
const MAGIC: u64 = 0x7374_6561_6472_6e67;
const FLIGHTS_AT: usize = 4096;
const DIRTY_AT: usize = FLIGHTS_AT + FLIGHTS * size_of::<Flight>();
const DATA_AT: usize = (DIRTY_AT + dirty::BYTES).next_multiple_of(1 << 16);

#[repr(C, align(64))]
struct Line<T>(T);

#[repr(C)]
struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    /// Is a [`Kind::Lost`] owed to the stream?
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
}

/// What one writing thread is doing: odd while it executes an operation whose record is not committed yet.
#[repr(C, align(64))]
pub struct Flight(AtomicU64);

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
    /// An operation that changes something begins.
    pub fn begin(&self) {
        self.0.store(self.0.load(Relaxed) | 1, SeqCst);
    }
    /// Its records are committed, or it failed.
    pub fn end(&self) {
        self.0.store((self.0.load(Relaxed) | 1) + 1, Release);
    }
}

/// Counts of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingState {
    /// Number of the last reserved record.
    pub head: Sequence,
    /// Number of the last record taken.
    pub tail: Sequence,
    /// Bytes of data that fit.
    pub data_bytes: u64,
    /// Records dropped.
    pub dropped_records: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Lost records that are owed to the stream.
    pub owed: u64,
}

/// The ring, mapped into this process.
#[derive(Debug)]
pub struct Ring {
    control: Shared,
    data: Shared,
    bytes: u64,
}

impl Ring {
    /// A new ring of at least `bytes` (a power of two, 64 KiB at least), and the memory to share.
    ///
    /// # Errors
    /// Where memory is lacking.
    pub fn create(bytes: usize, incarnation: u64) -> sys::Result<(OwnedFd, Ring)> {
        use std::os::fd::AsRawFd;
        let bytes = bytes.max(1 << 16).next_power_of_two();
        let memory = sys::shared_memory(c"stead-ring", DATA_AT + bytes)?;
        let ring = Ring::map(memory.as_raw_fd(), bytes)?;
        let header = ring.header();
        header.data_bytes.store(bytes as u64, Relaxed);
        header.incarnation.store(incarnation, Relaxed);
        header.version.store(VERSION, Relaxed);
        header.magic.store(MAGIC, Release);
        Ok((memory, ring))
    }

    /// Maps the ring that another process created.
    ///
    /// # Errors
    /// Where the memory holds something else, or a ring of another version.
    pub fn open(memory: RawFd) -> Result<Ring, CaptureError> {
        let damaged = |why: &str| CaptureError::Damaged { at: 0, why: why.into() };
        let system =
            |source: rustix::io::Errno| CaptureError::System { what: "mapping the ring", source: source.into() };
        let len = rustix::fs::fstat(sys::fd(memory)).map_err(system)?.st_size as usize;
        let bytes = len.checked_sub(DATA_AT).filter(|bytes| bytes.is_power_of_two());
        let ring = Ring::map(memory, bytes.ok_or_else(|| damaged("it has an impossible size"))?).map_err(system)?;
        let header = ring.header();
        if header.magic.load(Acquire) != MAGIC || header.data_bytes.load(Relaxed) != ring.bytes {
            return Err(damaged("it is no ring"));
        }
        match header.version.load(Relaxed) {
            VERSION => Ok(ring),
            theirs => Err(CaptureError::Version { theirs, ours: VERSION }),
        }
    }

    /// Makes its pages present, so that a record costs no page faults.
    pub fn populate(&self) {
        self.data.populate(0, self.bytes as usize);
    }

    fn map(memory: RawFd, bytes: usize) -> sys::Result<Ring> {
        let control = Shared::map(memory, 0, DATA_AT)?;
        let data = Shared::map_twice(memory, DATA_AT, bytes)?;
        Ok(Ring { control, data, bytes: bytes as u64 })
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

    /// Counts, as they are now.
    pub fn state(&self) -> RingState {
        let header = self.header();
        let _guard = self.lock();
        RingState {
            head: header.head.0.load(Relaxed),
            tail: header.tail.0.load(Relaxed),
            data_bytes: self.bytes,
            dropped_records: header.dropped_records.load(Relaxed),
            dropped_bytes: header.dropped_bytes.load(Relaxed),
            owed: if header.owing.load(Relaxed) != 0 { self.dirty().pending() } else { 0 },
        }
    }

    // --- writers

    /// Puts a record into the stream, or its files into the dirty map; never waits for the reader. `time` is set here.
    pub fn put(&self, record: &Record<'_>) {
        let record = Record { time: now(), ..*record };
        let len = record.encoded_len() as u64;
        if let Some(at) = self.reserve(&record, len) {
            self.commit(at, &record, len);
        }
    }

    fn reserve(&self, record: &Record<'_>, len: u64) -> Option<u64> {
        let header = self.header();
        let _guard = self.lock();
        if header.owing.load(Relaxed) != 0 {
            self.settle();
        }
        if header.owing.load(Relaxed) == 0
            && let Some(at) = self.take_room(len)
        {
            return Some(at);
        }
        self.drop_record(record, len);
        None
    }

    /// Reserves room, if there is some; the caller holds the lock.
    fn take_room(&self, len: u64) -> Option<u64> {
        let header = self.header();
        let head = header.head.0.load(Relaxed);
        let free = self.bytes - (head - header.tail.0.load(Acquire));
        if len + 8 > free {
            return None;
        }
        self.length_word(head + len).store(0, Relaxed);
        header.head.0.store(head + len, Release);
        Some(head)
    }

    fn commit(&self, at: u64, record: &Record<'_>, len: u64) {
        self.write(at, record, len);
        self.wake();
    }

    fn write(&self, at: u64, record: &Record<'_>, len: u64) {
        let offset = (at % self.bytes) as usize;
        record.write_body_to(self.data.exclusive(offset + 4, len as usize - 4));
        self.length_word(at).store(len as u32, Release);
    }

    fn wake(&self) {
        fence(SeqCst);
        let waiting = &self.header().waiting.0;
        if waiting.load(Relaxed) != 0 && waiting.swap(0, Relaxed) != 0 {
            sys::futex_wake(waiting, 1);
        }
    }

    /// Remembers what a record that found no room was about; the caller holds the lock.
    fn drop_record(&self, record: &Record<'_>, len: u64) {
        let header = self.header();
        header.dropped_records.fetch_add(1, Relaxed);
        header.dropped_bytes.fetch_add(len, Relaxed);
        if record.kind == Kind::Sync {
            return;
        }
        for file in [record.file, record.parent, record.names.parent2, record.names.victim] {
            if !file.is_none() {
                self.dirty().insert(file);
            }
        }
        header.owing.store(1, Release);
    }

    /// Writes the owed Lost records once half of the ring is free, as far as they fit; the caller holds the lock.
    fn settle(&self) {
        let header = self.header();
        let used = || header.head.0.load(Relaxed) - header.tail.0.load(Acquire);
        if used() > self.bytes / 2 {
            return;
        }
        while used() + FIXED_BYTES as u64 + 8 <= self.bytes {
            let Some((file, place)) = self.dirty().peek() else {
                header.owing.store(0, Release);
                return;
            };
            self.append(&Record { time: now(), ..Record::new(Kind::Lost, file) });
            self.dirty().remove(file, place);
        }
    }

    /// Writes a record for which there is room, with the lock held all the time: who dies here leaves nothing behind.
    fn append(&self, record: &Record<'_>) {
        let head = &self.header().head.0;
        let (at, len) = (head.load(Relaxed), record.encoded_len() as u64);
        self.length_word(at + len).store(0, Relaxed);
        self.write(at, record, len);
        head.store(at + len, Release);
        self.wake();
    }

    // --- the reader

    /// Appends committed records to `out`; see [`Capture::drain`](crate::Capture::drain).
    ///
    /// # Errors
    /// Where a length word cannot be one.
    pub fn drain(&self, out: &mut Vec<u8>, bytes_max: usize) -> Result<Sequence, CaptureError> {
        let header = self.header();
        let (tail, head) = (header.tail.0.load(Relaxed), header.head.0.load(Acquire));
        let mut end = tail;
        while end < head {
            let len = u64::from(self.length_word(end).load(Acquire));
            if len == 0 || (end > tail && end + len - tail > bytes_max as u64) {
                break;
            }
            if !len.is_multiple_of(8) || !(FIXED_BYTES as u64..=head - end).contains(&len) {
                return Err(CaptureError::Damaged { at: end, why: format!("a record of {len} bytes") });
            }
            end += len;
        }
        if end > tail {
            self.data.append_to(out, (tail % self.bytes) as usize, (end - tail) as usize);
            header.tail.0.store(end, Release);
        }
        self.settle_if_owing();
        Ok(end)
    }

    /// Blocks until there is something to drain, at most `timeout`. Only the reader calls it.
    ///
    /// `busy`: records came until just now. Then it lets some gather first, so that a stream of changes does not pay a
    /// wake-up for each.
    pub fn wait(&self, timeout: Duration, busy: bool) -> bool {
        let deadline = Instant::now() + timeout;
        if busy && !self.is_ready() {
            std::thread::sleep(GATHER.min(timeout));
        }
        let waiting = &self.header().waiting.0;
        loop {
            self.settle_if_owing();
            waiting.store(1, SeqCst);
            fence(SeqCst);
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = self.is_ready();
            if ready || left.is_zero() {
                waiting.store(0, Relaxed);
                return ready;
            }
            sys::futex_wait(waiting, 1, left);
        }
    }

    /// Upper bound of the numbers of everything executed before the call; see [`Capture::captured`](crate::Capture::captured).
    pub fn captured(&self) -> Sequence {
        let deadline = Instant::now() + Duration::from_secs(1);
        fence(SeqCst);
        for index in 0..FLIGHTS {
            let flight = &self.flight(index).0;
            let seen = flight.load(SeqCst);
            let mut tries = 0_u32;
            while seen & 1 == 1 && flight.load(Acquire) == seen && Instant::now() < deadline {
                tries += 1;
                if tries > 20 { std::thread::sleep(Duration::from_micros(50)) } else { std::thread::yield_now() }
            }
        }
        let state = self.state();
        state.head + state.owed * FIXED_BYTES as u64
    }

    fn is_ready(&self) -> bool {
        let header = self.header();
        let tail = header.tail.0.load(Relaxed);
        tail < header.head.0.load(Acquire) && self.length_word(tail).load(Acquire) != 0
    }

    fn settle_if_owing(&self) {
        if self.header().owing.load(Acquire) != 0 {
            let _guard = self.lock();
            self.settle();
        }
    }

    // --- shared

    /// Frees the lock if its holder died with it.
    pub fn unlock_dead(&self) {
        let lock = &self.header().lock.0;
        let owner = lock.load(Relaxed);
        if owner != 0 && !sys::thread_is_alive(owner) {
            let _ = lock.compare_exchange(owner, 0, Release, Relaxed);
        }
    }

    /// Fills the places that dead writers reserved and never committed: their content is unknown, so the whole set
    /// counts as dirty. Only while no writer lives.
    pub fn fill_holes(&self) {
        let header = self.header();
        let (mut at, head) = (header.tail.0.load(Acquire), header.head.0.load(Relaxed));
        // The length of a hole is not known, but everything behind it is: what is committed there has to go too.
        while at < head {
            let len = u64::from(self.length_word(at).load(Acquire));
            if len == 0 {
                return self.replace_with_lost(at, head);
            }
            at += len;
        }
    }

    fn replace_with_lost(&self, mut at: u64, head: u64) {
        static DATA: [u8; 1 << 20] = [0; 1 << 20];
        while at < head {
            let most = (head - at).min((FIXED_BYTES + DATA.len()) as u64);
            let rest = head - at - most;
            let len = if rest > 0 && rest < FIXED_BYTES as u64 { most - FIXED_BYTES as u64 } else { most };
            let data = &DATA[..len as usize - FIXED_BYTES];
            let record = Record { data, time: now(), ..Record::new(Kind::Lost, FileId::NONE) };
            if at + len < head {
                self.length_word(at + len).store(0, Relaxed);
            }
            self.commit(at, &record, len);
            at += len;
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

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A file time as a record has it.
pub fn time(sec: i64, nsec: i64) -> Time {
    Time { sec, nsec: nsec as u32 }
}

const _: () = assert!(limits::RECORD_BYTES_MAX < 2 << 20, "a few records fit into the smallest ring of a set");

#[cfg(test)]
mod tests;
