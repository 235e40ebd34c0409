//! The record: one change, or one piece of a mirror, in the same bytes in the capture ring, the source queue, the wire
//! and the target journal.
//!
//! ```text
//!   0 len        u32   whole record, a multiple of 8; written last where records are shared between processes
//!   4 kind       u8    [`Kind`]
//!   5 flags      u8    [`flags`]
//!   6 name_len   u16
//!   8 sequence   u64   number in the stream; 0 in the ring
//!  16 file       16 B  [`FileId`] that the record is about
//!  32 parent     16 B  directory of `name`, else none
//!  48 a          u64   offset, or size           (see Kind)
//!  56 b          u64   length, or block size     (see Kind)
//!  64 c          u32   mask, mode                (see Kind)
//!  68 data_len   u32
//!  72 time       u64   when it was captured: nanoseconds since 1970 by the source's clock, for lag only
//!  80 attr       72 B  [`Attr`] of `file` after the change
//! 152 names only (flag NAMES): 88 B  parent2 16 B, victim 16 B, stamps 2 x 24 B, name2_len u16, zeros 6 B: [`Names`]
//!   . name       name_len bytes
//!   . name2      names only
//!   . data       data_len bytes
//!   . zeros      to a multiple of 8
//! ```
//! Integrity on wire and disk is the frame's business (a checksum over the batch), not the record's.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Attr, FileId, Sequence, Stamp};

/// What a record says. Kinds below 32 come from capture; the others are added by the source half of replication.
///
/// Every record carries the attributes of its file *after* the change, so that times and sizes need no records of
/// their own. All are idempotent: applied again from any earlier place of the stream, in order, they end the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `file` was made at `parent`/`name`: type, owner, permissions, rdev from the attributes; data: symlink target.
    /// Stamp of the parent. Inherited xattrs, ACLs and flags follow in records of their own.
    Create = 1,
    /// `file` is now also at `parent`/`name`. Stamp of the parent.
    Link = 2,
    /// `file` is no longer at `parent`/`name` (also rmdir: nlink 0). Stamp of the parent.
    Unlink = 3,
    /// `file` went from `parent`/`name` to `parent2`/`name2`. c: flags of renameat2 (EXCHANGE: `victim` went the other
    /// way; a whiteout follows as a Create). Else `victim` lost the name `parent2`/`name2`, if there is one; a: its
    /// link count after. Stamps of both parents.
    Rename = 4,
    /// a: offset; data: the bytes.
    Write = 5,
    /// a: the new size. c: [`CUT`], or 0.
    Truncate = 6,
    /// a: offset, b: length, c: mode of fallocate(2).
    Allocate = 7,
    /// c: [`AttrMask`](crate::AttrMask), values in the attributes.
    SetAttr = 8,
    /// name: of the xattr; data: its value. POSIX ACLs are `system.posix_acl_access` and `…_default`.
    SetXattr = 9,
    /// name: of the xattr.
    RemoveXattr = 10,
    /// c: inode flags as FS_IOC_SETFLAGS gave them (also in the attributes).
    SetFlags = 11,
    /// fsync (c = 0), fdatasync (c = 1) or syncfs (file none, c = 2) was executed: what comes before it is durable at
    /// the source. c = 3, file none, made by replication: the source's file systems completed a sync that covers every
    /// record up to sequence a.
    Sync = 12,
    /// Changes were lost. File none: of the whole set; else of that file (of a directory also its names), with flag
    /// SUBTREE of all beneath it. A target, too, has to know: from here until the end of a scan of that scope that began
    /// later, changes prove nothing of (ctime, size) in it, and what loses its name is held, not removed. c = [`DISPROVED`]:
    /// nothing was lost here; what the target holds for proven of that file is not, and what follows compares it.
    Lost = 13,

    /// A scan of the set, or of the subtree of `file`, begins. c: [`Purpose`].
    ScanBegin = 32,
    /// `file` is at `parent`/`name` with these attributes; c: [`Purpose`]; data: [`Extras`] (xattrs, symlink target).
    /// With [`Purpose::Mirror`] its content follows at once, else only if the target asks for it.
    /// The set's root directories have parent none and as name the root's index in decimal.
    Node = 33,
    /// a: offset; data: content as it was read after this place in the stream was taken. Without data: b bytes of hole.
    Chunk = 34,
    /// All chunks of `file` came before. Sets size, times, flags; proves (ctime, size) equal. c: [`Purpose`].
    NodeEnd = 35,
    /// The names in directory `file` follow as Node records.
    DirBegin = 36,
    /// All names of directory `file` came; what was not named may go at the end of the scan. Sets its times.
    DirEnd = 37,
    /// a: offset of the first block; b: block size; data: 16 bytes of xxh3-128 (little-endian) for each block;
    /// c: [`Purpose`]. The last block may be short. The size of the file is in the attributes.
    Hash = 38,
    /// The scan that began last ended: what no record named since is removed. c: [`Purpose`].
    ScanEnd = 39,
}

