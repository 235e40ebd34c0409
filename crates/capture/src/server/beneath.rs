//! Changes that do not come through the mount: by descriptors and mappings from before it, through other mounts of the
//! file system, through links outside of the set.
//!
//! fanotify reports every modification of the whole file system with the process that made it. What this server did is
//! passed over, and so is what lies outside of the set. For the rest the kernel is told to forget what it has cached,
//! and the stream says [`Kind::Lost`], so that the file (of a directory, its names) is compared. A store through a
//! mapping is reported only when the mapping and its descriptor are gone.
//!
//! Our own changes are reported too: they are read in heaps, of which equal ones are one report (measured: half a
//! microsecond for a write).

use std::collections::{HashMap, HashSet};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::AtFlags;
use stead_model::{FileId, Kind, Record};
use zerocopy::IntoBytes;

use super::{BENEATH, Server};
use crate::fuse::{abi, device};
use crate::root::Root;
use crate::sys;

/// How long reports gather while something happens.
const GATHER: Duration = Duration::from_millis(20);
/// How often the same file is named to the stream.
const AGAIN: Duration = Duration::from_secs(1);
/// Files of which it is remembered that they were named, or that they are outside.
const KNOWN_MAX: usize = 16 << 10;
const REPORT_BYTES: usize = 64 << 10;

/// What is remembered between two heaps of reports.
struct Watch<'s> {
    server: &'s Server,
    /// When a file was named last; `true`: it was modified since.
    named: HashMap<FileId, (Instant, bool)>,
    outside: HashSet<FileId>,
    cleared_at: Instant,
    /// File system of each root.
    fsids: Vec<u64>,
}

impl Server {
    /// Reads reports until the server ends.
    pub(super) fn watch_beneath(&self) {
        let Some(reports) = self.reports else { return };
        let (cleared_at, roots) = (Instant::now(), self.nodes.roots().iter());
        let fsids =
            roots.map(|root| rustix::fs::fstatvfs(sys::fd(root.beneath)).map_or(0, |stat| stat.f_fsid)).collect();
        let mut watch = Watch { server: self, named: HashMap::new(), outside: HashSet::new(), cleared_at, fsids };
        let mut buf = vec![0; REPORT_BYTES];
        while !self.is_stopping() {
            let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
            let fd = sys::fd(reports);
            let ready = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout));
            if ready.is_ok_and(|ready| ready > 0) {
                while let Ok(len @ 1..) = sys::read(reports, &mut buf) {
                    sys::each_report(&buf[..len], |report| watch.take(report));
                }
                std::thread::sleep(GATHER);
            }
            watch.name_again();
        }
    }
}

impl Watch<'_> {
    fn take(&mut self, report: &sys::Report<'_>) {
        if report.mask & libc::FAN_Q_OVERFLOW != 0 {
            return self.tell(FileId::NONE);
        }
        if self.server.bypass.is_own(report.pid) {
            return;
        }
        for (at, root) in self.server.nodes.roots().iter().enumerate() {
            let file = root.shape.file(report.kind, report.handle, root.volume);
            if let Some(file) = file.filter(|_| self.fsids[at] == report.fsid) {
                self.look(root, file, report.mask);
            }
        }
    }

    fn look(&mut self, root: &Root, file: FileId, mask: u64) {
        let node = self.server.nodes.find(root, file);
        if node.is_none() && (self.outside.contains(&file) || !is_inside(root, file)) {
            if self.outside.len() < KNOWN_MAX {
                self.outside.insert(file);
            }
            return;
        }
        if node.as_ref().is_some_and(|node| node.is_silent()) {
            return;
        }
        self.server.bypass.add(file);
        if let Some(node) = node {
            let out = abi::InvalInodeOut { ino: self.server.nodes.id(&node), off: 0, len: 0 };
            let _ = device::notify(root.device, abi::notify::INVAL_INODE, out.as_bytes());
        }
        if mask & (libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO) != 0 {
            let _ = device::notify(root.device, abi::notify::INC_EPOCH, &[]);
        }
        let now = Instant::now();
        match self.named.get_mut(&file) {
            Some((at, modified)) if now - *at < AGAIN => *modified = true,
            _ => {
                if self.named.len() < KNOWN_MAX {
                    self.named.insert(file, (now, false));
                }
                self.tell(file);
            }
        }
    }

    /// Names again what was modified since it was named.
    fn name_again(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.named.extract_if(|_, (at, _)| now - *at >= AGAIN).collect();
        for (file, (_, modified)) in due {
            if modified {
                self.named.insert(file, (now, false));
                self.tell(file);
            }
        }
        if now - self.cleared_at >= AGAIN {
            self.outside.clear(); // it may have moved in
            self.cleared_at = now;
        }
    }

    fn tell(&self, file: FileId) {
        self.server.ring.put(self.server.ring.flight(BENEATH), &Record::new(Kind::Lost, file));
    }
}

/// Does a name beneath the root lead to the file? Whoever modified it had a name, which the kernel still knows.
fn is_inside(root: &Root, file: FileId) -> bool {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let Ok(fd) = sys::open_handle(root.beneath, &root.shape.handle(file), flags) else { return false };
    let path = rustix::fs::readlink(sys::ProcPath::of(fd).as_cstr(), Vec::new());
    sys::close(fd);
    let Ok(path) = path else { return false };
    let beneath = rustix::fs::readlink(sys::ProcPath::of(root.beneath).as_cstr(), Vec::new()).unwrap_or_default();
    let inner = path.as_bytes().strip_prefix(beneath.as_bytes()).unwrap_or(path.as_bytes());
    let inner = inner.strip_prefix(b"/").unwrap_or(inner);
    file == root.id || is_at(root.beneath, inner, file)
}

fn is_at(root: RawFd, path: &[u8], file: FileId) -> bool {
    let stat = rustix::fs::statat(sys::fd(root), path, AtFlags::SYMLINK_NOFOLLOW);
    !path.is_empty() && stat.is_ok_and(|stat| stat.st_ino == file.ino)
}
