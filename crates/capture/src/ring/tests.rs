use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stead_model::record::records;
use stead_model::{FileId, Kind, Record};

use super::*;

fn file(ino: u64) -> FileId {
    FileId { ino, generation: 1, volume: 0 }
}

fn write(ino: u64, number: u64, data: &[u8]) -> Record<'_> {
    Record { a: number, data, ..Record::new(Kind::Write, file(ino)) }
}

fn ring(bytes: usize) -> (Arc<Ring>, Reader) {
    let (memory, writer) = Ring::create(bytes, 77).unwrap();
    let reader = Reader::new(Ring::open(memory.as_raw_fd()).unwrap());
    assert_eq!(reader.ring().incarnation(), 77);
    (Arc::new(writer), reader)
}

fn put(ring: &Ring, record: &Record<'_>) {
    ring.put(ring.flight(0), record);
}

#[test]
fn records_come_out_in_order_over_many_wraps() {
    let (writer, mut reader) = ring(1 << 16);
    let mut sent = 0;
    let mut got = 0;
    let data: Vec<u8> = (0..5000).map(|n| n as u8).collect();
    for round in 0..2000_u64 {
        for _ in 0..round % 5 {
            put(&writer, &write(3, sent, &data[..(sent * 37 % 5000) as usize]));
            sent += 1;
        }
        let mut out = Vec::new();
        let number = reader.drain(&mut out, usize::MAX).unwrap();
        assert_eq!(number, reader.ring().state().head);
        for record in records(&out) {
            let record = record.unwrap();
            assert_eq!((record.a, record.data), (got, &data[..(got * 37 % 5000) as usize]));
            got += 1;
        }
    }
    assert_eq!((sent, reader.ring().state().dropped_records), (got, 0));
}

#[test]
fn a_bound_cuts_between_records_and_always_lets_one_through() {
    let (writer, mut reader) = ring(1 << 16);
    for n in 0..3 {
        put(&writer, &write(1, n, &[7; 1000]));
    }
    let mut out = Vec::new();
    assert_eq!(reader.drain(&mut out, 10).unwrap(), 1152);
    assert_eq!(out.len(), 1152);
    assert_eq!(reader.drain(&mut out, 2500).unwrap(), 3 * 1152);
    assert_eq!(reader.drain(&mut out, 2500).unwrap(), 3 * 1152);
    assert_eq!(records(&out).count(), 3);
}

#[test]
fn what_is_dropped_is_named_as_lost_before_any_later_change() {
    let (writer, mut reader) = ring(1 << 16);
    let mut n = 0;
    while reader.ring().state().dropped_records == 0 {
        put(&writer, &write(n % 50 + 1, n, &[1; 4096]));
        n += 1;
    }
    let kept = n - 1;
    for extra in 0..10 {
        put(&writer, &write(100 + extra, 0, &[])); // small enough to fit, but must not overtake what was lost
    }
    let promised = reader.ring().captured();
    let mut out = Vec::new();
    reader.drain(&mut out, usize::MAX).unwrap();
    put(&writer, &write(900, 0, &[]));
    assert!(reader.drain(&mut out, usize::MAX).unwrap() > promised);
    let kinds: Vec<_> = records(&out).map(|r| r.unwrap()).map(|r| (r.kind, r.file.ino)).collect();
    let (before, after) = kinds.split_at(kept as usize);
    assert!(before.iter().all(|(kind, _)| *kind == Kind::Write));
    let mut lost: Vec<_> =
        after[..11].iter().map(|(kind, ino)| (*kind == Kind::Lost).then_some(*ino).unwrap()).collect();
    lost.sort_unstable();
    let mut wanted: Vec<_> = (100..110).chain([kept % 50 + 1]).collect();
    wanted.sort_unstable();
    assert_eq!(lost, wanted);
    assert_eq!(after[11..], [(Kind::Write, 900)]);
}

#[test]
fn the_reader_gets_the_lost_even_if_nothing_is_written_any_more() {
    let (writer, mut reader) = ring(1 << 16);
    for n in 0..200 {
        put(&writer, &write(5, n, &[1; 4096]));
    }
    let promised = reader.ring().captured();
    let mut out = Vec::new();
    let mut number = 0;
    while reader.wait(Duration::ZERO, false, || false) {
        number = reader.drain(&mut out, 8192).unwrap();
    }
    assert_eq!(number, promised);
    let last = records(&out).last().unwrap().unwrap();
    assert_eq!((last.kind, last.file), (Kind::Lost, file(5)));
}

