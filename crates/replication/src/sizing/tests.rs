use super::*;
use stead_model::FileId;

const FILE: FileId = FileId { ino: 5, generation: 1, volume: 0 };

fn sizing(lines: &[u64]) -> Sizing {
    let (within, reach_bytes) = (SizingConfig::WITHIN, SizingConfig::REACH_BYTES);
    Sizing::new(SizingConfig { lines: lines.to_vec(), within, reach_bytes })
}

fn write(at: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Record { a: at, data, ..Record::new(Kind::Write, FILE) }.append_to(&mut bytes);
    bytes
}

/// Bytes that no compression shrinks.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_known_load_is_counted_to_the_byte_in_its_minute() {
    let mut sizing = sizing(&[]);
    for n in 0..130_u64 {
        sizing.captured(&write(n * 4096, &noise(4096, n)), seconds(n)).unwrap();
    }
    let report = sizing.report(seconds(130));
    assert_eq!(report.total.changes, 130);
    assert_eq!(report.total.written_bytes, 130 * 4096);
    assert_eq!(report.total.coalesced_bytes, 130 * 4096);
    let by_minute: Vec<_> = report.minutes.iter().map(|slot| (slot.at_seconds, slot.amounts.changes)).collect();
    assert_eq!(by_minute, [(0, 60), (60, 60), (120, 10)]);
    assert_eq!(report.hours.len(), 1);
    assert_eq!(report.hours[0].amounts, report.total);
    let each = report.total.sent_bytes as f64 / 130.0;
    assert!((4300.0..4500.0).contains(&each), "a 4 KiB change takes {each} bytes on the line");
}

#[test]
fn what_compresses_needs_less_and_what_does_not_needs_hardly_more() {
    let (mut text, mut random) = (sizing(&[]), sizing(&[]));
    for n in 0..100_u64 {
        let line = format!("{n} the quick brown fox jumps over the lazy dog\n").repeat(1000);
        text.captured(&write(n << 20, line.as_bytes()), seconds(n / 10)).unwrap();
        random.captured(&write(n << 20, &noise(50_000, n)), seconds(n / 10)).unwrap();
    }
    let (text, random) = (text.report(seconds(10)).total, random.report(seconds(10)).total);
    assert!(text.sent_bytes < text.written_bytes / 20, "{text:?}");
    assert!(random.sent_bytes > random.written_bytes, "{random:?}");
    assert!(random.sent_bytes < random.written_bytes * 106 / 100, "{random:?}");
}

#[test]
fn what_is_written_again_counts_once_and_is_taken_from_where_it_was_first() {
    let mut sizing = sizing(&[]);
    sizing.captured(&write(0, &noise(100_000, 1)), seconds(10)).unwrap();
    sizing.captured(&write(50_000, &noise(100_000, 2)), seconds(70)).unwrap();
    let report = sizing.report(seconds(80));
    let coalesced: Vec<_> = report.minutes.iter().map(|slot| slot.amounts.coalesced_bytes).collect();
    assert_eq!(coalesced, [50_000, 100_000]);
    assert_eq!(report.total.coalesced_bytes, 150_000);
    let (first, second) = (&report.minutes[0].amounts, &report.minutes[1].amounts);
    assert!(first.sent_coalesced_bytes.abs_diff(first.sent_bytes / 2) < 500, "{first:?}");
    assert_eq!(second.sent_coalesced_bytes, second.sent_bytes);
}

#[test]
fn a_steady_load_needs_a_line_of_its_size_and_a_slower_one_falls_behind() {
    let mut sizing = sizing(&[50_000, 200_000]);
    for n in 0..60_u64 {
        sizing.captured(&write(n * 100_000, &noise(100_000, n)), seconds(n)).unwrap();
    }
    let report = sizing.report(seconds(60));
    let each_second = report.total.sent_bytes / 60;
    assert!(report.keeps_up.always_bytes_per_second.abs_diff(each_second) < each_second / 20, "{:?}", report.keeps_up);
    let [slow, fast] = report.lines[..] else { panic!("{:?}", report.lines) };
    let left = 60.0 * each_second as f64 - 60.0 * 50_000.0;
    assert!((slow.lag_end_seconds - left / 50_000.0).abs() < 0.1, "{slow:?}");
    assert_eq!(slow.lag_max_seconds, slow.lag_end_seconds);
    assert_eq!((fast.lag_max_seconds, fast.keeps_up_share), (0.0, 1.0));
}

#[test]
fn an_idle_set_needs_no_line() {
    let report = sizing(&[1000]).report(seconds(600));
    assert_eq!(report.total, Amounts::default());
    assert_eq!(report.keeps_up.always_bytes_per_second, 0);
    assert_eq!(report.lines[0].keeps_up_share, 1.0);
}

#[test]
fn what_capture_lost_is_said() {
    let mut sizing = sizing(&[]);
    let mut bytes = Vec::new();
    Record::new(Kind::Lost, FILE).append_to(&mut bytes);
    sizing.captured(&bytes, seconds(0)).unwrap();
    sizing.dropped(7, 7000);
    let report = sizing.report(seconds(1));
    assert_eq!(report.lost, Lost { records: 7, bytes: 7000, files: 1 });
    assert_eq!(report.total.changes, 0);
}

#[test]
fn bytes_that_are_no_records_are_refused_as_a_whole() {
    let mut sizing = sizing(&[]);
    let mut bytes = write(0, b"good");
    bytes.extend_from_slice(&[9; 40]);
    assert!(sizing.captured(&bytes, seconds(0)).is_err());
    assert_eq!(sizing.report(seconds(1)).total.changes, 0);
}
