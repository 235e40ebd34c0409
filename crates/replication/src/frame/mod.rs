//! Frames: everything that two nodes say to each other about a set, after TLS.
//!
//! ```text
//!   0 magic      u32   "STD1" (0x3144_5453)
//!   4 version    u8    1 or 2: the form of the body
//!   5 kind       u8    [`FrameKind`]
//!   6 flags      u16   [`flags`]
//!   8 body_len   u32   bytes after the header, at most 4 MiB
//!  12 raw_len    u32   Changes: bytes of the records before compression, at most 4 MiB; else body_len
//!  16 body_crc   u32   crc32 of the body
//!  20 head_crc   u32   crc32 of this header with zeros in this field
//!  24 epoch      u64   Changes: number of the epoch (zero in other kinds, as all below)
//!  32 incarnation u64
//!  40 last       u64   sequence of the last record that the frame covers
//!  48 before     u32   the frame covers last - before ..= last
//!  52 writer     u32   crc32 of the epoch's writer and random: tells two epochs of one number apart
//!  56 time       u64   everything captured before this time (ns since 1970, source's clock) is covered
//! ```
//! Body of Changes: encoded records back to back ([`body`]), in version 2 before eight bytes `captured`; of the others: a
//! postcard message. Sequences of the records in a frame rise; not every number that a frame covers needs to have a record
//! (a frame may have none at all: it marks a consistent point, or skips what is for another target).
//!
//! Version 2 differs from version 1 in this:
//! * Hello has the form of version 1, so that every peer reads it. What version 2 adds stands in fields of its header that
//!   version 1 does not look at: `incarnation` is capture's, bit 0 of `epoch` says "unclean".
//! * Welcome and Halted have more fields at their end ([`Welcome::capture`], [`Welcome::captured`], [`Halted::code`]).
//! * The body of Changes ends with `captured` u64. Flag WHOLE: every change up to this number of capture is contained up
//!   to the frame's end, with all that it brought about.
//! * Undo, Undone and Accept exist.
//!
//! A frame says version 2 only where its form needs it. Version 2 is spoken once a Welcome chose it.

pub mod body;
mod decoder;
mod message;

use std::sync::Arc;

use stead_model::{Epoch, Sequence};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use decoder::Decoder;
pub use message::{
    Ack, Difference, DifferenceKind, Goodbye, HaltCode, Halted, Hello, Holds, Need, NeedWhat, Range, Undone, Welcome,
};

/// "STD1", little-endian.
pub const MAGIC: u32 = u32::from_le_bytes(*b"STD1");
/// Newest version of the frame format, and of the protocol that goes with it.
pub const VERSION: u8 = 2;
/// Oldest version that is still spoken.
pub const VERSION_MIN: u8 = 1;
/// Bytes of a header.
pub const HEADER_BYTES: usize = size_of::<RawHeader>();
/// Bytes of `captured` after the records in the body of Changes of version 2.
pub const CAPTURED_BYTES: usize = size_of::<u64>();
/// Largest body, and largest raw body.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Source: who I am; first frame of a connection.
    Hello = 1,
    /// Target: what I hold; answers Hello.
    Welcome = 2,
    /// Source: records.
    Changes = 3,
    /// Either: bytes that only the daemons understand.
    Control = 4,
    /// Target: watermarks.
    Ack = 5,
    /// Target: what it lacks of a difference mirror.
    Needs = 6,
    /// Target: what a verify found.
    Differences = 7,
    /// Target: it cannot apply, or can again.
    Halted = 8,
    /// Either: are you there?
    Ping = 9,
    /// Either: answers Ping.
    Pong = 10,
    /// Either: the connection ends, and why.
    Goodbye = 11,
    /// Source, version 2: take back what was applied since the mass-change brake began to count.
    Undo = 12,
    /// Target, version 2: answers Undo.
    Undone = 13,
    /// Source, version 2: go on over the mass-change brake, once.
    Accept = 14,
}

