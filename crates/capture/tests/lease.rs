//! Past the lease: what waits, what is refused, what goes on, and who is let go.

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{Rig, kill_server, with_order};
use stead_capture::{CaptureError, Order, boot_ns};
use stead_model::lease::{DEADLINE_AT, MAGIC, NONE, UNLIMITED, VERSION, VERSION_AT, WORDS};
use stead_model::plan::OnLeaseLost;

const SOON: Duration = Duration::from_secs(20);
/// Long enough for whatever does not wait.
const WHILE: Duration = Duration::from_millis(300);

/// A lease that the test prolongs.
struct Lease(File);

impl Lease {
    fn new(deadline: u64) -> Lease {
        let mut file = tempfile::tempfile().unwrap();
        let mut words = [0; WORDS];
        (words[0], words[VERSION_AT], words[DEADLINE_AT]) = (MAGIC, VERSION, deadline);
        file.write_all(&words.map(u64::to_le_bytes).concat()).unwrap();
        Lease(file)
    }

    fn set(&self, deadline: u64) {
        self.0.write_all_at(&deadline.to_le_bytes(), DEADLINE_AT as u64 * 8).unwrap();
    }
}

fn rig(order: Order, lease: &Lease, policy: OnLeaseLost) -> Rig {
    let mut rig = Rig::with(with_order(order));
    std::fs::write(rig.ours().join("f"), vec![7; 8192]).unwrap();
    rig.capture().lease(Some((lease.0.as_fd(), policy))).unwrap();
    rig
}

fn python(dir: &Path, script: &str) -> Child {
    let script = format!("import os, mmap, fcntl, struct, sys\n{script}");
    Command::new("python3").arg("-c").arg(script).current_dir(dir).spawn().unwrap()
}

