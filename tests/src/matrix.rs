//! The operation matrix: every way to change a file system, one small case each. A case runs in a directory of its own;
//! it is run on the bare file system, too, and must end the same there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, IFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use crate::command::run;
use crate::rng::Rng;
use crate::sys;
use crate::tree::{acl, set_times};

/// One case of the matrix.
pub struct Case {
    /// Its name; also that of its directory.
    pub name: &'static str,
    /// What it does in its directory.
    pub run: fn(&Dir) -> Result<()>,
    /// FUSE may refuse it as unsupported.
    pub may_be_refused: bool,
}

/// The directory of a case.
pub struct Dir {
    path: PathBuf,
}

/// How a case ended: as bare file system and mount are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Without error.
    Done,
    /// What the failing call, or the case's own check, said.
    Failed(String),
}

/// Runs a case in a new directory beneath `root`.
///
/// # Errors
/// Where the directory cannot be made.
pub fn run_case(case: &Case, root: &Path) -> Result<Outcome> {
    let dir = Dir { path: root.join(case.name.replace(' ', "-")) };
    fs::create_dir(&dir.path)?;
    Ok(match (case.run)(&dir) {
        Ok(()) => Outcome::Done,
        Err(e) => Outcome::Failed(format!("{e:#}").replace(&root.display().to_string(), "")),
    })
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (list, may_be_refused) in [(NAMES, false), (WRITES, false), (SPACE, false), (ATTRIBUTES, false), (RARE, true)] {
        all.extend(list.iter().map(|(name, run)| Case { name, run: *run, may_be_refused }));
    }
    all
}

