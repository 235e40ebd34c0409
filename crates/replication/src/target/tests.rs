//! What the target half asks of its caller, step by step.

use std::time::{Duration, Instant};

use stead_model::record::{Purpose, RecordBuf};
use stead_model::{Epoch, FileId, Kind, Position, Record};

use super::*;
use crate::frame::{Changes, FrameKind, HEADER_BYTES, Header, Hello, Welcome, decode_header, flags, writer_check};

const CAPTURE: u64 = 77;

fn epoch() -> Epoch {
    Epoch { number: 3, writer: [7; 16], random: 5 }
}

fn position(incarnation: u64, sequence: u64) -> Position {
    Position { epoch: 3, incarnation, sequence }
}

/// A target with its caller: what it asked for, until it is answered.
struct Stage {
    target: Target,
    now: Instant,
    /// Answer what is asked at once?
    applies: bool,
    seen: Vec<TargetOutput>,
}

impl Stage {
    fn new(change: impl FnOnce(&mut TargetConfig), checkpoint: Option<Checkpoint>, journal: Vec<Changes>) -> Stage {
        let mut config = TargetConfig::new("notes".parse().unwrap(), "lyon".parse().unwrap());
        config.keeps_images = true;
        change(&mut config);
        let now = Instant::now();
        let recovery = Recovery { epoch: Some(epoch()), checkpoint, journal, capture: CAPTURE, ..Recovery::default() };
        let target = Target::recover(config, recovery, now);
        let mut stage = Stage { target, now, applies: true, seen: Vec::new() };
        stage.settle();
        stage
    }

    /// One with a replica at sequence 10 of stream 1.
    fn with_replica(change: impl FnOnce(&mut TargetConfig)) -> Stage {
        let (capture, captured) = (CAPTURE, 500);
        let checkpoint = Checkpoint {
            position: position(1, 10),
            mirrored: true,
            consistent_time: 100,
            capture,
            captured,
            ..Checkpoint::default()
        };
        Stage::new(change, Some(checkpoint), Vec::new())
    }

    fn tell(&mut self, input: TargetInput) {
        self.target.handle(input, self.now);
        self.settle();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.target.handle_timeout(self.now);
        self.settle();
    }

    /// Does what is asked for.
    fn settle(&mut self) {
        while let Some(output) = self.target.poll_output() {
            let answers = match &output {
                TargetOutput::Journal { last, .. } => vec![TargetInput::Journaled { last: *last }],
                TargetOutput::Apply(batches) if self.applies => batches.iter().map(applied).collect(),
                TargetOutput::Apply(_) => vec![TargetInput::ApplyFailed { reason: "no room".into() }],
                TargetOutput::Checkpoint(checkpoint) => vec![TargetInput::Checkpointed(*checkpoint)],
                TargetOutput::RollBack(_) | TargetOutput::PutBack => vec![TargetInput::RolledBack(Ok(()))],
                TargetOutput::SaveEpoch(epoch) => vec![TargetInput::EpochSaved(*epoch)],
                _ => Vec::new(),
            };
            self.seen.push(output);
            answers.into_iter().for_each(|answer| self.target.handle(answer, self.now));
        }
    }

    fn greet(&mut self, incarnation: u64, unclean: bool) -> Welcome {
        self.tell(TargetInput::Connected);
        let hello = Hello {
            version_min: 1,
            version_max: 2,
            set: "notes".parse().unwrap(),
            node: "paris".parse().unwrap(),
            epoch: epoch(),
            incarnation,
            lineage: Vec::new(),
            anew: false,
            capture: CAPTURE,
            unclean,
        };
        self.seen.clear();
        self.tell(TargetInput::Received(Frame::Hello(hello)));
        let welcome = self.sent().into_iter().find_map(|frame| match frame {
            Frame::Welcome(welcome) => Some(welcome),
            _ => None,
        });
        welcome.expect("it is welcome")
    }

    fn changes(&mut self, changes: Changes) {
        self.tell(TargetInput::Received(Frame::Changes(changes)));
    }

