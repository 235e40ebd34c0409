//! What the reads of jobs brought, and what targets need.

use stead_model::record::{CUT, Purpose};
use stead_model::{Attr, FileId, Kind, Record};

use super::connection::TargetMask;
use super::job::{Job, JobId, REPEATS_MAX, Work};
use super::{Source, TargetId, bit};
use crate::frame::{Need, NeedWhat, Range};
use crate::read::ReadResult;

impl Source {
    /// A target needs something for its difference mirror.
    pub(super) fn take_needs(&mut self, target: TargetId, needs: Vec<Need>) {
        // Asked for before changes were lost, perhaps: what was compared then has to be compared again.
        let applied = self.connections.get(&target).map_or(0, |connection| connection.applied);
        let outdated = applied < self.lost_at;
        for need in needs {
            if !self.files.holds(need.file) {
                continue;
            }
            let (work, ranges) = match need.what {
                NeedWhat::Hashes => (Work::DifferenceHashes, vec![Range::ALL]),
                NeedWhat::Content(_) if outdated => (Work::DifferenceHashes, vec![Range::ALL]),
                NeedWhat::Content(ranges) => (Work::Content, ranges),
            };
            self.jobs.push_once(Job::new(need.file, work, bit(target), Purpose::Difference, ranges));
        }
    }

    pub(super) fn take_job_node(&mut self, id: JobId, result: ReadResult, captured: u64) {
        let Some(job) = self.jobs.get(id).filter(|job| !job.dead) else { return };
        let (file, work, targets, purpose) = (job.file, job.work, job.targets, job.purpose);
        let ReadResult::Node(node) = result else {
            job.dead = true;
            return self.unreadable(file, result);
        };
        job.size = Some(node.attr.size);
        job.open = self.files.open(file, node.attr);
        match work {
            Work::Repair => self.send_node(file, FileId::NONE, b"", &node, purpose, 0, targets),
            Work::VerifyNode if !self.is_touched(file, captured) => {
                self.send_node(file, FileId::NONE, b"", &node, purpose, 0, targets);
            }
            Work::VerifyNode => self.read_again(id, Vec::new()),
            Work::Content | Work::DifferenceHashes | Work::VerifyHashes => {}
        }
        if !matches!(work, Work::VerifyHashes | Work::VerifyNode) {
            self.cut(file, node.attr, targets);
        }
        self.note_scan_last();
    }

    /// What the replica has beyond the end of the file must be gone before a write behind the end makes a hole of it.
    pub(super) fn cut(&mut self, file: FileId, attr: Attr, targets: TargetMask) {
        if !attr.is_file() {
            return;
        }
        let mut record = Record::new(Kind::Truncate, file);
        (record.a, record.c, record.attr) = (attr.size, CUT, attr);
        self.emit(&record, targets);
    }

    pub(super) fn take_job_content(&mut self, id: JobId, result: ReadResult) {
        let Some(job) = self.jobs.get(id).filter(|job| !job.dead) else { return };
        let (file, targets, open) = (job.file, job.targets, job.open);
        let ReadResult::Pieces(pieces) = result else {
            job.dead = true;
            return self.unreadable(file, result);
        };
        let Some(attr) = self.files.attr(file, open) else { return self.jobs.give_up(id) };
        let bytes = pieces.iter().map(piece_len).sum::<u64>();
        let end = self.send_pieces(file, attr, pieces, targets);
        if let Some(job) = self.jobs.get(id) {
            job.covered(end);
        }
        self.count(|mirror| mirror.bytes_done = (mirror.bytes_done + bytes).min(mirror.bytes_total));
        self.note_scan_last();
    }

    pub(super) fn take_job_hashes(&mut self, id: JobId, range: Range, result: ReadResult, captured: u64) {
        let Some(job) = self.jobs.get(id).filter(|job| !job.dead) else { return };
        let (file, targets, purpose, work, open) = (job.file, job.targets, job.purpose, job.work, job.open);
        let ReadResult::Hashes(hashes) = result else {
            job.dead = true;
            return self.unreadable(file, result);
        };
        if work == Work::VerifyHashes && self.is_touched(file, captured) {
            return self.read_again(id, vec![range]);
        }
        let Some(attr) = self.files.attr(file, open) else { return self.jobs.give_up(id) };
        let data: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        let mut record = Record::new(Kind::Hash, file);
        let block = if work == Work::VerifyHashes { self.config.verify_block } else { self.config.difference_block };
        (record.a, record.b, record.c) = (range.offset, block.into(), purpose as u32);
        (record.attr, record.data) = (attr, &data);
        self.emit(&record, targets);
        self.note_scan_last();
    }

    /// Did, or may, anything change the file between the place of a read and its end?
    fn is_touched(&self, file: FileId, captured: u64) -> bool {
        captured > self.captured_in || self.stream.touches(file)
    }

    /// The file changed while it was read: what was read proves nothing.
    fn read_again(&mut self, id: JobId, ranges: Vec<Range>) {
        let Some(job) = self.jobs.get(id) else { return };
        let (file, targets, repeats) = (job.file, job.targets, job.repeats);
        if repeats >= REPEATS_MAX {
            return self.unsettled(file, targets);
        }
        let mut again = Job::new(file, job.work, targets, job.purpose, ranges);
        again.repeats = repeats + 1;
        self.jobs.push(again);
        self.check_goes_on(file, targets);
    }

    pub(super) fn end_job(&mut self, id: JobId) {
        let Some(job) = self.jobs.take(id) else { return };
        let attr = self.files.close(job.file, job.open);
        let proven = job.targets & !self.unproven(job.file);
        match (attr.filter(|_| !job.dead), job.work) {
            (Some(attr), Work::Content | Work::Repair) => {
                if proven != 0 {
                    self.send_node_end(job.file, attr, job.purpose, proven);
                }
                if job.purpose == Purpose::Mirror {
                    self.count(|mirror| mirror.files_done = (mirror.files_done + 1).min(mirror.files_total));
                }
            }
            (Some(attr), Work::DifferenceHashes | Work::VerifyHashes) => self.end_hashes(&job, attr),
            _ => {}
        }
        self.note_scan_last();
        if job.is_verify() || job.work == Work::Repair {
            self.check_read(job.file, job.targets);
        }
    }

    /// No more hashes: the size can be compared.
    fn end_hashes(&mut self, job: &Job, attr: Attr) {
        let block = if job.is_verify() { self.config.verify_block } else { self.config.difference_block };
        let mut record = Record::new(Kind::Hash, job.file);
        record.a = attr.size.next_multiple_of(block.into());
        (record.b, record.c, record.attr) = (block.into(), job.purpose as u32, attr);
        self.emit(&record, job.targets);
    }
}

fn piece_len(piece: &crate::read::Piece) -> u64 {
    use crate::read::Piece;
    match piece {
        Piece::Data { bytes, .. } => bytes.len() as u64,
        Piece::Hole { len, .. } | Piece::Allocated { len, .. } => *len,
    }
}