type Listed = (&'static str, fn(&Dir) -> Result<()>);

const NAMES: &[Listed] = &[
    ("create", |d| d.file("new", b"").map(drop)),
    ("create exclusive", |d| {
        File::options().write(true).create_new(true).mode(0o4750).open(d.at("new"))?;
        let again = File::options().write(true).create_new(true).open(d.at("new"));
        ensure!(again.is_err_and(|e| e.kind() == std::io::ErrorKind::AlreadyExists), "made twice");
        Ok(())
    }),
    ("create truncating", |d| {
        d.file("old", b"old content")?;
        Ok(fs::write(d.at("old"), "new")?)
    }),
    ("create as a user with umask", |d| d.user("umask 027; touch file; mkdir dir; ln -s file link; mkfifo fifo")),
    ("create in a setgid directory", |d| {
        fs::create_dir(d.at("dir"))?;
        chown(d.at("dir"), Some(1000), Some(4242))?;
        fs::set_permissions(d.at("dir"), fs::Permissions::from_mode(0o2775))?;
        d.user("cd dir && touch file && mkdir sub && touch sub/file && ln -s x link")
    }),
    ("create under a default acl", |d| {
        fs::create_dir(d.at("dir"))?;
        d.xattr("dir", "system.posix_acl_default", &acl(7, 1005, 5))?;
        fs::write(d.at("dir/file"), "x")?;
        Ok(fs::create_dir(d.at("dir/sub"))?)
    }),
    ("mkdir and rmdir", |d| {
        fs::create_dir_all(d.at("a/b/c"))?;
        fs::create_dir(d.at("gone"))?;
        Ok(fs::remove_dir(d.at("gone"))?)
    }),
    ("nodes", |d| {
        for (name, kind, dev) in [
            ("fifo", FileType::Fifo, 0),
            ("socket", FileType::Socket, 0),
            ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
            ("loop", FileType::BlockDevice, rustix::fs::makedev(7, 77)),
        ] {
            rustix::fs::mknodat(CWD, d.at(name), kind, Mode::from_raw_mode(0o640), dev)?;
        }
        Ok(())
    }),
    ("symlink", |d| {
        symlink("somewhere/else", d.at("link"))?;
        symlink("x".repeat(4000), d.at("long"))?;
        Ok(lchown(d.at("link"), Some(7), Some(8))?)
    }),
    ("link and unlink", |d| {
        d.file("one", b"content")?;
        fs::hard_link(d.at("one"), d.at("two"))?;
        fs::create_dir(d.at("sub"))?;
        fs::hard_link(d.at("one"), d.at("sub/three"))?;
        fs::remove_file(d.at("one"))?;
        Ok(fs::write(d.at("two"), "through another name")?)
    }),
    ("unlink while open", |d| {
        let file = d.file("open", b"content")?;
        fs::hard_link(d.at("open"), d.at("kept"))?;
        fs::remove_file(d.at("open"))?;
        file.write_all_at(b"after", 2)?;
        let gone = d.file("gone", b"content")?;
        fs::remove_file(d.at("gone"))?;
        gone.write_all_at(&[1; 10_000], 0)?;
        Ok(gone.set_len(3)?)
    }),
    ("tmpfile and linkat", |d| {
        let dir = File::open(&d.path)?;
        let tmp = rustix::fs::openat(&dir, c".", OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o640))?;
        let tmp = File::from(tmp);
        tmp.write_all_at(b"written before it has a name", 0)?;
        let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&tmp));
        rustix::fs::linkat(CWD, proc, CWD, d.at("named"), AtFlags::SYMLINK_FOLLOW)?;
        tmp.write_all_at(b"and after", 100)?;
        let nameless = rustix::fs::openat(&dir, c".", OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o600))?;
        Ok(File::from(nameless).write_all_at(b"never named", 0)?)
    }),
    ("rename", |d| {
        d.file("a", b"content")?;
        fs::rename(d.at("a"), d.at("b"))?;
        fs::create_dir(d.at("dir"))?;
        Ok(fs::rename(d.at("b"), d.at("dir/c"))?)
    }),
    ("rename over", |d| {
        d.file("a", b"new")?;
        d.file("b", b"old")?;
        fs::hard_link(d.at("b"), d.at("old too"))?;
        fs::rename(d.at("a"), d.at("b"))?;
        fs::create_dir(d.at("dir"))?;
        fs::create_dir(d.at("empty"))?;
        d.file("dir/inside", b"x")?;
        Ok(fs::rename(d.at("dir"), d.at("empty"))?)
    }),
    ("rename over while open", |d| {
        d.file("a", b"new")?;
        let old = d.file("b", b"old")?;
        fs::rename(d.at("a"), d.at("b"))?;
        Ok(old.write_all_at(b"to nobody", 0)?)
    }),
    ("rename of a directory", |d| {
        fs::create_dir_all(d.at("a/b/c"))?;
        let inside = d.file("a/b/c/file", b"content")?;
        fs::create_dir(d.at("x"))?;
        fs::rename(d.at("a/b"), d.at("x/y"))?;
        inside.write_all_at(b"written after the rename", 3)?;
        Ok(fs::write(d.at("x/y/c/second"), "new name")?)
    }),
    ("rename of two names of a file", |d| {
        d.file("a", b"content")?;
        fs::hard_link(d.at("a"), d.at("b"))?;
        Ok(fs::rename(d.at("a"), d.at("b"))?)
    }),
    ("rename noreplace", |d| {
        d.file("a", b"a")?;
        d.file("b", b"b")?;
        ensure!(d.rename("a", "b", RenameFlags::NOREPLACE) == Err(Errno::EXIST), "replaced");
        Ok(d.rename("a", "c", RenameFlags::NOREPLACE)?)
    }),
    ("rename exchange", |d| {
        d.file("a", b"a")?;
        d.file("b", b"b")?;
        fs::create_dir_all(d.at("dir/sub"))?;
        d.file("dir/sub/inside", b"i")?;
        d.rename("a", "b", RenameFlags::EXCHANGE)?;
        Ok(d.rename("a", "dir/sub", RenameFlags::EXCHANGE)?)
    }),
    ("rename whiteout", |d| {
        d.file("a", b"a")?;
        Ok(d.rename("a", "b", RenameFlags::WHITEOUT)?)
    }),
    ("rename that fails", |d| {
        fs::create_dir_all(d.at("a/b"))?;
        d.file("a/b/file", b"x")?;
        fs::create_dir(d.at("full"))?;
        d.file("full/x", b"x")?;
        ensure!(d.rename("a", "a/b/c", RenameFlags::empty()) == Err(Errno::INVAL), "into itself");
        ensure!(d.rename("a", "full", RenameFlags::empty()) == Err(Errno::NOTEMPTY), "over a full one");
        ensure!(d.rename("none", "other", RenameFlags::empty()) == Err(Errno::NOENT), "from nothing");
        Ok(())
    }),
    ("replace as editors do", |d| {
        d.file("document", b"version 1")?;
        for version in 2..6 {
            let mut file = File::create(d.at(".document.tmp"))?;
            file.write_all(format!("version {version}").as_bytes())?;
            file.sync_all()?;
            fs::rename(d.at(".document.tmp"), d.at("document"))?;
        }
        Ok(())
    }),
    ("move in and out", |d| {
        let outside = d.path.ancestors().nth(2).expect("a root above").join(format!("outside-{}", std::process::id()));
        fs::create_dir_all(&outside)?;
        fs::write(outside.join("from outside"), "hello")?;
        run(Command::new("mv").arg(outside.join("from outside")).arg(d.at("inside")))?;
        d.file("leaves", b"bye")?;
        run(Command::new("mv").arg(d.at("leaves")).arg(&outside))?;
        Ok(fs::remove_dir_all(outside)?)
    }),
    ("odd names", |d| {
        for name in crate::tree::odd_names() {
            fs::write(d.path.join(OsStr::from_bytes(&name)), "x")?;
        }
        Ok(())
    }),
    ("many names", |d| {
        for number in 0..1500 {
            File::create(d.at(&format!("a-name-of-some-length-{number}")))?;
        }
        for number in (0..1500).step_by(3) {
            fs::remove_file(d.at(&format!("a-name-of-some-length-{number}")))?;
        }
        ensure!(fs::read_dir(&d.path)?.count() == 1000, "the directory lists something else");
        Ok(())
    }),
    ("reuse of an inode", |d| {
        for round in 0..20u8 {
            d.file("a", &[round; 5000])?;
            d.file("b", &[round; 100])?;
            fs::remove_file(d.at("a"))?;
            fs::create_dir(d.at("a"))?;
            fs::remove_dir(d.at("a"))?;
        }
        Ok(())
    }),
    ("unpack an archive", |d| {
        crate::tree::plain(&d.at("tree"), 150, 2 << 20, 5)?;
        run(Command::new("tar")
            .args(["--mtime=@0", "--sort=name"])
            .arg("-C")
            .arg(&d.path)
            .arg("-cf")
            .arg(d.at("archive.tar"))
            .arg("tree"))?;
        fs::create_dir(d.at("copy"))?;
        run(Command::new("tar").arg("-C").arg(d.at("copy")).arg("-xpf").arg(d.at("archive.tar")))?;
        Ok(fs::remove_dir_all(d.at("tree"))?)
    }),
];