    fn sent(&self) -> Vec<Frame> {
        let sent = self.seen.iter().filter_map(|output| match output {
            TargetOutput::Send(frame) => Some(frame.to_vec()),
            _ => None,
        });
        sent.map(|bytes| Frame::decode(&decode_header(bytes.first_chunk().unwrap()).unwrap(), bytes.into()).unwrap())
            .collect()
    }

    /// What was asked for, in short words.
    /// Up to where the journal was written by each sync.
    fn journaled(&mut self) -> Vec<u64> {
        let last = |output| if let TargetOutput::Journal { last, .. } = output { Some(last) } else { None };
        self.seen.drain(..).filter_map(last).collect()
    }

    fn words(&mut self) -> Vec<String> {
        let word = |output: TargetOutput| match output {
            TargetOutput::Apply(batches) => {
                let last = batches.last().unwrap();
                Some(format!("apply {}.{}", last.position.incarnation, last.position.sequence))
            }
            TargetOutput::Checkpoint(at) => Some(format!("checkpoint {} {}", at.position.sequence, at.consistent_time)),
            TargetOutput::KeepPreImages(kept) => Some(format!("keep {}", kept.position.sequence)),
            TargetOutput::DropPreImages => Some("drop".into()),
            TargetOutput::RollBack(kept) => Some(format!("roll back {}", kept.position.sequence)),
            TargetOutput::PutBack => Some("put back".into()),
            TargetOutput::ResetJournal => Some("reset".into()),
            TargetOutput::Spoil(checkpoint) => Some(format!("spoil {}", checkpoint.consistent_time)),
            TargetOutput::Doubt => Some("doubt".into()),
            TargetOutput::Event(TargetEvent::StoodIn { consistent_time, .. }) => {
                Some(format!("stood in {consistent_time}"))
            }
            TargetOutput::Event(TargetEvent::Halted(reason)) => Some(format!("halted {}", reason.is_some())),
            _ => None,
        };
        std::mem::take(&mut self.seen).into_iter().filter_map(word).collect()
    }
}

fn applied(batch: &Batch) -> TargetInput {
    TargetInput::Applied { last: batch.position.sequence, needs: Vec::new(), differences: Vec::new() }
}

/// A frame with one record. `time`: it ends at a consistent point, with all of capture up to that time.
fn frame(incarnation: u64, sequence: u64, kind: Kind, time: Option<u64>) -> Changes {
    let mut record = Record::new(kind, FileId::NONE);
    (record.sequence, record.c) = (sequence, Purpose::Difference as u32);
    let mut records = RecordBuf::new();
    records.push(&record);
    let mut body = records.into_bytes();
    let raw_len = body.len();
    body.extend_from_slice(&time.unwrap_or_default().to_le_bytes());
    let header = Header {
        version: 2,
        kind: FrameKind::Changes,
        flags: if time.is_some() { flags::CONSISTENT | flags::WHOLE } else { 0 },
        body_len: body.len(),
        raw_len,
        body_crc: crc32fast::hash(&body),
        epoch: 3,
        writer: writer_check(&epoch()),
        incarnation,
        first: sequence,
        last: sequence,
        time: time.unwrap_or_default(),
    };
    let frame: Vec<u8> = [&header.encode()[..HEADER_BYTES], &body].concat();
    Changes { header, frame: frame.into() }
}

#[test]
fn what_is_durable_of_a_stream_is_applied_before_the_next_one() {
    let mut stage = Stage::with_replica(|_| {});
    stage.applies = false;
    stage.greet(1, false);
    stage.changes(frame(1, 11, Kind::Sync, Some(200)));
    let welcome = stage.greet(2, false);
    assert_eq!((welcome.resume, welcome.capture, welcome.captured), (None, CAPTURE, 200));
    assert!(stage.sent().iter().any(|frame| matches!(frame, Frame::Halted(halted) if halted.reason.is_some())));
    stage.changes(frame(2, 1, Kind::Sync, Some(300)));
    stage.applies = true;
    stage.seen.clear();
    stage.wait(Duration::from_secs(60));
    assert_eq!(stage.words(), ["apply 1.11", "halted false", "apply 2.1"]);
    assert_eq!(stage.target.view().applied, position(2, 1));
}

