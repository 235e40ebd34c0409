//! A queue that goes to disk, with targets that are fast, slow or away, and disks that are good, full, broken or hang.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stead_model::record::records;
use stead_model::status::State;
use stead_model::{Epoch, FileId, Kind, Position, Record, Sequence};

use crate::frame::{Ack, Encoded, Frame, FrameKind, Holds, VERSION, Welcome, decode_header};
use crate::source::connection::STREAM;
use crate::source::{Compression, Source, SourceConfig, SourceInput, SourceOutput, TargetId};

/// Bytes that one write puts into the queue, besides its head.
const WRITE_BYTES: usize = 1_000;
const QUEUE_BYTES_MAX: usize = 16_000;
const SECOND: Duration = Duration::from_secs(1);

/// What the disk does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disk {
    Good,
    Full,
    Hangs,
    ReadFails,
    Damages,
}

/// A source, its queue's disk, and what its targets were sent.
struct Bench {
    source: Source,
    now: Instant,
    disk: Disk,
    bodies: BTreeMap<Sequence, Arc<Vec<u8>>>,
    fetched: usize,
    /// Inode of each write that came, by target, and frames that are not acknowledged.
    written: BTreeMap<TargetId, Vec<u64>>,
    arrived: BTreeMap<TargetId, VecDeque<Sequence>>,
}

impl Bench {
    /// So many targets that are level.
    fn new(targets: TargetId, disk_bytes_max: u64) -> Bench {
        let epoch = Epoch { number: 3, writer: [7; 16], random: 5 };
        let (set, node) = ("notes".parse().unwrap(), "paris".parse().unwrap());
        let mut config = SourceConfig::new(set, node, Vec::new(), epoch, 1);
        config.compression = Compression::Off;
        config.settings.queue_bytes_max = QUEUE_BYTES_MAX;
        config.settings.queue_disk_bytes_max = disk_bytes_max;
        config.settings.window_bytes_max = 3_000;
        let now = Instant::now();
        let mut bench = Bench {
            source: Source::new(config, now),
            now,
            disk: Disk::Good,
            bodies: BTreeMap::new(),
            fetched: 0,
            written: BTreeMap::new(),
            arrived: BTreeMap::new(),
        };
        for target in 0..targets {
            bench.input(SourceInput::AddTarget { target });
            bench.connect(target);
        }
        bench.settle();
        (0..targets).for_each(|target| assert_eq!(bench.state(target).0, State::Replicating));
        bench
    }

    fn input(&mut self, input: SourceInput) {
        self.source.handle(input, self.now);
        self.answer();
    }

    /// Connects a target; it goes on from what it has.
    fn connect(&mut self, target: TargetId) {
        let followed = self.source.connections[&target].following;
        let at = |sequence| Position { epoch: 3, incarnation: 1, sequence };
        let welcome = Welcome {
            version: VERSION,
            node: "lyon".parse().unwrap(),
            epoch: self.source.config.epoch,
            holds: Holds::Replica,
            resume: followed.then(|| at(self.source.connections[&target].journaled)),
            capture: 0,
            captured: 0,
        };
        self.arrived.remove(&target);
        self.input(SourceInput::Connected { target });
        self.input(SourceInput::Received { target, frame: Frame::Welcome(welcome) });
    }

    fn cut(&mut self, target: TargetId) {
        self.input(SourceInput::Disconnected { target, reason: "cut".into() });
    }