const WRITES: &[Listed] = &[
    ("write in place", |d| {
        let file = d.file("f", &d.random(100_000))?;
        file.write_all_at(b"overlap", 10)?;
        file.write_all_at(b"lapover", 13)?;
        Ok(file.write_all_at(&d.random(5_000), 97_000)?)
    }),
    ("write beyond the end", |d| {
        let file = d.file("f", b"head")?;
        file.write_all_at(b"tail", 1_000_000)?;
        Ok(file.write_all_at(b"middle", 500_000)?)
    }),
    ("append", |d| {
        let mut one = File::options().append(true).create(true).open(d.at("log"))?;
        let mut two = File::options().append(true).open(d.at("log"))?;
        for number in 0..200 {
            writeln!(one, "one {number}")?;
            writeln!(two, "two {number}")?;
        }
        Ok(())
    }),
    ("large writes", |d| Ok(d.file("f", b"")?.write_all_at(&d.random(9 << 20), 12_345)?)),
    ("small writes", |d| {
        let mut file = d.file("f", b"")?;
        for number in 0..3_000u32 {
            file.write_all(&number.to_le_bytes())?;
        }
        Ok(())
    }),
    ("writev", |d| {
        let file = d.file("f", b"")?;
        let parts = [std::io::IoSlice::new(b"one "), std::io::IoSlice::new(b"two "), std::io::IoSlice::new(b"three")];
        ensure!(rustix::io::pwritev(&file, &parts, 5)? == 13, "short");
        Ok(())
    }),
    ("writes with O_SYNC and O_DSYNC", |d| {
        for (name, flags) in [("sync", libc::O_SYNC), ("dsync", libc::O_DSYNC)] {
            let file = File::options().write(true).create(true).truncate(true).custom_flags(flags).open(d.at(name))?;
            file.write_all_at(&d.random(10_000), 100)?;
        }
        Ok(())
    }),
    ("writes with O_DIRECT", |d| {
        let file =
            File::options().write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).open(d.at("f"))?;
        let bytes = d.random(5 * 4096);
        let start = bytes.as_ptr().align_offset(4096);
        file.write_all_at(&bytes[start..start + 4 * 4096], 8192)?;
        Ok(d.reopen("f")?.write_all_at(b"buffered beside it", 10_000)?)
    }),
    ("fsync and its kin", |d| {
        let file = d.file("f", b"x")?;
        file.write_all_at(b"1", 0)?;
        file.sync_all()?;
        file.write_all_at(b"2", 1)?;
        file.sync_data()?;
        file.write_all_at(b"3", 2)?;
        File::open(&d.path)?.sync_all()?;
        Ok(rustix::fs::syncfs(&file)?)
    }),
    ("copy_file_range", |d| {
        d.file("a", &d.random(300_000))?;
        let (from, to) = (d.reopen("a")?, d.file("b", b"")?);
        let (mut at, mut into) = (1000, 77);
        while rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut into), 200_000)? > 0 {}
        Ok(())
    }),
    ("sendfile", |d| {
        d.file("a", &d.random(200_000))?;
        let (from, to) = (d.reopen("a")?, d.file("b", b"")?);
        let mut at = 10;
        while rustix::fs::sendfile(&to, &from, Some(&mut at), 100_000)? > 0 {}
        Ok(())
    }),
    ("splice", |d| {
        let to = d.file("b", b"")?;
        let (read, write) = rustix::pipe::pipe()?;
        let none = rustix::pipe::SpliceFlags::empty();
        for number in 0..20u8 {
            rustix::io::write(&write, &[number; 4096])?;
            rustix::pipe::splice(&read, None, &to, None, 4096, none)?;
        }
        Ok(())
    }),
    ("aio", |d| sys::write_aio(&d.file("f", b"start")?, 3, &d.random(20_000))),
    ("mapping with msync", |d| {
        let file = d.file("f", &d.random(40_000))?;
        sys::store_mapped(&file, 5_000, &d.random(20_000), true, true)
    }),
    ("mapping without msync", |d| {
        let file = d.file("f", &d.random(40_000))?;
        sys::store_mapped(&file, 100, &d.random(30_000), true, false)?;
        Ok(file.write_all_at(b"a write after it", 50)?)
    }),
    ("private mapping", |d| {
        let file = d.file("f", &d.random(40_000))?;
        sys::store_mapped(&file, 100, &d.random(30_000), false, false)
    }),
    ("mapping over a hole", |d| {
        let file = d.file("f", b"")?;
        file.set_len(1 << 20)?;
        sys::store_mapped(&file, 500_000, b"in the middle of a hole", true, true)
    }),
    ("write by two descriptors", |d| {
        let one = d.file("f", &[0; 10_000])?;
        let two = d.reopen("f")?;
        for number in 0..100u64 {
            one.write_all_at(&[1; 50], number * 90)?;
            two.write_all_at(&[2; 50], number * 90 + 25)?;
        }
        Ok(())
    }),
    ("same size and time, other content", |d| {
        let file = d.file("f", b"aaaa")?;
        set_times(&d.at("f"), 1_500_000_000, 5)?;
        file.write_all_at(b"bbbb", 0)?;
        set_times(&d.at("f"), 1_500_000_000, 5)
    }),
    ("seek and append", |d| {
        let mut file = d.file("f", b"0123456789")?;
        file.seek(SeekFrom::Start(4))?;
        file.write_all(b"xx")?;
        file.seek(SeekFrom::End(10))?;
        Ok(file.write_all(b"end")?)
    }),
];

