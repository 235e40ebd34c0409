//! Scans: a walk over the set, or parts of it, for mirror, difference mirror or verify. One at a time.

use std::collections::VecDeque;

use stead_model::record::{Purpose, flags};
use stead_model::{FileId, Kind, Record, Sequence};

use super::connection::TargetMask;
use super::files::OpenId;
use super::job::Step;
use super::request::{Next, VerifyRequest};
use super::stream::{How, ReadFor, Slot};
use super::verify::Verify;
use super::{Counts, RootConfig, Source, SourceEvent, bit};
use crate::read::{ReadRequest, ReadResult};

/// Jobs beyond which no further directory is read.
const JOBS_AHEAD: usize = 1024;
/// How often a verify is begun again after a mirror broke it off.
const VERIFY_ATTEMPTS: u32 = 5;

/// Where the listing of a directory begins or goes on.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) dir: FileId,
    pub(super) cookie: u64,
    pub(super) how: How,
    /// Under which number its attributes follow the stream; 0 for the first page.
    pub(super) open: OpenId,
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its begin has not had its turn.
    Beginning,
    Walking,
    /// Its end has its place in the stream.
    Ending,
}

/// The running scan.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) generation: u64,
    pub(super) purpose: Purpose,
    pub(super) whole: bool,
    pub(super) targets: TargetMask,
    /// Directories to list; with all beneath them?
    pub(super) dirs: VecDeque<(FileId, bool)>,
    pub(super) pages: VecDeque<Page>,
    /// Reads of listings and nodes that have not had their turn.
    pub(super) reads: usize,
    /// Its last record.
    pub(super) last: Sequence,
    pub(super) counts: Counts,
    /// Changes were lost while it ran.
    pub(super) lost: bool,
    pub(super) verify: Option<Verify>,
    /// The one file that it is about, and whether with all beneath it; `None`: the whole set.
    part: Option<(FileId, bool)>,
    phase: Phase,
}

/// A scan whose end was sent and is to be applied.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) at: Sequence,
    pub(super) targets: TargetMask,
    pub(super) whole: bool,
    pub(super) counts: Counts,
}

impl Scan {
    pub(super) fn is_verify(&self) -> bool {
        self.verify.is_some()
    }

    /// For whom it is a mirror of everything.
    pub(super) fn whole_targets(&self) -> TargetMask {
        if self.whole && !self.is_verify() { self.targets } else { 0 }
    }

    /// Does it make the targets equal, and takes more directories?
    pub(super) fn is_walking(&self) -> bool {
        !self.is_verify() && self.phase == Phase::Walking
    }
}

impl Source {
    /// Asks for what can be read now; says whether the stream may have come forward.
    pub(super) fn pump(&mut self) -> bool {
        while let Some(id) = self.requests.refused() {
            let result = Err("too many comparisons wait already".into());
            self.event(SourceEvent::Verified { id, result });
        }
        let mut moved = self.give_way() | self.begin_scan();
        while self.has_room_for_read() {
            match self.next_job_step() {
                Some((_, Step::Read(what, request))) => self.read(what, request),
                Some((job, _)) => {
                    self.stream.push(Slot::JobEnd(job));
                    moved = true;
                }
                None if self.jobs.len() < JOBS_AHEAD && self.list_next() => {}
                None => break,
            }
        }
        moved | self.check_verify() | self.end_scan()
    }

    fn next_job_step(&mut self) -> Option<(u64, Step)> {
        let blocks = (self.config.difference_block, self.config.verify_block);
        self.jobs.step(self.config.reads_max, self.config.chunk_bytes_max, blocks)
    }

    /// Scans read no faster than the targets take it, and not at all while nobody listens.
    fn has_room_for_read(&self) -> bool {
        let ahead = |journaled| self.queue.after(journaled).0 + self.stream.bytes() as u64;
        let mut up = self.connections.values().filter(|connection| connection.is_up() && !connection.paused).peekable();
        self.stream.outstanding() < self.config.reads_max
            && up.peek().is_some()
            && up.all(|connection| ahead(connection.journaled) < self.config.settings.window_bytes_max as u64)
    }

    pub(super) fn up(&self) -> TargetMask {
        let up = self.connections.iter().filter(|(_, connection)| connection.is_up() && !connection.paused);
        up.fold(0, |mask, (id, _)| mask | bit(*id))
    }

