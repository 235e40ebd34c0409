//! Finding the end of a journal, and reading it.

use super::format::{
    RawEntry, SEGMENT_HEAD_BYTES, Segment as HeadOf, SegmentHead, VERSION, entry_bytes, entry_head_bytes, segment_name,
    segment_number,
};
use super::{Entry, JournalError, SPARE_PREFIX, Segment, Storage};
use crate::DiskError;

/// What opening found.
pub(super) struct Found {
    pub segments: Vec<Segment>,
    /// Number of the first segment to come where there is none.
    pub next: u64,
    pub spares: Vec<String>,
    /// Names of files that hold nothing.
    pub useless: Vec<String>,
}

/// How an entry read.
enum Read {
    Good(Entry),
    /// No entry: the end, or torn, or damaged.
    None,
}

/// Reads all segments through. With `cut`, damage ends the journal instead of being an error.
pub(super) fn find(storage: &mut impl Storage, cut: bool) -> Result<Found, JournalError> {
    let names = storage.names().map_err(DiskError::at("list", "the journal"))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last + 1);
    let spares = names.iter().filter(|name| name.starts_with(SPARE_PREFIX)).cloned().collect();
    let mut found = Found { segments: Vec::new(), next, spares, useless: Vec::new() };
    let heads = heads(storage, &mut numbers, &mut found.useless)?;
    for (at, number) in numbers.iter().copied().enumerate() {
        let missing = at > 0 && heads[at].0 != numbers[at - 1];
        let ends_at = heads.get(at + 1).map(|(_, len)| *len);
        let read =
            if missing { Err((0, "a segment before it is missing")) } else { read_segment(storage, number, ends_at)? };
        match read {
            Ok(segment) => found.segments.push(segment),
            Err((offset, what)) if !cut => return Err(JournalError::Corrupt { segment: number, offset, what }),
            Err((offset, _)) => {
                let keeps = offset > SEGMENT_HEAD_BYTES;
                if keeps {
                    found.segments.push(read_until(storage, number, Some(offset))?.0);
                }
                found.useless.extend(numbers[at + usize::from(keeps)..].iter().map(|number| segment_name(*number)));
                break;
            }
        }
    }
    Ok(found)
}

/// For each segment, number and length of the one before it. A last one whose head is torn had only just begun.
fn heads(
    storage: &mut impl Storage,
    numbers: &mut Vec<u64>,
    useless: &mut Vec<String>,
) -> Result<Vec<(u64, u64)>, JournalError> {
    let mut heads = Vec::new();
    for (at, number) in numbers.clone().into_iter().enumerate() {
        let name = segment_name(number);
        let mut bytes = [0; SEGMENT_HEAD_BYTES as usize];
        let len = storage.read(&name, 0, &mut bytes).map_err(DiskError::at("read", &name))?;
        match SegmentHead::read(&bytes[..len], number) {
            HeadOf::Good { previous, previous_len, .. } => heads.push((previous, previous_len)),
            HeadOf::Version(version) => {
                return Err(JournalError::Version { segment: number, version, known: VERSION });
            }
            HeadOf::Bad if at + 1 == numbers.len() => {
                numbers.pop();
                useless.push(name);
            }
            // Its entries say so again when they are read.
            HeadOf::Bad => heads.push((at.checked_sub(1).map_or(0, |before| numbers[before]), 0)),
        }
    }
    Ok(heads)
}