impl Kind {
    /// The kind of that number.
    pub fn from_u8(kind: u8) -> Option<Kind> {
        use Kind::*;
        Some(match kind {
            1 => Create,
            2 => Link,
            3 => Unlink,
            4 => Rename,
            5 => Write,
            6 => Truncate,
            7 => Allocate,
            8 => SetAttr,
            9 => SetXattr,
            10 => RemoveXattr,
            11 => SetFlags,
            12 => Sync,
            13 => Lost,
            32 => ScanBegin,
            33 => Node,
            34 => Chunk,
            35 => NodeEnd,
            36 => DirBegin,
            37 => DirEnd,
            38 => Hash,
            39 => ScanEnd,
            _ => return None,
        })
    }

    /// Does capture make it (else replication)?
    pub fn is_change(self) -> bool {
        (self as u8) < 32
    }

    /// Does it change names, and so carry [`Names`]?
    pub fn has_names(self) -> bool {
        matches!(self, Kind::Create | Kind::Link | Kind::Unlink | Kind::Rename)
    }
}

/// In c of [`Kind::Truncate`]: no change of the source, but what a replica has beyond the end goes before the content of
/// the file comes.
pub const CUT: u32 = 1;

/// Why a scan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// First copy: content is sent unasked.
    Mirror = 0,
    /// Difference mirror: the target asks for what differs from its proven-equal state.
    Difference = 1,
    /// Compare everything, report, change nothing.
    Verify = 2,
    /// Compare everything, report and send what differs.
    Repair = 3,
}

impl Purpose {
    /// The purpose of that number.
    pub fn from_u32(purpose: u32) -> Option<Purpose> {
        Some(match purpose {
            0 => Purpose::Mirror,
            1 => Purpose::Difference,
            2 => Purpose::Verify,
            3 => Purpose::Repair,
            _ => return None,
        })
    }
}

/// c of a [`Kind::Lost`] by which only the proof of a file is lost.
pub const DISPROVED: u32 = 1;

/// Bits of [`Record::flags`].
pub mod flags {
    /// [`Names`](super::Names) follow the attributes.
    pub const NAMES: u8 = 1;
    /// A [`Kind::Lost`](super::Kind::Lost) or scan concerns everything beneath the file too.
    pub const SUBTREE: u8 = 2;
    /// A [`Kind::Write`](super::Kind::Write) that came from write-back, so without the lock that orders it against
    /// other writes of the same range by write(2); informational.
    pub const WRITE_BACK: u8 = 4;
    /// A move-in: the file was outside of the set before (a [`Kind::Node`](super::Kind::Node) amid replication).
    pub const MOVE_IN: u8 = 8;
}

/// Sizes that decoders hold to before they allocate.
pub mod limits {
    /// Largest data of one record: 1 MiB, the largest write that FUSE delivers, and room for xattrs.
    pub const DATA_BYTES_MAX: usize = (1 << 20) + 4096;
    /// Longest name: 255 bytes; xattr names have the same limit.
    pub const NAME_BYTES_MAX: usize = 255;
    /// Largest record.
    pub const RECORD_BYTES_MAX: usize =
        super::FIXED_BYTES + super::NAMES_BYTES + 2 * NAME_BYTES_MAX + DATA_BYTES_MAX + 8;
}

