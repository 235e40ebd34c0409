//! The process that mounts, owns the state and watches the server.
//!
//! It has one thread and does no input or output on the mounts, so nothing can block or kill it. It holds every
//! descriptor and all memory that matter; the server is a clone of it that shares the descriptor table. A server that
//! dies takes nothing with it: the supervisor clones another, which finds nodes, slots and ring as they were left and
//! asks the kernel to deliver again what was not answered. The supervisor has an heir of the same kind ([`heir`]).

mod heir;
mod mounts;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use stead_model::plan::OnLeaseLost;

use crate::bypass::{self, Bypass};
use crate::control::{self, Answer, Hello, Request};
use crate::fuse::{abi, device};
use crate::nodes::{self, Nodes};
use crate::ring::Ring;
use crate::server::Server;
use crate::slots::{self, Slots};
use crate::sys::{self, Shared};
use crate::{DriverStatus, MountSpec, Order, Refusal};
use mounts::Mounts;
pub use mounts::open_beneath;

/// Why a capture process ended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what they are")]
pub enum ServeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{what}: {source}")]
    System { what: String, source: io::Error },
}

impl ServeError {
    fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> ServeError {
        let what = what.into();
        move |source| ServeError::System { what, source: source.into() }
    }
}

/// Descriptors that the node cache may hold.
const FDS_WANTED: u64 = 32 << 10;
/// How long a new server may take to look through what it inherits.
const START_MAX: Duration = Duration::from_secs(10);
const START_TICK: Duration = Duration::from_millis(20);
/// Signals that are taken from a descriptor: those that nobody waits for are ignored that way.
const SIGNALS: &[i32] =
    &[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];
/// How often write-back is pushed in order `flush`.
const FLUSH_TICK: Duration = Duration::from_millis(20);

/// Body of `stead capture`: mounts, serves, and returns when it was told to stop. To be called by a process with a
/// single thread; writes `ready` and a newline to standard output when it serves, then detaches from its standard
/// streams.
///
/// # Errors
/// Where it cannot mount, with everything undone.
pub fn serve(spec: MountSpec) -> Result<(), ServeError> {
    sys::new_session();
    let _ = std::env::set_current_dir("/");
    let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
    crate::server::seats();
    let fds_max = sys::raise_fd_limit(FDS_WANTED).min(FDS_WANTED) as usize;
    let mut mounts = Mounts::prepare(&spec)?;
    let listener = control::listen(&spec.socket).map_err(ServeError::system(format!("{}", spec.socket.display())))?;
    let memory = |error: rustix::io::Errno| ServeError::system("shared memory")(error);
    let (ring_memory, ring) = Ring::create(spec.ring_bytes, new_incarnation()).map_err(memory)?;
    let state = sys::shared_memory(c"stead-state", nodes::BYTES + slots::BYTES + bypass::BYTES).map_err(memory)?;
    let signals = sys::signal_fd(SIGNALS).map_err(memory)?;
    let highest = fds_max as i32 - 1;
    if sys::dup_onto(state.as_raw_fd(), highest).is_ok() {
        sys::close(highest); // the table has grown, and never has to again while requests wait
    }
    let beneath: Vec<RawFd> = mounts.beneath().map(|fd| fd.as_raw_fd()).collect();
    let reports = sys::report_changes(&beneath);
    if let Err(error) = &reports {
        eprintln!("stead capture: changes beneath the mount cannot be watched for: {error}");
    }
    if let Some((path, policy)) = &spec.lease {
        let told =
            std::fs::File::open(path).and_then(|file| Ok(bypass_of(&state)?.lease().set(file.as_fd(), *policy)?));
        told.map_err(ServeError::system(format!("the lease {}", path.display())))?;
    }
    mounts.mount(spec.order)?;
    let mut supervisor = Supervisor {
        socket: spec.socket.clone(),
        order: spec.order,
        mounts,
        listener,
        signals,
        state,
        reports: reports.ok(),
        ring_memory,
        ring,
        fds_max,
        server: 0,
        flusher: 0,
        heir: 0,
        restarts: 0,
        deaths: Vec::new(),
        clients: Vec::new(),
        flushes: HashMap::new(),
        stopping: false,
    };
    supervisor.start_server().map_err(ServeError::system("starting the server"))?;
    supervisor.mounts.attach_nested();
    if spec.order == Order::Flush {
        supervisor.mounts.loosen_write_back();
    }
    supervisor.start_flusher();
    detach(&spec).map_err(ServeError::system("standard streams"))?;
    supervisor.start_heir();
    supervisor.run();
    Ok(())
}

