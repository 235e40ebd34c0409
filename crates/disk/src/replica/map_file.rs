//! The file-id map on disk: one file `file-ids`, to which each checkpoint appends what changed.
//!
//! ```text
//!   header   magic "STEADIDS" 8 B · version u16 · zeros 6 B
//!   batch    magic "IDS+" 4 B · crc32 u32 (of the rest of the head and the entries) · entries u32 · scan u32
//!            · epoch u64 · incarnation u64 · sequence u64 · heard u64
//!            · generation u32 · zeros 4 B                                                    (not in version 1)
//!   entry    id 16 B · local id 16 B · ctime_sec i64 · size u64 · ctime_nsec u32
//!            · generation u32                                                                (not in version 1)
//!            · kind u8 · proven u8 · zeros 6 B                                               (2 B in version 1)
//! ```
//! kind: type bits of the mode shifted right by 12, with 0x80 for a file that never had a name; 0: the id is removed. A
//! later entry of an id replaces an earlier one. `scan`: purpose + 1 of a scan that has begun and not ended. `heard`:
//! the latest time that a record carried. `generation`: how often the source had synced what the replica has, so far;
//! of an entry: when something of the file came last. A file of version 1 is written anew at the first checkpoint. A
//! batch that is cut off or whose checksum is wrong ends the file: it was being written when the machine stopped, and
//! its position never counted. Where the file has grown to more than twice what it holds, it is written anew beside the
//! old one and renamed over it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use stead_model::{FileId, Position};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::OpenError;
use crate::DiskError;

const NAME: &str = "file-ids";
const NEW_NAME: &str = "file-ids.new";
/// The file as it was when images were begun.
const POINT_NAME: &str = "file-ids.point";
const MAGIC: [u8; 8] = *b"STEADIDS";
const BATCH_MAGIC: [u8; 4] = *b"IDS+";
const VERSION: u16 = 2;
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
    /// How often the source had synced.
    pub generation: u32,
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
    generation: u32,
    zeros: [u8; 4],
}

/// In bytes: of a batch's head and of an entry, in version 1.
const HEAD_BYTES_V1: usize = size_of::<BatchHead>() - 8;
const ENTRY_BYTES_V1: usize = size_of::<Stored>() - 8;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Stored {
    pub id: FileId,
    pub local: FileId,
    pub ctime_sec: i64,
    pub size: u64,
    pub ctime_nsec: u32,
    pub generation: u32,
    pub kind: u8,
    proven: u8,
    zeros: [u8; 6],
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
        Stored { id, local, ctime_sec, size, ctime_nsec, generation: 0, kind, proven: proven.into(), zeros: [0; 6] }
    }
    pub(super) fn removed(id: FileId) -> Stored {
        Stored::new(id, FileId::NONE, 0, false, 0, 0, 0)
    }
    /// Reads an entry of that version.
    fn read(bytes: &[u8], version: u16) -> Stored {
        if version >= 2 {
            return Stored::read_from_bytes(bytes).expect("a whole entry");
        }
        let mut whole = [0; size_of::<Stored>()];
        let at = std::mem::offset_of!(Stored, generation);
        whole[..at].copy_from_slice(&bytes[..at]);
        whole[at + 4..].copy_from_slice(&[&bytes[at..], &[0; 4]].concat());
        Stored::read_from_bytes(&whole).expect("a whole entry")
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
        let (mut progress, mut broken) = (Progress::default(), false);
        let mut len = file.metadata().map_err(failed())?.len();
        if len < HEADER_BYTES {
            file.set_len(0).map_err(failed())?;
            let header = Header { magic: MAGIC, version: VERSION, zeros: [0; 6] };
            file.write_all_at(header.as_bytes(), 0).map_err(failed())?;
            file.sync_all().map_err(failed())?;
            sync_dir(dir)?;
            len = HEADER_BYTES;
        } else {
            let (end, version) = read_all(&path, &mut file, len, &mut load, &mut progress)?;
            file.set_len(end).map_err(failed())?;
            let is_kept = file.metadata().map_err(failed())?.nlink() > 1;
            (len, broken) = (end, version < VERSION || is_kept);
        }
        Ok((MapFile { dir: dir.into(), file, len, broken }, progress))
    }

    /// Keeps the file as it is now beside it; the next batch must not be appended to it.
    pub(super) fn keep(dir: &Path) -> Result<(), DiskError> {
        let (path, point) = (dir.join(NAME), dir.join(POINT_NAME));
        let failed = || DiskError::at("keep", path.display());
        Self::unkeep(dir)?;
        if std::fs::hard_link(&path, &point).is_err() {
            std::fs::copy(&path, &point).map_err(failed())?;
            File::open(&point).and_then(|file| file.sync_all()).map_err(failed())?;
        }
        sync_dir(dir)
    }

    /// Removes what was kept.
    pub(super) fn unkeep(dir: &Path) -> Result<(), DiskError> {
        match std::fs::remove_file(dir.join(POINT_NAME)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DiskError::new("remove", dir.join(POINT_NAME).display(), error))
            }
            _ => Ok(()),
        }
    }

    /// Makes what was kept the file again; it may be so already.
    pub(super) fn bring_back(dir: &Path) -> Result<(), DiskError> {
        match std::fs::rename(dir.join(POINT_NAME), dir.join(NAME)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DiskError::new("bring back", dir.join(NAME).display(), error))
            }
            // Where both are still one file, the rename did nothing.
            _ => Self::unkeep(dir).and_then(|()| sync_dir(dir)),
        }
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
        generation: progress.generation,
        zeros: [0; 4],
    };
    head.crc = checksum(head.as_bytes(), entries.as_bytes());
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend(entries.as_bytes());
    bytes
}

