//! The undo log on disk: one file `undo`, appended to.
//!
//! ```text
//!   header   magic "STEADUND" 8 B · version u16 · zeros 2 B · crc32 u32 of what follows
//!            · salt u64 · epoch u64 · incarnation u64 · sequence u64: the point
//!   record   magic "UND+" 4 B · crc32 u32 of salt u64, offset of the record u64, what follows, and the payload
//!            · len u32 of the payload · kind u8 · zeros 3 B · durable u64 · file 16 B · a u64 · b u64 · payload
//! ```
//! `file`: the replica's own file id (index of its volume, inode, generation). `durable`: bytes of the log that were
//! durable when the record was written: what is damaged before that is damage, what is torn behind it was never relied
//! on. Kinds, each the state at the point, recorded before it changes for the first time:
//!
//! | kind | says |
//! |---|---|
//! | 1 name | directory `file` had the name: payload is who had it (16 B, zeros: nobody) and the name |
//! | 2 object | attributes (72 B) and extras of `file`, with the id that it carries |
//! | 3 data | a: offset; payload: the bytes; without payload b bytes of hole |
//! | 4 new | `file` was made since |
//! | 5 rolling | rolling back has begun: nothing but finishing it is right |

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use stead_model::{FileId, Position};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::DiskError;

const NAME: &str = "undo";
const NEW_NAME: &str = "undo.new";
const MAGIC: [u8; 8] = *b"STEADUND";
const RECORD_MAGIC: [u8; 4] = *b"UND+";
pub(super) const VERSION: u16 = 1;
const PAYLOAD_BYTES_MAX: u32 = 2 << 20;
/// Unwritten bytes that may gather in memory.
const PENDING_BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: u16,
    zeros: [u8; 2],
    crc: u32,
    salt: u64,
    epoch: u64,
    incarnation: u64,
    sequence: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RecordHead {
    magic: [u8; 4],
    crc: u32,
    len: u32,
    kind: u8,
    zeros: [u8; 3],
    durable: u64,
    file: FileId,
    a: u64,
    b: u64,
}

const HEADER_BYTES: u64 = size_of::<Header>() as u64;
const HEAD_BYTES: usize = size_of::<RecordHead>();

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Name = 1,
    Object = 2,
    Data = 3,
    New = 4,
    Rolling = 5,
}

impl Kind {
    fn of(kind: u8) -> Option<Kind> {
        [Kind::Name, Kind::Object, Kind::Data, Kind::New, Kind::Rolling].into_iter().find(|known| *known as u8 == kind)
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undo<'a> {
    pub kind: Kind,
    pub file: FileId,
    pub a: u64,
    pub b: u64,
    pub payload: &'a [u8],
}

/// Why a log cannot be used.
#[derive(Debug)]
pub(super) enum LogError {
    Io(io::Error),
    Version(u16),
    Damaged(u64),
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        LogError::Io(error)
    }
}

/// The open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    salt: u64,
    point: Position,
    /// Bytes in the file, and of them durable.
    len: u64,
    durable: u64,
    pending: Vec<u8>,
    /// A sync failed: what is durable is unknown.
    failed: bool,
}

impl Log {
    /// Makes an empty log with a `salt` that no earlier one had; it counts once it has [begun](Log::begin).
    pub(super) fn create(dir: &Path, point: Position, salt: u64) -> io::Result<Log> {
        let path = dir.join(NEW_NAME);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let Position { epoch, incarnation, sequence } = point;
        let mut header =
            Header { magic: MAGIC, version: VERSION, zeros: [0; 2], crc: 0, salt, epoch, incarnation, sequence };
        header.crc = crc32fast::hash(&header.as_bytes()[16..]);
        file.write_all_at(header.as_bytes(), 0)?;
        let (len, pending) = (HEADER_BYTES, Vec::new());
        Ok(Log { path, file, salt, point, len, durable: 0, pending, failed: false })
    }

    /// Makes what was appended durable, and the log the one that counts.
    pub(super) fn begin(&mut self, dir: &Path) -> io::Result<()> {
        self.write()?;
        self.file.sync_all()?;
        self.durable = self.len;
        let path = dir.join(NAME);
        std::fs::rename(&self.path, &path)?;
        self.path = path;
        File::open(dir)?.sync_all()
    }