#[test]
fn names_lost_dirty_their_directories() {
    let (writer, mut reader) = ring(1 << 16);
    while reader.ring().state().dropped_records == 0 {
        put(&writer, &write(1, 0, &[1; 4096]));
    }
    let mut rename = Record::new(Kind::Rename, file(10));
    rename.parent = file(11);
    rename.names.parent2 = file(12);
    rename.names.victim = file(13);
    put(&writer, &rename);
    let mut out = Vec::new();
    while reader.wait(Duration::ZERO, false, || false) {
        reader.drain(&mut out, usize::MAX).unwrap();
    }
    let lost: Vec<_> = records(&out).map(|r| r.unwrap()).filter(|r| r.kind == Kind::Lost).map(|r| r.file.ino).collect();
    for ino in [10, 11, 12, 13] {
        assert!(lost.contains(&ino), "{ino} in {lost:?}");
    }
}

/// Several writers, a reader that sleeps in `wait` each time: nothing is lost, nothing stalls, each writer's order is
/// kept. A missed wake-up shows as the time-out.
#[test]
fn writers_and_a_waiting_reader_never_miss_each_other() {
    const WRITERS: u64 = 3;
    const EACH: u64 = 20_000;
    let (writer, mut reader) = ring(4 << 20);
    let threads: Vec<_> = (0..WRITERS)
        .map(|id| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                let data = [id as u8; 600];
                for n in 0..EACH {
                    let full = |state: RingState| state.head - state.taken > 3 << 20;
                    while full(writer.state()) {
                        std::thread::yield_now();
                    }
                    writer.put(writer.flight(id as usize), &write(id + 1, n, &data[..(n % 600) as usize]));
                    if n % 97 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut next = HashMap::new();
    let mut out = Vec::new();
    let mut seen = 0;
    while seen < WRITERS * EACH {
        assert!(reader.wait(Duration::from_secs(20), seen % 3 == 0, || false), "no wake-up after {seen} records");
        out.clear();
        reader.drain(&mut out, 1 << 16).unwrap();
        for record in records(&out) {
            let record = record.unwrap();
            let next: &mut u64 = next.entry(record.file.ino).or_default();
            assert_eq!(record.a, *next);
            assert!(record.data.iter().all(|byte| u64::from(*byte) + 1 == record.file.ino));
            *next += 1;
            seen += 1;
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(reader.ring().state().dropped_records, 0);
}

#[test]
fn a_reader_that_is_called_returns_with_nothing_to_drain() {
    let (writer, reader) = ring(1 << 16);
    let called = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let begin = std::time::Instant::now();
        let waits = scope.spawn(|| reader.wait(Duration::from_secs(20), false, || called.load(Ordering::SeqCst)));
        called.store(true, Ordering::SeqCst);
        writer.call();
        assert!(!waits.join().unwrap());
        assert!(begin.elapsed() < Duration::from_secs(15));
    });
}

/// With a reader that is too slow, every file is in the stream with its last number, or named as lost after that.
#[test]
fn overflow_under_load_forgets_no_file() {
    let (writer, mut reader) = ring(1 << 16);
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2_u64)
        .map(|id| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                for n in 1..=30_000_u64 {
                    writer.put(writer.flight(id as usize), &write(id * 100 + n % 40 + 1, n, &[3; 200]));
                }
            })
        })
        .collect();
    let (mut last, mut out, mut losses) = (HashMap::new(), Vec::new(), 0);
    loop {
        let finished = done.load(Relaxed);
        out.clear();
        reader.drain(&mut out, 1 << 14).unwrap();
        for record in records(&out) {
            let record = record.unwrap();
            if record.kind == Kind::Lost {
                losses += 1;
                last.insert(record.file.ino, u64::MAX);
            } else {
                last.insert(record.file.ino, record.a);
            }
        }
        if finished && !reader.wait(Duration::ZERO, false, || false) {
            break;
        }
        if threads.iter().all(|thread| thread.is_finished()) {
            done.store(true, Relaxed);
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    assert!(losses > 0, "the test must overflow");
    for id in 0..2 {
        for slot in 0..40 {
            let newest = (1..=30_000_u64).rev().find(|n| n % 40 == slot).unwrap();
            let seen = last[&(id * 100 + slot + 1)];
            assert!(seen == newest || seen == u64::MAX, "writer {id} file {slot}: {seen} of {newest}");
        }
    }
}

#[test]
fn captured_waits_for_what_is_being_executed() {
    let (writer, reader) = ring(1 << 16);
    writer.flight(3).begin(0);
    let other = writer.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        put(&other, &write(1, 1, &[]));
        other.flight(3).end();
    });
    assert_eq!(reader.ring().captured(), 152);
    thread.join().unwrap();
}

