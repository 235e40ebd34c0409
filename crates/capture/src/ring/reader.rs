//! The reader's end: one at a time, in another process.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;
use std::time::{Duration, Instant};

use stead_model::Sequence;
use stead_model::record::FIXED_BYTES;

use super::{PADDING, Ring};
use crate::{CaptureError, Resumed, Unconfirmed, sys};

/// How long the reader of a busy stream sleeps without asking to be woken.
const GATHER: Duration = Duration::from_micros(250);

/// Reads a ring. It disturbs no other reader until it takes something.
#[derive(Debug)]
pub struct Reader {
    ring: Ring,
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Number of the last record taken by this reader.
    at: u64,
    /// Which reader of the ring it is.
    number: u64,
}

impl Reader {
    /// A reader that has not begun.
    pub fn new(ring: Ring) -> Reader {
        Reader { ring, place: None }
    }

    /// The ring.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Becomes the reader; see [`Capture::resume`](crate::Capture::resume).
    pub fn resume(&mut self) -> Resumed {
        let header = self.ring.header();
        let _guard = self.ring.lock();
        self.ring.dirty().recount();
        let tail = header.tail.0.load(Relaxed);
        if self.ring.version < 2 {
            self.place = Some(Place { at: tail, number: 0 });
            return Resumed { tail, unconfirmed: Unconfirmed::WholeSet };
        }
        let number = header.readers.fetch_add(1, Relaxed) + 1;
        header.taken.0.store(tail, Release);
        self.place = Some(Place { at: tail, number });
        Resumed { tail, unconfirmed: self.ring.unconfirmed() }
    }

    /// Appends committed records to `out`; see [`Capture::drain`](crate::Capture::drain).
    ///
    /// # Errors
    /// Where a length word cannot be one, or another reader has begun.
    pub fn drain(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<Sequence, CaptureError> {
        if self.place.is_none() {
            self.resume();
        }
        let Some(place) = self.place.filter(|place| self.is_mine(*place)) else {
            return Err(CaptureError::Superseded);
        };
        let (ring, start) = (&self.ring, place.at);
        let head = ring.header().head.0.load(Acquire);
        let (mut end, mut run) = (start, start);
        while end < head {
            let word = u64::from(ring.length_word(end).load(Acquire));
            let len = word & !PADDING;
            if len == 0 || (end > start && end + len - start > bytes_max as u64) {
                break;
            }
            if !len.is_multiple_of(8) || !(FIXED_BYTES as u64..=head - end).contains(&len) {
                return Err(CaptureError::Damaged { at: end, why: format!("a record of {len} bytes") });
            }
            if word & PADDING != 0 {
                ring.copy_out(out, run, end);
                run = end + len;
            }
            end += len;
        }
        ring.copy_out(out, run, end);
        self.place = Some(Place { at: end, ..place });
        if end > start && ring.version >= 2 {
            ring.header().taken.0.store(end, Release);
        }
        ring.settle_if_owing();
        Ok(end)
    }

    /// Frees room; see [`Capture::release`](crate::Capture::release).
    pub fn release(&mut self, confirmed: Sequence, keep_free: u64) {
        let Some(place) = self.place.filter(|place| self.is_mine(*place)) else { return };
        if self.ring.version < 2 {
            self.ring.header().tail.0.store(place.at, Release);
        } else {
            self.ring.release(confirmed.min(place.at), keep_free);
        }
        self.ring.settle_if_owing();
    }

    /// Blocks until there is something to drain, at most `timeout`, or until it is called ([`Ring::call`]).
    ///
    /// `busy`: records came until just now. Then it lets some gather first, so that a stream of changes does not pay a
    /// wake-up for each.
    pub fn wait(&self, timeout: Duration, busy: bool, is_called: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        if busy && !self.is_ready() && !is_called() {
            self.ring.gather(GATHER.min(timeout));
        }
        let waiting = &self.ring.header().waiting.0;
        loop {
            self.ring.settle_if_owing();
            waiting.store(1, SeqCst);
            fence(SeqCst);
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = self.is_ready();
            if ready || left.is_zero() || is_called() {
                waiting.store(0, Relaxed);
                return ready;
            }
            sys::futex_wait(waiting, 1, left);
        }
    }

    fn is_ready(&self) -> bool {
        let header = self.ring.header();
        let at = self.place.map_or_else(|| header.tail.0.load(Acquire), |place| place.at);
        at < header.head.0.load(Acquire) && self.ring.length_word(at).load(Acquire) != 0
    }

    fn is_mine(&self, place: Place) -> bool {
        self.ring.version < 2 || self.ring.header().readers.load(Relaxed) == place.number
    }
}

impl Ring {
    /// Sleeps until it is over, or somebody is in a hurry.
    fn gather(&self, timeout: Duration) {
        if self.version < 2 {
            return std::thread::sleep(timeout);
        }
        let gathering = &self.header().gathering;
        gathering.store(1, SeqCst);
        sys::futex_wait(gathering, 1, timeout);
        gathering.store(0, Relaxed);
    }

    fn copy_out(&self, out: &mut Vec<u8>, from: u64, to: u64) {
        if to > from {
            self.data.append_to(out, (from % self.bytes) as usize, (to - from) as usize);
        }
    }

    /// Lets the stream name what was dropped, as soon as that can be.
    fn settle_if_owing(&self) {
        if self.header().owing.load(Acquire) != 0 {
            if self.version >= 2 {
                self.make_room(self.bytes / 2);
            }
            let _guard = self.lock();
            self.settle();
        }
    }
}