    /// Opens the log in `dir` and hands each record to `load`; `None` where there is none.
    pub(super) fn open(dir: &Path, load: &mut dyn FnMut(Undo<'_>)) -> Result<Option<Log>, LogError> {
        let path = dir.join(NAME);
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let bytes_len = file.metadata()?.len();
        let mut header = [0; HEADER_BYTES as usize];
        let got = read_full(&mut file, &mut header)?;
        let Some(header) = Header::read_from_bytes(&header).ok().filter(|_| got == header.len()) else {
            return Err(LogError::Damaged(0));
        };
        if header.magic == MAGIC && header.version > VERSION {
            return Err(LogError::Version(header.version));
        }
        if header.magic != MAGIC || header.crc != crc32fast::hash(&header.as_bytes()[16..]) {
            return Err(LogError::Damaged(0));
        }
        let Header { salt, epoch, incarnation, sequence, .. } = header;
        let point = Position { epoch, incarnation, sequence };
        let (pending, failed) = (Vec::new(), false);
        let mut log = Log { path, file, salt, point, len: HEADER_BYTES, durable: 0, pending, failed };
        let was_durable = log.read_until(bytes_len, load)?;
        if was_durable.max(log.later_durable(bytes_len)?) > log.len {
            return Err(LogError::Damaged(log.len));
        }
        log.file.set_len(log.len)?;
        log.file.sync_all()?;
        log.durable = log.len;
        Ok(Some(log))
    }

    /// The state that is kept is that of this position.
    pub(super) fn point(&self) -> Position {
        self.point
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.len + self.pending.len() as u64
    }

    /// Appends a record, in memory for now.
    pub(super) fn append(&mut self, undo: &Undo<'_>) -> io::Result<()> {
        let head = RecordHead {
            magic: RECORD_MAGIC,
            crc: 0,
            len: undo.payload.len() as u32,
            kind: undo.kind as u8,
            zeros: [0; 3],
            durable: self.durable,
            file: undo.file,
            a: undo.a,
            b: undo.b,
        };
        let crc = self.checksum(&head, undo.payload, self.bytes());
        self.pending.extend_from_slice(RecordHead { crc, ..head }.as_bytes());
        self.pending.extend_from_slice(undo.payload);
        if self.pending.len() > PENDING_BYTES_MAX { self.write() } else { Ok(()) }
    }

    /// Makes all records durable. What was not written can be tried again; after a failed sync the log is of no use.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier sync of the undo log failed"));
        }
        self.write()?;
        if self.durable < self.len {
            self.failed = true;
            self.file.sync_data()?;
            self.failed = false;
            self.durable = self.len;
        }
        Ok(())
    }

    /// Reads all records again.
    pub(super) fn read_again(&mut self, load: &mut dyn FnMut(Undo<'_>)) -> io::Result<()> {
        let end = self.len;
        self.len = HEADER_BYTES;
        self.read_until(end, load)?;
        self.len = end;
        Ok(())
    }

    /// Removes the log for good.
    pub(super) fn remove(dir: &Path) -> Result<(), DiskError> {
        let path = dir.join(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DiskError::new("remove", path.display(), error))
            }
            _ => Ok(()),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.file.write_all_at(&self.pending, self.len)?;
            self.len += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(())
    }

    /// Reads good records from `self.len` on, and moves it behind them; returns the most that one says was durable.
    fn read_until(&mut self, end: u64, load: &mut dyn FnMut(Undo<'_>)) -> io::Result<u64> {
        let mut durable = 0;
        let mut payload = Vec::new();
        while let Some(head) = self.read_at(self.len, end, &mut payload)? {
            if let Some(kind) = Kind::of(head.kind) {
                load(Undo { kind, file: head.file, a: head.a, b: head.b, payload: &payload });
            }
            self.len += (HEAD_BYTES + payload.len()) as u64;
            durable = durable.max(head.durable);
        }
        Ok(durable)
    }

    /// The good record at that place.
    fn read_at(&self, at: u64, end: u64, payload: &mut Vec<u8>) -> io::Result<Option<RecordHead>> {
        let mut bytes = [0; HEAD_BYTES];
        if at + HEAD_BYTES as u64 > end {
            return Ok(None);
        }
        self.file.read_exact_at(&mut bytes, at)?;
        let head = RecordHead::read_from_bytes(&bytes).expect("a whole head");
        let fits = at + HEAD_BYTES as u64 + u64::from(head.len) <= end;
        if head.magic != RECORD_MAGIC || head.len > PAYLOAD_BYTES_MAX || !fits {
            return Ok(None);
        }
        payload.resize(head.len as usize, 0);
        self.file.read_exact_at(payload, at + HEAD_BYTES as u64)?;
        Ok((head.crc == self.checksum(&head, payload, at)).then_some(head))
    }

    /// Looks for good records behind the end: only their `durable` matters.
    fn later_durable(&self, end: u64) -> io::Result<u64> {
        let mut durable = 0;
        let mut payload = Vec::new();
        let mut buf = vec![0; 1 << 20];
        let mut at = self.len + 1;
        while at + HEAD_BYTES as u64 <= end {
            let len = ((end - at) as usize).min(buf.len());
            self.file.read_exact_at(&mut buf[..len], at)?;
            for place in 0..=len - RECORD_MAGIC.len() {
                if buf[place..place + RECORD_MAGIC.len()] == RECORD_MAGIC
                    && let Some(head) = self.read_at(at + place as u64, end, &mut payload)?
                {
                    durable = durable.max(head.durable);
                }
            }
            at += (len - RECORD_MAGIC.len() + 1) as u64;
        }
        Ok(durable)
    }

    /// Salt and place are part of it: content that holds such bytes is not taken for a record.
    fn checksum(&self, head: &RecordHead, payload: &[u8], at: u64) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.salt.to_le_bytes());
        crc.update(&at.to_le_bytes());
        crc.update(&head.as_bytes()[8..]);
        crc.update(payload);
        crc.finalize()
    }
}

fn read_full(file: &mut File, out: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read(&mut out[done..]) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
