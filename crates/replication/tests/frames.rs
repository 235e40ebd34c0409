//! Frames: golden bytes of every kind, sizes, and decoders that take any bytes.

use std::path::Path;

use stead_model::record::records;
use stead_model::{Attr, Epoch, FileId, Kind, Position, Record, RecordBuf, Time};
use stead_replication::frame::{
    self, Ack, Changes, Difference, DifferenceKind, Encoded, FrameKind, Goodbye, HEADER_BYTES, HaltCode, Halted,
    Header, Hello, Holds, Need, NeedWhat, Range, Undone, Welcome, body::Packer,
};
use stead_replication::{Decoder, Frame};

fn epoch() -> Epoch {
    Epoch { number: 3, writer: [7; 16], random: 99 }
}

fn file(ino: u64) -> FileId {
    FileId { ino, generation: 0x1234_5678, volume: 1 }
}

fn changes(records: RecordBuf, packer: Option<&mut Packer>, flags: u16) -> Encoded {
    let raw = records.into_bytes();
    let raw_len = raw.len();
    let count = records_of(&raw).max(1);
    let (packed, body) = match packer {
        Some(packer) => {
            let packed = packer.pack(raw);
            (packed.flags, packed.body)
        }
        None => (0, raw),
    };
    let header = Header {
        version: 1,
        kind: FrameKind::Changes,
        flags: flags | packed,
        body_len: body.len(),
        raw_len,
        body_crc: crc32fast::hash(&body),
        epoch: 3,
        writer: frame::writer_check(&epoch()),
        incarnation: 5,
        first: 1,
        last: count,
        time: 1_700_000_000_000_000_000,
    };
    Encoded { header: header.encode(), body: body.into() }
}

fn records_of(raw: &[u8]) -> u64 {
    records(raw).count() as u64
}

fn write(sequence: u64, data: &'static [u8]) -> Record<'static> {
    let mut record = Record::new(Kind::Write, file(12));
    (record.sequence, record.a, record.data, record.time) = (sequence, 4096, data, 42);
    record.attr.size = 8192;
    record
}

/// As a peer of version 1 sends them.
fn every_kind() -> Vec<(&'static str, Encoded)> {
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        set: "notes".parse().unwrap(),
        node: "paris".parse().unwrap(),
        epoch: epoch(),
        incarnation: 5,
        lineage: vec![(epoch(), Position { epoch: 2, incarnation: 4, sequence: 77 })],
        anew: false,
        capture: 0,
        unclean: false,
    };
    let welcome = Welcome {
        version: 1,
        node: "lyon".parse().unwrap(),
        epoch: epoch(),
        holds: Holds::Replica,
        resume: Some(Position { epoch: 3, incarnation: 5, sequence: 1000 }),
        capture: 0,
        captured: 0,
    };
    let needs = vec![
        Need { file: file(1), what: NeedWhat::Hashes },
        Need { file: file(2), what: NeedWhat::Content(vec![Range { offset: 0, len: 4096 }, Range::ALL]) },
    ];
    let difference = Difference {
        kind: DifferenceKind::Missing,
        file: file(1),
        parent: file(2),
        name: b"a\xff".to_vec(),
        offset: 0,
        len: 0,
    };
    let mut plain = RecordBuf::new();
    plain.push(&write(1, b"data"));
    let mut packed = RecordBuf::new();
    (1..=8).for_each(|sequence| packed.push(&write(sequence, &[b'x'; 200])));
    vec![
        ("hello", Frame::Hello(hello).encode()),
        ("welcome", Frame::Welcome(welcome).encode_for(1)),
        ("changes", changes(plain, None, frame::flags::CONSISTENT)),
        ("changes-packed", changes(packed, Some(&mut Packer::new()), frame::flags::UNJOURNALED)),
        ("control", Frame::Control(b"join".to_vec()).encode()),
        ("ack", Frame::Ack(Ack { journaled: 1000, applied: 900, consistent_time: 17 }).encode()),
        ("needs", Frame::Needs(needs).encode()),
        ("differences", Frame::Differences(vec![difference]).encode()),
        ("halted", Frame::Halted(Halted { reason: Some("disk full".into()), code: HaltCode::Other }).encode_for(1)),
        ("ping", Frame::Ping(7).encode()),
        ("pong", Frame::Pong(7).encode()),
        ("goodbye", Frame::Goodbye(Goodbye::Gap { expected: 5, got: 7 }).encode()),
    ]
}