#[test]
fn a_dead_writers_lock_is_cleared_and_its_place_is_passed_over() {
    let (writer, mut reader) = ring(4 << 20);
    put(&writer, &write(1, 0, &[1; 100]));
    let flight = writer.flight(7);
    let hole = writer.take_room(flight, 4096 + 152, true).unwrap();
    assert_eq!((flight.main(), writer.has_main(flight.main())), (hole + 1, false));
    put(&writer, &write(2, 0, &[1; 100]));
    writer.header().lock.0.store(i32::MAX as u32, Relaxed); // no such thread
    writer.unlock_dead();
    writer.fill_holes();
    assert_eq!(flight.main(), 0, "what was not written is to be written again");
    writer.put_main(flight, &write(3, 0, &[]));
    assert!(writer.has_main(flight.main()));
    writer.put_main(flight, &write(4, 0, &[])); // there already
    let mut out = Vec::new();
    let number = reader.drain(&mut out, usize::MAX).unwrap();
    let kinds: Vec<_> = records(&out).map(|r| r.unwrap()).map(|r| (r.kind, r.file.ino)).collect();
    assert_eq!(kinds, [(Kind::Write, 1), (Kind::Write, 2), (Kind::Write, 3)]);
    reader.release(number, 0);
    assert!(writer.has_main(flight.main()), "also when it is freed");
    assert_eq!(reader.ring().state().tail, number);
}

#[test]
fn a_hole_of_unknown_length_costs_what_is_behind_it() {
    let (writer, mut reader) = ring(4 << 20);
    put(&writer, &write(1, 0, &[1; 100]));
    let flight = writer.flight(7);
    writer.take_room(flight, 4096 + 152, false).unwrap();
    flight.len.store(0, Relaxed);
    put(&writer, &write(2, 0, &[1; 100]));
    writer.fill_holes();
    put(&writer, &write(3, 0, &[]));
    let mut out = Vec::new();
    reader.drain(&mut out, usize::MAX).unwrap();
    let kinds: Vec<_> = records(&out).map(|r| r.unwrap()).map(|r| (r.kind, r.file.ino)).collect();
    assert_eq!(kinds, [(Kind::Write, 1), (Kind::Lost, 0), (Kind::Write, 3)]);
}

#[test]
fn garbage_instead_of_a_length_is_reported() {
    let (writer, mut reader) = ring(1 << 16);
    put(&writer, &write(1, 0, &[]));
    writer.length_word(0).store(14, Release);
    assert!(matches!(reader.drain(&mut Vec::new(), 9999), Err(CaptureError::Damaged { at: 0, .. })));
}

#[test]
fn the_layout_is_what_other_processes_of_this_version_expect() {
    assert_eq!((VERSION, DATA_AT_V1, DATA_AT), (1 + 1, 1_114_112, 3_211_264));
    assert_eq!((size_of::<Flight>(), DIRTY_AT, UNCONFIRMED_AT), (64, 20_480, 1_069_120));
    assert_eq!(std::mem::offset_of!(Header, lock), 64);
    assert_eq!(std::mem::offset_of!(Header, head), 128);
    assert_eq!(std::mem::offset_of!(Header, tail), 192);
    assert_eq!(std::mem::offset_of!(Header, waiting), 256);
    assert_eq!(std::mem::offset_of!(Header, taken), 320);
    assert_eq!(std::mem::offset_of!(Header, until), 400);
}

// --- retention

thread_local!(static STEPS_LEFT: Cell<Option<u32>> = const { Cell::new(None) });

/// A kill of the reader, where the test wants one.
pub(super) fn step() {
    let left = STEPS_LEFT.get();
    STEPS_LEFT.set(left.map(|left| left.saturating_sub(1)));
    if left == Some(0) {
        STEPS_LEFT.set(None);
        std::panic::resume_unwind(Box::new("killed"));
    }
}

