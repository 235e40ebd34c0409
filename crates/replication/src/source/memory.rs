//! What a source remembers for the one after it: which files it told of, as a log of what changed in that knowledge.
//!
//! ```text
//! part    chunk*                  a new part begins with a whole image
//! chunk   len u32 · crc32 u32 · payload of len bytes: entry*
//! entry   op u8 · fields by op    numbers as LEB128; a file: volume, ino (difference to the one before, zigzag),
//!                                 generation; bytes: length, then they
//! ```
//! Entries count from the number of capture on that the last `At` before them named. A chunk that is cut off at the end
//! of a part is left out; anything else that does not fit makes the memory worthless.

use std::collections::{BTreeMap, BTreeSet};

use stead_model::{FileId, NodeName};

use super::known::{Known, Recollection};
use crate::planted::{Planted, is_planted};

/// Bytes of a chunk's head.
const HEAD: usize = 8;
/// Images are cut into chunks of about this size.
const CHUNK: usize = 1 << 20;

/// One change of what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// What follows counts from this number of capture on.
    At(u64),
    /// A whole image follows, up to `ImageEnds`.
    ImageBegins,
    ImageEnds,
    /// A scan of that number begins for these nodes: what they have is not known until it is settled.
    Scan(u64, Vec<String>),
    /// One of the whole set: also one that begins later says that what they knew before counts for nothing.
    Mirror(u64, Vec<String>),
    Settled(u64),
    /// What follows was known with these rules. Where there were others, what was known counts for nothing.
    Rules(u64),
    Known(Known),
}

/// The bytes of entries.
#[derive(Debug, Default)]
pub(super) struct Log {
    payload: Vec<u8>,
    ino: u64,
    at: Option<u64>,
    next_at: u64,
}

impl Log {
    /// Entries from here on count from that number of capture on.
    pub(super) fn set_at(&mut self, captured: u64) {
        self.next_at = captured;
    }

    pub(super) fn push(&mut self, entry: &Entry) {
        if self.at != Some(self.next_at) {
            self.at = Some(self.next_at);
            let at = Entry::At(self.next_at);
            self.put(&at);
        }
        self.put(entry);
    }

    /// What is to be appended, as a chunk; empty where there is nothing.
    pub(super) fn take(&mut self) -> Vec<u8> {
        if self.payload.is_empty() {
            return Vec::new();
        }
        let payload = std::mem::take(&mut self.payload);
        (self.ino, self.at) = (0, None);
        chunk(&payload)
    }

    pub(super) fn len(&self) -> usize {
        self.payload.len()
    }

    fn put(&mut self, entry: &Entry) {
        let out = &mut self.payload;
        match entry {
            Entry::At(captured) => number(op(out, 1), *captured),
            Entry::ImageBegins => drop(op(out, 2)),
            Entry::ImageEnds => drop(op(out, 3)),
            Entry::Scan(generation, nodes) | Entry::Mirror(generation, nodes) => {
                let is_mirror = matches!(entry, Entry::Mirror(..));
                number(op(out, if is_mirror { 31 } else { 4 }), *generation);
                number(out, nodes.len() as u64);
                nodes.iter().for_each(|node| bytes(out, node.as_bytes()));
            }
            Entry::Settled(generation) => number(op(out, 5), *generation),
            Entry::Rules(check) => number(op(out, 32), *check),
            Entry::Known(known) => self.put_known(known),
        }
    }

    fn put_known(&mut self, known: &Known) {
        let (code, id) = match known {
            Known::File(id) => (16, *id),
            Known::NoFile(id) => (17, *id),
            Known::Dir(id, ..) => (18, *id),
            Known::NoDir(id) => (19, *id),
            Known::Loose(id) => (20, *id),
            Known::NotLoose(id) => (21, *id),
            Known::Dropped(id) => (22, *id),
            Known::NotDropped(id) => (23, *id),
            Known::Away(id, is_dir) => (if *is_dir { 25 } else { 24 }, *id),
            Known::NotAway(id) => (26, *id),
            Known::Stale(stale) => (if *stale { 28 } else { 27 }, FileId::NONE),
            Known::Root(at, id) => {
                number(op(&mut self.payload, 29), *at as u64);
                return self.file(*id);
            }
            Known::NoLoose => (30, FileId::NONE),
        };
        op(&mut self.payload, code);
        if !matches!(known, Known::Stale(_) | Known::NoLoose) {
            self.file(id);
        }
        if let Known::Dir(_, parent, name) = known {
            self.file(*parent);
            bytes(&mut self.payload, name);
        }
    }

    fn file(&mut self, file: FileId) {
        number(&mut self.payload, file.volume.into());
        let step = file.ino.wrapping_sub(self.ino) as i64;
        number(&mut self.payload, ((step << 1) ^ (step >> 63)) as u64);
        number(&mut self.payload, file.generation.into());
        self.ino = file.ino;
    }
}

/// A whole image, in chunks.
pub(super) fn image(captured: u64, known: impl Iterator<Item = Known>) -> Vec<u8> {
    let mut log = Log::default();
    log.set_at(captured);
    log.push(&Entry::ImageBegins);
    let mut out = Vec::new();
    for known in known {
        log.push(&Entry::Known(known));
        if log.len() >= CHUNK {
            out.extend(log.take());
        }
    }
    log.push(&Entry::ImageEnds);
    out.extend(log.take());
    out
}

/// What the source before this one knew when everything up to a number of capture was done.
#[derive(Clone, Debug)]
pub struct Recalled {
    captured: u64,
    pub(super) files: Recollection,
    /// Nodes of whose scan it is not known whether it ended.
    pub(super) unsettled: BTreeSet<String>,
    rules: BTreeSet<u64>,
}