#[test]
fn a_source_to_which_nothing_was_written_yet_is_known_by_its_capture() {
    let mut stage = Stage::with_replica(|_| {});
    stage.greet(1, false);
    stage.changes(frame(1, 11, Kind::Sync, Some(0)));
    let welcome = stage.greet(2, false);
    assert_eq!((welcome.capture, welcome.captured), (CAPTURE, 0));
}

#[test]
fn what_the_source_does_not_wait_for_gathers_for_one_sync() {
    let mut stage = Stage::with_replica(|_| {});
    stage.greet(2, false);
    stage.changes(frame(2, 1, Kind::Sync, Some(100)));
    assert_eq!(stage.journaled(), [1], "it never said what it waits for");
    stage.tell(TargetInput::Wanted { captured: 100 });
    stage.changes(frame(2, 2, Kind::Sync, Some(200)));
    stage.changes(frame(2, 3, Kind::Sync, Some(300)));
    assert!(stage.journaled().is_empty());
    stage.tell(TargetInput::Wanted { captured: 300 });
    assert_eq!(stage.journaled(), [3]);
    stage.changes(frame(2, 4, Kind::Sync, Some(400)));
    assert!(stage.journaled().is_empty());
    let (at, _) = stage.target.poll_timeout().unwrap();
    stage.wait(at - stage.now);
    assert_eq!(stage.journaled(), [4], "not for long");
}

#[test]
fn what_gathers_still_counts_where_the_source_goes_or_the_replica_stands_in() {
    for disconnects in [true, false] {
        let mut stage = Stage::with_replica(|_| {});
        stage.greet(2, false);
        stage.changes(frame(2, 1, Kind::Sync, Some(200)));
        stage.tell(TargetInput::Wanted { captured: 200 });
        stage.changes(frame(2, 2, Kind::Sync, Some(300)));
        stage.seen.clear();
        if disconnects {
            stage.tell(TargetInput::Disconnected);
        }
        stage.tell(TargetInput::StandIn);
        assert_eq!(stage.words(), ["apply 2.2", "checkpoint 2 300", "stood in 300"], "{disconnects}");
    }
}

#[test]
fn a_journal_of_several_streams_is_applied_again_in_order() {
    let journal = vec![
        frame(1, 9, Kind::Sync, Some(90)),
        frame(1, 11, Kind::Sync, Some(200)),
        frame(2, 1, Kind::Sync, None),
        frame(2, 2, Kind::Sync, Some(300)),
    ];
    let checkpoint =
        Checkpoint { position: position(1, 10), mirrored: true, consistent_time: 100, ..Checkpoint::default() };
    let mut stage = Stage::new(|_| {}, Some(checkpoint), journal);
    let replays: Vec<Replay> = stage
        .seen
        .iter()
        .flat_map(|output| if let TargetOutput::Apply(batches) = output { &batches[..] } else { &[] })
        .map(|batch| batch.replay)
        .collect();
    assert_eq!(replays, [Replay::Amid, Replay::Amid, Replay::Last]);
    assert_eq!(stage.words(), ["apply 1.11", "apply 2.2"]);
    let welcome = stage.greet(2, false);
    assert_eq!(welcome.resume, Some(position(2, 2)));
    assert_eq!((welcome.capture, welcome.captured), (CAPTURE, 300));
}

#[test]
fn a_scan_begins_when_the_way_back_is_kept_and_ends_at_the_next_point() {
    let mut stage = Stage::with_replica(|_| {});
    stage.greet(2, false);
    stage.changes(frame(2, 1, Kind::Lost, None));
    assert_eq!(stage.words(), Vec::<String>::new(), "nothing goes past the point without need");
    stage.changes(frame(2, 2, Kind::ScanBegin, None));
    assert_eq!(stage.words(), ["keep 10", "apply 2.1", "apply 2.2"]);
    assert_eq!((stage.target.view().consistent_time, stage.target.view().kept), (100, true));
    stage.changes(frame(2, 3, Kind::ScanEnd, None));
    stage.changes(frame(2, 4, Kind::Sync, Some(400)));
    assert_eq!(stage.words(), ["apply 2.3", "apply 2.4", "drop"]);
    assert_eq!((stage.target.view().consistent_time, stage.target.view().kept), (400, false));
}