/// What has another form in version 2, or exists only there.
fn every_kind_of_version_2() -> Vec<(&'static str, Encoded)> {
    let hello = Hello {
        version_min: 1,
        version_max: 2,
        set: "notes".parse().unwrap(),
        node: "paris".parse().unwrap(),
        epoch: epoch(),
        incarnation: 6,
        lineage: Vec::new(),
        anew: false,
        capture: 1_700_000_001,
        unclean: true,
    };
    let welcome = Welcome {
        version: 2,
        node: "lyon".parse().unwrap(),
        epoch: epoch(),
        holds: Holds::Replica,
        resume: None,
        capture: 1_700_000_001,
        captured: 123_456,
    };
    let halted = Halted { reason: Some("12000 removals".into()), code: HaltCode::Brake { removals: 12_000 } };
    let mut plain = RecordBuf::new();
    plain.push(&write(1, b"data"));
    vec![
        ("hello-2", Frame::Hello(hello).encode()),
        ("welcome-2", Frame::Welcome(welcome).encode()),
        ("changes-2", changes_of_version_2(plain, 777)),
        ("halted-2", Frame::Halted(halted).encode()),
        ("undo", Frame::Undo.encode()),
        ("undone", Frame::Undone(Undone { result: Err("no pre-images are kept".into()) }).encode()),
        ("accept", Frame::Accept.encode()),
    ]
}

fn changes_of_version_2(records: RecordBuf, captured: u64) -> Encoded {
    let encoded = changes(records, None, frame::flags::CONSISTENT | frame::flags::WHOLE);
    let header = frame::decode_header(&encoded.header).unwrap();
    let body = [&encoded.body[..], &captured.to_le_bytes()].concat();
    let header = Header { version: 2, body_len: body.len(), body_crc: crc32fast::hash(&body), ..header };
    Encoded { header: header.encode(), body: body.into() }
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
    lines.collect()
}

/// `STEAD_GOLDEN=write` writes the files anew: only for a new version of the format.
#[test]
fn frames_of_every_kind_have_their_golden_bytes() {
    for (name, encoded) in every_kind().into_iter().chain(every_kind_of_version_2()) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"));
        let found = hex(&encoded.to_vec());
        if std::env::var_os("STEAD_GOLDEN").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(found, golden, "{name}");
    }
}

#[test]
fn version_2_reads_back_and_version_1_reads_its_hello() {
    for (name, encoded) in every_kind_of_version_2() {
        let mut decoder = Decoder::new();
        decoder.push(&encoded.to_vec());
        let frame = decoder.next().unwrap().unwrap();
        assert_eq!(frame.encode().to_vec(), encoded.to_vec(), "{name}");
        match frame {
            Frame::Hello(hello) => {
                assert_eq!((hello.capture, hello.unclean), (1_700_000_001, true));
                assert_eq!(encoded.header[4], 1, "a peer of version 1 reads it");
            }
            Frame::Changes(changes) => {
                assert_eq!(changes.captured(), Some(777));
                assert_eq!(records_of(&changes.records().unwrap()), 1);
            }
            _ => {}
        }
    }
}

