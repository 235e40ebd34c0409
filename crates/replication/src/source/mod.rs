//! The source half: makes one ordered stream of captured changes and pieces of scans, and sends it to each target.
//!
//! ```text
//!   captured ──► slots in order ──► numbered records ──► batches ──► a cursor for each target
//!   reads    ──►  (stream)           (changes, scan)     (queue)      (connection)
//! ```
//! A read takes its slot when it is asked for; what is captured meanwhile waits behind it. The front is worked off as far
//! as reads have ended, so all decisions (is this file announced? does this name belong to the set?) are made in the
//! order of the stream. Where it ends at an instant of the source that every target can have whole, the end of the
//! batch is a consistent point: nothing is amid, no mirror is unfinished, and everything that a read may have seen of
//! the future has come.
//!
//! What the target half has to know about the records beyond `stead_model::record`:
//! * Node with [`Purpose::Mirror`](stead_model::record::Purpose) makes or completes the file at that name, whoever was
//!   there; regular files get chunks and a NodeEnd later (the Nodes of a whole page of a directory come first), unless
//!   the target was told of the file before: then the name alone is news. Flag MOVE_IN: amid replication.
//! * Node with parent none and no name: the file, whatever it is called. Parent none and a number: a root.
//! * Node with Difference: the target answers with Needs, or with nothing where it is proven equal. Hashes, then content
//!   are asked for; a Hash without hashes ends them, and only there the size in the attributes can be compared (the file
//!   may grow meanwhile). The same in a verify. Non-regular files get a NodeEnd at once; directories end with DirEnd.
//! * Lost (of everything, at the begin of a stream that does not go on from before): what changes bring from here on
//!   proves nothing (ctime, size) about a file in its scope, for earlier changes of it may be missing, until NodeEnd, or
//!   Node of what was proven equal before, in a scan that begins later.
//! * DirBegin and DirEnd of several directories may interleave. A directory without DirEnd was not listed to its end:
//!   nothing in it may be taken for unclaimed.
//! * Unlink with flag SUBTREE: the directory leaves the set with all beneath it. With attributes' nlink 0 the file is gone.
//! * A change of a file that the target does not have is to be ignored: other targets have it, or a scan will bring it.
//! * A name under a directory that the target does not have: it is held until a scan has ended.
//! * Changes in a directory of names that are not in the set come as SetAttr (MTIME) of the directory.

mod advance;
mod announced;
mod api;
mod behind;
mod brake;
mod changes;
mod confirm;
mod connection;
mod dirty;
mod files;
mod gather;
mod job;
mod known;
mod listing;
mod marks;
mod memory;
mod queue;
mod recall;
mod request;
mod scan;
mod session;
mod spill;
mod stream;
mod verify;
mod work;
mod young;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use stead_model::Sequence;

pub use api::*;
use confirm::Places;
use connection::{Connection, STREAM, TargetMask, bit};
use files::Files;
use job::Jobs;
use marks::Marks;
use queue::Queue;
use recall::Memory;
use request::Requests;
use scan::{Ended, Scan};
use spill::Spilling;
use stream::{Captured, Slot, Stream};

use crate::read::{ReadRequest, Ticket};

/// The source half of a set.
#[derive(Debug)]
pub struct Source {
    config: SourceConfig,
    now: Instant,
    outputs: VecDeque<SourceOutput>,
    stream: Stream,
    queue: Queue,
    files: Files,
    jobs: Jobs,
    scan: Option<Scan>,
    ended: Vec<Ended>,
    requests: Requests,
    connections: BTreeMap<TargetId, Connection>,
    marks: Marks,
    ticket: Ticket,
    generation: u64,
    /// Capture's number of the last record handed in, and of the last one whose turn came.
    captured_in: u64,
    captured_done: u64,
    /// Capture's number that a read may have seen.
    captured_read: u64,
    /// The last place at which changes were lost.
    lost_at: Sequence,
    /// Targets that are behind.
    withheld: TargetMask,
    places: Places,
    confirmed: u64,
    memory: Memory,
    expected: (u64, u64),
    spilling: Spilling,
}

impl Source {
    /// A source with no targets. The stream begins at sequence 1.
    ///
    /// # Panics
    /// Where a size of the configuration is zero, or a block no power of two.
    pub fn new(mut config: SourceConfig, now: Instant) -> Source {
        assert!(config.difference_block.is_power_of_two() && config.verify_block.is_power_of_two());
        assert!(config.chunk_bytes_max > 0 && config.entries_max > 0 && config.reads_max > 0);
        let check = recall::rules_check(&config.roots);
        config.recalled = config.recalled.take().filter(|recalled| recalled.is_of(check));
        let captured = config.recalled.as_ref().map_or(0, Recalled::captured);
        let known = config.recalled.as_mut().map(|recalled| std::mem::take(&mut recalled.files));
        let carried = config.recalled.as_ref().map_or(Default::default(), |recalled| recalled.unsettled.clone());
        let mut source = Source {
            now,
            outputs: VecDeque::new(),
            stream: Stream::default(),
            queue: Queue::new(config.compression, config.settings.brake.window),
            files: match known {
                Some(known) => Files::recall(config.roots.clone(), known),
                None => Files::new(config.roots.clone()),
            },
            jobs: Jobs::default(),
            scan: None,
            ended: Vec::new(),
            requests: Requests::default(),
            connections: BTreeMap::new(),
            marks: Marks::default(),
            ticket: 0,
            generation: 0,
            captured_in: captured,
            captured_done: captured,
            captured_read: 0,
            lost_at: 0,
            withheld: 0,
            places: Places::default(),
            confirmed: captured,
            memory: Memory::new(config.incarnation, carried),
            expected: (0, 0),
            spilling: Spilling::default(),
            config,
        };
        source.queue.captured = captured;
        source.files.log.set_at(captured);
        source.remember_all();
        source.forget_parts();
        source
    }