    /// Writes files of these numbers, each in a batch of its own.
    fn write(&mut self, files: std::ops::Range<u64>) {
        let all = self.source.followers() | STREAM;
        for ino in files {
            let mut record = Record::new(Kind::Write, file(ino));
            let data = vec![ino as u8; WRITE_BYTES];
            (record.data, record.a) = (&data, 1);
            self.source.emit(&record, all);
            self.source.queue.split();
            self.pass(Duration::ZERO);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.source.handle_timeout(self.now);
        self.answer();
    }

    /// Does what the source asks for.
    fn answer(&mut self) {
        while let Some(output) = self.source.poll_output() {
            let answer = match output {
                SourceOutput::Send { target, frame } => {
                    self.arrive(target, &frame);
                    continue;
                }
                SourceOutput::Spill { first, body } => self.spill(first, body),
                SourceOutput::Fetch { first } => self.fetch(first),
                SourceOutput::ForgetSpilled { firsts } => {
                    firsts.iter().for_each(|first| drop(self.bodies.remove(first)));
                    continue;
                }
                _ => continue,
            };
            answer.into_iter().for_each(|input| self.source.handle(input, self.now));
        }
    }

    fn arrive(&mut self, target: TargetId, frame: &Encoded) {
        let header = decode_header(&frame.header).unwrap();
        if header.kind != FrameKind::Changes {
            return;
        }
        let body = &frame.body[..frame.body.len() - 8];
        let writes = records(body).flatten().filter(|record| record.kind == Kind::Write);
        self.written.entry(target).or_default().extend(writes.map(|record| record.file.ino));
        self.arrived.entry(target).or_default().push_back(header.last);
    }

    fn spill(&mut self, first: Sequence, body: Arc<Vec<u8>>) -> Option<SourceInput> {
        let result = match self.disk {
            Disk::Hangs => return None,
            Disk::Full => Err("the queue's disk is full".to_owned()),
            _ => Ok(()),
        };
        if result.is_ok() {
            assert!(self.bodies.insert(first, body).is_none(), "written twice");
        }
        Some(SourceInput::Spilled { first, result })
    }

    fn fetch(&mut self, first: Sequence) -> Option<SourceInput> {
        self.fetched += 1;
        let mut body = self.bodies[&first].to_vec();
        let result = match self.disk {
            Disk::Hangs => return None,
            Disk::ReadFails => Err("the queue's disk fails".into()),
            Disk::Damages => {
                body[200] ^= 1;
                Ok(body)
            }
            _ => Ok(body),
        };
        Some(SourceInput::Fetched { first, result })
    }

    /// The target acknowledges everything that came, and what comes then.
    fn take(&mut self, target: TargetId) {
        while let Some(journaled) = self.arrived.get_mut(&target).and_then(|arrived| arrived.drain(..).next_back()) {
            let ack = Ack { journaled, applied: journaled, consistent_time: 0 };
            self.input(SourceInput::Received { target, frame: Frame::Ack(ack) });
        }
    }

    fn settle(&mut self) {
        let targets: Vec<TargetId> = self.source.connections.keys().copied().collect();
        while self.arrived.values().any(|arrived| !arrived.is_empty()) {
            targets.iter().for_each(|target| self.take(*target));
        }
    }

    fn state(&self, target: TargetId) -> (State, String) {
        let view = self.source.view(target).unwrap();
        (view.state, view.reason.unwrap_or_default())
    }

    fn is_behind(&self, target: TargetId) -> bool {
        self.source.connections[&target].behind.is_some()
    }

    fn behind_reason(&self, target: TargetId) -> &str {
        &self.source.connections[&target].behind.as_ref().expect("it is behind").reason
    }

    /// Everything of these files came, in order, or is remembered.
    fn check_remembered(&self, target: TargetId, files: std::ops::Range<u64>) {
        let written = self.written.get(&target).cloned().unwrap_or_default();
        assert!(written.iter().copied().eq(files.start..files.start + written.len() as u64), "{written:?}");
        let dirty = &self.source.connections[&target].dirty;
        let lost: Vec<u64> = files.filter(|ino| !written.contains(ino)).filter(|ino| !dirty.has(file(*ino))).collect();
        assert!(lost.is_empty(), "{lost:?} are lost");
    }
}

fn file(ino: u64) -> FileId {
    FileId { ino, generation: 1, volume: 0 }
}

#[test]
fn what_a_target_missed_comes_from_memory_and_disk_in_order() {
    let mut bench = Bench::new(1, 1 << 20);
    bench.cut(0);
    bench.write(1..101);
    let (memory, disk) = (bench.source.queue.bytes(), bench.source.view(0).unwrap().queue.disk_bytes);
    assert!(memory <= QUEUE_BYTES_MAX, "{memory} bytes in memory");
    assert!(disk > 90 * WRITE_BYTES as u64 && bench.bodies.len() > 80, "{disk} bytes on disk");
    let queue = bench.source.view(0).unwrap().queue;
    assert!(queue.bytes >= 100 * WRITE_BYTES as u64 && queue.changes == 100, "{queue:?}");
    bench.connect(0);
    bench.take(0);
    bench.write(101..141);
    bench.take(0);
    assert_eq!(bench.written[&0], (1..141).collect::<Vec<_>>());
    assert_eq!(bench.state(0).0, State::Replicating);
    assert_eq!((bench.bodies.len(), bench.source.view(0).unwrap().queue.disk_bytes), (0, 0));
}

#[test]
fn a_target_that_is_slow_has_its_records_on_disk_and_the_others_theirs_in_memory() {
    let mut bench = Bench::new(3, 1 << 20);
    for ino in 1..81 {
        bench.write(ino..ino + 1);
        bench.take(0);
        bench.take(2);
    }
    let all: Vec<u64> = (1..81).collect();
    assert_eq!((&bench.written[&0], &bench.written[&2]), (&all, &all));
    let on_disk = |target| bench.source.view(target).unwrap().queue.disk_bytes;
    assert_eq!((on_disk(0), on_disk(2)), (0, 0));
    assert!(on_disk(1) > 60 * WRITE_BYTES as u64);
    let ahead: usize = bench.fetched;
    assert!(ahead <= 4, "{ahead} bodies were read for nobody");
    bench.take(1);
    assert_eq!(bench.written[&1], all);
    assert!((0..3).all(|target| bench.state(target).0 == State::Replicating));
}

#[test]
fn a_target_that_is_cut_amid_what_is_on_disk_goes_on_there() {
    let mut bench = Bench::new(1, 1 << 20);
    bench.cut(0);
    bench.write(1..101);
    bench.connect(0);
    let first: Vec<u64> = bench.written[&0].clone();
    bench.written.clear();
    bench.cut(0);
    bench.write(101..121);
    bench.connect(0);
    bench.take(0);
    assert!(!first.is_empty());
    assert_eq!(bench.written[&0], (1..121).collect::<Vec<_>>(), "nothing was acknowledged before");
}

#[test]
fn beyond_the_limit_of_the_disk_a_target_goes_behind_and_gives_the_disk_back() {
    let mut bench = Bench::new(2, 40_000);
    for ino in 1..101 {
        bench.write(ino..ino + 1);
        bench.take(0);
    }
    assert_eq!((bench.behind_reason(1), bench.is_behind(0)), ("the queue is full", false));
    assert!(bench.bodies.is_empty());
    assert_eq!(bench.written[&0].len(), 100);
    bench.check_remembered(1, 1..101);
}

#[test]
fn a_limit_that_is_lowered_counts_at_once() {
    let mut bench = Bench::new(1, 1 << 20);
    bench.cut(0);
    bench.write(1..101);
    assert!(!bench.is_behind(0));
    let settings = crate::source::Settings { queue_disk_bytes_max: 0, ..bench.source.config.settings };
    bench.input(SourceInput::Command(crate::source::Command::Configure(settings)));
    assert_eq!(bench.behind_reason(0), "the queue is full");
    bench.check_remembered(0, 1..101);
    assert!(bench.bodies.is_empty());
}

#[test]
fn what_cannot_be_read_puts_those_behind_that_need_it_and_loses_nothing() {
    let cases = [
        (Disk::ReadFails, "the queue's disk fails"),
        (Disk::Damages, "the queue's disk is damaged: what was read is not what was written"),
        (Disk::Hangs, "the queue's disk does not answer"),
    ];
    for (disk, reason) in cases {
        let mut bench = Bench::new(2, 1 << 20);
        bench.cut(1);
        for ino in 1..81 {
            bench.write(ino..ino + 1);
            bench.take(0);
        }
        bench.disk = disk;
        bench.connect(1);
        bench.take(1);
        if disk == Disk::Hangs {
            bench.pass(SECOND * 10);
            assert!(!bench.is_behind(1));
            bench.pass(SECOND * 10);
        }
        assert_eq!((bench.behind_reason(1), bench.is_behind(0)), (reason, false), "{disk:?}");
        assert!(bench.written[&1].len() < 80, "{disk:?}");
        bench.check_remembered(1, 1..81);
        bench.check_remembered(0, 1..81);
    }
}

#[test]
fn a_disk_that_takes_nothing_holds_capture_for_a_second_and_is_tried_again() {
    for (disk, reason) in [(Disk::Full, "the queue's disk is full"), (Disk::Hangs, "the queue's disk is too slow")] {
        let mut bench = Bench::new(2, 1 << 20);
        bench.disk = disk;
        for ino in 1..16 {
            bench.write(ino..ino + 1);
            bench.take(0);
        }
        assert_eq!(bench.source.wants_captured(), disk == Disk::Full, "{disk:?}");
        assert_eq!(bench.is_behind(1), disk == Disk::Full, "{disk:?}");
        bench.pass(SECOND / 2);
        assert_eq!(bench.is_behind(1), disk == Disk::Full, "{disk:?}");
        bench.pass(SECOND / 2);
        assert!(bench.source.wants_captured(), "{disk:?}");
        assert_eq!((bench.behind_reason(1), bench.is_behind(0)), (reason, false), "{disk:?}");
        bench.check_remembered(1, 1..16);
    }
}

#[test]
fn a_disk_that_has_room_again_is_used_again() {
    let mut bench = Bench::new(1, 1 << 20);
    bench.cut(0);
    bench.disk = Disk::Full;
    bench.write(1..12);
    assert!(bench.bodies.is_empty() && !bench.is_behind(0));
    bench.disk = Disk::Good;
    bench.pass(SECOND);
    bench.write(12..101);
    assert!(bench.bodies.len() > 50 && !bench.is_behind(0));
    bench.connect(0);
    bench.take(0);
    assert_eq!(bench.written[&0], (1..101).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_is_tried_again_is_waited_for() {
    let mut bench = Bench::new(1, 1 << 20);
    bench.cut(0);
    bench.disk = Disk::Full;
    bench.write(1..12);
    bench.disk = Disk::Hangs;
    bench.pass(SECOND);
    bench.write(12..20);
    assert!(!bench.is_behind(0) && !bench.source.wants_captured());
    bench.pass(SECOND);
    assert!(bench.is_behind(0), "not for long");
}

#[test]
fn notes_of_what_is_on_disk_are_bounded() {
    let mut bench = Bench::new(1, u64::MAX);
    bench.cut(0);
    bench.write(1..1_001);
    assert_eq!(bench.behind_reason(0), "the queue is full: it holds too many small changes");
    bench.check_remembered(0, 1..1_001);
}
