//! The front of the stream: slots whose turn has come become numbered records.

use stead_model::clock::later;
use stead_model::record::{Purpose, flags, records};
use stead_model::{Attr, FileId, Kind, Record};

use super::changes::{self, Action, Plan};
use super::connection::{STREAM, TargetMask};
use super::dirty::{CHANGED, DEEP, NAMES, NEW};
use super::files::Place;
use super::job::{Job, Work};
use super::queue::Seal;
use super::stream::{Captured, Due, ReadFor, Slot};
use super::{Source, bit};
use crate::frame::Range;
use crate::planted::{Planted, is_planted};
use crate::read::{Node, ReadRequest, ReadResult};

impl Source {
    /// Works the stream off as far as reads have ended.
    pub(super) fn advance(&mut self) {
        let scanned = self.scan.as_ref().map_or(0, |scan| scan.targets);
        self.files.alone = self.followers() & !scanned == 0;
        while let Some(due) = self.stream.next(self.captured_in, self.is_stream_full()) {
            match due {
                Due::Slot(slot) => self.take_slot(slot),
                Due::Read { what, result, captured } => {
                    self.captured_read = self.captured_read.max(captured);
                    self.take_read(what, result, captured);
                }
            }
            if self.queue.is_worth_sealing() {
                let seal = self.sealing();
                if seal.consistent & self.followers() != 0 {
                    self.queue.seal(seal, self.followers());
                }
            }
        }
    }

    /// What the front of the stream is, and for whom: a batch that is closed now ends so.
    pub(super) fn sealing(&self) -> Seal {
        let ahead = self.captured_done < self.captured_read && !is_planted(Planted::ConsistentTooEarly);
        let whole = !self.blocked();
        // A source that went on from the one before knows of no time until capture tells one.
        let timeless = self.queue.time == 0;
        let none = timeless || ahead || self.stream.is_amid() || self.is_repeating();
        Seal { consistent: if none { 0 } else { whole }, whole }
    }

    /// For whom no end of what was asked for is reached yet: part of it is still to come.
    pub(super) fn blocked(&self) -> TargetMask {
        let scan = self.scan.as_ref().filter(|scan| !scan.is_verify()).map_or(0, |scan| scan.targets);
        scan | self.requests.blocked() | self.jobs.blocked() | self.withheld | self.dirty()
    }

    pub(super) fn followers(&self) -> TargetMask {
        let following = self.connections.iter().filter(|(_, connection)| connection.following);
        following.fold(0, |mask, (id, _)| mask | bit(*id))
    }

    fn take_slot(&mut self, slot: Slot) {
        match slot {
            Slot::Captured(captured) => self.take_captured(captured),
            Slot::Records(mut records) => self.pass(&mut records),
            Slot::Lost(scope) => self.take_lost(scope),
            Slot::Rescan(dir) => self.rescan(dir, self.followers()),
            Slot::JobEnd(job) => self.end_job(job),
            Slot::ScanBegin { generation } => self.scan_begins(generation),
            Slot::ScanEnd { generation } => self.scan_ends(generation),
            Slot::Mark(id) => self.take_mark(id),
            Slot::Read { .. } => unreachable!("reads come with their result"),
        }
    }

    fn take_read(&mut self, what: ReadFor, result: ReadResult, captured: u64) {
        match what {
            ReadFor::Root { generation, file, index } => self.take_root(generation, file, index, result),
            ReadFor::Part { generation, file, marks } => self.take_part(generation, file, marks, result),
            ReadFor::List { generation, page } => self.take_listing(generation, page, result),
            ReadFor::MoveIn { file, parent, name, news } => self.take_move_in(file, parent, &name, news, result),
            ReadFor::JobNode { job, .. } => self.take_job_node(job, result, captured),
            ReadFor::JobContent { job } => self.take_job_content(job, result),
            ReadFor::JobHashes { job, offset, len, .. } => {
                self.take_job_hashes(job, Range { offset, len }, result, captured);
            }
        }
    }