    /// Takes an input.
    pub fn handle(&mut self, input: SourceInput, now: Instant) {
        self.now = now;
        match input {
            SourceInput::Captured { records, captured, time } => {
                self.captured_in = self.captured_in.max(captured);
                self.stream.push(Slot::Captured(Captured { records, at: 0, captured, time }));
                self.place_marks();
            }
            SourceInput::Read { ticket, result, captured } => self.stream.arrived(ticket, result, captured),
            SourceInput::AddTarget { target } => self.add_target(target),
            SourceInput::RemoveTarget { target } => self.remove_target(target),
            SourceInput::Connected { target } => self.connected(target),
            SourceInput::Disconnected { target, reason } => self.disconnected(target, reason),
            SourceInput::Received { target, frame } => self.received(target, frame),
            SourceInput::Control { target, bytes } => self.control(target, bytes),
            SourceInput::Synced { captured } => self.synced(captured),
            SourceInput::Spilled { first, result } => self.spilled(first, result),
            SourceInput::Fetched { first, result } => self.queue.fetched(first, result),
            SourceInput::Command(command) => self.command(command),
        }
        self.turn();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.keep_alive();
        self.turn();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SourceOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Source::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, SourceTimer)> {
        let keep_alive = self.keep_alive_due().map(|at| (at, SourceTimer::KeepAlive));
        let scan = self.requests.not_before().filter(|_| self.scan.is_none()).map(|at| (at, SourceTimer::Scan));
        let catch_up = self.catch_up_due().map(|at| (at, SourceTimer::CatchUp));
        let disk = self.disk_due().map(|at| (at, SourceTimer::Disk));
        keep_alive.into_iter().chain(scan).chain(catch_up).chain(disk).min_by_key(|(at, _)| *at)
    }

    /// May captured records be handed in? Not while too many wait for reads, nor, for a moment, for the queue's disk. A
    /// slow target is no reason: it goes behind.
    pub fn wants_captured(&self) -> bool {
        !self.is_stream_full() && !self.waits_for_disk()
    }

    /// Capture's number up to which nothing is needed from it again: every target that follows has it durably, with all
    /// that it brought about. A target that is behind or gets a mirror of everything does not count.
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Capture's number up to which that target has everything durably, with all that it brought about.
    pub fn durable(&self, target: TargetId) -> u64 {
        self.connections.get(&target).map_or(0, |connection| connection.durable)
    }

    /// Last sequence of the stream.
    pub fn last(&self) -> Sequence {
        self.queue.last()
    }

    fn is_stream_full(&self) -> bool {
        self.stream.bytes() >= self.config.settings.queue_bytes_max
    }

    fn add_target(&mut self, target: TargetId) {
        assert!(target < STREAM.ilog2(), "targets are numbered from 0 to 30");
        // What the target may go on from is kept for it from the first record on.
        let expected = self.config.recalled.is_some() && self.queue.last() == 0;
        let new = self.connections.entry(target).or_insert_with(|| Connection::new(self.now));
        if expected && !new.following {
            new.begin_after(0);
            (new.expected, new.durable) = (true, self.confirmed);
        }
    }

    fn remove_target(&mut self, target: TargetId) {
        self.begin_anew(target);
        self.requests.forget(bit(target));
        self.connections.remove(&target);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Mirror { target } => self.mirror(target),
            Command::Verify { repair, content, id } => self.requests.verify(id, repair, content),
            Command::Pause { target } => self.set_paused(target, true),
            Command::Resume { target } => self.set_paused(target, false),
            Command::Mark { id, captured } => self.mark(id, captured),
            Command::Unmark { id } => self.marks.forget(id),
            Command::Expect { files, bytes } => self.expected = (files, bytes),
            Command::AcceptDeletions { target } => self.accept(target),
            Command::Undo { target } => self.undo(target),
            Command::Configure(settings) => self.configure(settings),
            Command::Rules { roots } => self.other_rules(roots),
        }
    }

    /// Works off all that can be: called after every input.
    fn turn(&mut self) {
        self.update_first_mirror();
        loop {
            self.advance();
            if !self.pump() {
                break;
            }
        }
        self.settle_ended();
        self.settle_marks();
        self.leave_lost();
        self.send_batches();
        self.turn_disk();
        self.shed();
        self.settle_scans();
        self.flush_memory();
        self.settle_confirmed();
        self.forget_parts();
        self.free();
        self.forget_spilled();
        self.update_states();
        self.check();
    }

    fn read(&mut self, what: stream::ReadFor, request: ReadRequest) {
        let ticket = self.issue(request);
        self.stream.push(Slot::Read { ticket, what });
    }

    fn issue(&mut self, request: ReadRequest) -> Ticket {
        self.ticket += 1;
        self.outputs.push_back(SourceOutput::Read(self.ticket, request));
        self.ticket
    }

    fn event(&mut self, event: SourceEvent) {
        self.outputs.push_back(SourceOutput::Event(event));
    }

    fn check(&self) {
        let captured = self.queue.last();
        self.connections.values().for_each(|connection| connection.check(captured));
    }
}
