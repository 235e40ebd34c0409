//! Figures, not checks: run with `--release -- --ignored --nocapture`.

mod common;

use std::fs;
use std::time::Instant;

use common::disk::Disk;
use common::scan::scan;
use common::{Source, open_replica};
use stead_disk::journal::{EntryHead, Journal, JournalOptions};
use stead_model::record::Purpose;
use stead_model::{Kind, Position, Record};

fn seconds<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = act();
    println!("{what}: {:.3} s", begin.elapsed().as_secs_f64());
    result
}

fn small_files(source: &Source, dirs: usize, files: usize, bytes: usize) {
    for dir in 0..dirs {
        let dir = source.dir.join(format!("d{dir}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..files {
            fs::write(dir.join(format!("file{file}")), vec![b'x'; bytes]).unwrap();
        }
    }
}

#[test]
#[ignore = "it measures"]
fn first_mirror_and_unchanged() {
    let (from, to) = (Disk::of("ext4", 4000).unwrap(), Disk::of("ext4", 4000).unwrap());
    let source = Source::new(&from.path.join("source"));
    small_files(&source, 200, 100, 4096);
    rustix::fs::sync();
    let tar = format!(
        "mkdir {1}/tar && tar -C {0} -cf - . | tar -C {1}/tar -xf - && sync -f {1}/tar",
        source.dir.display(),
        to.path.display()
    );
    seconds("tar | tar of 20,000 x 4 KiB with sync", || {
        std::process::Command::new("sh").args(["-c", &tar]).status().unwrap()
    });
    let mut replica = open_replica(&to.path.join("replica"), &to.path.join("state"));
    seconds("mirror of 20,000 x 4 KiB with checkpoint", || {
        scan(&source, &mut replica, Purpose::Mirror);
        replica.checkpoint(Position::default()).unwrap();
    });
    seconds("reading alone", || read_all(&source, 8192));
    seconds("difference, nothing changed, 20,000", || scan(&source, &mut replica, Purpose::Difference));
    let rsync = format!("rsync -aHAXS {0}/ {1}/rsync/", source.dir.display(), to.path.display());
    seconds("rsync first", || std::process::Command::new("sh").args(["-c", &rsync]).status().unwrap());
    seconds("rsync unchanged", || std::process::Command::new("sh").args(["-c", &rsync]).status().unwrap());
}

fn read_all(source: &Source, small: u64) -> usize {
    let mut waiting = vec![source.root.id()];
    let mut count = 0;
    while let Some(dir) = waiting.pop() {
        let listing = source.reader.list_with_content(dir, 0, 100_000, small, 1 << 30).unwrap().unwrap();
        count += listing.entries.len();
        waiting.extend(listing.entries.iter().filter(|entry| entry.attr.is_dir()).map(|entry| entry.file));
    }
    count
}

#[test]
#[ignore = "it measures"]
fn overwrites_and_renames() {
    let disk = Disk::of("ext4", 2000).unwrap();
    let source = Source::new(&disk.path.join("source"));
    fs::write(source.dir.join("big"), vec![1; 256 << 20]).unwrap();
    let mut replica = open_replica(&disk.path.join("replica"), &disk.path.join("state"));
    scan(&source, &mut replica, Purpose::Mirror);
    let file = source.id(&source.dir.join("big"));
    let attr = source.attr(file);
    let data = vec![7; 4096];
    seconds("100,000 overwrites of 4 KiB", || {
        for n in 0..100_000u64 {
            let a = n * 7919 % 65536 * 4096;
            replica.apply(&Record { a, data: &data, attr, ..Record::new(Kind::Write, file) }).unwrap();
            if n % 16 == 0 {
                replica.settle().unwrap();
            }
        }
    });
    let root = source.root.id();
    seconds("20,000 renames", || {
        for n in 0..20_000 {
            let (name, name2): (&[u8], &[u8]) = if n % 2 == 0 { (b"big", b"large") } else { (b"large", b"big") };
            let mut record = Record { parent: root, name, name2, attr, ..Record::new(Kind::Rename, file) };
            record.names.parent2 = root;
            replica.apply(&record).unwrap();
        }
    });
}

#[test]
#[ignore = "it measures"]
fn journal_syncs() {
    let disk = Disk::of("ext4", 1000).unwrap();
    let dir = disk.path.join("journal");
    fs::create_dir(&dir).unwrap();
    let mut journal = Journal::open(&dir, JournalOptions { segment_bytes: 16 << 20, bytes_max: 256 << 20 }).unwrap();
    let payload = vec![5; 4300];
    for lap in ["new", "used again", "used again"] {
        seconds(&format!("2,000 entries of 4.3 KB, each synced, segments {lap}"), || {
            for n in 0..2000 {
                let head = EntryHead { first: n, last: n, ..EntryHead::default() };
                journal.append(&head, &payload).unwrap();
                journal.sync().unwrap();
            }
        });
        let last = journal.last().unwrap();
        journal.drop_until(last).unwrap();
    }
}

#[test]
#[ignore = "it measures"]
fn a_million_files_in_the_map() {
    let disk = Disk::plain();
    let source = Source::new(&disk.path.join("source"));
    let rss = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
    };
    println!("before: {}", rss());
    let mut replica = open_replica(&disk.path.join("replica"), &disk.path.join("state"));
    replica.fill_for_test(1_000_000, &source.root.id());
    println!("filled: {}", rss());
    seconds("checkpoint of 1,000,000 new", || replica.checkpoint(Position::default()).unwrap());
    println!("checkpointed: {}", rss());
    drop(replica);
    let replica = seconds("loading 1,000,000", || open_replica(&disk.path.join("replica"), &disk.path.join("state")));
    assert_eq!(replica.statistics().files, 1_000_000);
    println!("loaded: {}", rss());
}

