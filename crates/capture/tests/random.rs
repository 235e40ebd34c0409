//! Random work by several threads at once; the records alone have to make the same tree. `SEED` repeats a run.

mod common;

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{Rig, with_order};
use rustix::fs::{AtFlags, CWD, FallocateFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use stead_capture::{Capture, Order};
use stead_model::record::records;

/// xorshift: the numbers have to be the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
    fn name(&mut self, root: &Path) -> PathBuf {
        let mut path = root.to_path_buf();
        for _ in 0..self.roll(3) {
            path.push(format!("d{}", self.roll(4)));
        }
        path.join(format!("{}{}", ["f", "d"][self.roll(2) as usize], self.roll(6)))
    }
}

/// One random operation; that many of them fail is part of it.
fn act(dice: &mut Dice, root: &Path, data: &[u8]) -> Option<()> {
    let (path, other) = (dice.name(root), dice.name(root));
    let open = |write: bool| OpenOptions::new().read(true).write(write).open(&path).ok();
    let c_path = CString::new(path.to_str()?).ok()?;
    match dice.roll(20) {
        0..3 => drop(OpenOptions::new().create(true).truncate(dice.roll(4) == 0).write(true).open(&path).ok()?),
        3 | 4 => std::fs::create_dir(&path).ok()?,
        5..9 => {
            let (at, len) = (dice.roll(300_000), dice.roll(40_000) as usize);
            open(true)?.write_all_at(&data[at as usize % 1000..][..len], at).ok()?;
        }
        9 => std::io::Write::write_all(&mut OpenOptions::new().append(true).open(&path).ok()?, b"appended").ok()?,
        10 => open(true)?.set_len(dice.roll(200_000)).ok()?,
        11 => std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).ok()?,
        12 => std::fs::rename(&path, &other).ok()?,
        13 => {
            let flags = [RenameFlags::EXCHANGE, RenameFlags::NOREPLACE, RenameFlags::WHITEOUT][dice.roll(3) as usize];
            rustix::fs::renameat_with(CWD, &path, CWD, &other, flags).ok()?;
        }
        14 => std::fs::hard_link(&path, &other).ok()?,
        15 => std::os::unix::fs::symlink(format!("target{}", dice.roll(9)), &path).ok()?,
        16 => {
            let mode = [0, 1, 3, 16][dice.roll(4) as usize];
            let mode = FallocateFlags::from_bits_retain(mode);
            rustix::fs::fallocate(open(true)?, mode, dice.roll(100_000), 1 + dice.roll(50_000)).ok()?;
        }
        17 => {
            let name = format!("user.{}", dice.roll(3));
            if dice.roll(3) == 0 {
                rustix::fs::lremovexattr(&c_path, name).ok()?;
            } else {
                rustix::fs::lsetxattr(&c_path, name, &data[..dice.roll(100) as usize], XattrFlags::empty()).ok()?;
            }
        }
        18 => {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700 | dice.roll(0o100) as u32)).ok()?;
            std::os::unix::fs::lchown(&path, Some(dice.roll(9) as u32), Some(dice.roll(9) as u32)).ok()?;
        }
        _ => match dice.roll(4) {
            0 => {
                let time = Timespec { tv_sec: dice.roll(1 << 31) as i64, tv_nsec: dice.roll(1_000_000_000) as i64 };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            }
            1 => open(true)?.sync_data().ok()?,
            2 => {
                let file = open(true)?;
                let _ = std::fs::remove_file(&path);
                file.write_all_at(b"after the last name", dice.roll(1000)).ok()?;
            }
            _ => {
                let file = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(0o640).open(root).ok()?;
                let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
                rustix::fs::linkat(CWD, from, CWD, &path, AtFlags::SYMLINK_FOLLOW).ok()?;
                file.write_all_at(b"named afterwards", 0).ok()?;
            }
        },
    }
    Some(())
}

fn run(order: Order, shared: bool) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed: u64 = seed.unwrap_or_else(|| now() | 1);
    eprintln!("SEED={seed}");
    let mut rig = Rig::with(with_order(order));
    let data: Vec<u8> = (0..50_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
    std::thread::scope(|scope| {
        for id in 0..4_u64 {
            let name = if shared { 0 } else { id }.to_string();
            let (root, bare, data) = (rig.ours().join(&name), rig.bare().join(&name), &data);
            scope.spawn(move || {
                let work = |root: &Path| {
                    let _ = std::fs::create_dir(root);
                    let mut dice = Dice(seed.wrapping_mul(id * 2 + 3) | 1);
                    for _ in 0..100 {
                        let _ = dice.roll(2); // close seeds part slowly
                    }
                    (0..1500).filter(|_| act(&mut dice, root, data).is_some()).count()
                };
                let done = work(&root);
                assert!(done > 50, "only {done} operations did something");
                if !shared {
                    assert_eq!(done, work(&bare), "SEED={seed}: as many as on a bare directory");
                }
            });
        }
    });
    let status = rig.capture().status();
    assert_eq!(status.dropped_records, 0, "the ring is too small for this test");
    assert_eq!((status.bypassed, status.watches_beneath), (0, true), "our own work is not taken for somebody else's");
    rig.assert_replica(&format!("SEED={seed}"));
}

#[test]
fn threads_apart() {
    run(Order::Strict, false);
}

#[test]
fn threads_in_one_directory() {
    run(Order::Strict, true);
}

#[test]
fn threads_in_one_directory_with_write_back() {
    run(Order::Flush, true);
}

/// The kernel writes several pages of a file back at once. No record of it may say how it was before another one.
#[test]
fn what_is_said_of_a_file_that_many_write_back_is_in_order() {
    let mut rig = Rig::with(with_order(Order::Flush));
    let path = rig.ours().join("pages");
    let file = std::fs::File::create(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let file = &file;
            scope.spawn(move || {
                let block = vec![thread as u8; 1 << 20];
                for round in 0..12 {
                    file.write_all_at(&block, thread << 20).unwrap();
                    file.sync_data().unwrap();
                    rustix::fs::fsetxattr(file, "user.round", &[round], XattrFlags::empty()).unwrap();
                }
            });
        }
    });
    let bytes = rig.drain();
    let times: Vec<_> = records(&bytes).map(|record| record.unwrap().attr.ctime()).collect();
    let back = times.windows(2).filter(|pair| (pair[1].sec, pair[1].nsec) < (pair[0].sec, pair[0].nsec)).count();
    assert_eq!(back, 0, "of {} records", times.len());
}

#[test]
fn a_whiteout_that_is_refused_leaves_its_traces_in_the_records_too() {
    let mut rig = Rig::with(with_order(Order::Strict));
    let ours = rig.ours();
    ["from", "from/a", "full", "full/b"].iter().for_each(|dir| std::fs::create_dir(ours.join(dir)).unwrap());
    let (from, to) = (ours.join("from/a"), ours.join("full"));
    rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::WHITEOUT).unwrap_err();
    rig.assert_replica("after the refusal");
}
