//! Real file systems on a disk that loses power: whoever syncs loses nothing, whoever forgets a sync is caught.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use cutdisk::CutDisk;

const RECORD: usize = 700;
const SLOT: usize = 4096;

/// What O_DIRECT wants.
#[repr(align(4096))]
struct Aligned([u8; SLOT]);

/// What a program forgets.
#[derive(Clone, Copy, PartialEq)]
enum Planted {
    Nothing,
    FileSync,
    DirectorySync,
    /// Writes past the page cache, and takes that for durable.
    DiskFlush,
}

fn seeds() -> std::ops::Range<u64> {
    let chosen = std::env::var("STEAD_SEED").ok().and_then(|seed| seed.parse().ok());
    chosen.map_or(0..12, |seed| seed..seed + 1)
}

#[test]
fn nothing_acknowledged_is_lost_on_ext4() {
    assert_eq!(lost("ext4", &[], Planted::Nothing), 0);
}

#[test]
fn nothing_acknowledged_is_lost_on_xfs() {
    assert_eq!(lost("xfs", &[], Planted::Nothing), 0);
}

#[test]
fn a_missing_fsync_of_a_file_is_caught() {
    assert!(lost("ext4", &[], Planted::FileSync) > 0);
}

#[test]
fn a_missing_fsync_of_a_directory_is_caught() {
    assert!(lost("ext4", &[], Planted::DirectorySync) > 0);
}

#[test]
fn a_missing_flush_of_the_disk_is_caught() {
    assert!(lost("ext4", &[], Planted::DiskFlush) > 0);
}

/// Cuts after cuts; returns how many acknowledged records were not there afterwards.
fn lost(kind: &str, options: &[&str], planted: Planted) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("mounted");
    fs::create_dir(&at).unwrap();
    let mut disk = CutDisk::create(&dir.path().join("disk"), 400 << 20).unwrap();
    disk.format(kind, options).unwrap();
    disk.mount(&at, "noatime").unwrap();
    let (mut missing, mut held) = (0, 0);
    for seed in seeds() {
        let (told, cut) = std::thread::scope(|scope| {
            let others = scope.spawn(|| write_directly(&at));
            let told = work(&at, seed, planted);
            // The moment is any: the other writer is in the middle of something.
            std::thread::sleep(Duration::from_micros(seed * 700));
            let cut = disk.cut(seed).unwrap();
            others.join().unwrap();
            (told, cut)
        });
        disk.power_on().unwrap();
        disk.mount(&at, "noatime").unwrap();
        let found = found(&at, seed);
        println!("{kind}: {told} acknowledged, {found} found, {cut:?}");
        missing += told.saturating_sub(found);
        held += cut.kept + cut.torn + cut.dropped;
    }
    disk.unmount().unwrap();
    assert!(held > 0, "no cut found anything to drop");
    missing
}

/// Everything that is acknowledged. Whoever syncs commits for others too: what forgets a sync comes last.
fn work(dir: &Path, seed: u64, planted: Planted) -> usize {
    let mut parts = [append, fill, replace];
    match planted {
        Planted::FileSync => parts.rotate_left(1),
        Planted::DiskFlush => parts.swap(1, 2),
        Planted::Nothing | Planted::DirectorySync => {}
    }
    parts.iter().map(|part| part(dir, seed, planted)).sum()
}

/// Another writer, whose writes are mostly in the disk's cache when the power goes. It ends with the power.
fn write_directly(dir: &Path) {
    let Ok(file) = slots(dir, "others") else { return };
    for number in 0..1_000_000 {
        let written = file.write_all_at(&Aligned([number as u8; SLOT]).0, (number * 7 % 20) * SLOT as u64);
        if written.is_err() || number % 50 == 49 && file.sync_data().is_err() {
            return;
        }
    }
}

/// A file of twenty slots, written and synced, to be overwritten past the page cache.
fn slots(dir: &Path, name: &str) -> io::Result<File> {
    let mut options = File::options();
    let file = options.write(true).create(true).custom_flags(libc::O_DIRECT).open(dir.join(name))?;
    for slot in 0..20 {
        file.write_all_at(&Aligned([0; SLOT]).0, slot * SLOT as u64)?;
    }
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Fills slots past the page cache, each flushed before it counts.
fn fill(dir: &Path, seed: u64, planted: Planted) -> usize {
    let file = slots(dir, &format!("slots-{seed}")).unwrap();
    for slot in 0..20 {
        file.write_all_at(&Aligned([slot as u8 + 1; SLOT]).0, slot * SLOT as u64).unwrap();
        if planted != Planted::DiskFlush {
            file.sync_data().unwrap();
        }
    }
    20
}

/// Appends records to a log, each synced before it counts; then some that do not count.
fn append(dir: &Path, seed: u64, planted: Planted) -> usize {
    let log = File::options().append(true).create(true).open(dir.join(format!("log-{seed}"))).unwrap();
    sync_dir(dir);
    let told = 10 + seed as usize % 7;
    for number in 0..told + 5 {
        (&log).write_all(&record(number)).unwrap();
        if number < told && planted != Planted::FileSync {
            log.sync_data().unwrap();
        }
    }
    told
}

/// Replaces a file by rename, as editors do.
fn replace(dir: &Path, seed: u64, planted: Planted) -> usize {
    let (new, name) = (dir.join("new"), dir.join(format!("name-{seed}")));
    let rounds = 4;
    for round in 0..rounds {
        let file = File::create(&new).unwrap();
        file.write_all_at(&record(round), 0).unwrap();
        file.sync_all().unwrap();
        fs::rename(&new, &name).unwrap();
        if planted != Planted::DirectorySync {
            sync_dir(dir);
        }
    }
    rounds
}

fn found(dir: &Path, seed: u64) -> usize {
    let log = fs::read(dir.join(format!("log-{seed}"))).unwrap_or_default();
    let appended = log.chunks(RECORD).enumerate().take_while(|(number, bytes)| **bytes == record(*number)).count();
    let name = fs::read(dir.join(format!("name-{seed}"))).unwrap_or_default();
    let replaced = (0..4).rev().find(|round| name == record(*round)).map_or(0, |round| round + 1);
    let slots = fs::read(dir.join(format!("slots-{seed}"))).unwrap_or_default();
    let filled = slots.chunks(SLOT).enumerate().filter(|(slot, bytes)| **bytes == [*slot as u8 + 1; SLOT]).count();
    // Records beyond the acknowledged ones may be there too; only the acknowledged ones count.
    appended.min(10 + seed as usize % 7) + replaced + filled
}

fn record(number: usize) -> [u8; RECORD] {
    let mut bytes = [(number % 251) as u8 + 1; RECORD];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes
}

fn sync_dir(dir: &Path) {
    File::open(dir).unwrap().sync_all().unwrap();
}