/// Applies as the daemon does: batches, each foreseen, applied, settled.
fn apply_in_batches(replica: &mut stead_disk::replica::Replica, log: &[Vec<u8>], batch: usize) {
    for batch in log.chunks(batch) {
        let bytes = batch.concat();
        replica.foresee(&bytes).unwrap();
        for record in stead_model::record::records(&bytes) {
            replica.apply(&record.unwrap()).unwrap();
        }
        replica.settle().unwrap();
    }
}

#[test]
#[ignore = "it measures"]
fn with_and_without_images() {
    let disk = Disk::of("ext4", 3000).unwrap();
    let source = Source::new(&disk.path.join("source"));
    small_files(&source, 40, 250, 4096);
    fs::write(source.dir.join("big"), vec![1; 256 << 20]).unwrap();
    let big = source.id(&source.dir.join("big"));
    let attr = source.attr(big);
    let data = vec![7; 4096];
    let record = |record: Record<'_>| {
        let mut buf = stead_model::RecordBuf::new();
        buf.push(&record);
        buf.into_bytes()
    };
    let overwrites: Vec<_> = (0..30_000u64)
        .map(|n| record(Record { a: n * 7919 % 65536 * 4096, data: &data, attr, ..Record::new(Kind::Write, big) }))
        .collect();
    let mut small = Vec::new();
    for (path, meta) in source.paths() {
        if meta.is_file() && meta.len() == 4096 {
            let file = source.id(&path);
            small.push(record(Record { data: &data, attr: source.attr(file), ..Record::new(Kind::Write, file) }));
        }
    }
    let mut removals = Vec::new();
    for (path, meta) in source.paths() {
        if meta.is_file() && meta.len() == 4096 {
            let (file, parent) = (source.id(&path), source.id(path.parent().unwrap()));
            let mut attr = source.attr(file);
            attr.nlink = 0;
            let name = std::os::unix::ffi::OsStrExt::as_bytes(path.file_name().unwrap()).to_vec();
            removals.push(record(Record { parent, name: &name, attr, ..Record::new(Kind::Unlink, file) }));
        }
    }
    for kept in ["nothing", "images", "trash"] {
        let dir = disk.path.join(kept);
        let mut replica = open_replica(&dir.join("replica"), &dir.join("state"));
        scan(&source, &mut replica, Purpose::Mirror);
        replica.checkpoint(Position::default()).unwrap();
        match kept {
            "images" => drop(seconds("beginning images", || replica.keep_images(Position::default()).unwrap())),
            "trash" => {
                let trash =
                    stead_disk::replica::TrashLimits { seconds_max: 60, objects_max: 1 << 20, bytes_max: 1 << 40 };
                replica.set_policy(stead_disk::replica::Policy { trash, ..Default::default() });
            }
            _ => {}
        }
        for (what, log, batch) in [
            ("30,000 overwrites of 4 KiB, all different blocks", &overwrites, 256),
            ("the same again", &overwrites, 256),
            ("10,000 overwritten small files", &small, 256),
            ("10,000 removals", &removals, 256),
        ] {
            rustix::fs::sync();
            seconds(&format!("{kept} kept: {what}"), || apply_in_batches(&mut replica, log, batch));
        }
        if kept == "images" {
            println!("{:?}", replica.images());
            seconds("rolling back", || replica.roll_back().unwrap());
        }
        drop(replica);
        fs::remove_dir_all(&dir).unwrap();
    }
}
