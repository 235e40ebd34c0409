//! What the source half sends to a target.

use std::time::Instant;

use stead_model::{Epoch, FileId, Kind, Record, Rules};

use super::*;
use crate::frame::decode_header;
use crate::read::{Piece, ReadResult};
use crate::source::connection::STREAM;
use crate::source::queue::Seal;
use crate::source::{Command, RootConfig, SourceConfig, SourceInput};

fn config(roots: Vec<RootConfig>) -> SourceConfig {
    let epoch = Epoch { number: 3, writer: [7; 16], random: 5 };
    let (set, node) = ("notes".parse().unwrap(), "paris".parse().unwrap());
    SourceConfig::new(set, node, roots, epoch, 1)
}

fn sent(source: &mut Source) -> Vec<Header> {
    let outputs = std::iter::from_fn(|| source.poll_output());
    let frames = outputs.filter_map(|output| match output {
        SourceOutput::Send { frame, .. } => Some(decode_header(&frame.header).unwrap()),
        _ => None,
    });
    frames.filter(|header| header.kind == FrameKind::Changes).collect()
}

fn followed_source() -> Source {
    let mut source = Source::new(config(Vec::new()), Instant::now());
    follow(&mut source, 0);
    source
}

fn follow(source: &mut Source, target: TargetId) {
    source.handle(SourceInput::AddTarget { target }, Instant::now());
    let welcome = Welcome {
        version: VERSION,
        node: "lyon".parse().unwrap(),
        epoch: source.config.epoch,
        holds: Holds::Replica,
        resume: None,
        capture: 0,
        captured: 0,
    };
    source.handle(SourceInput::Connected { target }, Instant::now());
    source.handle(SourceInput::Received { target, frame: Frame::Welcome(welcome) }, Instant::now());
}

#[test]
fn a_target_that_skips_more_records_than_a_frame_covers_is_told_in_several() {
    let mut source = followed_source();
    let begin = sent(&mut source).last().map_or(0, |header| header.last);
    source.queue.split();
    source.queue.skip(3 << 32);
    let skipped = source.queue.last();
    source.queue.push(&Record::new(Kind::Write, FileId { ino: 7, generation: 1, volume: 0 }), STREAM | bit(0));
    source.connections.get_mut(&0).unwrap().skip_until = skipped;
    source.send_batches();
    let mut covered = begin;
    for header in sent(&mut source) {
        assert_eq!(header.first, covered + 1, "no gap");
        covered = header.last;
        assert_eq!(header.raw_len == 0, covered <= skipped, "what is for it comes whole");
    }
    assert_eq!(covered, skipped + 1);
}

/// Only the target noticed that its connection was gone.
#[test]
fn what_was_on_its_way_when_another_connection_came_is_remembered_for_a_target_that_is_behind() {
    let mut source = followed_source();
    let file = FileId { ino: 7, generation: 1, volume: 0 };
    source.connections.get_mut(&0).unwrap().journaled = source.queue.last();
    source.queue.push(&Record::new(Kind::Write, file), STREAM | bit(0));
    source.send_batches();
    source.go_behind(0, "the queue is full".into());
    assert!(!source.connections[&0].dirty.has(file), "it is on its way");
    source.handle(SourceInput::Connected { target: 0 }, Instant::now());
    assert!(source.connections[&0].dirty.has(file));
}

#[test]
fn what_gathers_in_small_batches_is_sent_in_one_frame_that_ends_at_the_last_consistent_point() {
    let mut source = followed_source();
    source.queue.split();
    let begin = sent(&mut source).last().map_or(0, |header| header.last);
    source.connections.get_mut(&0).unwrap().sent = source.queue.last();
    let begin = begin.max(source.queue.last());
    for n in 1..=40 {
        let write = Record::new(Kind::Write, FileId { ino: n, generation: 1, volume: 0 });
        source.queue.push(&Record { data: &[n as u8; 4096], ..write }, STREAM | bit(0));
        source.queue.seal(Seal { consistent: if n <= 30 { bit(0) } else { 0 }, whole: 0 }, bit(0));
    }
    source.send_batches();
    let frames: Vec<_> =
        sent(&mut source).iter().map(|header| (header.first, header.last, header.is_consistent())).collect();
    assert_eq!(frames, [(begin + 1, begin + 30, true), (begin + 31, begin + 40, false)]);
}

fn scanning_source() -> Source {
    let root = RootConfig { file: FileId { ino: 2, generation: 1, volume: 0 }, rules: Rules::default(), index: 0 };
    let mut config = config(vec![root]);
    config.compression = crate::source::Compression::Off;
    (config.settings.queue_bytes_max, config.settings.window_bytes_max) = (8_000, 3_000);
    let mut source = Source::new(config, Instant::now());
    follow(&mut source, 0);
    assert!(source.is_whole_scan());
    source
}

/// Broken off, it would begin anew, and come to the same end again and again.
#[test]
fn a_scan_for_one_target_goes_on_whatever_it_fills_the_queue_with() {
    let mut source = scanning_source();
    let chunk = Record::new(Kind::Chunk, FileId { ino: 7, generation: 1, volume: 0 });
    (0..100).for_each(|_| source.queue.push(&chunk, bit(0)));
    source.queue.split();
    source.handle_timeout(Instant::now());
    assert!(source.queue.bytes() > source.config.settings.queue_bytes_max);
    assert_eq!(source.scanned(), bit(0));

    follow(&mut source, 1);
    source.scan.as_mut().unwrap().targets |= bit(1);
    (0..100).for_each(|_| source.queue.push(&chunk, bit(0) | bit(1)));
    source.queue.split();
    let journaled = source.connections[&0].sent;
    let ack = crate::frame::Ack { journaled, applied: journaled, consistent_time: 0 };
    source.handle(SourceInput::Received { target: 0, frame: Frame::Ack(ack) }, Instant::now());
    assert_eq!(source.scanned(), bit(0), "the slower of two leaves it");
}

/// The read at the front takes long; those behind it end one after the other.
#[test]
fn no_more_is_read_while_what_was_read_and_waits_fills_the_window() {
    let mut source = scanning_source();
    let bytes = vec![7; 3_000];
    let result = ReadResult::Pieces(vec![Piece::Data { offset: 0, bytes }]);
    let what = crate::source::stream::ReadFor::JobContent { job: 1 };
    source.read(what, crate::read::ReadRequest::Node { file: FileId::NONE });
    assert_eq!(source.roomy(), bit(0));
    let ticket = source.ticket;
    source.handle(SourceInput::Read { ticket, result, captured: 0 }, Instant::now());
    assert_eq!(source.roomy(), 0);
}

#[test]
fn who_waits_for_an_undo_hears_that_the_connection_ended() {
    let mut source = followed_source();
    source.handle(SourceInput::Command(Command::Undo { target: 0 }), Instant::now());
    let results = |source: &mut Source| -> Vec<_> {
        let outputs = std::iter::from_fn(|| source.poll_output());
        outputs.filter(|o| matches!(o, SourceOutput::Event(SourceEvent::Undone { result: Err(_), .. }))).collect()
    };
    assert!(results(&mut source).is_empty(), "the target is at work");
    let reason = "cut".into();
    source.handle(SourceInput::Disconnected { target: 0, reason }, Instant::now());
    assert_eq!(results(&mut source).len(), 1);
    let (state, why) = source.connections.get(&0).map(|c| (c.is_held(), source.brake_reason(c))).unwrap();
    assert!(state && why.unwrap().contains("not known"));
}