const SPACE: &[Listed] = &[
    ("truncate", |d| {
        let file = d.file("f", &d.random(100_000))?;
        file.set_len(50_001)?;
        file.set_len(200_000)?;
        d.file("g", b"content")?.set_len(0)?;
        Ok(file.write_all_at(b"x", 150_000)?)
    }),
    ("truncate while mapped", |d| {
        let file = d.file("f", &d.random(100_000))?;
        sys::store_mapped(&file, 60_000, &d.random(30_000), true, false)?;
        file.set_len(70_001)?;
        Ok(file.set_len(90_000)?)
    }),
    ("fallocate", |d| {
        let file = d.file("f", b"data")?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 20)?;
        let keep = d.file("g", b"data")?;
        Ok(rustix::fs::fallocate(&keep, FallocateFlags::KEEP_SIZE, 0, 1 << 20)?)
    }),
    ("punch hole", |d| {
        let file = d.file("f", &d.random(1 << 20))?;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, 65_536, 262_144)?;
        Ok(rustix::fs::fallocate(&file, punch, 500_001, 10_003)?)
    }),
    ("zero range", |d| {
        let file = d.file("f", &d.random(500_000))?;
        rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 100_000, 100_000)?;
        rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 490_000, 100_000)?;
        let keep = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&file, keep, 580_000, 100_000)?)
    }),
    ("write into a hole", |d| {
        let file = d.file("f", b"")?;
        file.set_len(10 << 20)?;
        for number in 0..10 {
            file.write_all_at(&d.random(4096), (number << 20) + 4096)?;
        }
        Ok(())
    }),
    ("write of zeros", |d| Ok(d.file("f", b"")?.write_all_at(&vec![0; 1 << 20], 0)?)),
];