impl FrameKind {
    fn from_u8(kind: u8) -> Option<FrameKind> {
        use FrameKind::*;
        Some(match kind {
            1 => Hello,
            2 => Welcome,
            3 => Changes,
            4 => Control,
            5 => Ack,
            6 => Needs,
            7 => Differences,
            8 => Halted,
            9 => Ping,
            10 => Pong,
            11 => Goodbye,
            12 => Undo,
            13 => Undone,
            14 => Accept,
            _ => return None,
        })
    }
}

/// Bits of [`Header::flags`], for Changes.
pub mod flags {
    /// After this frame the replica is the source at one instant: that of the header's time.
    pub const CONSISTENT: u16 = 1;
    /// Heads and data of the records are apart, the heads compressed.
    pub const HEADS_COMPRESSED: u16 = 2;
    /// With HEADS_COMPRESSED: the data is compressed too.
    pub const DATA_COMPRESSED: u16 = 4;
    /// Part of a first mirror: there is no good image to keep yet, so it need not go through the journal.
    pub const UNJOURNALED: u16 = 8;
    /// Version 2: every change up to the body's `captured` is contained up to here, with all that it brought about.
    pub const WHOLE: u16 = 16;
    /// All of them; others are refused.
    pub const ALL: u16 = 31;
}

/// The header as its bytes lie.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawHeader {
    magic: u32,
    version: u8,
    kind: u8,
    flags: u16,
    body_len: u32,
    raw_len: u32,
    body_crc: u32,
    head_crc: u32,
    epoch: u64,
    incarnation: u64,
    last: u64,
    before: u32,
    writer: u32,
    time: u64,
}

/// A header that was checked. Fields as drawn at the head of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "drawn and explained at the head of the module")]
pub struct Header {
    pub version: u8,
    pub kind: FrameKind,
    pub flags: u16,
    pub body_len: usize,
    pub raw_len: usize,
    pub body_crc: u32,
    pub epoch: u64,
    pub writer: u32,
    pub incarnation: u64,
    pub first: Sequence,
    pub last: Sequence,
    pub time: u64,
}

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Something else than Stead speaks, or the stream is out of step.
    #[error("these are not frames of Stead")]
    Magic,
    /// A peer of another version.
    #[error("the peer speaks version {0} of the frame format, this node versions {VERSION_MIN} to {VERSION}")]
    Version(u8),
    /// The checksum of the header does not fit.
    #[error("a frame's header is damaged")]
    HeaderChecksum,
    /// The checksum of the body does not fit.
    #[error("a frame's body is damaged")]
    BodyChecksum,
    /// An unknown kind or flag, or numbers that do not add up.
    #[error("a frame's {0} makes no sense")]
    Field(&'static str),
    /// Beyond the limit.
    #[error("a frame of {0} bytes is larger than any that is allowed")]
    TooLarge(usize),
    /// The body is not what its kind says.
    #[error("a frame's body cannot be read: {0}")]
    Body(&'static str),
}

/// crc32 of an epoch's writer and random: see the header's `writer`.
pub fn writer_check(epoch: &Epoch) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&epoch.writer);
    hasher.update(&epoch.random.to_le_bytes());
    hasher.finalize()
}

/// Reads and checks a header.
///
/// # Errors
/// Where it is not one, or one of another version, or its numbers make no sense.
pub fn decode_header(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
    let raw = RawHeader::read_from_bytes(bytes).map_err(|_| FrameError::Magic)?;
    if raw.magic != MAGIC {
        return Err(FrameError::Magic);
    }
    if !(VERSION_MIN..=VERSION).contains(&raw.version) {
        return Err(FrameError::Version(raw.version));
    }
    if raw.head_crc != head_crc(&raw) {
        return Err(FrameError::HeaderChecksum);
    }
    let kind = FrameKind::from_u8(raw.kind).ok_or(FrameError::Field("kind"))?;
    for len in [raw.body_len as usize, raw.raw_len as usize] {
        if len > BODY_BYTES_MAX {
            return Err(FrameError::TooLarge(len));
        }
    }
    if raw.flags & !flags::ALL != 0 {
        return Err(FrameError::Field("flags"));
    }
    let first = raw.last.checked_sub(raw.before.into()).ok_or(FrameError::Field("range"))?;
    Ok(Header {
        version: raw.version,
        kind,
        flags: raw.flags,
        body_len: raw.body_len as usize,
        raw_len: raw.raw_len as usize,
        body_crc: raw.body_crc,
        epoch: raw.epoch,
        writer: raw.writer,
        incarnation: raw.incarnation,
        first,
        last: raw.last,
        time: raw.time,
    })
}

