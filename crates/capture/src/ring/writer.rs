//! The writers' end.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use stead_model::record::FIXED_BYTES;
use stead_model::{FileId, Kind, Record, Sequence};

use super::{FLIGHTS, Flight, PADDING, Ring, now};
use crate::dirty::DirtyMap;
use crate::sys;

impl Ring {
    /// Puts a record into the stream, or its files into the dirty map; never waits for the reader. `time` is set here.
    /// Returns its number, `None` where it was dropped.
    ///
    /// `flight` is that of the calling thread.
    pub fn put(&self, flight: &Flight, record: &Record<'_>) -> Option<Sequence> {
        self.put_as(flight, record, false)
    }

    /// As [`Ring::put`], for the one record of an operation that must not be there twice. Nothing is done where
    /// [`Ring::has_main`].
    pub fn put_main(&self, flight: &Flight, record: &Record<'_>) {
        if !self.has_main(flight.main()) {
            self.put_as(flight, record, true);
        }
    }

    /// Is the main record of an operation, given by [`Flight::main`], in the stream?
    pub fn has_main(&self, main: u64) -> bool {
        let Some(place) = main.checked_sub(1) else { return false };
        let _guard = self.lock();
        place < self.header().tail.0.load(Relaxed) || self.length_word(place).load(Acquire) != 0
    }

    fn put_as(&self, flight: &Flight, record: &Record<'_>, is_main: bool) -> Option<Sequence> {
        let record = Record { time: now(), ..*record };
        let len = record.encoded_len() as u64;
        let at = self.reserve(flight, &record, len, is_main)?;
        self.commit(at, &record, len);
        Some(at + len)
    }

    fn reserve(&self, flight: &Flight, record: &Record<'_>, len: u64, is_main: bool) -> Option<u64> {
        let header = self.header();
        let _guard = self.lock();
        if header.owing.load(Relaxed) != 0 {
            self.settle();
        }
        if header.owing.load(Relaxed) == 0
            && let Some(at) = self.take_room(flight, len, is_main)
        {
            return Some(at);
        }
        self.drop_record(record, len);
        None
    }

    /// Reserves room, if there is some; the caller holds the lock.
    pub(super) fn take_room(&self, flight: &Flight, len: u64, is_main: bool) -> Option<u64> {
        let header = self.header();
        let head = header.head.0.load(Relaxed);
        let free = || self.bytes - (head - header.tail.0.load(Acquire));
        while len + 8 > free() {
            if !self.let_go(self.header().taken.0.load(Acquire)) {
                return None;
            }
        }
        flight.place.store(head, Relaxed);
        flight.len.store(len, Relaxed);
        if is_main {
            flight.main.store(head + 1, Relaxed);
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

    /// Somebody waits for what was just put into the stream: the reader is not to let it lie.
    pub fn hurry(&self) {
        fence(SeqCst);
        let gathering = &self.header().gathering;
        if gathering.load(Relaxed) != 0 && gathering.swap(0, Relaxed) != 0 {
            sys::futex_wake(gathering, 1);
        }
    }

    /// The reader is to return, whether something is there or not.
    pub fn call(&self) {
        self.hurry();
        self.wake();
    }

    /// Remembers what a record that found no room was about; the caller holds the lock.
    fn drop_record(&self, record: &Record<'_>, len: u64) {
        let header = self.header();
        header.dropped_records.fetch_add(1, Relaxed);
        header.dropped_bytes.fetch_add(len, Relaxed);
        if record.kind == Kind::Sync {
            return;
        }
        note(&self.dirty(), record);
        header.owing.store(1, Release);
    }

    /// Writes the owed Lost records once half of the ring is free, as far as they fit; the caller holds the lock.
    pub(super) fn settle(&self) {
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

    // --- after a death

    /// Makes padding of the places that dead writers reserved and never committed. Only while no writer lives. What
    /// they were about to say is said again by who repeats the operation.
    pub fn fill_holes(&self) {
        let header = self.header();
        self.dirty().recount();
        let (mut at, head) = (header.tail.0.load(Acquire), header.head.0.load(Relaxed));
        while at < head {
            let mut len = u64::from(self.length_word(at).load(Acquire));
            if len == 0 {
                let Some(flight) = self.owner_of(at) else { return self.replace_with_lost(at, head) };
                len = flight.len.load(Relaxed) | PADDING;
                flight.main.store(0, Relaxed);
                self.length_word(at).store(len as u32, Release);
                self.wake();
            }
            at += len & !PADDING;
        }
    }

    /// The only flight that says it reserved this place.
    fn owner_of(&self, at: u64) -> Option<&Flight> {
        let flights = (0..FLIGHTS).map(|index| self.flight(index));
        let mut owners = flights.filter(|flight| flight.place.load(Relaxed) == at && flight.len.load(Relaxed) != 0);
        owners.next().filter(|_| owners.next().is_none())
    }

    /// The length of a hole is not known, so what is committed behind it has to go too.
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
}

/// Remembers the files that a record names.
pub(super) fn note(map: &DirtyMap<'_>, record: &Record<'_>) {
    if record.kind == Kind::Lost && record.file.is_none() {
        return map.insert_whole();
    }
    for file in [record.file, record.parent, record.names.parent2, record.names.victim] {
        if !file.is_none() {
            map.insert(file);
        }
    }
}
