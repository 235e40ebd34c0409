//! How fast captured 4 KiB writes become frames, on one thread: `cargo run --release --example speed`.

use std::time::Instant;

use stead_model::status::State;
use stead_model::{Attr, Epoch, FileId, Kind, Record, Rules};
use stead_replication::frame::{Ack, Decoder, Frame, Holds, Welcome};
use stead_replication::read::{Listing, Node};
use stead_replication::source::{Command, Compression, RootConfig};
use stead_replication::{ReadRequest, ReadResult, Source, SourceConfig, SourceInput, SourceOutput};

const ROOT: FileId = FileId { ino: 2, generation: 1, volume: 0 };
const FILE: FileId = FileId { ino: 12, generation: 1, volume: 0 };
const DRAINED_BYTES: usize = 1 << 20;
const TOTAL_BYTES: usize = 4 << 30;

fn main() {
    for compression in [Compression::Off, Compression::Adaptive] {
        let mut source = mirrored(compression);
        let drained = writes();
        let count = TOTAL_BYTES / drained.len();
        let begin = Instant::now();
        let mut sent = 0;
        for round in 0..count as u64 {
            let records = drained.clone();
            source.handle(SourceInput::Captured { records, captured: 1000 + round, time: 1 }, begin);
            let mut last = 0;
            while let Some(output) = source.poll_output() {
                if let SourceOutput::Send { frame, .. } = output {
                    sent += frame.len();
                    last = stead_replication::frame::decode_header(&frame.header).map_or(last, |header| header.last);
                }
            }
            acknowledge(&mut source, last);
        }
        let seconds = begin.elapsed().as_secs_f64();
        let bytes = (count * drained.len()) as f64;
        println!("{compression:?}: {:.2} GB/s, wire {:.3} of the records", bytes / seconds / 1e9, sent as f64 / bytes);
    }
}

/// A source whose one target has the root and one file.
fn mirrored(compression: Compression) -> Source {
    let now = Instant::now();
    let epoch = Epoch { number: 1, writer: [1; 16], random: 1 };
    let roots = vec![RootConfig { file: ROOT, rules: Rules::default(), index: 0 }];
    let (set, node) = ("notes".parse().expect("a name"), "paris".parse().expect("a name"));
    let mut source = Source::new(SourceConfig { compression, ..SourceConfig::new(set, node, roots, epoch, 1) }, now);
    source.handle(SourceInput::AddTarget { target: 0 }, now);
    source.handle(SourceInput::Connected { target: 0 }, now);
    let welcome = Welcome {
        version: 1,
        node: "lyon".parse().expect("a name"),
        epoch,
        holds: Holds::Nothing,
        resume: None,
        capture: 0,
        captured: 0,
    };
    source.handle(SourceInput::Received { target: 0, frame: Frame::Welcome(welcome) }, now);
    let mut attr = Attr::default();
    attr.mode = 0o040_755;
    while source.view(0).is_some_and(|view| view.state != State::Replicating) {
        let mut last = 0;
        while let Some(output) = source.poll_output() {
            match output {
                SourceOutput::Read(ticket, ReadRequest::Node { .. }) => {
                    let result = ReadResult::Node(Node { attr, ..Node::default() });
                    source.handle(SourceInput::Read { ticket, result, captured: 0 }, now);
                }
                SourceOutput::Read(ticket, _) => {
                    let result = ReadResult::Listing(Listing { attr, ..Listing::default() });
                    source.handle(SourceInput::Read { ticket, result, captured: 0 }, now);
                }
                SourceOutput::Send { frame, .. } => {
                    let mut decoder = Decoder::new();
                    decoder.push(&frame.to_vec());
                    if let Ok(Some(Frame::Changes(changes))) = decoder.next() {
                        last = changes.header.last;
                    }
                }
                _ => {}
            }
        }
        acknowledge(&mut source, last);
    }
    let mut create = Record::new(Kind::Create, FILE);
    (create.parent, create.name) = (ROOT, b"data");
    create.attr.mode = 0o100_644;
    let mut records = Vec::new();
    create.append_to(&mut records);
    source.handle(SourceInput::Captured { records, captured: 1, time: 1 }, now);
    source.handle(SourceInput::Command(Command::Unmark { id: 0 }), now);
    while source.poll_output().is_some() {}
    source
}

fn acknowledge(source: &mut Source, last: u64) {
    if last > 0 {
        let ack = Frame::Ack(Ack { journaled: last, applied: last, consistent_time: 1 });
        source.handle(SourceInput::Received { target: 0, frame: ack }, Instant::now());
    }
}

fn writes() -> Vec<u8> {
    let mut state = 1u64;
    let mut data = vec![0; 4096];
    let mut records = Vec::new();
    while records.len() < DRAINED_BYTES {
        for byte in &mut data {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 32) as u8;
        }
        let mut record = Record::new(Kind::Write, FILE);
        (record.a, record.data, record.time) = (records.len() as u64, &data, 1);
        record.attr.mode = 0o100_644;
        record.append_to(&mut records);
    }
    records
}