/// One with a replica that is amid a scan.
fn amid_scan(change: impl FnOnce(&mut TargetConfig)) -> Stage {
    let mut stage = Stage::with_replica(change);
    stage.greet(2, false);
    stage.changes(frame(2, 1, Kind::ScanBegin, None));
    stage.seen.clear();
    stage
}

#[test]
fn standing_in_amid_a_scan_goes_back_to_the_last_point() {
    let mut stage = amid_scan(|_| {});
    stage.tell(TargetInput::StandIn);
    assert_eq!(stage.words(), ["roll back 10", "checkpoint 10 100", "drop", "stood in 100"]);
    stage.tell(TargetInput::Connected);
    assert!(matches!(stage.seen.last(), Some(TargetOutput::Close(_))), "no source is followed any more");
}

#[test]
fn standing_in_applies_the_journal_up_to_its_last_point() {
    let mut stage = Stage::with_replica(|_| {});
    stage.applies = false;
    stage.greet(1, false);
    stage.changes(frame(1, 11, Kind::Sync, Some(200)));
    stage.changes(frame(1, 12, Kind::Sync, None));
    stage.tell(TargetInput::StandIn);
    stage.applies = true;
    stage.seen.clear();
    stage.wait(Duration::from_secs(60));
    assert_eq!(stage.words(), ["apply 1.11", "halted false", "checkpoint 11 200", "stood in 200"]);
}

#[test]
fn the_brake_halts_until_it_is_accepted() {
    let mut stage = amid_scan(|config| config.removals_max = Some(5));
    stage.target.handle(TargetInput::Received(Frame::Changes(frame(2, 2, Kind::ScanEnd, None))), stage.now);
    let journal = stage.target.poll_output();
    assert!(matches!(journal, Some(TargetOutput::Journal { last: 2, .. })));
    stage.target.handle(TargetInput::Journaled { last: 2 }, stage.now);
    let apply = std::iter::from_fn(|| stage.target.poll_output()).find(|it| matches!(it, TargetOutput::Apply(_)));
    assert!(matches!(apply, Some(TargetOutput::Apply(batches)) if batches[0].removals_max == Some(5)));
    stage.tell(TargetInput::Braked { removals: 9 });
    assert_eq!(stage.target.view().halt_code, HaltCode::Brake { removals: 9 });
    stage.wait(Duration::from_secs(10));
    assert_eq!(stage.words(), ["halted true"]);
    stage.tell(TargetInput::Received(Frame::Accept));
    assert_eq!(stage.words(), ["halted false", "apply 2.2"]);
}

/// What follows up to the next point is whole in the journal, but the brake may halt amid it.
#[test]
fn what_the_brake_may_halt_is_not_begun_without_a_way_back() {
    let mut stage = Stage::with_replica(|config| config.removals_max = Some(5));
    stage.greet(1, false);
    stage.applies = false;
    stage.changes(frame(1, 11, Kind::Sync, Some(200)));
    stage.changes(frame(1, 12, Kind::ScanBegin, None));
    stage.changes(frame(1, 13, Kind::ScanEnd, None));
    stage.changes(frame(1, 14, Kind::Sync, Some(300)));
    stage.seen.clear();
    stage.wait(Duration::from_secs(60));
    assert_eq!(stage.words(), ["keep 10", "apply 1.13"]);
    stage.tell(TargetInput::StandIn);
    stage.wait(Duration::from_secs(60));
    assert_eq!(stage.words(), ["roll back 10", "checkpoint 10 100", "drop", "stood in 100", "halted false"]);
}

