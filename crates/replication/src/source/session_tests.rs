//! What the source half sends to a target.

use std::time::Instant;

use stead_model::{Epoch, FileId, Kind, Record};

use super::*;
use crate::frame::decode_header;
use crate::source::connection::STREAM;
use crate::source::queue::Seal;
use crate::source::{SourceConfig, SourceInput};

fn source() -> Source {
    let epoch = Epoch { number: 3, writer: [7; 16], random: 5 };
    let (set, node) = ("notes".parse().unwrap(), "paris".parse().unwrap());
    Source::new(SourceConfig::new(set, node, Vec::new(), epoch, 1), Instant::now())
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
    let mut source = source();
    source.handle(SourceInput::AddTarget { target: 0 }, Instant::now());
    let welcome = Welcome {
        version: VERSION,
        node: "lyon".parse().unwrap(),
        epoch: source.config.epoch,
        holds: Holds::Replica,
        resume: None,
        capture: 0,
        captured: 0,
    };
    source.handle(SourceInput::Connected { target: 0 }, Instant::now());
    source.handle(SourceInput::Received { target: 0, frame: Frame::Welcome(welcome) }, Instant::now());
    source
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