    fn begin_scan(&mut self) -> bool {
        if self.scan.is_some() {
            return false;
        }
        let Some(next) = self.requests.take(self.up(), self.now) else { return false };
        self.generation += 1;
        let (purpose, part, targets, verify) = match next {
            Next::Mirror(targets) => (Purpose::Mirror, None, targets, None),
            Next::Difference(targets) => (Purpose::Difference, None, targets, None),
            Next::Part(part, targets) => (Purpose::Difference, Some(part), targets, None),
            Next::Verify(request) => (Purpose::Verify, None, self.up(), Some(Verify::new(request))),
        };
        self.scan = Some(Scan {
            generation: self.generation,
            purpose,
            whole: part.is_none(),
            targets,
            dirs: VecDeque::new(),
            pages: VecDeque::new(),
            reads: 0,
            last: 0,
            counts: Counts::default(),
            lost: false,
            verify,
            part,
            phase: Phase::Beginning,
        });
        self.stream.push(Slot::ScanBegin { generation: self.generation });
        true
    }

    /// A verify is broken off for a mirror, and begun again after it.
    fn give_way(&mut self) -> bool {
        let Some(scan) = self.scan.as_ref().filter(|scan| scan.phase != Phase::Ending) else { return false };
        if !scan.is_verify() || self.requests.blocked() & self.up() == 0 {
            return false;
        }
        self.break_off("a mirror goes first");
        true
    }

    /// The scan is given up; a verify is begun again later.
    pub(super) fn break_off(&mut self, reason: &str) {
        let Some(scan) = self.scan.take() else { return };
        if let Some(verify) = &scan.verify {
            let request = VerifyRequest { attempt: verify.request.attempt + 1, ..verify.request };
            if request.attempt < VERIFY_ATTEMPTS {
                self.requests.retry_verify(request);
            } else {
                let result = Err(format!("it was broken off too often: {reason}"));
                self.event(SourceEvent::Verified { id: request.id, result });
            }
        }
        for page in &scan.pages {
            self.files.close(page.dir, page.open);
        }
        if scan.is_verify() {
            self.jobs.drop_verify();
            if scan.phase != Phase::Beginning {
                self.send_scan_mark(Kind::ScanEnd, &scan);
            }
        } else {
            self.files.seen = None;
        }
        self.event(SourceEvent::ScanEnded(reason.into()));
    }

    pub(super) fn scan_begins(&mut self, generation: u64) {
        let Some(mut scan) = self.scan.take_if(|scan| scan.generation == generation) else { return };
        scan.phase = Phase::Walking;
        if !scan.is_verify() {
            self.files.scan_begins();
        }
        self.send_scan_mark(Kind::ScanBegin, &scan);
        scan.last = self.queue.last();
        let reads = match scan.part {
            Some((file, deep)) => vec![(file, ReadFor::Part { generation, file, deep })],
            None => {
                let root =
                    |root: &RootConfig| (root.file, ReadFor::Root { generation, file: root.file, index: root.index });
                self.files.roots().iter().map(root).collect()
            }
        };
        scan.reads = reads.len();
        reads.into_iter().for_each(|(file, what)| self.read(what, ReadRequest::Node { file }));
        self.scan = Some(scan);
    }

    fn send_scan_mark(&mut self, kind: Kind, scan: &Scan) {
        let (file, deep) = scan.part.unwrap_or((FileId::NONE, true));
        let mut record = Record::new(kind, file);
        record.c = scan.purpose as u32;
        record.flags = if deep { flags::SUBTREE } else { 0 };
        self.emit(&record, scan.targets);
    }

    /// The scan that a read belonged to, if it still runs.
    pub(super) fn scan_of(&mut self, generation: u64) -> Option<&mut Scan> {
        let scan = self.scan.as_mut().filter(|scan| scan.generation == generation)?;
        scan.reads -= 1;
        Some(scan)
    }

    pub(super) fn take_root(&mut self, generation: u64, file: FileId, index: u32, result: ReadResult) {
        if self.scan_of(generation).is_none() {
            return;
        }
        let ReadResult::Node(node) = result else { return self.unreadable(file, result) };
        self.take_entry(FileId::NONE, index.to_string().as_bytes(), file, &node, None, How::Deep);
        self.note_scan_last();
    }

