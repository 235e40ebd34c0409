//! Bodies of Changes frames.
//!
//! Plain: encoded records back to back. Compressed, heads (everything of a record but its data) and data lie apart, since
//! heads always shrink to little and data often does not shrink at all:
//! ```text
//!   0 heads_raw u32   bytes of the heads before compression
//!   4 heads_len u32   bytes of the heads as they follow
//!   8 heads           zstd: each record's bytes up to its data, XORed with those of the record before (first 152 bytes)
//!   . data            to the end: the records' data back to back; zstd with DATA_COMPRESSED
//! ```

use stead_model::Record;
use stead_model::record::{FIXED_BYTES, NAMES_BYTES, flags as record_flags, records};

use super::{BODY_BYTES_MAX, FrameError, Header, flags};

/// Level of zstd: the fastest of the usual ones.
const LEVEL: i32 = 1;
/// Heads are compressed apart where they are at least this part of the whole.
const HEADS_PART: usize = 128;
/// Bodies below are left as they are.
const PLAIN_BYTES: usize = 512;
/// Sampled pieces of the data, and the size of each.
const SAMPLES: usize = 3;
const SAMPLE_BYTES: usize = 4096;
/// Bytes before the heads.
const LENGTHS: usize = 8;
/// Where in a record the length of the second name lies.
const NAME2_LEN_AT: usize = FIXED_BYTES + 80;

