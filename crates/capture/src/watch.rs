//! The `watch` driver: single files, such as `/etc/notes.ini`. A mount over a file would break its replacement by
//! rename, and one over `/etc` would endanger the boot; so the parent directory is watched, and a file that changed is
//! named to the daemon, which compares it as a whole. What it promises is *file-consistent*: each version that was
//! closed or renamed into place arrives; the order between files, and versions that lasted a moment, may be lost.
//!
//! It lives in the daemon. What happens while no daemon runs it does not see: a new start is a new incarnation, after
//! which everything is compared.
//!
//! ```text
//!   closed after writing, attributes changed      Lost (file)
//!   written and still open                        Lost (file), once a second, and when `captured` is asked for
//!   another file took the name                    Rename of a file never announced, with the old one as victim
//!   the name appeared / went                      Link of a file never announced / Unlink
//! ```

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, inotify};
use stead_model::{Attr, FileId, Incarnation, Kind, Record, Sequence};

use crate::server::attr_of;
use crate::supervisor::{new_incarnation, open_beneath};
use crate::{BeneathRoot, Capture, CaptureError, DriverStatus, Resumed, Unconfirmed, ring, sys};

/// The name that a file had before it took a watched one: outside of the set, whatever it was.
const OUTSIDE: &[u8] = b".stead-outside";
/// How long an open file that is being written may go unnamed.
const HOLD: Duration = Duration::from_secs(1);
/// Records that wait for the daemon; beyond that files are only marked.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// A running `watch` driver.
#[derive(Debug)]
pub struct WatchCapture {
    events: OwnedFd,
    roots: Vec<WatchRoot>,
    incarnation: Incarnation,
    state: Mutex<State>,
}

/// A parent directory and the names watched in it: a root of the set with flat rules that include just those.
#[derive(Debug)]
pub struct WatchRoot {
    /// The directory.
    pub root: BeneathRoot,
    /// The names, each without `/`.
    pub names: Vec<OsString>,
    watch: i32,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<(usize, Vec<u8>), Seen>,
    /// Records not drained yet.
    pending: Vec<u8>,
    /// Number of the last record made, and of the last one drained.
    head: Sequence,
    taken: Sequence,
}

#[derive(Debug, Default)]
struct Seen {
    file: Option<FileId>,
    /// Being written since.
    written: Option<Instant>,
    /// To be looked at.
    touched: bool,
    /// To be named as changed.
    changed: bool,
}

impl WatchCapture {
    /// Watches files; each has to be in an existing directory, but need not exist itself.
    ///
    /// # Errors
    /// Where a directory cannot be watched.
    pub fn start(files: &[PathBuf]) -> Result<Arc<WatchCapture>, CaptureError> {
        let failed = |what| move |error: rustix::io::Errno| CaptureError::System { what, source: error.into() };
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = inotify::init(flags).map_err(failed("watching"))?;
        let mut roots: Vec<WatchRoot> = Vec::new();
        for file in files {
            let no_name = || CaptureError::Start(format!("{} names no file", file.display()));
            let (dir, name) = (file.parent().ok_or_else(no_name)?, file.file_name().ok_or_else(no_name)?);
            let start = |error: std::io::Error| CaptureError::Start(format!("{}: {error}", dir.display()));
            let dir = std::fs::canonicalize(if dir == Path::new("") { Path::new(".") } else { dir }).map_err(start)?;
            if let Some(known) = roots.iter_mut().find(|root| root.root.path == dir) {
                known.names.push(name.into());
                continue;
            }
            let root = open_beneath(&dir, roots.iter().map(|root| &root.root))
                .map_err(|error| CaptureError::Start(error.to_string()))?;
            let path = sys::ProcPath::of(root.fd.as_raw_fd());
            let watch = inotify::add_watch(&events, path.as_cstr(), watched()).map_err(failed("watching"))?;
            roots.push(WatchRoot { root, names: vec![name.into()], watch });
        }
        let capture = WatchCapture { events, roots, incarnation: new_incarnation(), state: Mutex::default() };
        capture.take_stock();
        Ok(Arc::new(capture))
    }

    /// The directories, with the names watched in them.
    pub fn roots(&self) -> &[WatchRoot] {
        &self.roots
    }