#[test]
fn frames_read_back_however_the_stream_is_cut() {
    let frames: Vec<_> = every_kind();
    let version_of = |encoded: &Encoded| frame::decode_header(&encoded.header).unwrap().version;
    let stream: Vec<u8> = frames.iter().flat_map(|(_, encoded)| encoded.to_vec()).collect();
    for cut in [1, 7, 63, 64, 65, 1000, stream.len()] {
        let mut decoder = Decoder::new();
        let mut back = Vec::new();
        for part in stream.chunks(cut) {
            decoder.push(part);
            while let Some(frame) = decoder.next().unwrap() {
                back.push(frame);
            }
        }
        let versions = frames.iter().map(|(_, encoded)| version_of(encoded));
        let encoded: Vec<_> = back.iter().zip(versions).map(|(frame, of)| frame.encode_for(of).to_vec()).collect();
        let wanted: Vec<_> = frames.iter().map(|(_, encoded)| encoded.to_vec()).collect();
        assert_eq!(encoded, wanted, "cut {cut}");
        assert_eq!(decoder.missing(), HEADER_BYTES);
    }
}

#[test]
fn every_damaged_byte_is_noticed() {
    for (name, encoded) in every_kind().into_iter().chain(every_kind_of_version_2()) {
        let bytes = encoded.to_vec();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let mut decoder = Decoder::new();
            decoder.push(&damaged);
            assert!(!matches!(decoder.next(), Ok(Some(_))), "{name} byte {at}");
        }
    }
}

#[test]
fn lengths_are_bounded_before_anything_is_allocated() {
    let mut header = *every_kind()[0].1.header.first_chunk::<HEADER_BYTES>().unwrap();
    header[8..12].copy_from_slice(&(frame::BODY_BYTES_MAX as u32 + 1).to_le_bytes());
    header[20..24].fill(0);
    let crc = crc32fast::hash(&header);
    header[20..24].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(frame::decode_header(&header), Err(frame::FrameError::TooLarge(frame::BODY_BYTES_MAX + 1)));
}

fn decoded(encoded: &Encoded) -> Changes {
    let mut decoder = Decoder::new();
    decoder.push(&encoded.to_vec());
    match decoder.next() {
        Ok(Some(Frame::Changes(changes))) => changes,
        other => panic!("{other:?}"),
    }
}

/// A seeded generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 24) as u8).collect()
    }
}

/// 32 files of 4 KiB that do not compress, as a mirror sends them.
fn mirrored_files(random: &mut Random) -> RecordBuf {
    let mut batch = RecordBuf::new();
    let mut sequence = 0;
    for number in 0..32 {
        let id = FileId { ino: 1_000_000 + number, generation: random.next() as u32, volume: 0 };
        let mut attr = Attr::default();
        (attr.size, attr.mode, attr.uid, attr.gid, attr.nlink) = (4096, 0o100_644, 1000, 1000, 1);
        let time = Time { sec: 1_700_000_000 + number as i64 / 8, nsec: (random.next() % 1_000_000_000) as u32 };
        attr.set_mtime(time);
        attr.set_ctime(time);
        attr.set_atime(Time { sec: 1_699_000_000, nsec: 123_456_789 });
        let (name, data) = (format!("message-{number:06}.eml"), random.bytes(4096));
        for kind in [Kind::Node, Kind::Chunk, Kind::NodeEnd] {
            sequence += 1;
            let mut record = Record::new(kind, id);
            (record.attr, record.sequence) = (attr, sequence);
            match kind {
                Kind::Node => {
                    record.parent = FileId { ino: 77, generation: 5, volume: 0 };
                    record.name = name.as_bytes();
                }
                Kind::Chunk => record.data = &data,
                _ => {}
            }
            batch.push(&record);
        }
    }
    batch
}

#[test]
fn a_batch_of_small_incompressible_files_costs_at_most_2_percent_more_than_its_content() {
    let batch = mirrored_files(&mut Random(42));
    let raw = batch.as_bytes().to_vec();
    let encoded = changes(batch, Some(&mut Packer::new()), 0);
    let content = 32 * 4096;
    let cost = encoded.len() as f64 / content as f64 - 1.0;
    println!("cost {:.2} % (raw {:.2} %)", cost * 100.0, (raw.len() as f64 / content as f64 - 1.0) * 100.0);
    assert!(cost <= 0.02, "{cost}");
    assert_eq!(decoded(&encoded).records().unwrap(), raw);
}