#[test]
fn undoing_goes_back_and_lets_the_source_begin_anew() {
    let mut stage = amid_scan(|_| {});
    stage.tell(TargetInput::Received(Frame::Undo));
    let undone = |frame: &Frame| matches!(frame, Frame::Undone(undone) if undone.result == Ok(100));
    assert!(stage.sent().iter().any(undone));
    assert_eq!(stage.words(), ["roll back 10", "checkpoint 10 100", "drop", "reset"]);
    let welcome = stage.greet(2, false);
    assert_eq!((welcome.resume, welcome.captured), (None, 0));
}

#[test]
fn undoing_outside_of_a_scan_puts_back_what_was_removed() {
    let mut stage = Stage::with_replica(|_| {});
    stage.greet(2, false);
    stage.changes(frame(2, 1, Kind::Sync, Some(200)));
    stage.seen.clear();
    stage.tell(TargetInput::Received(Frame::Undo));
    assert_eq!(stage.words(), ["put back", "checkpoint 1 0", "reset"]);
    assert_eq!(stage.target.view().consistent_time, 0, "it is the image of no instant now");
    assert_eq!(stage.greet(3, false).resume, None);
}

#[test]
fn without_room_it_halts_or_spoils() {
    for on_no_room in [OnNoRoom::Halt, OnNoRoom::Spoil] {
        let mut stage = amid_scan(|config| config.on_no_room = on_no_room);
        let more = Frame::Changes(frame(2, 2, Kind::Sync, None));
        stage.target.handle(TargetInput::Received(more), stage.now);
        stage.target.handle(TargetInput::Journaled { last: 2 }, stage.now);
        while stage.target.poll_output().is_some() {}
        stage.tell(TargetInput::NoRoom { reason: "full".into() });
        match on_no_room {
            OnNoRoom::Halt => assert_eq!(stage.words(), ["halted true"]),
            OnNoRoom::Spoil => assert_eq!(stage.words(), ["spoil 0", "apply 2.2"]),
        }
        let (time, spoiled) = if on_no_room == OnNoRoom::Halt { (100, false) } else { (0, true) };
        let view = stage.target.view();
        assert_eq!((view.consistent_time, view.spoiled), (time, spoiled));
    }
}

#[test]
fn a_first_mirror_spoils_nothing_that_was_there() {
    let mut stage = Stage::new(|_| {}, None, Vec::new());
    stage.greet(1, false);
    let mark = |sequence, kind| {
        let mut whole = frame(1, sequence, kind, None);
        whole.header.flags |= flags::UNJOURNALED;
        whole
    };
    stage.changes(mark(1, Kind::ScanBegin));
    stage.changes(mark(2, Kind::ScanEnd));
    assert_eq!(stage.words().last().map(String::as_str), Some("checkpoint 2 0"), "the mirror is durable");
    assert!(!stage.target.view().spoiled, "its first point comes next");
    stage.changes(frame(1, 3, Kind::Sync, Some(300)));
    assert!(!stage.target.view().spoiled);
}

#[test]
fn what_the_source_may_have_lost_is_doubted_durably_before_its_next_stream() {
    let mut stage = Stage::with_replica(|_| {});
    stage.greet(2, true);
    assert_eq!(stage.words(), ["doubt", "checkpoint 10 100"]);
    assert!(stage.target.poll_timeout().is_some());
}

/// A batch that failed must not be tried while the consistent point after it is not durable: nothing is due then.
#[test]
fn what_may_not_be_tried_again_yet_wakes_nobody() {
    let mut stage = amid_scan(|_| {});
    stage.changes(frame(2, 2, Kind::ScanEnd, None));
    stage.applies = false;
    stage.changes(frame(2, 3, Kind::ScanBegin, None));
    stage.tell(TargetInput::Disconnected);
    stage.wait(Duration::from_secs(3600));
    let due = stage.target.poll_timeout().map(|(at, _)| at);
    assert!(due.is_none_or(|at| at > stage.now), "{due:?} is not later than {:?}", stage.now);
}