struct Supervisor {
    socket: std::path::PathBuf,
    order: Order,
    mounts: Mounts,
    listener: OwnedFd,
    signals: OwnedFd,
    state: OwnedFd,
    reports: Option<OwnedFd>,
    ring_memory: OwnedFd,
    ring: Ring,
    fds_max: usize,
    server: i32,
    flusher: i32,
    heir: i32,
    restarts: u32,
    deaths: Vec<Instant>,
    clients: Vec<OwnedFd>,
    /// Who waits for a flush, by the process that makes it.
    flushes: HashMap<i32, OwnedFd>,
    stopping: bool,
}

impl Supervisor {
    fn run(&mut self) {
        loop {
            let mut polled: Vec<_> = [self.signals.as_fd(), self.listener.as_fd()]
                .into_iter()
                .chain(self.clients.iter().map(AsFd::as_fd))
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            if rustix::event::poll(&mut polled, None).is_err() {
                continue;
            }
            let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(polled);
            if ready[0] && self.on_signal() {
                return;
            }
            for at in (0..self.clients.len()).rev() {
                if ready[2 + at] && !self.on_request(at) {
                    self.clients.remove(at);
                }
            }
            if ready[1]
                && let Ok(client) = rustix::net::accept_with(&self.listener, rustix::net::SocketFlags::CLOEXEC)
            {
                self.clients.push(client);
            }
        }
    }

    // --- signals

    /// True: everything is over.
    fn on_signal(&mut self) -> bool {
        let mut buf = [0; 128];
        while let Ok(len) = sys::read(self.signals.as_raw_fd(), &mut buf) {
            let signal = if len >= 4 { u32::from_le_bytes([buf[0], buf[1], buf[2], buf[3]]) as i32 } else { 0 };
            if signal == libc::SIGTERM || signal == libc::SIGINT {
                let _ = self.stop(true);
            }
        }
        self.flushes.retain(|pid, client| match sys::reap(*pid, false) {
            None => true,
            Some(status) => {
                let failed = || Answer::Failed(format!("write-back failed: {}", errno_text(status >> 8)));
                let _ = control::send(client, &if status == 0 { Answer::Done } else { failed() }, &[]);
                false
            }
        });
        if self.heir > 0 && sys::reap(self.heir, false).is_some() {
            self.start_heir();
        }
        match sys::reap(self.server, false) {
            Some(0) => {
                self.end();
                true
            }
            Some(status) => {
                self.on_server_death(status);
                false
            }
            None => false,
        }
    }

    fn on_server_death(&mut self, status: i32) {
        let now = Instant::now();
        self.deaths.retain(|death| now - *death < Duration::from_secs(10));
        self.deaths.push(now);
        if self.deaths.len() > 100 {
            std::thread::sleep(Duration::from_millis(100)); // it dies at once each time: do not spin
        }
        self.ring.unlock_dead();
        self.ring.fill_holes();
        if let Some(sync) = self.ring.sync() {
            sync.say_waiting(0, 0);
        }
        self.restarts += 1;
        if let Err(error) = self.start_server() {
            eprintln!("stead capture: starting the server: {error}");
        }
        eprintln!("stead capture: the server died (status {status:#x}); another was started");
    }

    fn end(&mut self) {
        self.end_heir();
        if self.flusher > 0 {
            sys::kill(self.flusher, libc::SIGKILL);
        }
        if !self.stopping {
            // Otherwise it is removed, and may by now be that of another process.
            let _ = std::fs::remove_file(&self.socket);
        }
    }

    // --- processes

    fn start_server(&mut self) -> io::Result<()> {
        let pid = sys::clone_sharing_files()?;
        if pid > 0 {
            self.server = pid;
            let bypass = self.bypass()?;
            bypass.set_server(pid as u32, self.restarts);
            // A descriptor that this process opened meanwhile would be a stray to the server.
            let deadline = Instant::now() + START_MAX;
            while !bypass.is_ready(pid as u32, START_TICK) && !sys::has_ended(pid) && Instant::now() < deadline {}
            return Ok(());
        }
        sys::die_with_parent(libc::SIGKILL);
        sys::unblock_signals();
        sys::umask(0);
        let served = self.run_server();
        if let Err(error) = served {
            eprintln!("stead capture: {error}");
            sys::exit_now(1);
        }
        sys::exit_now(0)
    }

