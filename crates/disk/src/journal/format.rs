//! Bytes of a segment and of an entry.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::EntryHead;

pub(super) const VERSION: u16 = 2;
pub(super) const SEGMENT_HEAD_BYTES: u64 = size_of::<SegmentHead>() as u64;
const ENTRY_HEAD_BYTES: u64 = size_of::<RawEntry>() as u64;
/// Version 1 knew no place of capture.
const ENTRY_HEAD_BYTES_V1: u64 = ENTRY_HEAD_BYTES - 16;
/// Longest payload.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 256 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"STEADJNL";
const ENTRY_MAGIC: [u8; 4] = *b"ENT+";
const CONSISTENT: u32 = 1;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SegmentHead {
    magic: [u8; 8],
    version: u16,
    zeros: [u8; 2],
    crc: u32,
    number: u64,
    previous: u64,
    previous_len: u64,
}

/// What the head of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Good { version: u16, previous: u64, previous_len: u64 },
    Version(u16),
    Bad,
}

impl SegmentHead {
    pub(super) fn new(number: u64, previous: u64, previous_len: u64) -> SegmentHead {
        let (magic, version) = (SEGMENT_MAGIC, VERSION);
        let mut head = SegmentHead { magic, version, zeros: [0; 2], crc: 0, number, previous, previous_len };
        head.crc = head.checksum();
        head
    }

    pub(super) fn read(bytes: &[u8], number: u64) -> Segment {
        let Ok((head, _)) = SegmentHead::read_from_prefix(bytes) else { return Segment::Bad };
        if head.magic == SEGMENT_MAGIC && head.version > VERSION {
            return Segment::Version(head.version);
        }
        if head.magic != SEGMENT_MAGIC || head.number != number || head.crc != head.checksum() {
            return Segment::Bad;
        }
        let SegmentHead { version, previous, previous_len, .. } = head;
        Segment::Good { version, previous, previous_len }
    }

    fn checksum(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[16..])
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawEntry {
    magic: [u8; 4],
    crc: u32,
    len: u32,
    flags: u32,
    epoch: u64,
    incarnation: u64,
    first: u64,
    last: u64,
    durable: u64,
    capture: u64,
    captured: u64,
}

impl RawEntry {
    /// The head of an entry in that segment. `durable`: bytes of the segment that are known to be durable.
    pub(super) fn new(head: &EntryHead, payload: &[u8], segment: u64, durable: u64) -> RawEntry {
        let EntryHead { epoch, incarnation, first, last, consistent, capture, captured } = *head;
        let flags = if consistent { CONSISTENT } else { 0 };
        let len = payload.len() as u32;
        let (magic, crc) = (ENTRY_MAGIC, 0);
        let mut raw = RawEntry { magic, crc, len, flags, epoch, incarnation, first, last, durable, capture, captured };
        raw.crc = raw.checksum(payload, segment, VERSION);
        raw
    }

    /// The head, where the bytes look like one.
    pub(super) fn read(bytes: &[u8], version: u16) -> Option<RawEntry> {
        let mut whole = [0; size_of::<RawEntry>()];
        let known = bytes.get(..entry_head_bytes(version) as usize)?;
        whole[..known.len()].copy_from_slice(known);
        let raw = RawEntry::read_from_bytes(&whole).ok()?;
        (raw.magic == ENTRY_MAGIC && u64::from(raw.len) <= PAYLOAD_BYTES_MAX).then_some(raw)
    }

    pub(super) fn is_of(&self, payload: &[u8], segment: u64, version: u16) -> bool {
        self.crc == self.checksum(payload, segment, version)
    }

    pub(super) fn payload_len(&self) -> u64 {
        self.len.into()
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn head(&self) -> EntryHead {
        let RawEntry { epoch, incarnation, first, last, flags, capture, captured, .. } = *self;
        EntryHead { epoch, incarnation, first, last, consistent: flags & CONSISTENT != 0, capture, captured }
    }

    /// The segment's number is part of it: what an earlier use of the same blocks left is not taken for an entry.
    fn checksum(&self, payload: &[u8], segment: u64, version: u16) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&segment.to_le_bytes());
        crc.update(&self.as_bytes()[8..entry_head_bytes(version) as usize]);
        crc.update(payload);
        crc.finalize()
    }
}

/// Bytes before the payload.
pub(super) fn entry_head_bytes(version: u16) -> u64 {
    if version < 2 { ENTRY_HEAD_BYTES_V1 } else { ENTRY_HEAD_BYTES }
}

/// Bytes of an entry with that payload.
pub(super) fn entry_bytes(payload_len: u64, version: u16) -> u64 {
    (entry_head_bytes(version) + payload_len).next_multiple_of(8)
}

pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016x}.journal")
}

pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}