/// Bytes of the part that every record has.
pub const FIXED_BYTES: usize = size_of::<Head>() + size_of::<Attr>();
/// Bytes of [`Names`].
pub const NAMES_BYTES: usize = size_of::<Names>();

/// The first 80 bytes of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    len: u32,
    kind: u8,
    flags: u8,
    name_len: u16,
    sequence: u64,
    file: FileId,
    parent: FileId,
    a: u64,
    b: u64,
    c: u32,
    data_len: u32,
    time: u64,
}

/// What name changes carry more: the other directory, who lost a name, and the directories' times afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Names {
    /// Directory of `name2`.
    pub parent2: FileId,
    /// File that lost `name2` (rename over it) or went the other way (exchange).
    pub victim: FileId,
    /// mtime and ctime of `parent` after the change.
    pub stamp: Stamp,
    /// mtime and ctime of `parent2` after the change.
    pub stamp2: Stamp,
    name2_len: u16,
    pad: [u16; 3],
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer bytes than the record needs.
    #[error("the record is cut off")]
    Cut,
    /// A kind of a later version, or garbage.
    #[error("record kind {0} is unknown")]
    Kind(u8),
    /// Lengths that do not add up, or beyond the limits.
    #[error("the record's lengths do not add up")]
    Length,
}

/// A record, read in place. Fields as in the module's picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "drawn and explained at the head of the module and at Kind")]
pub struct Record<'a> {
    pub kind: Kind,
    pub flags: u8,
    pub sequence: Sequence,
    pub file: FileId,
    pub parent: FileId,
    pub a: u64,
    pub b: u64,
    pub c: u32,
    pub time: u64,
    pub attr: Attr,
    pub names: Names,
    pub name: &'a [u8],
    pub name2: &'a [u8],
    pub data: &'a [u8],
}