    fn run_server(&self) -> io::Result<()> {
        let memory = self.state.as_raw_fd();
        let table = Shared::map(memory, 0, nodes::BYTES)?;
        let slots = Slots::new(Shared::map(memory, nodes::BYTES, slots::BYTES)?);
        let ring = Ring::open(self.ring_memory.as_raw_fd()).map_err(io::Error::other)?;
        let nodes = Nodes::new(table, self.mounts.roots(), self.fds_max);
        let bypass = self.bypass()?;
        if self.reports.is_some() {
            bypass.set_watched();
        }
        let mut server = Server::new(nodes, ring, slots, bypass, self.order, self.restarts);
        server.reports = self.reports.as_ref().map(AsRawFd::as_raw_fd);
        if self.restarts > 0 {
            self.close_strays(&server.nodes);
        }
        server.bypass.set_ready(std::process::id());
        if self.restarts > 0 {
            for root in server.nodes.roots() {
                device::notify(root.device, abi::notify::RESEND, &[])?;
            }
        }
        server.run();
        Ok(())
    }

    fn bypass(&self) -> sys::Result<Bypass> {
        bypass_of(&self.state)
    }

    /// Closes descriptors that a dead server had opened and nobody knows any more.
    fn close_strays(&self, nodes: &Nodes) {
        let mut known: HashSet<RawFd> = self.mounts.fds().collect();
        known.extend([0, 1, 2]);
        known.extend([&self.listener, &self.signals, &self.state, &self.ring_memory].map(AsRawFd::as_raw_fd));
        known.extend(self.reports.as_ref().map(AsRawFd::as_raw_fd));
        known.extend(self.bypass().ok().and_then(|bypass| bypass.lease().fd()));
        known.extend(self.clients.iter().chain(self.flushes.values()).map(AsRawFd::as_raw_fd));
        let mut from = 0;
        for fd in (0..self.fds_max as RawFd).filter(|fd| known.contains(fd) || nodes.owns(*fd)) {
            if fd > from {
                sys::close_range(from, fd - 1);
            }
            from = fd + 1;
        }
        sys::close_range(from, RawFd::MAX);
    }

    fn start_flusher(&mut self) {
        if self.order != Order::Flush {
            return;
        }
        self.flusher = self.start_helper(|mounts| {
            loop {
                std::thread::sleep(FLUSH_TICK);
                let _ = mounts.sync();
            }
        });
    }