    fn take_captured(&mut self, mut captured: Captured) {
        let unlisted = self.is_unlisted();
        self.log_at(self.captured_done.max(captured.captured));
        let (begin, mut run, mut at) = (captured.at, captured.at, captured.at);
        while at < captured.records.len() {
            let rest = &captured.records[at..];
            let Ok((record, after)) = Record::parse(rest) else {
                self.pass(&mut captured.records[run..at]);
                self.take_lost(None);
                run = captured.records.len();
                break;
            };
            let next = at + rest.len() - after.len();
            match changes::plan(&mut self.files, &record, unlisted) {
                Plan::Pass => {}
                Plan::Drop => {
                    self.pass(&mut captured.records[run..at]);
                    run = next;
                }
                Plan::Replace(actions) => {
                    self.pass(&mut captured.records[run..at]);
                    captured.at = next;
                    self.stream.push_front(Slot::Captured(captured));
                    self.replace(actions);
                    return;
                }
            }
            at = next;
        }
        if begin == 0 && run == 0 {
            self.adopt(captured.records);
        } else {
            self.pass(&mut captured.records[run..]);
        }
        self.captured_done = self.captured_done.max(captured.captured);
        self.queue.captured = self.captured_done;
        self.places.note(self.captured_done, self.queue.last(), self.now);
        self.queue.time = later(self.queue.time, captured.time);
    }

    fn pass(&mut self, records: &mut [u8]) {
        self.withhold_all(records);
        self.queue.append(records, !self.withheld).expect("each of them was parsed");
    }

    fn adopt(&mut self, records: Vec<u8>) {
        self.withhold_all(&records);
        self.queue.adopt(records, !self.withheld).expect("each of them was parsed");
    }

    fn withhold_all(&mut self, encoded: &[u8]) {
        if self.withheld != 0 {
            records(encoded).flatten().for_each(|record| self.withhold(&record));
        }
    }

    /// Puts actions in front of what comes next.
    fn replace(&mut self, actions: Vec<Action>) {
        for action in actions.into_iter().rev() {
            let slot = match action {
                Action::Send(records) => Slot::Records(records.into_bytes()),
                Action::Lost(scope) => Slot::Lost(scope),
                Action::Rescan(dir) => Slot::Rescan(dir),
                Action::MoveIn { .. } if is_planted(Planted::NoMoveIn) => continue,
                Action::MoveIn { file, parent, name, news } => {
                    let ticket = self.issue(ReadRequest::Node { file });
                    Slot::Read { ticket, what: ReadFor::MoveIn { file, parent, name, news } }
                }
            };
            self.stream.push_front(slot);
        }
    }

    fn take_lost(&mut self, scope: Option<(FileId, bool)>) {
        if is_planted(Planted::ForgetLost) {
            return;
        }
        let targets = self.followers();
        if let Some(scan) = &mut self.scan {
            scan.lost |= !scan.is_verify();
        }
        self.lost_at = self.queue.last();
        self.jobs.lose(scope);
        for file in self.files.lose(scope) {
            self.make_dirty(file, CHANGED | NAMES, targets);
        }
        match scope {
            None => self.lose_all(targets),
            Some((file, deep)) => self.make_dirty(file, CHANGED | NAMES | if deep { DEEP } else { 0 }, targets),
        }
    }

    /// Everything has to be looked at for these targets.
    pub(super) fn lose_all(&mut self, targets: TargetMask) {
        self.requests.difference(targets & !self.withheld);
        for (_, connection) in self.connections.iter_mut().filter(|(id, _)| targets & bit(**id) != 0) {
            if connection.behind.is_some() {
                connection.dirty.add_all();
            }
        }
    }

    /// Everything beneath the directory has to be looked at. The targets are told, so that they hold what goes to a
    /// directory beneath it that they do not know yet.
    pub(super) fn rescan(&mut self, dir: FileId, targets: TargetMask) {
        if targets & !self.withheld != 0 {
            let mut lost = Record::new(Kind::Lost, dir);
            lost.flags = flags::SUBTREE;
            self.emit(&lost, targets & !self.withheld);
        }
        self.make_dirty(dir, CHANGED | NAMES | DEEP, targets);
    }

    /// May a directory be in the set that no target knows? Where any target follows with all there is, it may not.
    fn is_unlisted(&self) -> bool {
        self.followers() & !(self.scanned() | self.requests.whole_for() | self.dirty()) == 0
    }

