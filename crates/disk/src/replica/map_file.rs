//! The file-id map on disk: one file `file-ids`, to which each checkpoint appends what changed.
//!
//! ```text
//!   header   magic "STEADIDS" 8 B · version u16 · zeros 6 B
//!   batch    magic "IDS+" 4 B · crc32 u32 (of the rest of the head and the entries) · entries u32 · scan u32
//!            · epoch u64 · incarnation u64 · sequence u64 · heard u64
//!   entry    id 16 B · local id 16 B · ctime_sec i64 · size u64 · ctime_nsec u32 · kind u8 · proven u8 · zeros 2 B
//! ```
//! kind: type bits of the mode shifted right by 12, with 0x80 for a file that never had a name; 0: the id is removed. A
//! later entry of an id replaces an earlier one. `scan`: purpose + 1 of a scan that has begun and not
//! ended. `heard`: the latest time that a record carried. A batch that is cut off or whose checksum is wrong ends the
//! file: it was being written when the machine stopped, and its position never counted. Where the file has grown to
//! more than twice what it holds, it is written anew beside the old one and renamed over it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use stead_model::{FileId, Position};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::OpenError;
use crate::DiskError;

const NAME: &str = "file-ids";
const NEW_NAME: &str = "file-ids.new";
const MAGIC: [u8; 8] = *b"STEADIDS";
const BATCH_MAGIC: [u8; 4] = *b"IDS+";
const VERSION: u16 = 1;
const HEADER_BYTES: u64 = size_of::<Header>() as u64;
const COMPACT_FROM_BYTES: u64 = 1 << 20;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: u16,
    zeros: [u8; 6],
}