impl Header {
    /// The header's bytes.
    ///
    /// # Panics
    /// Where it covers 2³² records or more: a bug of the caller.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut raw = RawHeader {
            magic: MAGIC,
            version: self.version,
            kind: self.kind as u8,
            flags: self.flags,
            body_len: self.body_len as u32,
            raw_len: self.raw_len as u32,
            body_crc: self.body_crc,
            head_crc: 0,
            epoch: self.epoch,
            incarnation: self.incarnation,
            last: self.last,
            before: u32::try_from(self.last - self.first).expect("a frame covers fewer than 2^32 records"),
            writer: self.writer,
            time: self.time,
        };
        raw.head_crc = head_crc(&raw);
        raw.as_bytes().try_into().expect("a header has HEADER_BYTES bytes")
    }

    /// Is the end of the frame a consistent point?
    pub fn is_consistent(&self) -> bool {
        self.flags & flags::CONSISTENT != 0
    }

    /// May it bypass the journal?
    pub fn is_unjournaled(&self) -> bool {
        self.flags & flags::UNJOURNALED != 0
    }
}

fn head_crc(raw: &RawHeader) -> u32 {
    crc32fast::hash(RawHeader { head_crc: 0, ..*raw }.as_bytes())
}

/// A frame ready to be written to a connection: header, then body. The body is shared by all targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The header.
    pub header: [u8; HEADER_BYTES],
    /// The body.
    pub body: Arc<Vec<u8>>,
}

impl Encoded {
    /// Bytes of both.
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
    /// Never: there is always a header.
    pub fn is_empty(&self) -> bool {
        false
    }
    /// Both in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.header[..], &self.body[..]].concat()
    }
}

/// Records as they came from the wire or out of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The header.
    pub header: Header,
    /// The whole encoded frame, header included: what the journal stores.
    pub frame: Arc<[u8]>,
}

impl Changes {
    /// The encoded records, unpacked; checks every one of them.
    ///
    /// # Errors
    /// Where the body is not well-formed records with rising sequences in the header's range.
    pub fn records(&self) -> Result<Vec<u8>, FrameError> {
        let body = self.frame.get(HEADER_BYTES..self.body_end()).ok_or(FrameError::Body("it is cut off"))?;
        let raw = body::unpack(self.header.flags, self.header.raw_len, body)?;
        body::check(&self.header, &raw)?;
        Ok(raw)
    }

    /// Every change up to this number of capture is contained up to the end of the frame, with all that it brought about.
    /// `None`: nothing is said (always in version 1).
    pub fn captured(&self) -> Option<u64> {
        let says_so = self.header.version >= 2 && self.header.flags & flags::WHOLE != 0;
        let captured = self.frame.last_chunk().filter(|_| says_so)?;
        Some(u64::from_le_bytes(*captured))
    }

    fn body_end(&self) -> usize {
        self.frame.len().saturating_sub(if self.header.version < 2 { 0 } else { CAPTURED_BYTES })
    }
}

/// A frame, decoded.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "explained at FrameKind")]
pub enum Frame {
    Hello(Hello),
    Welcome(Welcome),
    Changes(Changes),
    Control(Vec<u8>),
    Ack(Ack),
    Needs(Vec<Need>),
    Differences(Vec<Difference>),
    Halted(Halted),
    Ping(u64),
    Pong(u64),
    Goodbye(Goodbye),
    Undo,
    Undone(Undone),
    Accept,
}

impl Frame {
    /// The encoded frame in the newest version that its kind has a form in.
    pub fn encode(&self) -> Encoded {
        self.encode_for(VERSION)
    }