impl Recalled {
    /// Reads the parts of the memory, oldest first, as of `captured_from`: the number from which on capture hands in its
    /// records again. `None` where it cannot be known what was known then. A part that is cut off at its end is taken as
    /// far as it goes.
    pub fn read(parts: &[Vec<u8>], captured_from: u64) -> Option<Recalled> {
        let mut reader = Reader { until: captured_from, ..Reader::default() };
        for part in parts {
            reader.read_part(part)?;
        }
        let (files, unsettled, rules) = (reader.files?, reader.scans, reader.rules);
        let unsettled = unsettled.into_values().flatten().collect();
        Some(Recalled { captured: captured_from, files, unsettled, rules })
    }

    /// Capture's number as of which it is.
    pub fn captured(&self) -> u64 {
        self.captured
    }

    /// Was all of it known with these rules?
    pub(super) fn is_of(&self, check: u64) -> bool {
        self.rules.iter().eq([&check])
    }

    /// May that node have got something of a scan that is not known to have ended?
    pub(super) fn is_unsettled(&self, node: &NodeName) -> bool {
        self.unsettled.contains(node.as_str())
    }
}

#[derive(Default)]
struct Reader {
    until: u64,
    at: u64,
    files: Option<Recollection>,
    /// The image that is being read.
    image: Option<Recollection>,
    scans: BTreeMap<u64, Vec<String>>,
    rules: BTreeSet<u64>,
}

impl Reader {
    /// `None`: it is damaged.
    fn read_part(&mut self, part: &[u8]) -> Option<()> {
        let mut rest = part;
        self.image = None;
        while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
            let len = u32::from_le_bytes(*head.first_chunk()?) as usize;
            let Some((payload, after)) = after.split_at_checked(len) else { break };
            if crc32fast::hash(payload).to_le_bytes() != head[4..] {
                return None;
            }
            self.read_payload(payload)?;
            rest = after;
        }
        Some(())
    }

    fn read_payload(&mut self, payload: &[u8]) -> Option<()> {
        let mut bytes = Bytes { rest: payload, ino: 0 };
        while !bytes.rest.is_empty() {
            let entry = bytes.entry()?;
            if let Entry::At(at) = entry {
                self.at = at;
            } else if self.at <= self.until || matches!(entry, Entry::Mirror(..) | Entry::Rules(_)) {
                self.take(entry);
            }
        }
        Some(())
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::At(_) => {}
            Entry::ImageBegins => self.image = Some(Recollection::default()),
            Entry::ImageEnds => self.files = self.image.take().or(self.files.take()),
            Entry::Scan(generation, nodes) | Entry::Mirror(generation, nodes) => {
                self.scans.entry(generation).or_default().extend(nodes);
            }
            Entry::Rules(check) => drop(self.rules.insert(check)),
            Entry::Settled(generation) => {
                let settled = self.scans.remove(&generation).unwrap_or_default();
                self.scans.range_mut(..generation).for_each(|(_, nodes)| nodes.retain(|node| !settled.contains(node)));
            }
            Entry::Known(known) => {
                let later = self.files.as_mut().filter(|_| !is_planted(Planted::RecallTooLittle));
                if let Some(files) = self.image.as_mut().or(later) {
                    files.take(known);
                }
            }
        }
    }
}

struct Bytes<'a> {
    rest: &'a [u8],
    ino: u64,
}

impl Bytes<'_> {
    fn entry(&mut self) -> Option<Entry> {
        let (op, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match op {
            1 => Entry::At(self.number()?),
            2 => Entry::ImageBegins,
            3 => Entry::ImageEnds,
            4 | 31 => {
                let (generation, count) = (self.number()?, self.number()?);
                let nodes = (0..count.min(64)).map(|_| String::from_utf8(self.bytes()?.to_vec()).ok());
                let nodes = nodes.collect::<Option<_>>()?;
                if *op == 4 { Entry::Scan(generation, nodes) } else { Entry::Mirror(generation, nodes) }
            }
            5 => Entry::Settled(self.number()?),
            32 => Entry::Rules(self.number()?),
            16 => Entry::Known(Known::File(self.file()?)),
            17 => Entry::Known(Known::NoFile(self.file()?)),
            18 => Entry::Known(Known::Dir(self.file()?, self.file()?, self.bytes()?.into())),
            19 => Entry::Known(Known::NoDir(self.file()?)),
            20 => Entry::Known(Known::Loose(self.file()?)),
            21 => Entry::Known(Known::NotLoose(self.file()?)),
            22 => Entry::Known(Known::Dropped(self.file()?)),
            23 => Entry::Known(Known::NotDropped(self.file()?)),
            24 => Entry::Known(Known::Away(self.file()?, false)),
            25 => Entry::Known(Known::Away(self.file()?, true)),
            26 => Entry::Known(Known::NotAway(self.file()?)),
            27 => Entry::Known(Known::Stale(false)),
            28 => Entry::Known(Known::Stale(true)),
            29 => Entry::Known(Known::Root(usize::try_from(self.number()?).ok()?, self.file()?)),
            30 => Entry::Known(Known::NoLoose),
            _ => return None,
        })
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn file(&mut self) -> Option<FileId> {
        let volume = u32::try_from(self.number()?).ok().filter(|volume| *volume < 1 << 16)?;
        let step = self.number()?;
        let step = (step >> 1) as i64 ^ -((step & 1) as i64);
        self.ino = self.ino.wrapping_add(step as u64);
        Some(FileId { ino: self.ino, generation: u32::try_from(self.number()?).ok()?, volume })
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }
}

fn chunk(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + payload.len());
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend(crc32fast::hash(payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

fn op(out: &mut Vec<u8>, op: u8) -> &mut Vec<u8> {
    out.push(op);
    out
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