    pub(super) fn take_part(&mut self, generation: u64, file: FileId, deep: bool, result: ReadResult) {
        let Some(scan) = self.scan_of(generation) else { return };
        let (purpose, targets) = (scan.purpose, scan.targets);
        let ReadResult::Node(node) = result else { return self.unreadable(file, result) };
        if !self.files.holds(file) {
            return;
        }
        self.files.announce_nameless(file);
        self.send_node(file, FileId::NONE, b"", &node, purpose, 0, targets);
        self.follow_up(file, &node, purpose, targets);
        if node.attr.is_dir() {
            self.scan.as_mut().expect("it was there above").dirs.push_back((file, deep));
        }
        self.note_scan_last();
    }

    /// What was sent last is part of the scan.
    pub(super) fn note_scan_last(&mut self) {
        let last = self.queue.last();
        if let Some(scan) = &mut self.scan {
            scan.last = last;
        }
    }

    fn list_next(&mut self) -> bool {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.phase == Phase::Walking) else { return false };
        let page = match scan.pages.pop_front() {
            Some(page) => page,
            None => {
                let Some((dir, deep)) = scan.dirs.pop_front() else { return false };
                Page { dir, cookie: 0, how: if deep { How::Deep } else { How::Flat }, open: 0 }
            }
        };
        scan.reads += 1;
        let content_max = if scan.purpose == Purpose::Mirror { self.config.small_bytes_max } else { 0 };
        let entries_max = self.config.entries_max;
        let request = ReadRequest::List { dir: page.dir, cookie: page.cookie, entries_max, content_max };
        let what = ReadFor::List { generation: scan.generation, page };
        self.read(what, request);
        true
    }

    /// Ends the scan once everything was walked, sent and answered.
    fn end_scan(&mut self) -> bool {
        let up = self.up();
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.phase == Phase::Walking) else { return false };
        let walked = scan.reads == 0 && scan.dirs.is_empty() && scan.pages.is_empty() && self.jobs.len() == 0;
        let answering = scan.purpose != Purpose::Mirror;
        let (last, targets) = (scan.last, scan.targets);
        let answered = |connections: &std::collections::BTreeMap<u32, super::Connection>| {
            connections
                .iter()
                .all(|(id, connection)| (targets & up & bit(*id)) == 0 || !answering || connection.applied >= last)
        };
        // A listing may have told names of the future. Who had such a name before is held at the target until the end of
        // the scan: the changes that name it again come first.
        let caught_up = self.captured_in >= self.captured_read;
        if !walked || !caught_up || targets & up == 0 || !answered(&self.connections) {
            return false;
        }
        if scan.verify.as_ref().is_some_and(|verify| !verify.is_settled()) {
            return false;
        }
        let away = targets & !up;
        if answering && away != 0 {
            scan.targets &= up;
            if !scan.is_verify() {
                self.requests.difference(away);
            }
        }
        let scan = self.scan.as_mut().expect("it was there above");
        scan.phase = Phase::Ending;
        self.stream.push(Slot::ScanEnd { generation: scan.generation });
        true
    }

    pub(super) fn scan_ends(&mut self, generation: u64) {
        let Some(scan) = self.scan.take_if(|scan| scan.generation == generation) else { return };
        self.send_scan_mark(Kind::ScanEnd, &scan);
        if let Some(mut verify) = scan.verify {
            verify.found.counts = scan.counts;
            for (dir, targets) in verify.deferred {
                self.requests.part(dir, true, targets);
            }
            let id = verify.request.id;
            return self.event(SourceEvent::Verified { id, result: Ok(verify.found) });
        }
        self.files.scan_ended(scan.whole);
        self.requests.scan_ended(scan.lost, self.now);
        if scan.whole {
            self.requests.first_ended(scan.targets);
        }
        let (targets, whole, counts) = (scan.targets, scan.whole, scan.counts);
        self.ended.push(Ended { at: self.queue.last(), targets, whole, counts });
        self.update_first_mirror();
    }

    /// Batches from here on are, or are not, part of a first mirror.
    pub(super) fn update_first_mirror(&mut self) {
        self.queue.set_first_mirror(self.requests.first_mirror());
    }

    /// Tells of scans whose end is applied.
    pub(super) fn settle_ended(&mut self) {
        let connections = &self.connections;
        let (done, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ended).into_iter().partition(|ended| {
            let mut of_it = connections.iter().filter(|(id, _)| ended.targets & bit(**id) != 0);
            of_it.all(|(_, connection)| connection.applied >= ended.at)
        });
        self.ended = open;
        for Ended { targets, whole, counts, .. } in done {
            if targets != 0 {
                self.event(SourceEvent::Mirrored { targets, whole, counts });
            }
        }
    }
}
