//! The part of a source's queue that is on disk: bodies of batches in segment files. See `docs/formats/queue.md`.
//!
//! Nothing in it is relied upon after a restart: it is never synced, and begins empty.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A segment takes no more records once it has this many bytes.
const SEGMENT_BYTES: u64 = 16 << 20;
/// The head of a segment.
const HEAD_BYTES: u64 = 16;
/// The head of a record.
const RECORD_BYTES: usize = 24;
const MAGIC: &[u8; 8] = b"STEADQUE";
const RECORD_MAGIC: &[u8; 4] = b"QUE+";
const VERSION: u16 = 1;
const SUFFIX: &str = "queue";

/// Bodies by the first sequence of their batch.
#[derive(Debug)]
pub struct QueueFiles {
    dir: PathBuf,
    segments: BTreeMap<u64, Segment>,
    places: HashMap<u64, Place>,
    next: u64,
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    len: u64,
    records: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u64,
    offset: u64,
    len: usize,
}

impl QueueFiles {
    /// An empty queue in that directory: what was left there goes.
    ///
    /// # Errors
    /// Where the directory cannot be made or emptied.
    pub fn create(dir: &Path) -> io::Result<QueueFiles> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == SUFFIX) {
                fs::remove_file(path)?;
            }
        }
        Ok(QueueFiles { dir: dir.to_owned(), segments: BTreeMap::new(), places: HashMap::new(), next: 1 })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    /// Writes a body.
    ///
    /// # Errors
    /// Where it cannot be written: nothing of it is left then. [`io::ErrorKind::StorageFull`] also where the queue would
    /// use more than half of what is free without it.
    pub fn write(&mut self, first: u64, body: &[u8]) -> io::Result<()> {
        self.leave_half(body.len() as u64)?;
        let number = self.open_segment()?;
        let record = record(first, body)?;
        let segment = self.segments.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        if let Err(error) = segment.file.write_all_at(&record, segment.len) {
            // The room of a half record is given back.
            let _ = segment.file.set_len(segment.len);
            return Err(error);
        }
        self.places.insert(first, Place { segment: number, offset: segment.len, len: body.len() });
        segment.len += record.len() as u64;
        segment.records += 1;
        Ok(())
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Where it cannot be read, or is not what was written.
    pub fn read(&self, first: u64) -> io::Result<Vec<u8>> {
        let place = self.places.get(&first).ok_or(io::ErrorKind::NotFound)?;
        let segment = self.segments.get(&place.segment).ok_or(io::ErrorKind::NotFound)?;
        let mut head = [0; RECORD_BYTES];
        segment.file.read_exact_at(&mut head, place.offset)?;
        let mut body = vec![0; place.len];
        segment.file.read_exact_at(&mut body, place.offset + RECORD_BYTES as u64)?;
        if head == record_head(first, &body)? { Ok(body) } else { Err(damaged()) }
    }

    /// That body is needed no more.
    ///
    /// # Errors
    /// Where a file of which nothing is needed cannot be removed.
    pub fn forget(&mut self, first: u64) -> io::Result<()> {
        let Some(place) = self.places.remove(&first) else { return Ok(()) };
        let Some(segment) = self.segments.get_mut(&place.segment) else { return Ok(()) };
        segment.records -= 1;
        if segment.records > 0 {
            return Ok(());
        }
        let path = segment.path.clone();
        self.segments.remove(&place.segment);
        fs::remove_file(path)
    }

    fn leave_half(&self, more: u64) -> io::Result<()> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if self.bytes() + more > free {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the queue would use more than half of what is free without it",
            ));
        }
        Ok(())
    }

    fn open_segment(&mut self) -> io::Result<u64> {
        if let Some((number, _)) = self.segments.last_key_value().filter(|(_, open)| open.len < SEGMENT_BYTES) {
            return Ok(*number);
        }
        let number = self.next;
        let path = self.dir.join(format!("{number:016x}.{SUFFIX}"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let mut head = [0; HEAD_BYTES as usize];
        head[..8].copy_from_slice(MAGIC);
        head[8..10].copy_from_slice(&VERSION.to_le_bytes());
        if let Err(error) = file.write_all_at(&head, 0) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.next += 1;
        self.segments.insert(number, Segment { file, path, len: HEAD_BYTES, records: 0 });
        Ok(number)
    }
}

fn record(first: u64, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut record = Vec::with_capacity(RECORD_BYTES + body.len());
    record.extend_from_slice(&record_head(first, body)?);
    record.extend_from_slice(body);
    Ok(record)
}

fn record_head(first: u64, body: &[u8]) -> io::Result<[u8; RECORD_BYTES]> {
    let mut head = [0; RECORD_BYTES];
    head[..4].copy_from_slice(RECORD_MAGIC);
    head[8..16].copy_from_slice(&first.to_le_bytes());
    head[16..20].copy_from_slice(&u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[8..]);
    crc.update(body);
    head[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
    Ok(head)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what was read is not what was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_was_written_is_read_and_files_go_with_their_last_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = QueueFiles::create(dir.path()).unwrap();
        let body = |first: u64| vec![first as u8; 1 << 20];
        (1..=40).for_each(|first| queue.write(first, &body(first)).unwrap());
        assert_eq!(files(dir.path()).len(), 3);
        (1..=40).rev().for_each(|first| assert!(queue.read(first).unwrap() == body(first)));
        (1..=20).for_each(|first| queue.forget(first).unwrap());
        assert_eq!(files(dir.path()).len(), 2);
        assert!(queue.read(20).is_err());
        assert!(queue.read(21).unwrap() == body(21));
        (21..=40).for_each(|first| queue.forget(first).unwrap());
        assert_eq!((files(dir.path()).len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn no_damaged_byte_is_handed_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = QueueFiles::create(dir.path()).unwrap();
        queue.write(7, b"the body").unwrap();
        let path = &files(dir.path())[0];
        let whole = fs::read(path).unwrap();
        let from = HEAD_BYTES as usize;
        for at in from..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(path, &bytes).unwrap();
            assert!(queue.read(7).is_err(), "byte {at}");
            fs::write(path, &whole[..at]).unwrap();
            assert!(queue.read(7).is_err(), "cut at {at}");
        }
        fs::write(path, &whole).unwrap();
        assert_eq!(queue.read(7).unwrap(), b"the body");
    }

    #[test]
    fn what_was_left_goes_and_the_format_is_as_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = QueueFiles::create(dir.path()).unwrap();
        queue.write(0x0102, b"abc").unwrap();
        let bytes = fs::read(dir.path().join("0000000000000001.queue")).unwrap();
        assert_eq!(&bytes[..16], b"STEADQUE\x01\0\0\0\0\0\0\0");
        assert_eq!((&bytes[16..20], &bytes[24..32]), (&b"QUE+"[..], &b"\x02\x01\0\0\0\0\0\0"[..]));
        assert_eq!((&bytes[32..40], &bytes[40..]), (&b"\x03\0\0\0\0\0\0\0"[..], &b"abc"[..]));
        drop(queue);
        let queue = QueueFiles::create(dir.path()).unwrap();
        assert!(files(dir.path()).is_empty() && queue.read(0x0102).is_err());
    }
}
