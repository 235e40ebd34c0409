//! Scans of a quiet source: a small source half that answers what the replica needs.

use stead_disk::read::{Listing, Piece};
use stead_disk::replica::{Difference, Need, Replica};
use stead_model::record::{Extras, Purpose};
use stead_model::{Attr, FileId, Kind, Record};

use super::{Source, now};

const BLOCK: u32 = 16384;

/// What a scan did.
#[derive(Debug, Default)]
pub struct Scanned {
    pub differs: Vec<Difference>,
    /// Files whose hashes or content the replica asked for.
    pub asked: usize,
    pub bytes: u64,
    /// The end of the scan was refused.
    pub would_remove: Option<u64>,
}

struct Scan<'a> {
    source: &'a Source,
    replica: &'a mut Replica,
    purpose: Purpose,
    out: Scanned,
}

/// Scans the whole source and brings the replica to it, as the purpose says.
pub fn scan(source: &Source, replica: &mut Replica, purpose: Purpose) -> Scanned {
    let mut scan = Scan { source, replica, purpose, out: Scanned::default() };
    scan.send(&Record::new(Kind::ScanBegin, FileId::NONE));
    let root = source.root.id();
    let (attr, extras) = source.reader.node(root).unwrap().unwrap();
    scan.node(root, FileId::NONE, b"0", attr, &extras);
    let mut waiting = vec![root];
    while let Some(dir) = waiting.pop() {
        scan.dir(dir, &mut waiting);
    }
    scan.send(&Record::new(Kind::ScanEnd, FileId::NONE));
    scan.replica.settle().unwrap();
    scan.out
}

impl Scan<'_> {
    fn send(&mut self, record: &Record<'_>) {
        let mut record = *record;
        record.c = if record.kind == Kind::Allocate { record.c } else { self.purpose as u32 };
        record.time = now();
        let outcome = self.replica.apply(&record).unwrap_or_else(|e| panic!("{}: {e}", super::describe(&record)));
        self.out.differs.extend(outcome.differs);
        self.out.would_remove = self.out.would_remove.or(outcome.would_remove);
        for need in outcome.needs {
            self.out.asked += 1;
            self.answer(need);
        }
    }

    fn dir(&mut self, dir: FileId, waiting: &mut Vec<FileId>) {
        let mut cookie = 0;
        let mut begun = false;
        loop {
            let listing = self.source.reader.list_with_content(dir, cookie, 7, 8192, 1 << 20).unwrap().unwrap();
            let Listing { attr, entries, next } = listing;
            if !std::mem::replace(&mut begun, true) {
                self.send(&Record { attr, ..Record::new(Kind::DirBegin, dir) });
            }
            for entry in entries {
                self.node(entry.file, dir, &entry.name, entry.attr, &entry.extras);
                if entry.attr.is_dir() {
                    waiting.push(entry.file);
                } else if entry.attr.is_file() && self.purpose == Purpose::Mirror {
                    match entry.content {
                        Some(pieces) => self.pieces(entry.file, &pieces, entry.attr),
                        None => self.content(entry.file, &[(0, u64::MAX)]),
                    }
                } else if entry.attr.is_file() && matches!(self.purpose, Purpose::Verify | Purpose::Repair) {
                    self.hashes(entry.file);
                } else if !entry.attr.is_file() && !matches!(self.purpose, Purpose::Verify | Purpose::Repair) {
                    self.send(&Record { attr: entry.attr, ..Record::new(Kind::NodeEnd, entry.file) });
                }
            }
            match next {
                Some(next) => cookie = next,
                None => break self.send(&Record { attr, ..Record::new(Kind::DirEnd, dir) }),
            }
        }
    }

    fn node(&mut self, file: FileId, parent: FileId, name: &[u8], attr: Attr, extras: &Extras) {
        let mut data = Vec::new();
        extras.append_to(&mut data);
        self.send(&Record { parent, name, attr, data: &data, ..Record::new(Kind::Node, file) });
    }

    fn pieces(&mut self, file: FileId, pieces: &[Piece], attr: Attr) {
        self.chunks(file, pieces);
        self.send(&Record { attr, ..Record::new(Kind::NodeEnd, file) });
    }

    fn chunks(&mut self, file: FileId, pieces: &[Piece]) {
        let attr = self.source.attr(file);
        for piece in pieces {
            let chunk = Record { attr, ..Record::new(Kind::Chunk, file) };
            match piece {
                Piece::Data { offset, bytes } => {
                    self.out.bytes += bytes.len() as u64;
                    self.send(&Record { a: *offset, data: bytes, ..chunk });
                }
                Piece::Hole { offset, len } => self.send(&Record { a: *offset, b: *len, ..chunk }),
                Piece::Allocated { offset, len } => {
                    let (a, b) = (*offset, *len);
                    self.send(&Record { a, b, ..chunk });
                    self.send(&Record { a, b, c: 1, attr, ..Record::new(Kind::Allocate, file) });
                }
            }
        }
    }

    fn content(&mut self, file: FileId, ranges: &[(u64, u64)]) {
        for &(offset, len) in ranges {
            let (mut at, end) = (offset, offset.saturating_add(len));
            while at < end {
                let mut pieces = Vec::new();
                let covered = self.source.reader.content(file, at, end - at, 100_000, &mut pieces).unwrap();
                let Some(covered) = covered else { return };
                self.chunks(file, &pieces);
                if covered.done {
                    break;
                }
                at = covered.until;
            }
        }
        let attr = self.source.attr(file);
        self.send(&Record { attr, ..Record::new(Kind::NodeEnd, file) });
    }

    fn hashes(&mut self, file: FileId) {
        let mut at = 0;
        loop {
            let len = 5 * u64::from(BLOCK);
            let Some(hashes) = self.source.reader.hashes(file, at, len, BLOCK).unwrap() else { return };
            let data: Vec<u8> = hashes.blocks.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            let hash = Record { attr: hashes.attr, b: BLOCK.into(), ..Record::new(Kind::Hash, file) };
            if !data.is_empty() {
                self.send(&Record { a: at, data: &data, ..hash });
            }
            at += len;
            if at >= hashes.attr.size {
                return self.send(&hash);
            }
        }
    }

    fn answer(&mut self, need: Need) {
        match need {
            Need::Hash { file } => self.hashes(file),
            Need::Content { file, ranges } => self.content(file, &ranges),
        }
    }
}