impl<'a> Record<'a> {
    /// A record of that kind about that file, everything else zero or empty.
    pub fn new(kind: Kind, file: FileId) -> Record<'static> {
        Record {
            kind,
            flags: 0,
            sequence: 0,
            file,
            parent: FileId::NONE,
            a: 0,
            b: 0,
            c: 0,
            time: 0,
            attr: Attr::default(),
            names: Names::default(),
            name: b"",
            name2: b"",
            data: b"",
        }
    }

    /// Reads the first record of `bytes`; returns it and the bytes after it.
    ///
    /// # Errors
    /// Where the bytes are not a whole, well-formed record. Never panics, whatever the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<(Record<'a>, &'a [u8]), RecordError> {
        let (head, _) = Head::read_from_prefix(bytes).map_err(|_| RecordError::Cut)?;
        let len = head.len as usize;
        if !len.is_multiple_of(8) || !(FIXED_BYTES..=limits::RECORD_BYTES_MAX).contains(&len) {
            return Err(RecordError::Length);
        }
        let (bytes, rest) = bytes.split_at_checked(len).ok_or(RecordError::Cut)?;
        let kind = Kind::from_u8(head.kind).ok_or(RecordError::Kind(head.kind))?;
        let (attr, mut tail) = Attr::read_from_prefix(&bytes[size_of::<Head>()..]).map_err(|_| RecordError::Cut)?;
        let mut names = Names::default();
        if head.flags & flags::NAMES != 0 {
            (names, tail) = Names::read_from_prefix(tail).map_err(|_| RecordError::Length)?;
        }
        let name = take(&mut tail, head.name_len as usize, limits::NAME_BYTES_MAX)?;
        let name2 = take(&mut tail, names.name2_len as usize, limits::NAME_BYTES_MAX)?;
        let data = take(&mut tail, head.data_len as usize, limits::DATA_BYTES_MAX)?;
        if tail.len() >= 8 {
            return Err(RecordError::Length);
        }
        names.name2_len = 0;
        let Head { flags, sequence, file, parent, a, b, c, time, .. } = head;
        Ok((Record { kind, flags, sequence, file, parent, a, b, c, time, attr, names, name, name2, data }, rest))
    }

    /// Bytes that [`Record::write_to`] needs.
    pub fn encoded_len(&self) -> usize {
        let names = if self.kind.has_names() { NAMES_BYTES } else { 0 };
        (FIXED_BYTES + names + self.name.len() + self.name2.len() + self.data.len()).next_multiple_of(8)
    }

    /// Writes the record into `out`, which has [`Record::encoded_len`] bytes.
    ///
    /// # Panics
    /// Where `out` has another length, or a name or the data is beyond the limits: a bug of the caller.
    pub fn write_to(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&(self.encoded_len() as u32).to_le_bytes());
        self.write_body_to(&mut out[4..]);
    }

    /// Writes the record without its length word, for memory where that word, written last, publishes the record:
    /// `out` has [`Record::encoded_len`] less 4 bytes.
    ///
    /// # Panics
    /// As [`Record::write_to`].
    pub fn write_body_to(&self, out: &mut [u8]) {
        let data_at = self.write_around(out, self.data.len());
        out[data_at..data_at + self.data.len()].copy_from_slice(self.data);
    }

    /// Appends the record to `out`.
    ///
    /// # Panics
    /// As [`Record::write_to`].
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.resize(at + self.encoded_len(), 0);
        self.write_to(&mut out[at..]);
    }

    fn write_around(&self, out: &mut [u8], data_len: usize) -> usize {
        assert!(self.name.len() <= limits::NAME_BYTES_MAX && self.name2.len() <= limits::NAME_BYTES_MAX);
        assert!(data_len <= limits::DATA_BYTES_MAX && out.len() + 4 == self.encoded_len());
        let head = Head {
            len: 0,
            kind: self.kind as u8,
            flags: if self.kind.has_names() { self.flags | flags::NAMES } else { self.flags & !flags::NAMES },
            name_len: self.name.len() as u16,
            sequence: self.sequence,
            file: self.file,
            parent: self.parent,
            a: self.a,
            b: self.b,
            c: self.c,
            data_len: data_len as u32,
            time: self.time,
        };
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&head.as_bytes()[4..]);
        put(self.attr.as_bytes());
        if self.kind.has_names() {
            put(Names { name2_len: self.name2.len() as u16, pad: [0; 3], ..self.names }.as_bytes());
        }
        put(self.name);
        put(self.name2);
        let end = at + data_len;
        out[end..].fill(0);
        at
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize, max: usize) -> Result<&'a [u8], RecordError> {
    let (taken, rest) = bytes.split_at_checked(len).filter(|_| len <= max).ok_or(RecordError::Length)?;
    *bytes = rest;
    Ok(taken)
}

/// Sets the number of the encoded record that `bytes` starts with.
///
/// # Panics
/// Where `bytes` is shorter than a head.
pub fn set_sequence(bytes: &mut [u8], sequence: Sequence) {
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
}

/// The attributes in the encoded record that `bytes` starts with; `None` where it is cut off.
pub fn attr(bytes: &[u8]) -> Option<Attr> {
    Attr::read_from_prefix(bytes.get(size_of::<Head>()..)?).ok().map(|(attr, _)| attr)
}

/// Sets the attributes in the encoded record that `bytes` starts with.
///
/// # Panics
/// Where `bytes` is shorter than the part that every record has.
pub fn set_attr(bytes: &mut [u8], attr: &Attr) {
    bytes[size_of::<Head>()..FIXED_BYTES].copy_from_slice(attr.as_bytes());
}

/// Iterates over the records in `bytes`; ends after the first error.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = Record::parse(rest);
        rest = parsed.as_ref().map_or(&[], |(_, rest)| *rest);
        Some(parsed.map(|(record, _)| record))
    })
}

/// Encoded records, one after the other, that own their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBuf {
    bytes: Vec<u8>,
}

