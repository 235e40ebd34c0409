use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use stead_model::record::records;

use super::*;

fn file(ino: u64) -> FileId {
    FileId { ino, generation: 1, volume: 0 }
}

fn write(ino: u64, number: u64, data: &[u8]) -> Record<'_> {
    Record { a: number, data, ..Record::new(Kind::Write, file(ino)) }
}

fn ring(bytes: usize) -> (Arc<Ring>, Ring) {
    let (memory, writer) = Ring::create(bytes, 77).unwrap();
    let reader = Ring::open(memory.as_raw_fd()).unwrap();
    assert_eq!(reader.incarnation(), 77);
    (Arc::new(writer), reader)
}

#[test]
fn records_come_out_in_order_over_many_wraps() {
    let (writer, reader) = ring(1 << 16);
    let mut sent = 0;
    let mut got = 0;
    let data: Vec<u8> = (0..5000).map(|n| n as u8).collect();
    for round in 0..2000_u64 {
        for _ in 0..round % 5 {
            writer.put(&write(3, sent, &data[..(sent * 37 % 5000) as usize]));
            sent += 1;
        }
        let mut out = Vec::new();
        let number = reader.drain(&mut out, usize::MAX).unwrap();
        assert_eq!(number, reader.state().head);
        for record in records(&out) {
            let record = record.unwrap();
            assert_eq!((record.a, record.data), (got, &data[..(got * 37 % 5000) as usize]));
            got += 1;
        }
    }
    assert_eq!((sent, reader.state().dropped_records), (got, 0));
}

#[test]
fn a_bound_cuts_between_records_and_always_lets_one_through() {
    let (writer, reader) = ring(1 << 16);
    for n in 0..3 {
        writer.put(&write(1, n, &[7; 1000]));
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
    let (writer, reader) = ring(1 << 16);
    let mut n = 0;
    while reader.state().dropped_records == 0 {
        writer.put(&write(n % 50 + 1, n, &[1; 4096]));
        n += 1;
    }
    let kept = n - 1;
    for extra in 0..10 {
        writer.put(&write(100 + extra, 0, &[])); // small enough to fit, but must not overtake what was lost
    }
    let promised = reader.captured();
    let mut out = Vec::new();
    reader.drain(&mut out, usize::MAX).unwrap();
    writer.put(&write(900, 0, &[]));
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
    let (writer, reader) = ring(1 << 16);
    for n in 0..200 {
        writer.put(&write(5, n, &[1; 4096]));
    }
    let promised = reader.captured();
    let mut out = Vec::new();
    let mut number = 0;
    while reader.wait(Duration::ZERO, false) {
        number = reader.drain(&mut out, 8192).unwrap();
    }
    assert_eq!(number, promised);
    let last = records(&out).last().unwrap().unwrap();
    assert_eq!((last.kind, last.file), (Kind::Lost, file(5)));
}

#[test]
fn names_lost_dirty_their_directories() {
    let (writer, reader) = ring(1 << 16);
    while reader.state().dropped_records == 0 {
        writer.put(&write(1, 0, &[1; 4096]));
    }
    let mut rename = Record::new(Kind::Rename, file(10));
    rename.parent = file(11);
    rename.names.parent2 = file(12);
    rename.names.victim = file(13);
    writer.put(&rename);
    let mut out = Vec::new();
    while reader.wait(Duration::ZERO, false) {
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
    let (writer, reader) = ring(4 << 20);
    let threads: Vec<_> = (0..WRITERS)
        .map(|id| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                let data = [id as u8; 600];
                for n in 0..EACH {
                    let full = |state: RingState| state.head - state.tail > 3 << 20;
                    while full(writer.state()) {
                        std::thread::yield_now();
                    }
                    writer.put(&write(id + 1, n, &data[..(n % 600) as usize]));
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
        assert!(reader.wait(Duration::from_secs(20), seen % 3 == 0), "no wake-up after {seen} records");
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
    assert_eq!(reader.state().dropped_records, 0);
}

/// With a reader that is too slow, every file is in the stream with its last number, or named as lost after that.
#[test]
fn overflow_under_load_forgets_no_file() {
    let (writer, reader) = ring(1 << 16);
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2_u64)
        .map(|id| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                for n in 1..=30_000_u64 {
                    writer.put(&write(id * 100 + n % 40 + 1, n, &[3; 200]));
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
        if finished && !reader.wait(Duration::ZERO, false) {
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
    writer.flight(3).begin();
    let other = writer.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        other.put(&write(1, 1, &[]));
        other.flight(3).end();
    });
    assert_eq!(reader.captured(), 152);
    thread.join().unwrap();
}

#[test]
fn a_dead_writers_lock_and_hole_are_cleared() {
    let (writer, reader) = ring(4 << 20);
    writer.put(&write(1, 0, &[1; 100]));
    let hole = writer.take_room(4096 + 152).unwrap();
    writer.put(&write(2, 0, &[1; 100]));
    writer.header().lock.0.store(i32::MAX as u32, Relaxed); // no such thread
    writer.unlock_dead();
    writer.fill_holes();
    writer.put(&write(3, 0, &[]));
    let mut out = Vec::new();
    reader.drain(&mut out, usize::MAX).unwrap();
    let kinds: Vec<_> = records(&out).map(|r| r.unwrap()).map(|r| (r.kind, r.file.ino)).collect();
    assert_eq!(kinds, [(Kind::Write, 1), (Kind::Lost, 0), (Kind::Write, 3)], "hole at {hole}");
}

#[test]
fn garbage_instead_of_a_length_is_reported() {
    let (writer, reader) = ring(1 << 16);
    writer.put(&write(1, 0, &[]));
    writer.length_word(0).store(13, Release);
    assert!(matches!(reader.drain(&mut Vec::new(), 9999), Err(CaptureError::Damaged { at: 0, .. })));
}