fn ends(child: &mut Child, what: &str) -> std::process::ExitStatus {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "{what} does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until something of that program waits for what a server answers.
fn waits(child: &Child, what: &str) {
    let deadline = Instant::now() + SOON;
    let is_asking = |task: std::fs::DirEntry| {
        let place = std::fs::read_to_string(task.path().join("wchan")).unwrap_or_default();
        place == "request_wait_answer" || place.starts_with("fuse")
    };
    let asks = || std::fs::read_dir(format!("/proc/{}/task", child.id())).is_ok_and(|all| all.flatten().any(is_asking));
    while !asks() {
        assert!(Instant::now() < deadline, "{what} does not wait");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Everything that changes something, each with files of its own.
const CHANGES: [(&str, &str); 14] = [
    ("write", "fd = os.open('f', os.O_RDWR); os.write(fd, b'x')"),
    ("O_DIRECT", "fd = os.open('f', os.O_RDWR | os.O_DIRECT); os.write(fd, mmap.mmap(-1, 4096))"),
    ("truncate", "os.truncate('f', 10)"),
    ("fallocate", "fd = os.open('f', os.O_RDWR); os.posix_fallocate(fd, 0, 100000)"),
    ("create", "open('new', 'w')"),
    ("mkdir", "os.mkdir('dir')"),
    ("symlink", "os.symlink('f', 'symlink')"),
    ("mknod", "os.mkfifo('fifo')"),
    ("link", "os.link('f', 'link')"),
    ("unlink", "os.unlink('f')"),
    ("rename", "os.rename('f', 'g')"),
    ("chmod", "os.chmod('f', 0o600)"),
    ("setxattr", "os.setxattr('f', 'user.x', b'1')"),
    (
        "inode flags",
        "fd = os.open('f', os.O_RDONLY); flags = fcntl.ioctl(fd, 0x80086601, bytes(8)); \
      fcntl.ioctl(fd, 0x40086602, struct.pack('l', 0x80 | struct.unpack('l', flags)[0]))",
    ),
];

#[test]
fn every_change_waits_until_the_lease_is_prolonged() {
    let lease = Lease::new(UNLIMITED);
    let mut rig = rig(Order::Strict, &lease, OnLeaseLost::SuspendIo);
    let dirs: Vec<_> = (0..CHANGES.len()).map(|at| rig.ours().join(format!("d{at}"))).collect();
    for dir in &dirs {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("f"), vec![7; 8192]).unwrap();
    }
    lease.set(boot_ns());
    let mut children: Vec<_> = CHANGES.iter().zip(&dirs).map(|((_, script), dir)| python(dir, script)).collect();
    CHANGES.iter().zip(&children).for_each(|((name, _), child)| waits(child, name));
    std::thread::sleep(WHILE);
    // The kernel has whoever lists a directory wait for who changes it.
    let on_disk = on_disk(&rig, |disk| {
        let content = |at: usize| std::fs::read(disk.join(format!("d{at}/f"))).unwrap();
        let count = |at: usize| std::fs::read_dir(disk.join(format!("d{at}"))).unwrap().count();
        (0..CHANGES.len()).map(|at| (content(at), count(at))).collect::<Vec<_>>()
    });
    for (((name, _), child), on_disk) in CHANGES.iter().zip(&mut children).zip(on_disk) {
        assert!(child.try_wait().unwrap().is_none(), "{name} did not wait");
        assert!(on_disk == (vec![7; 8192], 1), "{name} changed something");
    }
    lease.set(UNLIMITED);
    for ((name, _), child) in CHANGES.iter().zip(&mut children) {
        assert!(ends(child, name).success(), "{name}");
    }
    rig.assert_replica("afterwards");
}

#[test]
fn every_change_is_refused_where_the_plan_says_so() {
    let lease = Lease::new(UNLIMITED);
    let rig = rig(Order::Strict, &lease, OnLeaseLost::Stop);
    lease.set(NONE);
    for (name, script) in CHANGES {
        let script = format!("try:\n  {script}\nexcept OSError as e:\n  sys.exit(e.errno)").replace("; ", "\n  ");
        assert_eq!(ends(&mut python(&rig.ours(), &script), name).code(), Some(libc::EROFS), "{name}");
    }
    assert_eq!(std::fs::read(rig.ours().join("f")).unwrap(), vec![7; 8192]);
    let flags = "fd = os.open('f', os.O_RDONLY); fcntl.ioctl(fd, 0x80086601, bytearray(8))";
    assert!(ends(&mut python(&rig.ours(), flags), "reading flags").success());
}

/// There are fewer threads that serve than programs that write.
#[test]
fn reads_go_on_while_many_wait_and_all_go_on_in_their_order() {
    let lease = Lease::new(UNLIMITED);
    let mut rig = rig(Order::Strict, &lease, OnLeaseLost::SuspendIo);
    std::fs::create_dir(rig.ours().join("other")).unwrap();
    lease.set(NONE);
    let script = "import threading\ndef put(n):\n  os.close(os.open(f'n{n}', os.O_CREAT))\n\
                  all = [threading.Thread(target=put, args=(n,)) for n in range(100)]\n\
                  [one.start() for one in all]\n[one.join() for one in all]";
    let mut child = python(&rig.ours(), script);
    waits(&child, "the first of the writers");
    std::thread::sleep(WHILE);
    assert_eq!(std::fs::read(rig.ours().join("f")).unwrap().len(), 8192);
    assert_eq!(std::fs::read_dir(rig.ours().join("other")).unwrap().count(), 0);
    assert!(child.try_wait().unwrap().is_none());
    lease.set(UNLIMITED);
    assert!(ends(&mut child, "the writers").success());
    assert_eq!(std::fs::read_dir(rig.ours()).unwrap().count(), 102);
    rig.assert_replica("afterwards");
}

#[test]
fn who_waits_can_be_killed_and_nothing_of_it_is_made_later() {
    let lease = Lease::new(UNLIMITED);
    let rig = rig(Order::Strict, &lease, OnLeaseLost::SuspendIo);
    lease.set(NONE);
    let mut child = python(&rig.ours(), CHANGES[0].1);
    waits(&child, "the writer");
    child.kill().unwrap();
    assert_eq!(ends(&mut child, "a killed writer").signal(), Some(libc::SIGKILL));
    lease.set(UNLIMITED);
    std::thread::sleep(WHILE);
    assert_eq!(std::fs::read(rig.ours().join("f")).unwrap(), vec![7; 8192]);
}

/// Looks at what is on the disk: the kernel's cache shows to readers what waits to be written.
fn on_disk<T>(rig: &Rig, look: impl FnOnce(&Path) -> T) -> T {
    let (disk, twin) = (rig.base().join("disk"), rig.base().join("twin"));
    std::fs::create_dir_all(&twin).unwrap();
    common::run("mount", &["--bind", disk.to_str().unwrap(), twin.to_str().unwrap()]);
    let seen = look(&twin.join(rig.ours().strip_prefix(&disk).unwrap()));
    common::run("umount", &[twin.to_str().unwrap()]);
    seen
}

#[test]
fn what_waits_outlives_the_server() {
    let lease = Lease::new(UNLIMITED);
    let mut rig = rig(Order::Strict, &lease, OnLeaseLost::SuspendIo);
    lease.set(NONE);
    let mut child = python(&rig.ours(), CHANGES[0].1);
    waits(&child, "the writer");
    assert!(kill_server(&mut rig));
    std::thread::sleep(WHILE);
    assert!(child.try_wait().unwrap().is_none(), "the next server lets it wait, too");
    let content = on_disk(&rig, |disk| std::fs::read(disk.join("f")).unwrap());
    assert!(content == vec![7; 8192], "something was changed");
    lease.set(UNLIMITED);
    assert!(ends(&mut child, "the writer").success());
    assert_eq!(std::fs::read(rig.ours().join("f")).unwrap()[0], b'x');
    rig.assert_replica("afterwards");
}

/// Stores through a mapping come as write-back, out of which nobody can be killed.
#[test]
fn write_back_waits_for_a_while_only() {
    waits_for_a_while(Order::Strict);
}

#[test]
fn write_back_waits_for_a_while_only_with_a_write_back_cache() {
    waits_for_a_while(Order::Flush);
}

fn waits_for_a_while(order: Order) {
    let lease = Lease::new(UNLIMITED);
    let mut rig = rig(order, &lease, OnLeaseLost::SuspendIo);
    rig.drain();
    lease.set(NONE);
    let script = "fd = os.open('f', os.O_RDWR); m = mmap.mmap(fd, 8192); m[0] = 9\n\
                  try:\n  m.flush()\nexcept OSError as e:\n  os._exit(e.errno)";
    let begun = Instant::now();
    let status = ends(&mut python(&rig.ours(), script), "msync");
    assert!(begun.elapsed() > Duration::from_secs(9), "it did not wait");
    assert!([libc::EIO, libc::EROFS].map(Some).contains(&status.code()), "{status}");
    let beneath = format!("/proc/self/fd/{}/f", rig.capture().roots()[0].fd.as_raw_fd());
    assert_eq!(std::fs::read(beneath).unwrap(), vec![7; 8192]);
}

#[test]
fn a_capture_can_end_while_something_waits() {
    let lease = Lease::new(UNLIMITED);
    let mut rig = rig(Order::Strict, &lease, OnLeaseLost::SuspendIo);
    lease.set(NONE);
    let mut child = python(&rig.ours(), "try:\n  os.mkdir('dir')\nexcept OSError as e:\n  sys.exit(e.errno)");
    waits(&child, "the maker");
    let deadline = Instant::now() + SOON;
    while let Err(CaptureError::Busy { .. }) = rig.capture().stop(false) {
        assert!(Instant::now() < deadline, "it does not end");
    }
    assert_eq!(ends(&mut child, "who waited").code(), Some(libc::EROFS));
    assert_eq!(std::fs::read_dir(rig.ours()).unwrap().count(), 1);
}

#[test]
fn without_a_lease_everything_goes_on() {
    let lease = Lease::new(NONE);
    let mut rig = rig(Order::Strict, &lease, OnLeaseLost::SuspendIo);
    let mut child = python(&rig.ours(), CHANGES[0].1);
    waits(&child, "the writer");
    assert!(child.try_wait().unwrap().is_none());
    rig.capture().lease(None).unwrap();
    assert!(ends(&mut child, "the writer").success());
    let refused = rig.capture().lease(Some((File::open("/dev/null").unwrap().as_fd(), OnLeaseLost::Stop)));
    assert!(matches!(refused, Err(CaptureError::Refused(why)) if why.contains("lease")));
    assert!(std::fs::write(rig.ours().join("g"), "x").is_ok());
}