/// Runs what a reader does, killed at its `steps`th step. True: it lived.
fn until_step(steps: Option<u32>, what: impl FnOnce()) -> bool {
    STEPS_LEFT.set(steps);
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)).is_ok();
    STEPS_LEFT.set(None);
    lived
}

fn dice(seed: &mut u64, sides: u64) -> u64 {
    *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    (*seed >> 33) % sides
}

/// A target: what it has of each file, and what it knows that it may not have.
#[derive(Default)]
struct Target {
    durable: HashMap<u64, u64>,
    doubted: std::collections::HashSet<u64>,
    all_doubted: bool,
}

/// Random work of one writer and of readers that are killed at random steps: whatever the last reader sees, every file
/// is at the target with its last change, or still in the ring, or named.
fn nothing_is_forgotten(seed: u64) {
    let mut rolls = seed;
    let (memory, writer) = Ring::create(1 << 16, 1).unwrap();
    let open = || Reader::new(Ring::open(memory.as_raw_fd()).unwrap());
    let (mut reader, mut target) = (open(), Target::default());
    let (mut last, mut number, mut taken) = (HashMap::new(), 0, Vec::new());
    let (mut confirmed, mut resumed_at) = (0, 0);
    for _ in 0..600 {
        match dice(&mut rolls, 10) {
            0..5 => {
                for _ in 0..dice(&mut rolls, 12) {
                    number += 1;
                    let ino = dice(&mut rolls, 200) + 1;
                    put(&writer, &write(ino, number, &[5; 2000][..dice(&mut rolls, 2000) as usize]));
                    last.insert(ino, number);
                }
            }
            5..7 => {
                let mut out = Vec::new();
                let end = reader.drain(&mut out, 1 << 14).unwrap();
                taken.push((end, out));
            }
            7 => {
                for (end, out) in taken.drain(..dice(&mut rolls, taken.len() as u64 + 1) as usize) {
                    for record in records(&out).map(Result::unwrap) {
                        match record.kind {
                            Kind::Lost if record.file.is_none() => target.all_doubted = true,
                            Kind::Lost => drop(target.doubted.insert(record.file.ino)),
                            _ => drop(target.durable.insert(record.file.ino, record.a)),
                        }
                    }
                    confirmed = end;
                }
            }
            _ => {
                let kill = (dice(&mut rolls, 3) == 0).then(|| dice(&mut rolls, 40) as u32);
                let keep_free = dice(&mut rolls, 1 << 16);
                if !until_step(kill, || reader.release(confirmed, keep_free)) {
                    reader = open();
                    let resumed = reader.resume();
                    assert!(resumed.tail >= resumed_at, "SEED={seed}");
                    resumed_at = resumed.tail;
                    taken.clear();
                    match resumed.unconfirmed {
                        Unconfirmed::WholeSet => target.all_doubted = true,
                        Unconfirmed::Files(files) => target.doubted.extend(files.iter().map(|file| file.ino)),
                    }
                    confirmed = confirmed.max(resumed.tail);
                }
            }
        }
    }
    let mut rest = Vec::new();
    let mut end = open();
    match end.resume().unconfirmed {
        Unconfirmed::WholeSet => target.all_doubted = true,
        Unconfirmed::Files(files) => target.doubted.extend(files.iter().map(|file| file.ino)),
    }
    while end.wait(Duration::ZERO, false, || false) {
        end.drain(&mut rest, usize::MAX).unwrap();
    }
    for record in records(&rest).map(Result::unwrap) {
        match record.kind {
            Kind::Lost => drop(target.doubted.insert(record.file.ino)),
            _ => drop(target.durable.insert(record.file.ino, record.a)),
        }
    }
    assert!(!target.all_doubted, "SEED={seed}: 200 files fit into the maps");
    for (ino, number) in last {
        let known = target.durable.get(&ino) == Some(&number) || target.doubted.contains(&ino);
        assert!(known, "SEED={seed}: change {number} of file {ino} is forgotten");
    }
}

#[test]
fn a_killed_reader_forgets_nothing() {
    for seed in 0..300 {
        nothing_is_forgotten(seed);
    }
}

/// The checker finds what it is for.
#[test]
fn freeing_before_noting_would_be_found() {
    retain::FREE_FIRST.set(true);
    let found = (0..300).any(|seed| std::panic::catch_unwind(|| nothing_is_forgotten(seed)).is_err());
    retain::FREE_FIRST.set(false);
    assert!(found);
}

