//! What a scan found in a directory.

use stead_model::record::{Purpose, limits::NAME_BYTES_MAX};
use stead_model::{Attr, FileId, Kind, Record};

use super::connection::TargetMask;
use super::files::Place;
use super::job::{Job, Work};
use super::scan::Page;
use super::stream::How;
use super::{Source, SourceEvent};
use crate::frame::Range;
use crate::read::{Listing, Node, Piece, ReadResult};

/// Largest data of one chunk.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Mode of fallocate(2) that leaves the size as it is.
const KEEP_SIZE: u32 = 1;

impl Source {
    pub(super) fn take_listing(&mut self, generation: u64, page: Page, result: ReadResult) {
        let Page { dir, how, mut open, .. } = page;
        let Some(scan) = self.scan_of(generation) else {
            self.files.close(dir, open);
            return;
        };
        let (purpose, targets) = (scan.purpose, scan.targets);
        let ReadResult::Listing(listing) = result else {
            self.files.close(dir, open);
            self.check_listed(dir, how, None);
            return self.unreadable(dir, result);
        };
        if page.cookie == 0 {
            self.send_dir(Kind::DirBegin, dir, listing.attr, purpose, targets);
            open = self.files.open(dir, listing.attr);
        }
        let Listing { entries, next, attr: listing_attr } = listing;
        for entry in entries {
            if entry.name.is_empty() || entry.name.len() > NAME_BYTES_MAX {
                let reason = "its name is longer than 255 bytes".into();
                self.event(SourceEvent::Unreadable { file: entry.file, reason });
                continue;
            }
            self.take_entry(dir, &entry.name, entry.file, &entry.node, entry.content, how);
        }
        match next {
            Some(cookie) => {
                if let Some(scan) = &mut self.scan {
                    scan.pages.push_back(Page { dir, cookie, how, open });
                }
            }
            None => {
                if let Some(attr) = self.files.close(dir, open) {
                    self.send_dir(Kind::DirEnd, dir, attr, purpose, targets);
                    if purpose != Purpose::Verify && purpose != Purpose::Repair {
                        self.files.listed(dir);
                        self.note_listed(dir, open);
                    }
                }
                self.check_listed(dir, how, Some(listing_attr));
            }
        }
        self.note_scan_last();
    }

    /// One name. `content`: all of it, read after the node.
    pub(super) fn take_entry(
        &mut self,
        parent: FileId,
        name: &[u8],
        file: FileId,
        node: &Node,
        content: Option<Vec<Piece>>,
        how: How,
    ) {
        let Some(scan) = &self.scan else { return };
        if self.files.place(parent, name, node.attr.is_dir()) != Place::Taken {
            if !scan.is_verify() {
                self.files.found_left_out(file, parent, name, node.attr.is_dir());
            }
            return;
        }
        if scan.is_verify() {
            return self.compare_entry(parent, name, file, node, how);
        }
        let (mut purpose, targets) = (scan.purpose, scan.targets);
        // Of what the scan came by before its directory left, the targets have nothing any more.
        let came_back = self.files.is_coming(parent);
        if came_back || self.files.left_since(file) {
            // What the targets asked for was dropped when it left, and they do not ask twice.
            purpose = Purpose::Mirror;
        }
        let known = self.files.is_seen(file) && !came_back;
        let held = self.files.holds(file) && !self.files.is_loose(file);
        let taken_otherwise = self.files.lay_elsewhere(file, parent);
        self.files.announce_seen(file, self.is_private());
        self.files.note_dir_if(node.attr.is_dir(), file, parent, name);
        self.unprove(file, targets);
        self.send_node(file, parent, name, node, purpose, 0, targets);
        self.hear(file, node.attr.is_dir(), targets);
        self.count_found(node.attr);
        if node.attr.is_dir() {
            self.name_dir(file);
            let is_new = !known && (!held || self.is_fresh(file));
            if came_back {
                self.files.comes(file);
                self.list_again(file);
            } else if is_new || how == How::Deep && !(known && self.is_whole_scan()) {
                self.list_dir(file, true);
            } else if known && taken_otherwise {
                self.rescan(file, self.followers());
            }
            return self.count_done(node.attr);
        }
        if known {
            return self.count_done(node.attr);
        }
        match content.filter(|_| purpose == Purpose::Mirror && node.attr.is_file()) {
            Some(pieces) => {
                self.send_pieces(file, node.attr, pieces, targets);
                self.send_node_end(file, node.attr, purpose, targets);
                self.count_done(node.attr);
            }
            None => {
                self.follow_up(file, node, purpose, targets);
                if purpose != Purpose::Mirror || !node.attr.is_file() {
                    self.count_done(node.attr);
                }
            }
        }
    }

