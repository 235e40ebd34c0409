//! Every operation through the mount ends as on the bare file system, and its records alone make the same tree.
#![allow(unsafe_code, reason = "mmap")]

mod common;

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use common::{Rig, shell, with_order};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags};
use stead_capture::Order;

type Operation = (&'static str, fn(&Path) -> String);

fn script(dir: &Path, text: &str) -> String {
    shell(dir, text).replace(dir.to_str().unwrap(), "DIR")
}

const OPERATIONS: &[Operation] = &[
    ("create", |d| script(d, "umask 027; echo a > a; umask 0; : > b; mkdir c; umask 077; mkdir d; ls -ln; cat a")),
    ("exclusive", |d| script(d, "set -C; echo a > a; echo b > a; cat a")),
    ("append", |d| script(d, "for i in 1 2 3 4 5; do echo $i >> a; done; cat a; stat -c %s a")),
    ("overwrite", |d| {
        script(d, "seq 1 5000 > a; printf XYZ | dd of=a bs=1 seek=100 conv=notrunc 2>/dev/null; md5sum a")
    }),
    ("truncate", |d| {
        script(d, "seq 1 5000 > a; truncate -s 77 a; truncate -s 100000 a; md5sum a; : > a; stat -c %s a")
    }),
    ("big", |d| script(d, "head -c 9000000 /dev/zero | tr '\\0' x > a; md5sum a; cp a b; cmp a b && mv b a; ls")),
    ("links", |d| script(d, "echo 1 > a; ln a b; ln b c; rm a; echo 2 >> b; cat c; stat -c %h c; mv b c; ls")),
    ("symlinks", |d| script(d, "ln -s x a; ln -s ../.. b; readlink a b; cat a; mv a c; ln -sfn y c; readlink c; rm b")),
    ("special", |d| {
        script(
            d,
            "mkfifo -m 640 f; mknod c c 1 3; mknod b b 7 99; mknod -m 600 w c 0 0; ls -ln | sed 's/[A-Z].*:.. //'; echo hi > c; head -c 3 c; (echo x > f &) ; cat f; mv f g",
        )
    }),
    ("socket", |d| {
        // The address has room for 107 bytes.
        let dir = File::open(d).unwrap();
        let path = format!("/proc/self/fd/{}/s", dir.as_raw_fd());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let client = std::os::unix::net::UnixStream::connect(&path);
        drop(listener);
        format!("{:?}", client.is_ok())
    }),
    ("tree", |d| {
        script(d, "mkdir -p a/b/c/d; touch a/b/c/d/e; mv a/b/c x; rm -r a; find . | sort; rmdir x; rmdir x/d")
    }),
    ("names", |d| {
        use std::os::unix::ffi::OsStrExt;
        let long = [b'n'; 255];
        let names: [&[u8]; 6] = [b"new\nline", b"\xff\xfe", "é".as_bytes(), "e\u{301}".as_bytes(), b" ", &long];
        for (at, name) in names.iter().enumerate() {
            std::fs::write(d.join(std::ffi::OsStr::from_bytes(name)), [at as u8]).unwrap();
        }
        let too_long = std::fs::write(d.join("n".repeat(256)), b"").unwrap_err().raw_os_error();
        let mut seen: Vec<_> = std::fs::read_dir(d).unwrap().map(|e| e.unwrap().file_name()).collect();
        seen.sort();
        format!("{too_long:?} {seen:?}")
    }),
    ("rename", |d| {
        script(
            d,
            "echo 1 > a; echo 2 > b; mv a b; cat b; mkdir c e; mv b c; mv c e; mv e/c/b .; mv -T e b; mv -T b e; ls -R",
        )
    }),
    ("rename-open", |d| {
        std::fs::write(d.join("a"), "old").unwrap();
        std::fs::write(d.join("b"), "new").unwrap();
        let old = OpenOptions::new().read(true).write(true).open(d.join("a")).unwrap();
        std::fs::rename(d.join("b"), d.join("a")).unwrap();
        old.write_all_at(b"OLDER", 0).unwrap();
        let mut buf = [0; 5];
        old.read_exact_at(&mut buf, 0).unwrap();
        format!("{buf:?} {}", std::fs::read_to_string(d.join("a")).unwrap())
    }),
    ("rename-flags", |d| {
        let mut log = String::new();
        let dir = File::open(d).unwrap();
        for name in ["a", "b", "w"] {
            std::fs::write(d.join(name), name).unwrap();
        }
        std::fs::create_dir(d.join("d")).unwrap();
        for (from, to, flags) in [
            ("a", "b", RenameFlags::NOREPLACE),
            ("a", "n", RenameFlags::NOREPLACE),
            ("n", "b", RenameFlags::EXCHANGE),
            ("b", "d", RenameFlags::EXCHANGE),
            ("b", "x", RenameFlags::EXCHANGE),
            ("w", "v", RenameFlags::WHITEOUT),
            ("n", "v", RenameFlags::WHITEOUT),
            ("v", "d", RenameFlags::from_bits_retain(3)),
        ] {
            log += &format!("{:?} ", rustix::fs::renameat_with(&dir, from, &dir, to, flags));
        }
        log + &script(d, "ls -l | cut -c1-10; cat b d 2>&1")
    }),
    ("unlinked-open", |d| {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(d.join("a")).unwrap();
        file.write_all_at(b"before", 0).unwrap();
        std::fs::remove_file(d.join("a")).unwrap();
        file.write_all_at(b"after", 6).unwrap();
        file.set_len(8).unwrap();
        let mut buf = [0; 8];
        file.read_exact_at(&mut buf, 0).unwrap();
        std::fs::write(d.join("a"), "another").unwrap();
        use std::os::unix::fs::MetadataExt;
        let meta = file.metadata().unwrap();
        format!("{buf:?} {} {} {:?}", meta.nlink(), meta.len(), file.sync_all())
    }),
    ("tmpfile", |d| {
        let open = || rustix::fs::open(d, OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o640)).unwrap();
        let (kept, linked) = (open(), open());
        rustix::io::pwrite(&kept, b"gone", 0).unwrap();
        rustix::io::pwrite(&linked, b"stays", 0).unwrap();
        let path = format!("/proc/self/fd/{}", linked.as_raw_fd());
        rustix::fs::linkat(CWD, path, CWD, d.join("named"), AtFlags::SYMLINK_FOLLOW).unwrap();
        rustix::io::pwrite(&linked, b"STAYS", 0).unwrap();
        drop((kept, linked));
        script(d, "cat named; ls -ln | cut -c1-20")
    }),
    ("mmap", |d| {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(d.join("a")).unwrap();
        file.set_len(3 * 4096).unwrap();
        let map = Mapping::new(&file, 3 * 4096);
        map.bytes()[10] = 7;
        // SAFETY: the mapping is there.
        unsafe { rustix::mm::msync(map.0.cast(), map.1, rustix::mm::MsyncFlags::SYNC) }.unwrap();
        map.bytes()[5000] = 8; // no msync: written back when the file is closed, or flushed
        drop((map, file));
        format!("{}", std::fs::read(d.join("a")).unwrap().iter().map(|b| u32::from(*b)).sum::<u32>())
    }),
    ("direct", |d| {
        let flags = libc::O_DIRECT;
        let file =
            OpenOptions::new().write(true).read(true).create_new(true).custom_flags(flags).open(d.join("a")).unwrap();
        let mut buf = vec![0_u8; 3 << 20];
        let at = buf.as_ptr().align_offset(4096);
        let aligned = &mut buf[at..at + (2 << 20)];
        aligned.fill(9);
        file.write_all_at(aligned, 0).unwrap();
        file.write_all_at(&aligned[..4096], 8192).unwrap();
        aligned.fill(0);
        file.read_exact_at(aligned, 0).unwrap();
        format!("{}", aligned.iter().all(|byte| *byte == 9))
    }),
    ("sync-flags", |d| {
        let mut log = String::new();
        for (name, flags) in [("s", libc::O_SYNC), ("d", libc::O_DSYNC), ("a", libc::O_APPEND | libc::O_SYNC)] {
            let file = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(d.join(name)).unwrap();
            for _ in 0..3 {
                log += &format!("{:?}", std::io::Write::write(&mut &file, b"line\n"));
            }
            log += &format!("{:?}{:?}", file.sync_data(), file.sync_all());
        }
        log + &format!("{:?}", File::open(d).unwrap().sync_all())
    }),
    ("holes", |d| {
        script(
            d,
            "truncate -s 1M a; printf x | dd of=a bs=1 seek=500000 conv=notrunc 2>/dev/null; \
            printf y | dd of=a bs=1 seek=2000000 conv=notrunc 2>/dev/null; cp --sparse=always a b; md5sum a b; du -k a b",
        )
    }),
    ("seek", |d| {
        script(d, "truncate -s 1M a; printf x | dd of=a bs=1 seek=500000 conv=notrunc 2>/dev/null");
        let file = File::open(d.join("a")).unwrap();
        let seek = |from| format!("{:?} ", rustix::fs::seek(&file, from));
        use rustix::fs::SeekFrom::{Data, Hole};
        [Data(0), Hole(0), Hole(499_712), Data(600_000), Data(2_000_000)].map(seek).concat()
    }),
    ("allocate", |d| {
        let file = OpenOptions::new().write(true).create_new(true).open(d.join("a")).unwrap();
        file.write_all_at(&[1; 100_000], 0).unwrap();
        let mut log = String::new();
        for (mode, at, len) in [
            (FallocateFlags::empty(), 90_000, 50_000),
            (FallocateFlags::KEEP_SIZE, 200_000, 50_000),
            (FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 10_000, 20_000),
            (FallocateFlags::ZERO_RANGE, 50_000, 3_000),
            (FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, 300_000, 3_000),
        ] {
            log += &format!("{:?} {} ", rustix::fs::fallocate(&file, mode, at, len), file.metadata().unwrap().len());
        }
        log + &script(d, "du -k a; md5sum a")
    }),
    ("copies", |d| {
        script(d, "seq 1 100000 > a; cat a > b; cp --reflink=auto a c");
        let (from, to) = (File::open(d.join("a")).unwrap(), File::create(d.join("e")).unwrap());
        let copied = rustix::fs::copy_file_range(&from, None, &to, None, 300_000).unwrap();
        let sent = rustix::fs::sendfile(&to, &from, None, 100_000).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let spliced =
            rustix::pipe::splice(&from, None, &write, None, 4096, rustix::pipe::SpliceFlags::empty()).unwrap();
        let out = rustix::pipe::splice(&read, None, &to, None, spliced, rustix::pipe::SpliceFlags::empty()).unwrap();
        format!("{copied} {sent} {spliced} {out} {}", script(d, "md5sum *"))
    }),
    ("xattr", |d| {
        script(d, "echo a > a; mkdir d; ln -s a l; mkfifo f
            for n in a d; do setfattr -n user.x -v hello $n; setfattr -n user.empty -v '' $n; setfattr -n trusted.t -v 1 $n; done
            setfattr -h -n trusted.on.link -v 2 l; setfattr -n trusted.f -v 3 f
            setfattr -x user.x a; setfattr -x user.none a; setfattr -n user.big -v $(head -c 2000 /dev/zero | tr '\\0' q) a
            getfattr -d -m- -h a d l f | sort; getfattr -n user.none a")
    }),
    ("acl", |d| {
        script(d, "umask 022; echo a > a; setfacl -m u:1234:rw,g:77:r a; getfacl -cn a; chmod 600 a; getfacl -cn a; setfacl -b a
            mkdir d; setfacl -d -m u:1234:rwx,g::r d; umask 077; echo b > d/b; mkdir d/e; mkfifo d/f; ln -s x d/l; getfacl -cn d d/b d/e d/f
            setfacl -m m::r d/b; setfacl -k d/e; setfacl -x u:1234 d/b; stat -c %a a d/* ")
    }),
    ("flags", |d| {
        script(d, "echo a > a; echo b > b; chattr +i a; rm -f a; mv a c; chattr -i a; echo c >> a; chattr +a b
            echo d >> b; sync b; truncate -s 0 b 2>/dev/null || echo no; cat b; chattr -a b; echo e > b
            chattr +dS a; mkdir k; chattr +A k; echo > k/inherits; lsattr a k/inherits | cut -c1-20; chattr +i k; touch k/no; chattr -i k; touch k/yes; ls k") //
            .lines().filter(|line| !line.contains("a: Operation not permitted")).collect()
    }),
    ("project", |d| script(d, "mkdir p; chattr -p 42 p; lsattr -dp p | cut -c1-6; touch p/a")),
    ("owner", |d| {
        script(d, "echo a > a; chown 1234:77 a; chmod 6755 a; stat -c %a:%u:%g a; chown 5:6 a; stat -c %a a; mkdir d; chmod 2755 d
            chown :99 d; mkdir d/s; touch d/f; stat -c %a:%g d d/s d/f; ln -s a l; chown -h 8:9 l; stat -c %u:%g l")
    }),
    ("times", |d| {
        script(d, "echo a > a; touch -d '2001-02-03 04:05:06.123456789' a; stat -c '%x %y' a; touch -a -d '1969-01-01 00:00:00.5' a
            stat -c '%x %y' a; mkdir d; touch -d 2033-01-01 d; stat -c %y d; ln -s a l; touch -h -d 2002-02-02 l; stat -c %y l; touch a d")
            .lines().filter(|line| !line.starts_with("2026")).collect()
    }),
    ("as-user", |d| {
        script(d, "mkdir o g; chmod 777 o; chmod 2777 g; chown 0:55 g; setfacl -d -m u:1:rwx o
            setpriv --reuid 1234 --regid 77 --clear-groups bash -c 'umask 027; echo x > o/a; mkdir o/d g/d; echo y > g/f; ln -s z o/l; mkfifo o/p
            umask 0; touch o/open; mknod o/dev c 1 3; chown 0 o/a; chmod 2755 g/f; ls /root; rm -r g; mv o/a o/moved; ln o/moved o/hard'
            stat -c '%n %a %u:%g' o/* g/*")
    }),
    ("drop-suid", |d| {
        script(d, "cp /bin/true t; chmod 6777 t; cp t u; chmod 6777 u; cp t v; chmod 6777 v; cp t w; chmod 2767 w; cp t x; chmod 6777 x
            setfattr -n security.capability -v 0sAQAAAgAEAAAAAAAAAAAAAAAAAAA= t; getfattr -n security.capability t
            setpriv --reuid 1234 --regid 77 --clear-groups bash -c 'echo >> t; : > u; truncate -s 9 v; echo >> w; fallocate -l 99999 x'
            echo >> v; stat -c '%n %a' *; getfattr -n security.capability t; cp /bin/true y; chmod 6755 y; echo >> y; stat -c %a y")
    }),
    ("exec", |d| {
        script(
            d,
            "cp /bin/echo e; ./e hello; (sleep 0.2; cat) < e > /dev/null & ./e again; cp /bin/sleep s; ./s 0.3 & sleep 0.1; echo > s; wait",
        )
    }),
    ("locks", |d| {
        script(
            d,
            "touch l; exec 9> l; flock -n 9 && echo got; flock -n l true || echo busy; exec 9>&-; flock -n l echo free",
        )
    }),
    ("cwd", |d| {
        script(
            d,
            "mkdir -p a/b; cd a/b; pwd -P; mv ../../a ../../z; pwd -P; touch here; cd ..; rmdir b; rm -r b; pwd -P; cd ..; ls",
        )
    }),
    ("many", |d| {
        script(d, "mkdir m; cd m; seq 1 3000 | xargs touch; ls | wc -l; ls -f | sort | md5sum; rm *[05]; ls | wc -l")
    }),
    ("statfs", |d| script(d, "stat -f -c '%s %S %l %b' .; df --output=itotal . | tail -1")),
    ("opens", |d| {
        script(
            d,
            "mkdir d; echo > f; cat d; echo > d; cat f/x; ls f; cat none; : > none/x; ln d e; rmdir f; rm d; ln -s l l; cat l; mkdir f; touch d/a; rmdir d; mv d d/x; mv d f",
        )
    }),
];

struct Mapping(*mut u8, usize);

impl Mapping {
    fn new(file: &File, len: usize) -> Mapping {
        use rustix::mm::{MapFlags, ProtFlags};
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping.
        let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, file, 0) }.unwrap();
        Mapping(at.cast(), len)
    }
    #[allow(clippy::mut_from_ref)]
    fn bytes(&self) -> &mut [u8] {
        // SAFETY: the mapping is there and used by this test alone.
        unsafe { std::slice::from_raw_parts_mut(self.0, self.1) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours.
        unsafe { rustix::mm::munmap(self.0.cast(), self.1) }.unwrap();
    }
}

fn run_all(order: Order) {
    let mut rig = Rig::with(with_order(order));
    let mut failures = Vec::new();
    let only = std::env::var("ONLY").ok();
    for (name, operation) in OPERATIONS {
        if only.as_ref().is_none_or(|only| only == name) {
            failures.extend(rig.same(name, operation).err());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let records = rig.assert_replica("after all operations");
    assert!(records > 300 || only.is_some(), "only {records} records: capture sleeps");
    assert_eq!(rig.log(), "");
}

#[test]
fn operations_in_order_strict() {
    run_all(Order::Strict);
}

#[test]
fn operations_in_order_flush() {
    run_all(Order::Flush);
}

/// Without an open to refuse, a file that takes no writes refuses the write itself.
#[test]
fn files_that_may_not_change_do_not() {
    let rig = Rig::new();
    let seen = shell(
        &rig.ours(),
        "echo a > a; echo b > b; exec 8> a 9>> b; chattr +i a; chattr +a b; echo x >&8; echo y >&9
        dd if=/dev/zero of=b bs=1 count=1 conv=notrunc status=none; cat a b; chattr -i a; chattr -a b; echo z > a; echo z > b; cat a b",
    );
    let contents: Vec<_> = seen.lines().filter(|line| line.len() == 1).collect();
    assert_eq!(contents, ["b", "y", "z", "z"], "{seen}");
}

/// What Stead keeps with a file of a former replica is neither shown nor taken.
#[test]
fn our_own_xattrs_stay_hidden() {
    let rig = Rig::prepared(
        |dir| {
            std::fs::write(dir.join("a"), "a").unwrap();
            common::run("setfattr", &["-n", "trusted.stead.id", "-v", "7", dir.join("a").to_str().unwrap()]);
            common::run("setfattr", &["-n", "trusted.other", "-v", "8", dir.join("a").to_str().unwrap()]);
        },
        |_| {},
    );
    let names: Vec<_> = common::tree::xattrs(&rig.ours().join("a")).into_keys().collect();
    assert_eq!(names, ["trusted.other"]);
    let text = shell(
        &rig.ours(),
        "getfattr -n trusted.stead.id a; setfattr -n trusted.stead.x -v 1 a; setfattr -x trusted.stead.id a",
    );
    assert!(text.contains("No such attribute") && text.contains("not permitted"), "{text}");
}