#[test]
fn another_reader_takes_again_what_was_not_released() {
    let (memory, writer) = Ring::create(1 << 16, 1).unwrap();
    let open = || Reader::new(Ring::open(memory.as_raw_fd()).unwrap());
    for n in 0..4 {
        put(&writer, &write(n + 1, n, &[]));
    }
    let (mut first, bystander) = (open(), open());
    let mut out = Vec::new();
    assert_eq!(first.drain(&mut out, usize::MAX).unwrap(), 4 * 152);
    assert_eq!(bystander.ring().captured(), 4 * 152);
    assert_eq!(first.ring().state().taken, 4 * 152, "who only looks disturbs nobody");
    first.release(2 * 152 + 5, 0);
    let mut second = open();
    assert_eq!(second.resume(), Resumed { tail: 2 * 152, unconfirmed: Unconfirmed::Files(vec![]) });
    out.clear();
    second.drain(&mut out, usize::MAX).unwrap();
    assert_eq!(records(&out).map(|record| record.unwrap().a).collect::<Vec<_>>(), [2, 3]);
    assert!(matches!(first.drain(&mut out, 9), Err(CaptureError::Superseded)));
    first.release(4 * 152, 0);
    assert_eq!(second.ring().state().tail, 2 * 152, "the first one has no say any more");
}

#[test]
fn what_was_let_go_is_named_until_a_number_beyond_it_is_confirmed() {
    let (memory, writer) = Ring::create(1 << 16, 1).unwrap();
    let named = || match Reader::new(Ring::open(memory.as_raw_fd()).unwrap()).resume().unconfirmed {
        Unconfirmed::Files(files) => files.iter().map(|file| file.ino).collect::<Vec<_>>(),
        Unconfirmed::WholeSet => panic!("a few files fit"),
    };
    let mut reader = Reader::new(Ring::open(memory.as_raw_fd()).unwrap());
    let mut out = Vec::new();
    for ino in [1, 2] {
        let mut rename = Record::new(Kind::Rename, file(ino));
        rename.names.victim = file(ino + 10);
        put(&writer, &rename);
    }
    let number = reader.drain(&mut out, usize::MAX).unwrap();
    reader.release(0, 1 << 16);
    assert_eq!(named(), [1, 2, 11, 12]);
    let mut reader = Reader::new(Ring::open(memory.as_raw_fd()).unwrap());
    put(&writer, &write(3, 0, &[]));
    reader.drain(&mut out, usize::MAX).unwrap();
    reader.release(number - 1, 1 << 16);
    assert_eq!(named(), [1, 2, 3, 11, 12], "one number short");
    let mut reader = Reader::new(Ring::open(memory.as_raw_fd()).unwrap());
    let end = reader.drain(&mut out, usize::MAX).unwrap();
    reader.release(number, 0);
    assert!(named().contains(&3));
    let mut reader = Reader::new(Ring::open(memory.as_raw_fd()).unwrap());
    reader.drain(&mut out, usize::MAX).unwrap();
    reader.release(end, 0);
    assert_eq!(named(), [0_u64; 0]);
}

#[test]
fn writers_let_go_of_what_was_taken_before_they_drop_anything() {
    let (writer, mut reader) = ring(1 << 16);
    for n in 0..100 {
        put(&writer, &write(n + 1, n, &[1; 4096]));
        reader.drain(&mut Vec::new(), usize::MAX).unwrap();
    }
    let state = reader.ring().state();
    assert_eq!((state.dropped_records, state.unconfirmed > 80), (0, true), "{state:?}");
}

#[test]
fn a_ring_of_the_first_version_is_read_as_ever() {
    let (memory, writer) = Ring::create_version(1 << 16, 5, 1).unwrap();
    let mut reader = Reader::new(Ring::open(memory.as_raw_fd()).unwrap());
    put(&writer, &write(1, 7, &[]));
    assert_eq!(reader.resume(), Resumed { tail: 0, unconfirmed: Unconfirmed::WholeSet });
    let mut out = Vec::new();
    assert_eq!(reader.drain(&mut out, usize::MAX).unwrap(), 152);
    reader.release(0, 0);
    assert_eq!((reader.ring().state().tail, reader.ring().sync().is_none()), (152, true));
    let header: &Header = writer.control.atomics(0);
    header.version.store(VERSION + 1, Relaxed);
    let error = Ring::open(memory.as_raw_fd()).unwrap_err();
    assert!(matches!(error, CaptureError::Version { .. }), "{error}");
}
