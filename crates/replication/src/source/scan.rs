//! Scans: a walk over the set, or parts of it, for mirror, difference mirror or verify. One at a time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use stead_model::record::{DISPROVED, Purpose, flags};
use stead_model::{FileId, Kind, Record, Sequence};

use super::connection::TargetMask;
use super::dirty::{CHANGED, DEEP, Marks, NAMES, NEW, UNPROVEN};
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
    /// What it is about, where that is not the whole set.
    pub(super) parts: Vec<(FileId, Marks)>,
    /// Parts that are still to be read; directories first, whose listings may bring the others.
    nodes: VecDeque<(FileId, Marks)>,
    /// Directories among them that the targets have not heard of.
    fresh: HashSet<FileId>,
    /// Files among them that count as proven on a target and may not be.
    unproven: HashSet<FileId>,
    /// Any file may be one of them.
    unproven_all: bool,
    /// The directories among the parts were listed.
    listed: bool,
    /// Directories that are listed, where that is not every one; with all beneath them?
    taken: HashMap<FileId, bool>,
    /// Of them, those that came before any name of theirs did: a target that lost them in a power cut is told too early.
    nameless: HashSet<FileId>,
    named: HashSet<FileId>,
    /// Those listed to their end, and since when, where that is not every one.
    listed_from: HashMap<FileId, OpenId>,
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
        self.jobs.step(self.roomy(), self.config.reads_max, self.config.chunk_bytes_max, blocks)
    }

    fn has_room_for_read(&self) -> bool {
        self.stream.outstanding() < self.config.reads_max && self.roomy() != 0
    }

    /// Targets that listen and take what they are sent: nothing is read faster than one of those that it is for takes it.
    pub(super) fn roomy(&self) -> TargetMask {
        let settings = &self.config.settings;
        let window = settings.window_bytes_max.min(settings.queue_bytes_max / 2) as u64;
        let up = self.up();
        let roomy = self.connections.keys().filter(|id| up & bit(**id) != 0 && self.ahead(**id) < window);
        roomy.fold(0, |mask, id| mask | bit(*id))
    }

    pub(super) fn up(&self) -> TargetMask {
        let up = self.connections.iter().filter(|(_, connection)| connection.is_up() && !connection.is_held());
        up.fold(0, |mask, (id, _)| mask | bit(*id))
    }

    fn begin_scan(&mut self) -> bool {
        if self.scan.is_some() {
            return false;
        }
        let ready = self.up() & (!self.withheld | self.can_catch_up());
        let dirty = self.dirty() & ready;
        for (id, connection) in self.connections.iter_mut().filter(|(id, _)| dirty & bit(**id) != 0) {
            if connection.dirty.is_whole() {
                self.requests.difference(bit(*id));
            }
        }
        let compares = self.up() & (self.withheld | self.dirty()) == 0;
        let Some(next) = self.requests.take(ready, dirty, compares, self.now) else { return false };
        self.generation += 1;
        let (purpose, whole, targets, verify) = match next {
            Next::Mirror(targets) => (Purpose::Mirror, true, targets, None),
            Next::Difference(targets) => (Purpose::Difference, true, targets, None),
            Next::Parts(targets) => (Purpose::Difference, false, targets, None),
            Next::Verify(request) => (Purpose::Verify, true, ready, Some(Verify::new(request))),
        };
        self.scan = Some(Scan {
            generation: self.generation,
            purpose,
            whole,
            targets,
            dirs: VecDeque::new(),
            pages: VecDeque::new(),
            reads: 0,
            last: 0,
            counts: Counts::default(),
            lost: false,
            verify,
            parts: Vec::new(),
            nodes: VecDeque::new(),
            fresh: HashSet::new(),
            unproven: HashSet::new(),
            unproven_all: false,
            listed: false,
            taken: HashMap::new(),
            nameless: HashSet::new(),
            named: HashSet::new(),
            listed_from: HashMap::new(),
            phase: Phase::Beginning,
        });
        self.stream.push(Slot::ScanBegin { generation: self.generation });
        true
    }

    /// A verify is broken off for a mirror, and begun again after it.
    fn give_way(&mut self) -> bool {
        let Some(scan) = self.scan.as_ref().filter(|scan| scan.phase != Phase::Ending) else { return false };
        let first = self.requests.blocked() | self.dirty() | self.withheld;
        if !scan.is_verify() || first & self.up() == 0 {
            return false;
        }
        self.break_off("a mirror goes first");
        true
    }

    /// The scan is given up; a verify is begun again later.
    pub(super) fn break_off(&mut self, reason: &str) {
        self.keep_unproven(self.scanned());
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
            self.forget_seen();
        }
        self.event(SourceEvent::ScanEnded(reason.into()));
    }

    /// What the scan alone came by is announced no more: changes of it are let go until another scan comes by it. Whoever
    /// waits for that one was told of the files, too; nothing of them is proven there by what follows.
    fn forget_seen(&mut self) {
        self.files.seen = None;
        self.give_up_unknown();
        let waiting = self.requests.whole_for() & self.followers() & !self.withheld;
        if waiting != 0 {
            self.emit(&Record::new(Kind::Lost, FileId::NONE), waiting);
            self.lost_at = self.queue.last();
        }
    }

    /// Where these targets lack more than is remembered file by file, they have to be told of everything.
    fn tell_lacking(&mut self, targets: TargetMask) {
        if !self.files.take_crowded() {
            return;
        }
        let lacking = self.connections.iter_mut().filter(|(id, _)| targets & bit(**id) != 0);
        lacking.for_each(|(_, connection)| connection.dirty.add_all());
    }

    /// Changes of files that are not known are let go: the end of their content would prove too much.
    fn give_up_unknown(&mut self) {
        let common = &self.files.common;
        self.jobs.give_up_where(|file| !common.has(file));
    }

    pub(super) fn scan_begins(&mut self, generation: u64) {
        let Some(mut scan) = self.scan.take_if(|scan| scan.generation == generation) else { return };
        scan.phase = Phase::Walking;
        if !scan.is_verify() {
            // More may have become dirty since it was asked for than is remembered one by one.
            let of_scan = self.connections.iter().filter(|(id, _)| scan.targets & bit(**id) != 0);
            scan.whole |= of_scan.into_iter().any(|(_, connection)| connection.dirty.is_whole());
            self.files.scan_begins();
            self.remember_scan(generation, scan.targets, scan.whole);
            self.take_dirty(&mut scan);
        }
        self.send_scan_mark(Kind::ScanBegin, &scan);
        scan.last = self.queue.last();
        let root = |root: &RootConfig| (root.file, ReadFor::Root { generation, file: root.file, index: root.index });
        let reads: Vec<_> = self.files.roots().iter().filter(|_| scan.whole).map(root).collect();
        scan.reads = reads.len();
        reads.into_iter().for_each(|(file, what)| self.read(what, ReadRequest::Node { file }));
        self.scan = Some(scan);
    }

    /// The targets get the stream from here on, and the scan makes up for what they missed before.
    fn take_dirty(&mut self, scan: &mut Scan) {
        let targets = scan.targets;
        let mut parts: BTreeMap<FileId, Marks> = BTreeMap::new();
        let of_scan: Vec<_> = self.connections.keys().copied().filter(|id| targets & bit(*id) != 0).collect();
        for id in of_scan {
            self.include(id);
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let dirty = connection.dirty.take();
            scan.unproven_all |= dirty.is_unproven();
            for (file, marks) in dirty.iter() {
                // What one of them has not heard of is found in its directory, for all.
                *parts.entry(file).or_default() |= marks;
            }
        }
        scan.unproven = parts.iter().filter(|(_, marks)| **marks & UNPROVEN != 0).map(|(file, _)| *file).collect();
        if scan.whole {
            return;
        }
        scan.parts = parts.into_iter().collect();
        scan.fresh = scan.parts.iter().filter(|(_, marks)| marks & NEW != 0).map(|(file, _)| *file).collect();
        let known = scan.parts.iter().filter(|(_, marks)| marks & NEW == 0);
        let (dirs, files): (Vec<_>, Vec<_>) = known.partition(|(_, marks)| marks & NAMES != 0);
        // What came by a name that is gone again may have others, in directories that nothing touched.
        let come = scan.parts.iter().filter(|(_, marks)| marks & (NEW | NAMES | DEEP) == NEW);
        scan.nodes = dirs.into_iter().chain(files).chain(come).copied().collect();
    }

    fn send_scan_mark(&mut self, kind: Kind, scan: &Scan) {
        let mut record = Record::new(kind, FileId::NONE);
        record.c = scan.purpose as u32;
        record.flags = if scan.whole { flags::SUBTREE } else { 0 };
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

    pub(super) fn take_part(&mut self, generation: u64, file: FileId, marks: Marks, result: ReadResult) {
        let Some(scan) = self.scan_of(generation) else { return };
        let (purpose, targets) = (scan.purpose, scan.targets);
        let ReadResult::Node(node) = result else { return self.unreadable(file, result) };
        if !self.files.holds(file) {
            return;
        }
        if !self.files.is_seen(file) {
            self.files.announce_nameless(file);
            self.unprove(file, targets);
            self.send_node(file, FileId::NONE, b"", &node, purpose, 0, targets);
            self.follow_up(file, &node, purpose, targets);
            if !node.attr.is_dir() {
                self.files.loosen(file);
            }
            if marks & NEW != 0 {
                self.files.lack(file);
            }
        }
        if node.attr.is_dir() && marks & (NAMES | DEEP) != 0 {
            self.list_dir(file, marks & DEEP != 0);
        }
        self.note_scan_last();
    }

    /// What the targets know of the file does not count, where its end may have been sent without a change before it.
    pub(super) fn unprove(&mut self, file: FileId, targets: TargetMask) {
        if self.scan.as_mut().is_some_and(|scan| scan.unproven_all || scan.unproven.remove(&file)) {
            self.emit(&Record { c: DISPROVED, ..Record::new(Kind::Lost, file) }, targets);
        }
    }

    /// These targets leave the scan: the next one has to compare what this one has not come by.
    pub(super) fn keep_unproven(&mut self, targets: TargetMask) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.whole) else { return };
        let (all, files) = (scan.unproven_all, scan.unproven.clone());
        for (_, connection) in self.connections.iter_mut().filter(|(id, _)| all && targets & bit(**id) != 0) {
            connection.dirty.unprove_all();
        }
        files.into_iter().for_each(|file| self.make_dirty(file, CHANGED | UNPROVEN, targets));
    }

    /// What was sent last is part of the scan.
    pub(super) fn note_scan_last(&mut self) {
        let last = self.queue.last();
        if let Some(scan) = &mut self.scan {
            scan.last = last;
        }
    }

    fn list_next(&mut self) -> bool {
        let roomy = self.roomy();
        let listing = |scan: &&mut Scan| scan.phase == Phase::Walking && scan.targets & roomy != 0;
        let Some(scan) = self.scan.as_mut().filter(listing) else { return false };
        let page = match scan.pages.pop_front() {
            Some(page) => page,
            None => {
                let Some((dir, deep)) = scan.dirs.pop_front() else { return self.read_part() };
                if !scan.whole && !scan.named.contains(&dir) {
                    scan.nameless.insert(dir);
                }
                Page { dir, cookie: 0, how: if deep { How::Deep } else { How::Flat }, open: 0 }
            }
        };
        let scan = self.scan.as_mut().expect("it was there above");
        scan.reads += 1;
        let content_max = if scan.purpose == Purpose::Mirror { self.config.small_bytes_max } else { 0 };
        let entries_max = self.config.entries_max;
        let request = ReadRequest::List { dir: page.dir, cookie: page.cookie, entries_max, content_max };
        let what = ReadFor::List { generation: scan.generation, page };
        self.read(what, request);
        true
    }

    /// A directory is to be listed, unless it is already; `deep`: with all beneath it.
    pub(super) fn list_dir(&mut self, dir: FileId, deep: bool) {
        let Some(scan) = &mut self.scan else { return };
        if scan.whole || scan.taken.get(&dir).is_none_or(|taken| deep && !taken) {
            scan.dirs.push_back((dir, deep));
            if !scan.whole {
                scan.taken.insert(dir, deep);
            }
        }
    }

    /// A listing told the name of a directory: if it was listed without one, that is done again.
    pub(super) fn name_dir(&mut self, dir: FileId) {
        let Some(scan) = self.scan.as_mut().filter(|scan| !scan.whole) else { return };
        scan.named.insert(dir);
        if scan.nameless.remove(&dir) {
            let deep = scan.taken.get(&dir).copied().unwrap_or_default();
            scan.dirs.push_back((dir, deep));
        }
    }

    /// A directory was listed to its end.
    pub(super) fn note_listed(&mut self, dir: FileId, open: OpenId) {
        if let Some(scan) = self.scan.as_mut().filter(|scan| !scan.whole) {
            scan.listed_from.insert(dir, open);
        }
    }

    /// A directory came, or came back: all beneath it is to be listed, whatever was listed of it before.
    pub(super) fn list_again(&mut self, dir: FileId) {
        let Some(scan) = &mut self.scan else { return };
        scan.taken.remove(&dir);
        self.list_dir(dir, true);
    }

    /// The next of the parts; files after the directories, since a listing may bring them.
    fn read_part(&mut self) -> bool {
        let Some(scan) = self.scan.as_mut() else { return false };
        let Some((_, marks)) = scan.nodes.front() else { return false };
        scan.listed |= scan.reads == 0;
        if marks & NAMES == 0 && !scan.listed {
            return false;
        }
        let Some((file, marks)) = scan.nodes.pop_front() else { return false };
        if self.files.is_seen(file) && marks & NAMES == 0 {
            return true;
        }
        scan.reads += 1;
        let what = ReadFor::Part { generation: scan.generation, file, marks };
        self.read(what, ReadRequest::Node { file });
        true
    }

    /// Does the scan find what some other target that follows may not know yet?
    pub(super) fn is_private(&self) -> bool {
        let Some(scan) = &self.scan else { return false };
        let waiting = scan.targets | self.withheld | self.dirty() | self.requests.whole_for();
        scan.whole || self.followers() & !waiting != 0
    }

    /// Is that a directory that the targets have not heard of?
    pub(super) fn is_fresh(&self, dir: FileId) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.fresh.contains(&dir))
    }

    /// Has every one of these targets applied what was sent up to there, as far as it is for it?
    fn have_applied(&self, targets: TargetMask, last: Sequence) -> bool {
        let of_them = self.connections.iter().filter(|(id, _)| targets & bit(**id) != 0);
        of_them.into_iter().all(|(id, connection)| {
            let open = self.queue.open_for() & bit(*id) != 0;
            let unsent = self.queue.unsent_bytes(bit(*id), connection.sent, connection.skip_until);
            let all = connection.behind.is_some() && !open && unsent == 0 && connection.applied == connection.sent;
            connection.applied >= last || all
        })
    }

    pub(super) fn is_whole_scan(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.whole)
    }

    /// Ends the scan once everything was walked, sent and answered.
    fn end_scan(&mut self) -> bool {
        let up = self.up();
        let Some(scan) = self.scan.as_ref().filter(|scan| scan.phase == Phase::Walking) else { return false };
        let listed = scan.dirs.is_empty() && scan.pages.is_empty() && scan.nodes.is_empty();
        let walked = scan.reads == 0 && listed && self.jobs.len() == 0;
        let answering = scan.purpose != Purpose::Mirror;
        let (last, targets) = (scan.last, scan.targets);
        let answered = !answering || self.have_applied(targets & up, last);
        // A listing may have told names of the future. Who had such a name before is held at the target until the end of
        // the scan: the changes that name it again come first.
        let caught_up = self.captured_in >= self.captured_read;
        if !walked || !caught_up || targets & up == 0 || !answered {
            return false;
        }
        if self.scan.as_ref().and_then(|scan| scan.verify.as_ref()).is_some_and(|verify| !verify.is_settled()) {
            return false;
        }
        let away = targets & !up;
        if answering && away != 0 {
            let ids: Vec<_> = self.connections.keys().copied().filter(|id| away & bit(*id) != 0).collect();
            ids.into_iter().for_each(|id| self.leave_scan(id));
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
                self.make_dirty(dir, CHANGED | NAMES | DEEP, targets);
            }
            let id = verify.request.id;
            return self.event(SourceEvent::Verified { id, result: Ok(verify.found) });
        }
        self.files.forget_untold(&scan.listed_from);
        self.files.scan_ended(scan.whole);
        if scan.whole {
            self.give_up_unknown();
        }
        self.tell_lacking(self.followers() & !scan.targets);
        self.requests.scan_ended(scan.lost, self.now);
        if scan.whole {
            self.requests.first_ended(scan.targets);
        }
        let (targets, whole, counts) = (scan.targets, scan.whole, scan.counts);
        self.remember_end(generation, targets);
        if whole {
            self.remember_all();
        }
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