/// What a batch says besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything up to here is covered.
    pub position: Position,
    /// Purpose + 1 of an unfinished scan, else 0.
    pub scan: u32,
    /// Latest time of a record, nanoseconds since 1970.
    pub heard: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct BatchHead {
    magic: [u8; 4],
    crc: u32,
    entries: u32,
    scan: u32,
    epoch: u64,
    incarnation: u64,
    sequence: u64,
    heard: u64,
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Stored {
    pub id: FileId,
    pub local: FileId,
    pub ctime_sec: i64,
    pub size: u64,
    pub ctime_nsec: u32,
    pub kind: u8,
    proven: u8,
    zeros: [u8; 2],
}

impl Stored {
    pub(super) fn new(
        id: FileId,
        local: FileId,
        kind: u8,
        proven: bool,
        ctime_sec: i64,
        ctime_nsec: u32,
        size: u64,
    ) -> Stored {
        Stored { id, local, ctime_sec, size, ctime_nsec, kind, proven: proven.into(), zeros: [0; 2] }
    }
    pub(super) fn removed(id: FileId) -> Stored {
        Stored::new(id, FileId::NONE, 0, false, 0, 0, 0)
    }
    pub(super) fn is_removed(&self) -> bool {
        self.kind == 0
    }
    pub(super) fn is_proven(&self) -> bool {
        self.proven == 1
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct MapFile {
    dir: PathBuf,
    file: File,
    len: u64,
    /// A write failed: what is in memory may be more than what is in the file, so it must be written whole.
    pub broken: bool,
}

impl MapFile {
    /// Opens or makes the file; hands each stored entry to `load`.
    pub(super) fn open(dir: &Path, mut load: impl FnMut(&Stored)) -> Result<(MapFile, Progress), OpenError> {
        let path = dir.join(NAME);
        let failed = || DiskError::at("open", path.display());
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed())?;
        let mut progress = Progress::default();
        let mut len = file.metadata().map_err(failed())?.len();
        if len < HEADER_BYTES {
            file.set_len(0).map_err(failed())?;
            let header = Header { magic: MAGIC, version: VERSION, zeros: [0; 6] };
            file.write_all_at(header.as_bytes(), 0).map_err(failed())?;
            file.sync_all().map_err(failed())?;
            sync_dir(dir)?;
            len = HEADER_BYTES;
        } else {
            len = read_all(&path, &mut file, len, &mut load, &mut progress)?;
            file.set_len(len).map_err(failed())?;
        }
        Ok((MapFile { dir: dir.into(), file, len, broken: false }, progress))
    }

    /// Is it time to write the file anew, with that many entries in it?
    pub(super) fn wants_compaction(&self, entries: usize) -> bool {
        self.broken || self.len > COMPACT_FROM_BYTES + 2 * (entries * size_of::<Stored>()) as u64
    }

    /// Appends a batch and makes it durable.
    pub(super) fn append(&mut self, progress: &Progress, entries: &[Stored]) -> Result<(), DiskError> {
        let path = self.dir.join(NAME);
        let failed = || DiskError::at("write", path.display());
        self.broken = true;
        let bytes = batch(progress, entries);
        self.file.write_all_at(&bytes, self.len).map_err(failed())?;
        self.file.sync_data().map_err(failed())?;
        self.len += bytes.len() as u64;
        self.broken = false;
        Ok(())
    }

    /// Writes the file anew with these entries alone.
    pub(super) fn rewrite(&mut self, progress: &Progress, entries: &[Stored]) -> Result<(), DiskError> {
        self.broken = true;
        let (old, new) = (self.dir.join(NAME), self.dir.join(NEW_NAME));
        let failed = || DiskError::at("write", new.display());
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&new).map_err(failed())?;
        let mut bytes = Header { magic: MAGIC, version: VERSION, zeros: [0; 6] }.as_bytes().to_vec();
        bytes.extend(batch(progress, entries));
        file.write_all(&bytes).map_err(failed())?;
        file.sync_all().map_err(failed())?;
        std::fs::rename(&new, &old).map_err(failed())?;
        sync_dir(&self.dir)?;
        (self.file, self.len, self.broken) = (file, bytes.len() as u64, false);
        Ok(())
    }
}

fn batch(progress: &Progress, entries: &[Stored]) -> Vec<u8> {
    let Position { epoch, incarnation, sequence } = progress.position;
    let mut head = BatchHead {
        magic: BATCH_MAGIC,
        crc: 0,
        entries: entries.len() as u32,
        scan: progress.scan,
        epoch,
        incarnation,
        sequence,
        heard: progress.heard,
    };
    head.crc = checksum(&head, entries.as_bytes());
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend(entries.as_bytes());
    bytes
}

fn checksum(head: &BatchHead, entries: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head.as_bytes()[8..]);
    crc.update(entries);
    crc.finalize()
}

/// Reads all whole batches; returns where they end.
fn read_all(
    path: &Path,
    file: &mut File,
    len: u64,
    load: &mut impl FnMut(&Stored),
    progress: &mut Progress,
) -> Result<u64, OpenError> {
    let failed = || DiskError::at("read", path.display());
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact(&mut header).map_err(failed())?;
    let (header, _) = Header::read_from_prefix(&header).expect("a whole header");
    if header.magic != MAGIC {
        return Err(OpenError::Damaged { path: path.into(), offset: 0 });
    }
    if header.version > VERSION {
        return Err(OpenError::Version { path: path.into(), version: header.version, known: VERSION });
    }
    let mut at = HEADER_BYTES;
    let mut head = [0; size_of::<BatchHead>()];
    while at + head.len() as u64 <= len {
        file.read_exact(&mut head).map_err(failed())?;
        let (head, _) = BatchHead::read_from_prefix(&head).expect("a whole head");
        let bytes_len = u64::from(head.entries) * size_of::<Stored>() as u64;
        let end = at + size_of::<BatchHead>() as u64 + bytes_len;
        if head.magic != BATCH_MAGIC || end > len {
            break;
        }
        let mut bytes = vec![0; bytes_len as usize];
        file.read_exact(&mut bytes).map_err(failed())?;
        if checksum(&head, &bytes) != head.crc {
            break;
        }
        for entry in bytes.chunks_exact(size_of::<Stored>()) {
            load(&Stored::read_from_bytes(entry).expect("a whole entry"));
        }
        let BatchHead { epoch, incarnation, sequence, scan, heard, .. } = head;
        *progress = Progress { position: Position { epoch, incarnation, sequence }, scan, heard };
        at = end;
    }
    Ok(at)
}

fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(DiskError::at("sync", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ino: u64) -> Stored {
        let id = FileId { ino, generation: 2, volume: 0 };
        Stored::new(id, FileId { ino: ino + 100, generation: 3, volume: 1 }, 0o10, true, 4, 5, 6)
    }

    fn progress(sequence: u64) -> Progress {
        Progress { position: Position { epoch: 1, incarnation: 2, sequence }, scan: 2, heard: 9 }
    }

    fn load(dir: &Path) -> (Vec<Stored>, Progress) {
        let mut all = Vec::new();
        let (_, progress) = MapFile::open(dir, |entry| all.push(*entry)).unwrap();
        (all, progress)
    }

    #[test]
    fn batches_read_back_and_a_torn_one_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = MapFile::open(dir.path(), |_| panic!("it is new")).unwrap();
        file.append(&progress(1), &[entry(1), entry(2)]).unwrap();
        let whole = std::fs::read(dir.path().join(NAME)).unwrap();
        file.append(&progress(2), &[entry(3)]).unwrap();
        let both = std::fs::read(dir.path().join(NAME)).unwrap();
        assert_eq!(load(dir.path()), (vec![entry(1), entry(2), entry(3)], progress(2)));
        for len in whole.len()..both.len() {
            std::fs::write(dir.path().join(NAME), &both[..len]).unwrap();
            assert_eq!(load(dir.path()), (vec![entry(1), entry(2)], progress(1)), "cut at {len}");
        }
        for at in whole.len()..both.len() {
            let mut bytes = both.clone();
            bytes[at] ^= 0x55;
            std::fs::write(dir.path().join(NAME), &bytes).unwrap();
            assert_eq!(load(dir.path()).1, progress(1), "flipped at {at}");
        }
    }

    #[test]
    fn what_is_appended_after_a_torn_batch_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = MapFile::open(dir.path(), |_| ()).unwrap();
        file.append(&progress(1), &[entry(1)]).unwrap();
        let len = file.len;
        file.append(&progress(2), &[entry(2), entry(3)]).unwrap();
        file.file.set_len(len + 70).unwrap();
        let (mut file, _) = MapFile::open(dir.path(), |_| ()).unwrap();
        file.append(&progress(3), &[entry(4)]).unwrap();
        assert_eq!(load(dir.path()), (vec![entry(1), entry(4)], progress(3)));
    }

    #[test]
    fn rewriting_keeps_the_last_state_only() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = MapFile::open(dir.path(), |_| ()).unwrap();
        file.append(&progress(1), &[entry(1)]).unwrap();
        file.rewrite(&progress(2), &[entry(2)]).unwrap();
        file.append(&progress(3), &[Stored::removed(entry(2).id)]).unwrap();
        assert_eq!(load(dir.path()).0, vec![entry(2), Stored::removed(entry(2).id)]);
    }

    #[test]
    fn the_format_is_as_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = MapFile::open(dir.path(), |_| ()).unwrap();
        file.append(&progress(7), &[entry(1)]).unwrap();
        let bytes = std::fs::read(dir.path().join(NAME)).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../../tests/golden/file-ids.hex").trim());
    }

    #[test]
    fn a_later_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(MapFile::open(dir.path(), |_| ()).unwrap());
        let mut bytes = std::fs::read(dir.path().join(NAME)).unwrap();
        bytes[8] = 2;
        std::fs::write(dir.path().join(NAME), &bytes).unwrap();
        assert!(matches!(MapFile::open(dir.path(), |_| ()), Err(OpenError::Version { version: 2, .. })));
    }
}