    /// The encoded frame for a peer with which this version is spoken. Undo, Undone and Accept are for version 2 only.
    pub fn encode_for(&self, version: u8) -> Encoded {
        let (kind, form, body) = match self {
            Frame::Changes(changes) => {
                let header = changes.frame[..HEADER_BYTES].try_into().expect("frames have a header");
                return Encoded { header, body: changes.frame[HEADER_BYTES..].to_vec().into() };
            }
            Frame::Control(bytes) => (FrameKind::Control, 1, bytes.clone()),
            Frame::Hello(hello) => (FrameKind::Hello, 1, message::write(hello)),
            Frame::Welcome(welcome) => (FrameKind::Welcome, version, welcome.write(version)),
            Frame::Ack(ack) => (FrameKind::Ack, 1, message::write(ack)),
            Frame::Needs(needs) => (FrameKind::Needs, 1, message::write(needs)),
            Frame::Differences(differences) => (FrameKind::Differences, 1, message::write(differences)),
            Frame::Halted(halted) => (FrameKind::Halted, version, halted.write(version)),
            Frame::Ping(number) => (FrameKind::Ping, 1, message::write(number)),
            Frame::Pong(number) => (FrameKind::Pong, 1, message::write(number)),
            Frame::Goodbye(goodbye) => (FrameKind::Goodbye, 1, message::write(goodbye)),
            Frame::Undo => (FrameKind::Undo, 2, Vec::new()),
            Frame::Undone(undone) => (FrameKind::Undone, 2, message::write(undone)),
            Frame::Accept => (FrameKind::Accept, 2, Vec::new()),
        };
        let mut header = Header {
            version: form,
            kind,
            flags: 0,
            body_len: body.len(),
            raw_len: body.len(),
            body_crc: crc32fast::hash(&body),
            epoch: 0,
            writer: 0,
            incarnation: 0,
            first: 0,
            last: 0,
            time: 0,
        };
        if let Frame::Hello(hello) = self {
            (header.incarnation, header.epoch) = (hello.capture, hello.unclean.into());
        }
        Encoded { header: header.encode(), body: body.into() }
    }

    /// Reads the body that belongs to `header`; `frame` is the whole encoded frame.
    ///
    /// # Errors
    /// Where checksum, length or content do not fit.
    pub fn decode(header: &Header, frame: Arc<[u8]>) -> Result<Frame, FrameError> {
        let body = frame.get(HEADER_BYTES..).filter(|body| body.len() == header.body_len);
        let body = body.ok_or(FrameError::Field("length"))?;
        if crc32fast::hash(body) != header.body_crc {
            return Err(FrameError::BodyChecksum);
        }
        Ok(match header.kind {
            FrameKind::Hello => {
                let (capture, unclean) = (header.incarnation, header.epoch & 1 != 0);
                Frame::Hello(Hello { capture, unclean, ..message::read(body)? })
            }
            FrameKind::Welcome => Frame::Welcome(Welcome::read(body, header.version)?),
            FrameKind::Changes => Frame::Changes(Changes { header: *header, frame }),
            FrameKind::Control => Frame::Control(body.to_vec()),
            FrameKind::Ack => Frame::Ack(message::read(body)?),
            FrameKind::Needs => Frame::Needs(message::read(body)?),
            FrameKind::Differences => Frame::Differences(message::read(body)?),
            FrameKind::Halted => Frame::Halted(Halted::read(body, header.version)?),
            FrameKind::Ping => Frame::Ping(message::read(body)?),
            FrameKind::Pong => Frame::Pong(message::read(body)?),
            FrameKind::Goodbye => Frame::Goodbye(message::read(body)?),
            FrameKind::Undo => empty(body, Frame::Undo)?,
            FrameKind::Undone => Frame::Undone(message::read(body)?),
            FrameKind::Accept => empty(body, Frame::Accept)?,
        })
    }
}

fn empty(body: &[u8], frame: Frame) -> Result<Frame, FrameError> {
    if body.is_empty() { Ok(frame) } else { Err(FrameError::Body("bytes follow the message")) }
}