impl RecordBuf {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }
    /// Appends a record.
    pub fn push(&mut self, record: &Record<'_>) {
        record.append_to(&mut self.bytes);
    }
    /// The records.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        records(&self.bytes).map(|r| r.expect("pushed records are well-formed"))
    }
    /// Their bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Their bytes, taken.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What a [`Kind::Node`] carries in its data: the symlink target, and all xattrs.
///
/// ```text
///   target_len u16 · xattr count u16 · target · count × { name_len u16 · value_len u32 · name · value }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Target of a symlink, else empty.
    pub target: Vec<u8>,
    /// Name and value of each xattr, sorted by name; `trusted.stead.*` is never among them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extras {
    /// Appends the encoded form to `out`; nothing at all where there is nothing to say.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        if self.target.is_empty() && self.xattrs.is_empty() {
            return;
        }
        out.extend((self.target.len() as u16).to_le_bytes());
        out.extend((self.xattrs.len() as u16).to_le_bytes());
        out.extend(&self.target);
        for (name, value) in &self.xattrs {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend((value.len() as u32).to_le_bytes());
            out.extend(name);
            out.extend(value);
        }
    }

    /// Reads what [`Extras::append_to`] wrote.
    ///
    /// # Errors
    /// Where the lengths do not add up. Never panics; allocates no more than `bytes` holds.
    pub fn parse(bytes: &[u8]) -> Result<Extras, RecordError> {
        if bytes.is_empty() {
            return Ok(Extras::default());
        }
        let mut rest = bytes;
        let number = |rest: &mut &[u8], width: usize| -> Result<usize, RecordError> {
            Ok(take(rest, width, 4)?.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)))
        };
        let target_len = number(&mut rest, 2)?;
        let count = number(&mut rest, 2)?;
        let target = take(&mut rest, target_len, 4096)?.to_vec();
        let mut xattrs = Vec::new();
        for _ in 0..count {
            let name_len = number(&mut rest, 2)?;
            let value_len = number(&mut rest, 4)?;
            let name = take(&mut rest, name_len, limits::NAME_BYTES_MAX)?.to_vec();
            xattrs.push((name, take(&mut rest, value_len, limits::DATA_BYTES_MAX)?.to_vec()));
        }
        if rest.is_empty() { Ok(Extras { target, xattrs }) } else { Err(RecordError::Length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record<'static> {
        let file = FileId { ino: 12, generation: 7, volume: 1 };
        let mut record = Record::new(Kind::Rename, file);
        record.parent = FileId { ino: 2, generation: 0, volume: 1 };
        record.names.parent2 = FileId { ino: 3, generation: 1, volume: 1 };
        record.name = b"old\n";
        record.name2 = b"new\xff";
        record.data = b"x";
        record.time = 99;
        record
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let mut buf = RecordBuf::new();
        buf.push(&sample());
        let mut write = Record::new(Kind::Write, FileId::NONE);
        write.data = &[5; 4096];
        buf.push(&write);
        let back: Vec<_> = buf.iter().collect();
        assert_eq!(back.len(), 2);
        let named = Record { flags: flags::NAMES, ..sample() };
        assert_eq!(back[0], named);
        assert_eq!(back[1], write);
    }

    #[test]
    fn a_4_kib_write_costs_little_more_than_its_bytes() {
        let mut write = Record::new(Kind::Write, FileId::NONE);
        write.data = &[5; 4096];
        assert_eq!(write.encoded_len(), 4096 + 152);
    }

    #[test]
    fn every_truncation_is_refused() {
        let mut buf = RecordBuf::new();
        buf.push(&sample());
        for len in 0..buf.as_bytes().len() {
            assert!(Record::parse(&buf.as_bytes()[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn extras_read_back() {
        let extras = Extras { target: b"../a".to_vec(), xattrs: vec![(b"user.x".to_vec(), vec![0; 300])] };
        let mut bytes = Vec::new();
        extras.append_to(&mut bytes);
        assert_eq!(Extras::parse(&bytes), Ok(extras));
        assert_eq!(Extras::parse(&[]), Ok(Extras::default()));
        assert!(Extras::parse(&bytes[..bytes.len() - 1]).is_err());
    }
}