fn checksum(head: &[u8], entries: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[8..]);
    crc.update(entries);
    crc.finalize()
}

/// Reads all whole batches; returns where they end, and the version.
fn read_all(
    path: &Path,
    file: &mut File,
    len: u64,
    load: &mut impl FnMut(&Stored),
    progress: &mut Progress,
) -> Result<(u64, u16), OpenError> {
    let failed = || DiskError::at("read", path.display());
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact(&mut header).map_err(failed())?;
    let (header, _) = Header::read_from_prefix(&header).expect("a whole header");
    let version = header.version;
    if header.magic != MAGIC {
        return Err(OpenError::Damaged { path: path.into(), offset: 0 });
    }
    if version > VERSION {
        return Err(OpenError::Version { path: path.into(), version, known: VERSION });
    }
    let (head_bytes, entry_bytes) = match version {
        ..2 => (HEAD_BYTES_V1, ENTRY_BYTES_V1),
        _ => (size_of::<BatchHead>(), size_of::<Stored>()),
    };
    let mut at = HEADER_BYTES;
    while at + head_bytes as u64 <= len {
        let mut bytes = [0; size_of::<BatchHead>()];
        file.read_exact(&mut bytes[..head_bytes]).map_err(failed())?;
        let (head, _) = BatchHead::read_from_prefix(&bytes).expect("a whole head");
        let entries_len = u64::from(head.entries) * entry_bytes as u64;
        let end = at + head_bytes as u64 + entries_len;
        if head.magic != BATCH_MAGIC || end > len {
            break;
        }
        let mut entries = vec![0; entries_len as usize];
        file.read_exact(&mut entries).map_err(failed())?;
        if checksum(&bytes[..head_bytes], &entries) != head.crc {
            break;
        }
        entries.chunks_exact(entry_bytes).for_each(|entry| load(&Stored::read(entry, version)));
        let BatchHead { epoch, incarnation, sequence, scan, heard, generation, .. } = head;
        *progress = Progress { position: Position { epoch, incarnation, sequence }, scan, heard, generation };
        at = end;
    }
    Ok((at, version))
}

fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(DiskError::at("sync", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ino: u64) -> Stored {
        let id = FileId { ino, generation: 2, volume: 0 };
        let local = FileId { ino: ino + 100, generation: 3, volume: 1 };
        Stored { generation: 7, ..Stored::new(id, local, 0o10, true, 4, 5, 6) }
    }

    fn progress(sequence: u64) -> Progress {
        Progress { position: Position { epoch: 1, incarnation: 2, sequence }, scan: 2, heard: 9, generation: 8 }
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
    fn version_1_is_read_and_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let hex = include_str!("../../tests/golden/file-ids-1.hex").trim();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        std::fs::write(dir.path().join(NAME), bytes).unwrap();
        let (all, progress_1) = load(dir.path());
        assert_eq!(all, [Stored { generation: 0, ..entry(1) }]);
        assert_eq!(progress_1, Progress { generation: 0, ..progress(7) });
        let (file, _) = MapFile::open(dir.path(), |_| ()).unwrap();
        assert!(file.wants_compaction(1), "no batch of version 2 may follow one of version 1");
    }

    #[test]
    fn a_later_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(MapFile::open(dir.path(), |_| ()).unwrap());
        let mut bytes = std::fs::read(dir.path().join(NAME)).unwrap();
        bytes[8] = 3;
        std::fs::write(dir.path().join(NAME), &bytes).unwrap();
        assert!(matches!(MapFile::open(dir.path(), |_| ()), Err(OpenError::Version { version: 3, .. })));
    }
}