type Damage = (u64, &'static str);

/// Reads a segment through: up to its end where that is known, else as far as it is good.
fn read_segment(
    storage: &mut impl Storage,
    number: u64,
    ends_at: Option<u64>,
) -> Result<Result<Segment, Damage>, JournalError> {
    let (segment, durable) = read_until(storage, number, ends_at)?;
    if segment.len < SEGMENT_HEAD_BYTES {
        return Ok(Err((0, "its head is damaged")));
    }
    let was_durable = match ends_at {
        Some(end) => end,
        // Was anything behind the end durable once? A later entry tells.
        None => durable.max(later_durable(storage, &segment)?),
    };
    Ok(if was_durable > segment.len { Err((segment.len, "its checksum is wrong")) } else { Ok(segment) })
}

/// Reads entries until one is not good; returns also the most that an entry says is durable.
fn read_until(storage: &mut impl Storage, number: u64, end: Option<u64>) -> Result<(Segment, u64), JournalError> {
    let name = segment_name(number);
    let failed = || DiskError::at("read", &name);
    let allocated = storage.len(&name).map_err(failed())?;
    let mut head = [0; SEGMENT_HEAD_BYTES as usize];
    let len = storage.read(&name, 0, &mut head).map_err(failed())?;
    let mut segment = Segment { number, allocated, ..Segment::default() };
    let HeadOf::Good { version, .. } = SegmentHead::read(&head[..len], number) else { return Ok((segment, 0)) };
    (segment.len, segment.version) = (SEGMENT_HEAD_BYTES, version);
    let mut durable = 0;
    let end = end.unwrap_or(allocated);
    while segment.len < end {
        let (read, says) = read_entry(storage, number, version, segment.len, allocated)?;
        let Read::Good(entry) = read else { break };
        segment.note(&entry.head);
        segment.len += entry_bytes(entry.payload.len() as u64, version);
        durable = durable.max(says);
    }
    Ok((segment, durable))
}

/// Looks for good entries behind the end: only their `durable` matters.
fn later_durable(storage: &mut impl Storage, segment: &Segment) -> Result<u64, JournalError> {
    let Segment { number, version, len: end, .. } = *segment;
    let head_bytes = entry_head_bytes(version);
    let name = segment_name(number);
    let allocated = storage.len(&name).map_err(DiskError::at("read", &name))?;
    let mut durable = 0;
    let mut at = end + 8;
    let mut buf = vec![0; 1 << 20];
    while at + head_bytes <= allocated {
        let len = storage.read(&name, at, &mut buf).map_err(DiskError::at("read", &name))?;
        if (len as u64) < head_bytes {
            break;
        }
        let places = (len as u64 - head_bytes) / 8 + 1;
        let mut next = at + places * 8;
        for place in 0..places {
            let from = (place * 8) as usize;
            if buf[from..from + 4] != *b"ENT+" {
                continue;
            }
            let (read, says) = read_entry(storage, number, version, at + place * 8, allocated)?;
            if let Read::Good(entry) = read {
                durable = durable.max(says);
                next = at + place * 8 + entry_bytes(entry.payload.len() as u64, version);
                break;
            }
        }
        at = next;
    }
    Ok(durable)
}

fn read_entry(
    storage: &mut impl Storage,
    number: u64,
    version: u16,
    at: u64,
    allocated: u64,
) -> Result<(Read, u64), JournalError> {
    let name = segment_name(number);
    let failed = || DiskError::at("read", &name);
    let head_bytes = entry_head_bytes(version);
    let mut head = vec![0; head_bytes as usize];
    let len = storage.read(&name, at, &mut head).map_err(failed())?;
    let Some(raw) = RawEntry::read(&head[..len], version) else { return Ok((Read::None, 0)) };
    if at + head_bytes + raw.payload_len() > allocated {
        return Ok((Read::None, 0));
    }
    let mut payload = vec![0; raw.payload_len() as usize];
    let len = storage.read(&name, at + head_bytes, &mut payload).map_err(failed())?;
    if len < payload.len() || !raw.is_of(&payload, number, version) {
        return Ok((Read::None, 0));
    }
    Ok((Read::Good(Entry { head: raw.head(), payload }), raw.durable()))
}

/// Iterates over the entries of a journal, oldest first; ends after an error.
#[derive(Debug)]
pub struct Entries<'a, S: Storage> {
    storage: &'a mut S,
    /// Number, version and length of the segments still to be read, the next one last.
    segments: Vec<(u64, u16, u64)>,
    at: u64,
}

impl<'a, S: Storage> Entries<'a, S> {
    pub(super) fn new(storage: &'a mut S, mut segments: Vec<(u64, u16, u64)>) -> Self {
        segments.reverse();
        Entries { storage, segments, at: SEGMENT_HEAD_BYTES }
    }
}

impl<S: Storage> Iterator for Entries<'_, S> {
    type Item = Result<Entry, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (number, version, len) = *self.segments.last()?;
            if self.at >= len {
                self.segments.pop();
                self.at = SEGMENT_HEAD_BYTES;
                continue;
            }
            match read_entry(self.storage, number, version, self.at, len) {
                Ok((Read::Good(entry), _)) => {
                    self.at += entry_bytes(entry.payload.len() as u64, version);
                    return Some(Ok(entry));
                }
                Ok((Read::None, _)) => {
                    self.segments.clear();
                    let (offset, what) = (self.at, "its checksum is wrong");
                    return Some(Err(JournalError::Corrupt { segment: number, offset, what }));
                }
                Err(error) => {
                    self.segments.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