    /// Runs something that may block in a process of its own; its exit status is an error number. It leaves the devices:
    /// one that waits for a server while it holds a device could never be killed, since the kernel goes on waiting for an
    /// answer until the last descriptor of the device is closed.
    fn start_helper(&self, body: impl FnOnce(&Mounts) -> io::Result<()>) -> i32 {
        match sys::fork() {
            Ok(0) => {
                sys::die_with_parent(libc::SIGKILL);
                sys::close_range(3, RawFd::MAX);
                sys::unblock_signals();
                let result = body(&self.mounts);
                sys::exit_now(result.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)))
            }
            Ok(pid) => pid,
            Err(_) => 0,
        }
    }

    // --- requests

    /// False: the client has gone.
    fn on_request(&mut self, at: usize) -> bool {
        let Ok(Some((request, fds))) = control::receive::<Request>(&self.clients[at]) else { return false };
        let answer = match request {
            Request::Hello => return self.greet(at).is_ok(),
            Request::Flush => return self.flush(at),
            Request::Stop { lazy } => self.stop(lazy),
            Request::Status => Answer::Status(self.status()),
            Request::Invalidate => self.invalidate(),
            Request::Lease(policy) => self.lease(policy.zip(fds.first())),
        };
        control::send(&self.clients[at], &answer, &[]).is_ok()
    }

    fn greet(&self, at: usize) -> io::Result<()> {
        let hello = Hello { version: control::VERSION, order: self.order, roots: self.mounts.infos() };
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.ring_memory.as_fd()];
        fds.extend(self.mounts.beneath());
        control::send(&self.clients[at], &Answer::Hello(hello), &fds)
    }

    fn flush(&mut self, at: usize) -> bool {
        let Ok(client) = self.clients[at].try_clone() else { return false };
        match self.start_helper(Mounts::sync) {
            0 => control::send(client, &Answer::Failed("no process could be started".into()), &[]).is_ok(),
            pid => {
                self.flushes.insert(pid, client);
                true
            }
        }
    }

    /// The lease that counts from now on.
    fn lease(&self, lease: Option<(OnLeaseLost, &OwnedFd)>) -> Answer {
        let told = self.bypass().and_then(|bypass| match lease {
            Some((policy, file)) => bypass.lease().set(file.as_fd(), policy),
            None => {
                bypass.lease().unset();
                Ok(())
            }
        });
        told.map_or_else(|error| Answer::Failed(format!("the lease: {}", io::Error::from(error))), |()| Answer::Done)
    }

    /// Whoever waits for the lease is refused while the mounts end: they cannot before.
    fn lease_ends(&self, ends: bool) {
        if let Ok(bypass) = self.bypass() {
            bypass.lease().end(ends);
        }
    }

    fn stop(&mut self, lazy: bool) -> Answer {
        if self.stopping {
            return Answer::Done;
        }
        self.lease_ends(true);
        if self.flusher > 0 {
            sys::kill(self.flusher, libc::SIGKILL);
            sys::reap(self.flusher, true);
            self.flusher = 0;
        }
        self.end_heir();
        match self.mounts.unmount(lazy) {
            Ok(()) => {
                self.stopping = true;
                if let Some(sync) = self.ring.sync() {
                    sync.set(None); // nobody confirms any more
                }
                let _ = std::fs::remove_file(&self.socket);
                Answer::Done
            }
            Err((path, error)) => {
                self.lease_ends(false);
                self.start_flusher();
                self.start_heir();
                match error {
                    rustix::io::Errno::BUSY => Answer::Busy(path),
                    error => Answer::Failed(format!("{path}: {}", io::Error::from(error))),
                }
            }
        }
    }

    fn status(&self) -> DriverStatus {
        let table = Shared::map(self.state.as_raw_fd(), 0, 4096);
        let bypass = self.bypass().ok();
        let (bypassed, bypassed_files) = bypass.as_ref().map(Bypass::seen).unwrap_or_default();
        DriverStatus {
            bypassed,
            bypassed_files,
            watches_beneath: bypass.is_some_and(|bypass| bypass.is_watched()),
            alive: true,
            pid: std::process::id(),
            server_pid: self.server as u32,
            restarts: self.restarts,
            nodes: table.map_or(0, |table| nodes::count(&table)),
            ..self.ring.status(self.order)
        }
    }

    fn invalidate(&self) -> Answer {
        let Ok(table) = Shared::map(self.state.as_raw_fd(), 0, nodes::BYTES) else {
            return Answer::Failed("the node table cannot be mapped".into());
        };
        let roots = self.mounts.roots();
        for root in &roots {
            let _ = device::notify(root.device, abi::notify::INC_EPOCH, &[]);
        }
        nodes::each_live(&table, |root, id| {
            if let Some(root) = roots.get(root as usize) {
                let out = abi::InvalInodeOut { ino: id, off: 0, len: 0 };
                let _ = device::notify(root.device, abi::notify::INVAL_INODE, zerocopy::IntoBytes::as_bytes(&out));
            }
        });
        Answer::Done
    }
}

fn bypass_of(state: &OwnedFd) -> sys::Result<Bypass> {
    Ok(Bypass::new(Shared::map(state.as_raw_fd(), nodes::BYTES + slots::BYTES, bypass::BYTES)?))
}

fn errno_text(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

/// A number for a start of capture.
pub fn new_incarnation() -> u64 {
    let mut bytes = [0; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_le_bytes(bytes).max(1)
}

/// Says that it serves, then leaves the streams of who started it.
fn detach(spec: &MountSpec) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let log = spec.log.as_ref().map(|log| std::fs::OpenOptions::new().create(true).append(true).open(log));
    let log = log.transpose()?.unwrap_or(null.try_clone()?);
    sys::dup_plain(null.as_raw_fd(), 0)?;
    sys::dup_plain(log.as_raw_fd(), 1)?;
    sys::dup_plain(log.as_raw_fd(), 2)?;
    Ok(())
}
