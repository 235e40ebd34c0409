//! Crash images, damage, and the golden file.

use std::collections::BTreeMap;
use std::io;

use super::*;

/// A generator of numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Files in memory, each with what is durable and what was written since.
#[derive(Clone, Debug, Default)]
struct Memory {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Namespaces between two syncs: any of them may be what a crash leaves.
    names_between: Vec<BTreeMap<String, usize>>,
    files: Vec<MemoryFile>,
    syncs: u32,
    /// Freeze at this sync, before it has an effect.
    freeze_at: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct MemoryFile {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
}

impl Memory {
    /// What a crash leaves: of the unsynced sectors some, of the unsynced names a prefix.
    fn crash(&self, random: &mut Random) -> Memory {
        let mut choices = self.names_between.clone();
        choices.push(self.durable_names.clone());
        let names = choices.swap_remove(random.below(choices.len() as u64) as usize);
        let files = self.files.iter().map(|file| file.crash(random)).collect();
        Memory { durable_names: names.clone(), names, files, ..Memory::default() }
    }

    fn file(&mut self, name: &str) -> io::Result<&mut MemoryFile> {
        let at = *self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.files[at])
    }

    fn count_sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        if self.freeze_at.is_some_and(|at| self.syncs >= at) {
            Err(io::Error::other("the power is gone"))
        } else {
            Ok(())
        }
    }

    fn rename_noted(&mut self, change: impl FnOnce(&mut BTreeMap<String, usize>)) {
        change(&mut self.names);
        self.names_between.push(self.names.clone());
    }
}

impl MemoryFile {
    fn crash(&self, random: &mut Random) -> MemoryFile {
        let mut bytes = self.durable.clone();
        let keep = random.below(4);
        for (offset, data) in &self.unsynced {
            for (n, sector) in data.chunks(512).enumerate() {
                if keep == 3 || (keep > 0 && random.below(2) == 0) {
                    put(&mut bytes, offset + n as u64 * 512, sector);
                }
            }
        }
        MemoryFile { durable: bytes.clone(), bytes, unsynced: Vec::new() }
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let end = offset as usize + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset as usize..end].copy_from_slice(data);
}

impl Storage for Memory {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().cloned().collect())
    }
    fn allocate(&mut self, name: &str, len: u64) -> io::Result<()> {
        if !self.names.contains_key(name) {
            self.files.push(MemoryFile::default());
            let at = self.files.len() - 1;
            self.rename_noted(|names| {
                names.insert(name.into(), at);
            });
        }
        let file = self.file(name)?;
        file.bytes.resize(file.bytes.len().max(len as usize), 0);
        file.durable.resize(file.bytes.len(), 0);
        Ok(())
    }
    fn len(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.bytes.len() as u64)
    }
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let bytes = &self.file(name)?.bytes;
        let from = (offset as usize).min(bytes.len());
        let len = out.len().min(bytes.len() - from);
        out[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }
    fn write(&mut self, name: &str, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let data = parts.concat();
        let file = self.file(name)?;
        put(&mut file.bytes, offset, &data);
        file.unsynced.push((offset, data));
        Ok(())
    }
    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.count_sync()?;
        let file = self.file(name)?;
        file.durable = file.bytes.clone();
        file.unsynced.clear();
        Ok(())
    }
    fn sync_names(&mut self) -> io::Result<()> {
        self.count_sync()?;
        self.durable_names = self.names.clone();
        self.names_between.clear();
        Ok(())
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let at = *self.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.rename_noted(|names| {
            names.remove(from);
            names.insert(to.into(), at);
        });
        Ok(())
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.rename_noted(|names| {
            names.remove(name);
        });
        Ok(())
    }
}

fn options() -> JournalOptions {
    JournalOptions { segment_bytes: 4096, bytes_max: 1 << 20 }
}