#[test]
fn compressible_data_shrinks_and_comes_back() {
    let mut batch = RecordBuf::new();
    let text: Vec<u8> = (0..400_000u32).flat_map(|n| format!("{} ", n % 977).into_bytes()).take(900_000).collect();
    for (index, part) in text.chunks(4096).enumerate() {
        let mut record = Record::new(Kind::Write, file(9));
        (record.sequence, record.data) = (index as u64 + 1, part);
        batch.push(&record);
    }
    let raw = batch.as_bytes().to_vec();
    let encoded = changes(batch, Some(&mut Packer::new()), 0);
    assert!(encoded.len() < raw.len() / 2, "{} of {}", encoded.len(), raw.len());
    assert_eq!(decoded(&encoded).records().unwrap(), raw);
}

#[test]
fn a_4_kib_write_and_a_rename_stay_small_on_the_wire() {
    let mut batch = RecordBuf::new();
    let data = Random(1).bytes(4096);
    let mut record = Record::new(Kind::Write, file(9));
    (record.sequence, record.data) = (1, &data);
    batch.push(&record);
    let ack = Frame::Ack(Ack { journaled: 1 << 40, applied: 1 << 40, consistent_time: 1 << 60 }).encode().len();
    assert!(changes(batch, Some(&mut Packer::new()), 0).len() + ack <= 4_500);
    let mut batch = RecordBuf::new();
    let mut record = Record::new(Kind::Rename, file(9));
    (record.sequence, record.name, record.name2) = (1, b"a name of some length", b"another name of some length");
    batch.push(&record);
    assert!(changes(batch, Some(&mut Packer::new()), 0).len() + ack <= 512);
}

/// Whatever the bytes: no panic, and no more memory than the bounds say. Longer runs are in `fuzz/`, whose corpus is
/// replayed here.
#[test]
fn decoders_take_any_bytes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let all = every_kind().into_iter().chain(every_kind_of_version_2());
    let mut inputs: Vec<Vec<u8>> = all.map(|(_, encoded)| encoded.to_vec()).collect();
    for target in std::fs::read_dir(corpus).into_iter().flatten().flatten() {
        for input in std::fs::read_dir(target.path()).into_iter().flatten().flatten() {
            inputs.push(std::fs::read(input.path()).unwrap());
        }
    }
    let mut random = Random(20_261_120);
    inputs.iter().for_each(|input| decode_all(input));
    for round in 0..20_000 {
        let mut input = inputs[round % inputs.len()].clone();
        for _ in 0..1 + random.next() % 4 {
            mutate(&mut input, &mut random);
        }
        decode_all(&input);
        decode_all(&with_checksums(input));
    }
}

fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    let at = random.next() as usize % input.len().max(1);
    match random.next() % 4 {
        0 if !input.is_empty() => input[at] = random.next() as u8,
        1 => input.truncate(at),
        2 if input.len() > at + 4 => input[at..at + 4].copy_from_slice(&(random.next() as u32).to_le_bytes()),
        _ => input.extend(random.bytes(5)),
    }
}

/// Makes the checksums right, so that what lies behind them is reached.
fn with_checksums(mut input: Vec<u8>) -> Vec<u8> {
    if input.len() >= HEADER_BYTES {
        let body = crc32fast::hash(&input[HEADER_BYTES..]);
        let len = (input.len() - HEADER_BYTES) as u32;
        input[8..12].copy_from_slice(&len.to_le_bytes());
        input[16..20].copy_from_slice(&body.to_le_bytes());
        input[20..24].fill(0);
        let head = crc32fast::hash(&input[..HEADER_BYTES]);
        input[20..24].copy_from_slice(&head.to_le_bytes());
    }
    input
}

fn decode_all(input: &[u8]) {
    let mut decoder = Decoder::new();
    decoder.push(input);
    while let Ok(Some(frame)) = decoder.next() {
        if let Frame::Changes(changes) = frame {
            let _ = changes.records();
        }
    }
    assert!(records(input).filter(Result::is_err).count() <= 1, "records end after the first error");
    let _ = stead_model::record::Extras::parse(input);
}