    fn compare_entry(&mut self, parent: FileId, name: &[u8], file: FileId, node: &Node, how: How) {
        let Some(scan) = self.scan.as_mut().filter(|_| self.files.holds(file)) else {
            return self.repair_entry(parent, name, file, node, how);
        };
        let (purpose, targets) = (scan.purpose, scan.targets);
        if how == How::Check {
            self.send_node(file, parent, name, node, purpose, 0, targets);
            return self.repair_entry(parent, name, file, node, how);
        }
        let content = scan.verify.as_ref().is_none_or(|verify| verify.request.content);
        if node.attr.is_dir() {
            scan.dirs.push_back((file, true));
        }
        self.send_node(file, parent, name, node, purpose, 0, targets);
        self.count_found(node.attr);
        self.count_done(node.attr);
        if node.attr.is_file() {
            // Without ranges its size alone is compared.
            let ranges = if content { vec![Range::ALL] } else { Vec::new() };
            let mut job = Job::new(file, Work::VerifyHashes, targets, purpose, ranges);
            (job.open, job.size) = (self.files.open(file, node.attr), Some(node.attr.size));
            self.jobs.push(job);
        }
    }

    fn send_dir(&mut self, kind: Kind, dir: FileId, attr: Attr, purpose: Purpose, targets: TargetMask) {
        let mut record = Record::new(kind, dir);
        (record.attr, record.c) = (attr, purpose as u32);
        self.emit(&record, targets);
    }

    /// Sends content; returns the end of what the pieces cover.
    pub(super) fn send_pieces(&mut self, file: FileId, attr: Attr, pieces: Vec<Piece>, targets: TargetMask) -> u64 {
        let mut end = 0;
        for piece in pieces {
            end = end.max(piece.end());
            let mut record = Record::new(Kind::Chunk, file);
            record.attr = attr;
            match &piece {
                Piece::Data { offset, bytes } => {
                    for (index, part) in bytes.chunks(CHUNK_BYTES_MAX).enumerate() {
                        record.a = offset + (index * CHUNK_BYTES_MAX) as u64;
                        record.data = part;
                        self.emit(&record, targets);
                        self.count_sent(part.len() as u64);
                    }
                }
                Piece::Hole { offset, len } => {
                    (record.a, record.b) = (*offset, *len);
                    self.emit(&record, targets);
                }
                Piece::Allocated { offset, len } => {
                    (record.a, record.b) = (*offset, *len);
                    self.emit(&record, targets);
                    (record.kind, record.c) = (Kind::Allocate, KEEP_SIZE);
                    self.emit(&record, targets);
                }
            }
        }
        end
    }

    /// Counts a name for progress.
    pub(super) fn count_found(&mut self, attr: Attr) {
        let size = if attr.is_file() { attr.size } else { 0 };
        if let Some(scan) = &mut self.scan {
            scan.counts.files += 1;
            scan.counts.bytes += size;
        }
        self.count(|mirror| {
            mirror.files_total += 1;
            mirror.bytes_total += size;
        });
    }

    /// Counts a file that is finished.
    pub(super) fn count_done(&mut self, attr: Attr) {
        let size = if attr.is_file() { attr.size } else { 0 };
        self.count(|mirror| {
            mirror.files_done = (mirror.files_done + 1).min(mirror.files_total);
            mirror.bytes_done = (mirror.bytes_done + size).min(mirror.bytes_total);
        });
    }

    fn count_sent(&mut self, bytes: u64) {
        if let Some(scan) = &mut self.scan {
            scan.counts.sent += bytes;
        }
    }

    pub(super) fn count(&mut self, change: impl Fn(&mut stead_model::status::MirrorStatus)) {
        let Some(scan) = self.scan.as_ref().filter(|scan| !scan.is_verify()) else { return };
        let targets = scan.targets;
        for (id, connection) in &mut self.connections {
            if targets & super::bit(*id) != 0 {
                change(&mut connection.mirror);
            }
        }
    }
}