    /// A file comes into the set by a rename or link, or has to be looked at because it moved away from a scan.
    fn take_move_in(&mut self, file: FileId, parent: FileId, name: &[u8], news: bool, result: ReadResult) {
        let ReadResult::Node(node) = result else {
            // Its removal follows, and must reach targets that know it.
            if result == ReadResult::Gone {
                self.files.announce_in(parent, file);
            }
            return self.unreadable(file, result);
        };
        if self.files.place(parent, name, node.attr.is_dir()) != Place::Taken {
            return;
        }
        if parent.is_none()
            && let Some(root) = self.files.root_called(name)
        {
            self.files.set_root(root, file);
        }
        let scan = self.scan.as_ref().filter(|scan| scan.is_walking());
        let (purpose, of_scan) = scan.map_or((Purpose::Mirror, !self.withheld), |scan| (scan.purpose, scan.targets));
        let all = !self.withheld;
        let targets = if !news && self.files.common.has(file) { of_scan } else { all };
        // Targets that the scan is not for have nothing to compare with: they get all of it.
        let walked = scan.is_some() && targets & self.followers() & !of_scan == 0;
        let asks_anew = walked && !self.files.has_left(file);
        let purpose = if asks_anew { purpose } else { Purpose::Mirror };
        self.files.announce_in(parent, file);
        self.files.announce_seen(file, self.is_private());
        self.files.note_dir_if(node.attr.is_dir(), file, parent, name);
        self.send_node(file, parent, name, &node, purpose, flags::MOVE_IN, targets);
        self.follow_up(file, &node, purpose, targets);
        if walked {
            self.note_scan_last();
        }
        self.make_dirty(parent, NAMES, self.withheld & self.followers());
        self.make_dirty(file, NEW, self.withheld & self.followers());
        if node.attr.is_dir() {
            self.files.comes(file);
            if walked {
                self.list_again(file);
            } else {
                self.rescan(file, self.followers());
            }
        }
    }

    /// What follows a Node with content unasked; in a difference mirror, only what is not asked for.
    pub(super) fn follow_up(&mut self, file: FileId, node: &Node, purpose: Purpose, targets: TargetMask) {
        if node.attr.is_dir() {
            return;
        }
        if !node.attr.is_file() {
            return self.send_node_end(file, node.attr, purpose, targets);
        }
        let targets = targets & (self.followers() | STREAM);
        if purpose == Purpose::Mirror && targets & !STREAM != 0 {
            self.cut(file, node.attr, targets);
            let mut job = Job::new(file, Work::Content, targets, purpose, vec![Range::ALL]);
            (job.open, job.size) = (self.files.open(file, node.attr), Some(node.attr.size));
            self.jobs.push(job);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "they are the fields of one record")]
    pub(super) fn send_node(
        &mut self,
        file: FileId,
        parent: FileId,
        name: &[u8],
        node: &Node,
        purpose: Purpose,
        flags: u8,
        targets: TargetMask,
    ) {
        let mut data = Vec::new();
        node.extras.append_to(&mut data);
        let fits = data.len() <= stead_model::record::limits::DATA_BYTES_MAX;
        if !fits {
            data.clear();
            let target = node.extras.target.clone();
            stead_model::record::Extras { target, xattrs: Vec::new() }.append_to(&mut data);
        }
        let mut record = Record::new(Kind::Node, file);
        (record.parent, record.name, record.attr) = (parent, name, node.attr);
        (record.c, record.flags, record.data) = (purpose as u32, flags, &data);
        self.emit(&record, targets);
        if !fits {
            for (name, value) in &node.extras.xattrs {
                let mut record = Record::new(Kind::SetXattr, file);
                (record.name, record.data, record.attr) = (name, value, node.attr);
                self.emit(&record, targets);
            }
        }
    }

    pub(super) fn send_node_end(&mut self, file: FileId, attr: Attr, purpose: Purpose, targets: TargetMask) {
        let mut record = Record::new(Kind::NodeEnd, file);
        (record.attr, record.c) = (attr, purpose as u32);
        self.emit(&record, targets);
    }

    /// Tells of a file that could not be read; one that is gone needs no word.
    pub(super) fn unreadable(&mut self, file: FileId, result: ReadResult) {
        let reason = match result {
            ReadResult::Gone => return,
            ReadResult::Failed(reason) => reason,
            _ => "the read brought something else than was asked for".into(),
        };
        self.event(super::SourceEvent::Unreadable { file, reason });
    }
}