/// A body and the flags that tell how it is packed.
#[derive(Debug)]
pub struct Packed {
    /// Some of [`flags::HEADS_COMPRESSED`] and [`flags::DATA_COMPRESSED`].
    pub flags: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Packs bodies; keeps what zstd needs between them.
pub struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Packer")
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl Packer {
    /// A packer.
    ///
    /// # Panics
    /// Where there is no memory for zstd.
    pub fn new() -> Packer {
        Packer { zstd: zstd::bulk::Compressor::new(LEVEL).expect("zstd can be set up"), scratch: Vec::new() }
    }

    /// Packs encoded records as small as is worth the time: plain where nothing is won.
    pub fn pack(&mut self, raw: Vec<u8>) -> Packed {
        if raw.len() < PLAIN_BYTES {
            return Packed { flags: 0, body: raw };
        }
        let Some((heads, data_len)) = split_heads(&raw) else { return Packed { flags: 0, body: raw } };
        let compressible = self.sample_shrinks(&raw, data_len);
        if !compressible && heads.len() < raw.len() / HEADS_PART {
            return Packed { flags: 0, body: raw };
        }
        let mut body = vec![0; LENGTHS];
        self.append_compressed(&mut body, &heads);
        let heads_len = body.len() - LENGTHS;
        body[..4].copy_from_slice(&(heads.len() as u32).to_le_bytes());
        body[4..8].copy_from_slice(&(heads_len as u32).to_le_bytes());
        let mut flags = flags::HEADS_COMPRESSED;
        let data = records(&raw).flatten().map(|record| record.data);
        if compressible {
            let mut all = Vec::with_capacity(data_len);
            data.for_each(|data| all.extend_from_slice(data));
            self.append_compressed(&mut body, &all);
            flags |= flags::DATA_COMPRESSED;
        } else {
            body.reserve(data_len);
            data.for_each(|data| body.extend_from_slice(data));
        }
        if body.len() >= raw.len() { Packed { flags: 0, body: raw } } else { Packed { flags, body } }
    }

    fn sample_shrinks(&mut self, raw: &[u8], data_len: usize) -> bool {
        let mut sample = Vec::with_capacity(SAMPLES * SAMPLE_BYTES);
        let step = (data_len / SAMPLES).max(SAMPLE_BYTES);
        let (mut passed, mut next) = (0, 0);
        for record in records(raw).flatten() {
            let end = passed + record.data.len();
            while next < end && sample.len() < SAMPLES * SAMPLE_BYTES {
                let from = next - passed;
                sample.extend_from_slice(&record.data[from..record.data.len().min(from + SAMPLE_BYTES)]);
                next += step;
            }
            passed = end;
        }
        !sample.is_empty() && self.compress(&sample) < sample.len() / 10 * 9
    }

    fn append_compressed(&mut self, body: &mut Vec<u8>, bytes: &[u8]) {
        let len = self.compress(bytes);
        body.extend_from_slice(&self.scratch[..len]);
    }

    fn compress(&mut self, bytes: &[u8]) -> usize {
        let room = zstd::zstd_safe::compress_bound(bytes.len());
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        self.zstd.compress_to_buffer(bytes, &mut self.scratch[..]).expect("there is room for the worst case")
    }
}

/// The encoded records of a body with these flags, `raw_len` bytes of them. They are not checked yet: see [`check`].
///
/// # Errors
/// Where the body is not packed as that says. Allocates no more than `raw_len`, which the header bounds.
pub fn unpack(packed: u16, raw_len: usize, body: &[u8]) -> Result<Vec<u8>, FrameError> {
    if packed & flags::HEADS_COMPRESSED == 0 {
        let plain = packed & flags::DATA_COMPRESSED == 0 && body.len() == raw_len;
        return if plain { Ok(body.to_vec()) } else { Err(FrameError::Field("length")) };
    }
    let (lengths, rest) = body.split_first_chunk::<LENGTHS>().ok_or(FrameError::Body("it is cut off"))?;
    let number = |at: usize| u32::from_le_bytes(lengths[at..at + 4].try_into().expect("four bytes")) as usize;
    let (heads, data) = rest.split_at_checked(number(4)).ok_or(FrameError::Body("its heads are cut off"))?;
    let heads_raw = number(0);
    if heads_raw > raw_len {
        return Err(FrameError::Body("its heads are larger than the whole"));
    }
    let heads = decompress(heads, heads_raw)?;
    if packed & flags::DATA_COMPRESSED == 0 {
        return join(&heads, data, raw_len);
    }
    join(&heads, &decompress(data, raw_len - heads_raw)?, raw_len)
}

/// Are these well-formed records, their sequences rising within the header's range?
///
/// # Errors
/// Where they are not.
pub fn check(header: &Header, raw: &[u8]) -> Result<(), FrameError> {
    let mut previous = header.first.checked_sub(1).ok_or(FrameError::Field("range"))?;
    for record in records(raw) {
        let record = record.map_err(|_| FrameError::Body("a record is malformed"))?;
        if record.sequence <= previous || record.sequence > header.last {
            return Err(FrameError::Body("sequences of records do not rise"));
        }
        previous = record.sequence;
    }
    Ok(())
}

fn split_heads(raw: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut heads = Vec::new();
    let mut rest = raw;
    let mut previous = [0; FIXED_BYTES];
    let mut data_len = 0;
    while !rest.is_empty() {
        let (record, after) = Record::parse(rest).ok()?;
        let head_len = head_len(&record);
        let fixed: &[u8; FIXED_BYTES] = rest.first_chunk()?;
        heads.extend(fixed.iter().zip(&previous).map(|(a, b)| a ^ b));
        heads.extend_from_slice(&rest[FIXED_BYTES..head_len]);
        previous = *fixed;
        data_len += record.data.len();
        rest = after;
    }
    Some((heads, data_len))
}

fn head_len(record: &Record<'_>) -> usize {
    let names = if record.flags & record_flags::NAMES != 0 { NAMES_BYTES } else { 0 };
    FIXED_BYTES + names + record.name.len() + record.name2.len()
}

fn join(heads: &[u8], data: &[u8], raw_len: usize) -> Result<Vec<u8>, FrameError> {
    let wrong = FrameError::Body("heads and data do not fit together");
    let mut raw = Vec::with_capacity(raw_len);
    let (mut heads, mut data) = (heads, data);
    let mut previous = [0; FIXED_BYTES];
    while !heads.is_empty() {
        let mixed: &[u8; FIXED_BYTES] = heads.first_chunk().ok_or(wrong.clone())?;
        let fixed: [u8; FIXED_BYTES] = std::array::from_fn(|i| mixed[i] ^ previous[i]);
        let lens = lens(&fixed, heads).ok_or(wrong.clone())?;
        let (head, heads_rest) = heads.split_at_checked(lens.head).ok_or(wrong.clone())?;
        let (bytes, data_rest) = data.split_at_checked(lens.data).ok_or(wrong.clone())?;
        let end = raw.len() + lens.record;
        if lens.head + lens.data > lens.record || end > raw_len {
            return Err(wrong);
        }
        raw.extend_from_slice(&fixed);
        raw.extend_from_slice(&head[FIXED_BYTES..]);
        raw.extend_from_slice(bytes);
        raw.resize(end, 0);
        (heads, data, previous) = (heads_rest, data_rest, fixed);
    }
    if raw.len() == raw_len && data.is_empty() { Ok(raw) } else { Err(wrong) }
}

/// Lengths of a record: of all of it, of what comes before its data, of its data.
struct Lens {
    record: usize,
    head: usize,
    data: usize,
}

fn lens(fixed: &[u8; FIXED_BYTES], head: &[u8]) -> Option<Lens> {
    let u16_at = |bytes: &[u8], at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let u32_at = |at: usize| Some(u32::from_le_bytes(*fixed.get(at..)?.first_chunk()?) as usize);
    let names = if fixed[5] & record_flags::NAMES != 0 { NAMES_BYTES + u16_at(head, NAME2_LEN_AT)? } else { 0 };
    Some(Lens { record: u32_at(0)?, head: FIXED_BYTES + u16_at(fixed, 6)? + names, data: u32_at(68)? })
}

fn decompress(bytes: &[u8], len: usize) -> Result<Vec<u8>, FrameError> {
    debug_assert!(len <= BODY_BYTES_MAX);
    let raw = zstd::bulk::decompress(bytes, len).map_err(|_| FrameError::Body("it cannot be decompressed"))?;
    Ok(raw)
}