fn entry(n: u64) -> Entry {
    let mut random = Random(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let len = random.below(1500) as usize;
    let head = EntryHead {
        epoch: 1,
        incarnation: 1 + n / 40,
        first: n * 3,
        last: n * 3 + 2,
        consistent: n.is_multiple_of(5),
        capture: 7,
        captured: n,
    };
    Entry { head, payload: (0..len).map(|_| random.next() as u8).collect() }
}

fn all<S: Storage>(journal: &mut Journal<S>) -> Vec<Entry> {
    journal.entries().map(Result::unwrap).collect()
}

/// Appends, syncs, drops and reopens by a seed until the power goes; returns the storage, how many entries were
/// appended and synced, and how many may have been dropped.
fn run(seed: u64, freeze_at: u32) -> (Memory, u64, u64, u64, bool) {
    let mut random = Random(seed | 1);
    let storage = Memory { freeze_at: Some(freeze_at), ..Memory::default() };
    let (mut appended, mut synced, mut dropped) = (0, 0, 0);
    let mut storage_left = storage.clone();
    let Ok(mut journal) = open_tracked(storage, &mut storage_left) else { return (storage_left, 0, 0, 0, true) };
    for _ in 0..120 {
        let done = match random.below(10) {
            0..6 => {
                let next = entry(appended);
                let done = journal.append(&next.head, &next.payload);
                appended += u64::from(done.is_ok());
                done
            }
            6..9 => {
                let done = journal.sync();
                if done.is_ok() {
                    synced = appended;
                }
                done
            }
            _ if synced > dropped => {
                dropped += random.below(synced - dropped) + 1;
                journal.drop_until(entry(dropped - 1).head.position())
            }
            _ => Ok(()),
        };
        if done.is_err() {
            return (journal.into_storage(), appended, synced, dropped, true);
        }
    }
    (journal.into_storage(), appended, synced, dropped, false)
}

fn open_tracked(storage: Memory, left: &mut Memory) -> Result<Journal<Memory>, JournalError> {
    *left = storage.clone();
    Journal::open_on(storage, options())
}

#[test]
fn after_a_crash_at_any_sync_everything_synced_is_there_in_order() {
    for seed in 1..12u64 {
        for freeze_at in 1.. {
            let (storage, appended, synced, dropped, frozen) = run(seed, freeze_at);
            for image in 0..6u64 {
                let context = format!("seed {seed}, sync {freeze_at}, image {image}");
                let crashed = storage.crash(&mut Random(seed * 1000 + image + u64::from(freeze_at) * 77));
                let mut journal = Journal::open_on(crashed, options()).unwrap_or_else(|e| panic!("{context}: {e}"));
                let found = all(&mut journal);
                check_run(&found, appended, synced, dropped, &context);
                // And it goes on from there.
                let next = entry(10_000);
                journal.append(&next.head, &next.payload).unwrap();
                journal.sync().unwrap();
                let mut again = Journal::open_on(journal.into_storage(), options()).unwrap();
                let mut expected = found;
                expected.push(next);
                assert_eq!(all(&mut again), expected, "{context}");
            }
            if !frozen {
                break;
            }
        }
    }
}

/// The entries found are neighbours, from at most `dropped` up to at least `synced`.
fn check_run(found: &[Entry], appended: u64, synced: u64, dropped: u64, context: &str) {
    let Some(first) = found.first() else {
        assert_eq!(synced, dropped, "{context}: nothing is left");
        return;
    };
    let from = first.head.first / 3;
    assert!(from <= dropped, "{context}: starts at {from}, only {dropped} were dropped");
    for (n, entry_found) in found.iter().enumerate() {
        assert_eq!(*entry_found, entry(from + n as u64), "{context}");
    }
    let until = from + found.len() as u64;
    // The entry in flight when the power went may or may not count.
    assert!(until >= synced && until <= appended + 1, "{context}: {until} of {synced} synced, {appended} appended");
}

#[test]
fn damage_in_the_middle_is_named_and_can_be_cut_off() {
    let mut journal = Journal::open_on(Memory::default(), options()).unwrap();
    for n in 0..20 {
        let next = entry(n);
        journal.append(&next.head, &next.payload).unwrap();
        journal.sync().unwrap();
    }
    let storage = journal.into_storage();
    let mut reported = 0;
    for (name, at) in storage.names.clone() {
        for offset in (0..4096).step_by(97) {
            let mut damaged = storage.clone();
            damaged.files[at].bytes[offset] ^= 0x10;
            match Journal::open_on(damaged.clone(), options()) {
                Err(JournalError::Corrupt { segment, offset: said, .. }) => {
                    assert_eq!(segment_name(segment), name);
                    assert!(said <= offset as u64, "{name} at {offset}: said {said}");
                    reported += 1;
                    let mut cut = Journal::open_cut_on(damaged, options()).unwrap();
                    let left = all(&mut cut);
                    assert!(left.len() < 20 && left.iter().enumerate().all(|(n, e)| *e == entry(n as u64)));
                    let next = entry(500);
                    cut.append(&next.head, &next.payload).unwrap();
                    cut.sync().unwrap();
                    let mut again = Journal::open_on(cut.into_storage(), options()).unwrap();
                    assert_eq!(all(&mut again).last(), Some(&next), "what was cut off stays cut off");
                }
                // Behind the end, in padding, or in the entry that was synced last.
                Ok(mut journal) => assert!(all(&mut journal).len() >= 19, "{name} at {offset}"),
                Err(other) => panic!("{name} at {offset}: {other}"),
            }
        }
    }
    assert!(reported > 50, "{reported}");
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = Random(0x5eed);
    let mut journal = Journal::open_on(Memory::default(), options()).unwrap();
    for n in 0..12 {
        let next = entry(n);
        journal.append(&next.head, &next.payload).unwrap();
    }
    journal.sync().unwrap();
    let storage = journal.into_storage();
    for _ in 0..3000 {
        let mut damaged = storage.clone();
        for _ in 0..=random.below(6) {
            let file = random.below(damaged.files.len() as u64) as usize;
            let bytes = &mut damaged.files[file].bytes;
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => {
                    let end = (at + random.below(64) as usize).min(bytes.len());
                    bytes[at..end].iter_mut().for_each(|byte| *byte = random.next() as u8);
                }
            }
        }
        for cut in [false, true] {
            if let Ok(mut journal) = Journal::open_with(damaged.clone(), options(), cut) {
                journal.entries().for_each(drop);
            }
        }
    }
}