const ATTRIBUTES: &[Listed] = &[
    ("chmod", |d| {
        let file = d.file("f", b"x")?;
        fs::set_permissions(d.at("f"), fs::Permissions::from_mode(0o4711))?;
        file.set_permissions(fs::Permissions::from_mode(0o2640))?;
        Ok(fs::set_permissions(&d.path, fs::Permissions::from_mode(0o1777))?)
    }),
    ("chown", |d| {
        d.file("f", b"x")?;
        fs::set_permissions(d.at("f"), fs::Permissions::from_mode(0o6755))?;
        chown(d.at("f"), Some(1001), None)?;
        chown(d.at("f"), None, Some(1002))?;
        Ok(chown(&d.path, Some(3), Some(4))?)
    }),
    ("write drops setuid and capability", |d| {
        for name in ["written", "truncated", "allocated"] {
            d.file(name, b"program")?;
            chown(d.at(name), Some(1000), Some(1000))?;
            fs::set_permissions(d.at(name), fs::Permissions::from_mode(0o6777))?;
            let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            d.xattr(name, "security.capability", &capability)?;
        }
        d.user("printf patched | dd of=written conv=notrunc status=none")?;
        d.user("truncate -s 3 truncated")?;
        d.user("fallocate -l 5000 allocated")
    }),
    ("times", |d| {
        d.file("f", b"x")?;
        fs::create_dir(d.at("dir"))?;
        symlink("f", d.at("link"))?;
        for (name, nsec) in [("f", 123_456_789), ("dir", 1), ("link", 999_999_999)] {
            set_times(&d.at(name), 1_234_567_890, nsec)?;
        }
        let only_access = Timestamps {
            last_access: Timespec { tv_sec: 77, tv_nsec: 7 },
            last_modification: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        };
        rustix::fs::utimensat(CWD, d.at("f"), &only_access, AtFlags::empty())?;
        set_times(&d.path, 1_000_000_007, 42)
    }),
    ("xattr", |d| {
        d.file("f", b"x")?;
        d.xattr("f", "user.a", b"1")?;
        d.xattr("f", "user.a", b"another value")?;
        d.xattr("f", "trusted.b", b"2")?;
        d.xattr("f", "security.c", &[0; 300])?;
        d.xattr("f", "user.gone", b"x")?;
        d.xattr("f", "user.empty", b"")?;
        rustix::fs::lremovexattr(d.at("f"), "user.gone")?;
        let create = rustix::fs::lsetxattr(d.at("f"), "user.a", b"x", XattrFlags::CREATE);
        ensure!(create == Err(Errno::EXIST), "XATTR_CREATE replaced");
        d.xattr("", "user.of the directory", b"3")
    }),
    ("acl", |d| {
        d.file("f", b"x")?;
        d.xattr("f", "system.posix_acl_access", &acl(6, 1006, 4))?;
        fs::set_permissions(d.at("f"), fs::Permissions::from_mode(0o604))?;
        fs::create_dir(d.at("dir"))?;
        d.xattr("dir", "system.posix_acl_default", &acl(7, 1007, 5))?;
        d.xattr("dir", "system.posix_acl_access", &acl(7, 1008, 0))?;
        fs::create_dir(d.at("dir/inherits"))?;
        d.file("dir/inherits too", b"x")?;
        Ok(rustix::fs::lremovexattr(d.at("dir"), "system.posix_acl_default")?)
    }),
    ("flags", |d| {
        for (name, flag) in [("i", IFlags::IMMUTABLE), ("a", IFlags::APPEND), ("d", IFlags::NODUMP)] {
            d.file(name, b"x")?;
            d.flags(name, flag)?;
        }
        // The capture mount lets such a file be opened and refuses the write, in order flush the fsync:
        // docs/operating/limits.md.
        let write = |mut file: File| file.write_all(b"n").and_then(|()| file.sync_all());
        let refused = File::options().write(true).open(d.at("i")).and_then(write);
        ensure!(refused.is_err(), "an immutable file was written");
        File::options().append(true).open(d.at("a"))?.write_all(b"more")?;
        fs::create_dir(d.at("dir"))?;
        d.file("dir/inside", b"x")?;
        d.flags("dir", IFlags::IMMUTABLE)?;
        d.flags("dir", IFlags::empty())?;
        d.file("dir/after", b"x")?;
        d.flags("i", IFlags::empty())?;
        Ok(fs::write(d.at("i"), "writable again")?)
    }),
    ("attributes of an open unlinked file", |d| {
        let file = d.file("f", b"x")?;
        fs::hard_link(d.at("f"), d.at("g"))?;
        fs::remove_file(d.at("f"))?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(rustix::fs::fsetxattr(file.as_fd(), "user.late", b"1", XattrFlags::empty())?)
    }),
];