    fn take_stock(&self) {
        let mut state = self.lock();
        for (index, root) in self.roots.iter().enumerate() {
            for name in &root.names {
                let file = look(root, name.as_bytes()).map(|(file, _)| file);
                state.files.insert((index, name.as_bytes().into()), Seen { file, ..Seen::default() });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns what happened into records. `all`: also what is still being written.
    fn collect(&self, state: &mut State, all: bool) {
        self.read_events(state);
        let mut files = std::mem::take(&mut state.files);
        for ((index, name), seen) in &mut files {
            if seen.written.is_some_and(|since| all || since.elapsed() >= HOLD) {
                seen.written = None;
                (seen.touched, seen.changed) = (true, true);
            }
            if seen.touched && state.pending.len() < PENDING_BYTES_MAX {
                state.record(&self.roots[*index], name, seen);
            }
        }
        state.files = files;
    }

    fn read_events(&self, state: &mut State) {
        let mut buf = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.events, &mut buf);
        while let Ok(event) = reader.next() {
            use inotify::ReadFlags as On;
            let on = event.events();
            if on.contains(On::QUEUE_OVERFLOW) {
                state.files.values_mut().for_each(|seen| (seen.touched, seen.changed) = (true, true));
                continue;
            }
            let root = self.roots.iter().position(|root| root.watch == event.wd());
            let (Some(root), Some(name)) = (root, event.file_name()) else { continue };
            let Some(seen) = state.files.get_mut(&(root, name.to_bytes().to_vec())) else { continue };
            if on.contains(On::MODIFY) {
                seen.written.get_or_insert_with(Instant::now);
                continue;
            }
            seen.touched = true;
            if on.intersects(On::CLOSE_WRITE | On::ATTRIB) {
                seen.changed = true;
                seen.written = None;
            }
        }
    }

    fn poll(&self, timeout: Duration) {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let _ = rustix::event::poll(&mut [PollFd::new(&self.events, PollFlags::IN)], Some(&timeout));
    }
}

impl State {
    /// Compares what a name means with what it meant.
    fn record(&mut self, root: &WatchRoot, name: &[u8], seen: &mut Seen) {
        let now = look(root, name);
        let dir = root.root.id;
        let mut record = Record::new(Kind::Lost, FileId::NONE);
        record.parent = dir;
        record.name = name;
        if let Ok(stat) = rustix::fs::fstat(&root.root.fd) {
            record.names.stamp = attr_of(&stat).stamp();
        }
        match (seen.file, now) {
            (None, None) => {}
            (Some(old), None) => {
                self.put(&Record { kind: Kind::Unlink, file: old, ..record });
            }
            (None, Some((file, attr))) => {
                self.put(&Record { kind: Kind::Link, file, attr, ..record });
            }
            (Some(old), Some((file, attr))) if old != file => {
                record.names.parent2 = dir;
                record.names.victim = old;
                record.names.stamp2 = record.names.stamp;
                let rename = Record { kind: Kind::Rename, name: OUTSIDE, name2: name, file, attr, ..record };
                self.put(&rename);
            }
            (Some(_), Some((file, attr))) if seen.changed => {
                self.put(&Record { attr, ..Record::new(Kind::Lost, file) });
            }
            (Some(_), Some(_)) => {}
        }
        seen.file = now.map(|(file, _)| file);
        (seen.touched, seen.changed) = (false, false);
    }

    fn put(&mut self, record: &Record<'_>) {
        Record { time: ring::now(), ..*record }.append_to(&mut self.pending);
        self.head = self.taken + self.pending.len() as u64;
    }
}

/// The daemon drains it on one thread and asks it on others.
impl Capture for Arc<WatchCapture> {
    /// What was drained dies with the daemon, and so does the driver: a new one is a new incarnation.
    fn resume(&mut self) -> Resumed {
        Resumed { tail: self.lock().taken, unconfirmed: Unconfirmed::Files(Vec::new()) }
    }

    fn release(&mut self, _confirmed: Sequence, _keep_free: u64) {}

    fn drain(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<Sequence, CaptureError> {
        let mut state = self.lock();
        self.collect(&mut state, false);
        let mut end = 0;
        while let Ok((record, _)) = Record::parse(&state.pending[end..]) {
            let len = record.encoded_len();
            if end > 0 && end + len > bytes_max {
                break;
            }
            end += len;
        }
        out.extend(state.pending.drain(..end));
        state.taken += end as u64;
        Ok(state.taken)
    }

    fn captured(&self) -> Sequence {
        let mut state = self.lock();
        self.collect(&mut state, true);
        state.head
    }

    fn wait(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let mut state = self.lock();
            self.collect(&mut state, false);
            let left = deadline.saturating_duration_since(Instant::now());
            if !state.pending.is_empty() || left.is_zero() {
                return !state.pending.is_empty();
            }
            let held = state.files.values().any(|seen| seen.written.is_some());
            drop(state);
            self.poll(if held { left.min(HOLD / 10) } else { left });
        }
    }

    fn flush(&mut self) -> Result<(), CaptureError> {
        self.captured();
        Ok(())
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn status(&self) -> DriverStatus {
        let state = self.lock();
        DriverStatus {
            driver: "watch".into(),
            ring_bytes: PENDING_BYTES_MAX as u64,
            ring_used_bytes: state.pending.len() as u64,
            head: state.head,
            alive: true,
            pid: std::process::id(),
            nodes: state.files.len() as u64,
            ..DriverStatus::default()
        }
    }
}

fn watched() -> inotify::WatchFlags {
    use inotify::WatchFlags as On;
    On::CLOSE_WRITE | On::MODIFY | On::ATTRIB | On::CREATE | On::DELETE | On::MOVED_FROM | On::MOVED_TO | On::ONLYDIR
}

/// What a name means now.
fn look(root: &WatchRoot, name: &[u8]) -> Option<(FileId, Attr)> {
    let name = CString::new(name).ok()?;
    let (dir, root) = (root.root.fd.as_raw_fd(), &root.root);
    let handle = sys::handle_at(dir, &name).ok()?;
    let file = root.shape.file(handle.kind, &handle.bytes[..handle.len], root.volume)?;
    let stat = rustix::fs::statat(&root.fd, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((file, attr_of(&stat)))
}

#[cfg(test)]
mod tests;