#[test]
fn a_full_journal_says_so_and_goes_on_after_a_checkpoint() {
    let options = JournalOptions { segment_bytes: 4096, bytes_max: 3 * 4096 };
    let mut journal = Journal::open_on(Memory::default(), options).unwrap();
    let mut n = 0;
    let full = loop {
        let next = entry(n);
        match journal.append(&next.head, &next.payload) {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, JournalError::Full { bytes: 12288, bytes_max: 12288 }), "{full}");
    journal.drop_until(entry(n - 1).head.position()).unwrap();
    let next = entry(n);
    journal.append(&next.head, &next.payload).unwrap();
    assert_eq!(journal.last(), Some(next.head.position()));
}

#[test]
fn the_format_is_as_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { segment_bytes: 4096, bytes_max: 1 << 20 };
    let mut journal = Journal::open(dir.path(), options).unwrap();
    let head = EntryHead { epoch: 1, incarnation: 2, first: 3, last: 4, consistent: true, capture: 10, captured: 11 };
    journal.append(&head, b"five!").unwrap();
    journal.sync().unwrap();
    journal.append(&EntryHead { first: 5, last: 9, consistent: false, ..head }, b"").unwrap();
    journal.sync().unwrap();
    let bytes = std::fs::read(dir.path().join("0000000000000001.journal")).unwrap();
    let hex: String = bytes[..208].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("../../tests/golden/journal.hex").trim());
    assert!(bytes[208..].iter().all(|byte| *byte == 0));
}

#[test]
fn version_1_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let hex = include_str!("../../tests/golden/journal-1.hex").trim();
    let mut bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    bytes.resize(4096, 0);
    std::fs::write(dir.path().join("0000000000000001.journal"), bytes).unwrap();
    let mut journal = Journal::open(dir.path(), options()).unwrap();
    let head = EntryHead { epoch: 1, incarnation: 2, first: 3, last: 4, consistent: true, ..EntryHead::default() };
    let first = Entry { head, payload: b"five!".to_vec() };
    let head = EntryHead { first: 5, last: 9, consistent: false, ..head };
    let new = EntryHead { first: 10, last: 10, capture: 3, captured: 4, ..head };
    assert_eq!(journal.last_captured(), Some((0, 0)));
    journal.append(&new, b"new").unwrap();
    journal.sync().unwrap();
    let mut journal = Journal::open(dir.path(), options()).unwrap();
    let expected = [first, Entry { head, payload: Vec::new() }, Entry { head: new, payload: b"new".to_vec() }];
    assert_eq!(all(&mut journal), expected);
    assert_eq!(journal.last_captured(), Some((3, 4)));
}

#[test]
fn segments_are_used_again_without_reading_what_they_held() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), options()).unwrap();
    for n in 0..300 {
        let next = entry(n);
        journal.append(&next.head, &next.payload).unwrap();
        journal.sync().unwrap();
        journal.drop_until(next.head.position()).unwrap();
    }
    assert!(journal.bytes() <= 3 * 4096, "{}", journal.bytes());
    drop(journal);
    let mut journal = Journal::open(dir.path(), options()).unwrap();
    let left = all(&mut journal);
    assert!(left.len() <= 8 && left.last() == Some(&entry(299)));
}

#[test]
fn opening_again_and_again_takes_no_segment_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { segment_bytes: 1 << 20, bytes_max: 1 << 30 };
    for n in 0..20 {
        let mut journal = Journal::open(dir.path(), options).unwrap();
        let next = entry(n);
        journal.append(&next.head, &next.payload).unwrap();
        journal.sync().unwrap();
    }
    let files = std::fs::read_dir(dir.path()).unwrap().flatten();
    let bytes: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 2 << 20, "{bytes}");
    let mut journal = Journal::open(dir.path(), options).unwrap();
    assert_eq!(all(&mut journal), (0..20).map(entry).collect::<Vec<_>>());
}