const RARE: &[Listed] = &[
    ("io_uring", |d| sys::write_io_uring(&d.file("f", b"start")?, 3, &d.random(20_000))),
    ("collapse range", |d| {
        let file = d.file("f", &d.random(100 * 4096))?;
        file.sync_all()?;
        Ok(rustix::fs::fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 4096 * 10, 4096 * 20)?)
    }),
    ("insert range", |d| {
        let file = d.file("f", &d.random(100 * 4096))?;
        file.sync_all()?;
        Ok(rustix::fs::fallocate(&file, FallocateFlags::INSERT_RANGE, 4096 * 10, 4096 * 20)?)
    }),
    ("clone", |d| {
        let (from, to) = (d.file("a", &d.random(50_000))?, d.file("b", b"")?);
        Ok(rustix::fs::ioctl_ficlone(&to, &from)?)
    }),
];

impl Dir {
    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<File> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(self.at(name))?;
        file.write_all_at(bytes, 0)?;
        Ok(file)
    }

    fn reopen(&self, name: &str) -> Result<File> {
        Ok(File::options().read(true).write(true).open(self.at(name))?)
    }

    fn random(&self, len: usize) -> Vec<u8> {
        Rng::new(len as u64).bytes(len)
    }

    fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> Result<(), Errno> {
        rustix::fs::renameat_with(CWD, self.at(from), CWD, self.at(to), flags)
    }

    fn xattr(&self, name: &str, xattr: &str, value: &[u8]) -> Result<()> {
        Ok(rustix::fs::lsetxattr(self.at(name), xattr, value, XattrFlags::empty())?)
    }

    fn flags(&self, name: &str, flags: IFlags) -> Result<()> {
        let file = File::open(self.at(name))?;
        let kept = rustix::fs::ioctl_getflags(&file)? - (IFlags::IMMUTABLE | IFlags::APPEND | IFlags::NODUMP);
        Ok(rustix::fs::ioctl_setflags(&file, kept | flags)?)
    }

    /// Runs a script as an ordinary user in the case's directory, which that user may write.
    fn user(&self, script: &str) -> Result<()> {
        let mode = fs::metadata(&self.path)?.permissions().mode();
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o777))?;
        let ran = run(Command::new("sh").args(["-ec", script]).current_dir(&self.path).uid(1000).gid(1000));
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode & 0o7777))?;
        ran.map(drop)
    }
}
