//! The daemon's end of the `mount` driver.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use stead_model::handle::HandleShape;
use stead_model::plan::OnLeaseLost;
use stead_model::{FileId, Incarnation, Sequence, VolumeId};

use crate::control::{self, Answer, Request, RootInfo};
use crate::ring::{Reader, Ring};
use crate::sync::SyncBlock;
use crate::{Capture, CaptureError, DriverStatus, MountSpec, Order, Resumed};

/// A protected directory as it is beneath the mount.
#[derive(Debug)]
pub struct BeneathRoot {
    /// Where it is mounted over.
    pub path: PathBuf,
    /// The directory beneath (`O_RDONLY|O_DIRECTORY`, on a private copy of its mount that holds no nested mounts).
    pub fd: OwnedFd,
    /// Index of its volume in the set: [`FileId::volume`] of everything beneath it.
    pub volume: u32,
    /// The directory itself.
    pub id: FileId,
    /// How the file system writes handles: `open_by_handle_at(fd, shape.handle(file))` opens any file of the volume.
    pub shape: HandleShape,
    /// The file system.
    pub volume_id: VolumeId,
}

/// A running `mount` driver.
#[derive(Debug)]
pub struct MountCapture {
    /// One question at a time.
    socket: Mutex<OwnedFd>,
    path: PathBuf,
    order: Order,
    version: u32,
    roots: Vec<BeneathRoot>,
    reader: Reader,
    /// When there was last something to drain.
    ready_at: Instant,
    /// Up to which number somebody was known to wait when it was last called.
    wanted: Sequence,
}

/// A stream that brought something so lately is busy.
const BUSY: Duration = Duration::from_millis(2);

impl MountCapture {
    /// Finds the capture process at its socket. Others that are connected are not disturbed, until this one takes
    /// something from the stream.
    ///
    /// # Errors
    /// Where none answers, or one of a version that is not understood.
    pub fn connect(socket: &Path) -> Result<MountCapture, CaptureError> {
        let unreachable = |source| CaptureError::Unreachable { socket: socket.display().to_string(), source };
        let connection = control::connect(socket).map_err(unreachable)?;
        let gone = || unreachable(std::io::ErrorKind::ConnectionReset.into());
        control::send(&connection, &Request::Hello, &[]).map_err(unreachable)?;
        let (answer, fds) = control::receive(&connection).map_err(unreachable)?.ok_or_else(gone)?;
        let Answer::Hello(hello) = answer else { return Err(gone()) };
        if !(1..=control::VERSION).contains(&hello.version) {
            return Err(CaptureError::Version { theirs: hello.version, ours: control::VERSION });
        }
        let mut fds = fds.into_iter();
        let ring = Ring::open(fds.next().ok_or_else(gone)?.as_raw_fd())?;
        let pairs: Vec<_> = hello.roots.into_iter().zip(fds).collect();
        let roots = pairs.into_iter().map(|(info, fd)| beneath_root(info, fd)).collect::<Option<Vec<_>>>();
        Ok(MountCapture {
            socket: Mutex::new(connection),
            path: socket.into(),
            order: hello.order,
            version: hello.version,
            roots: roots.ok_or_else(gone)?,
            reader: Reader::new(ring),
            ready_at: Instant::now(),
            wanted: 0,
        })
    }

    /// The protected directories, in the order of the spec.
    pub fn roots(&self) -> &[BeneathRoot] {
        &self.roots
    }

    /// Unmounts and ends the capture process. What is in the ring can still be drained afterwards.
    ///
    /// With `lazy` the mounts disappear at once, and the process ends when the last open file is closed.
    ///
    /// # Errors
    /// [`CaptureError::Busy`] where something still uses a mount (never with `lazy`).
    pub fn stop(&mut self, lazy: bool) -> Result<(), CaptureError> {
        self.ask_done(&Request::Stop { lazy })
    }

    /// Makes the kernel forget everything it has cached of the mounts: something changed beneath them.
    ///
    /// # Errors
    /// Where the driver is gone.
    pub fn invalidate(&mut self) -> Result<(), CaptureError> {
        self.ask_done(&Request::Invalidate)
    }

    /// Past the deadline in that file, changes wait or are refused from now on; none: they are made.
    ///
    /// # Errors
    /// Where it is no lease, or the driver is of a version that knows none.
    pub fn lease(&mut self, lease: Option<(BorrowedFd<'_>, OnLeaseLost)>) -> Result<(), CaptureError> {
        if self.version < control::VERSION_LEASES {
            let why = || CaptureError::Version { theirs: self.version, ours: control::VERSION };
            return lease.map_or(Ok(()), |_| Err(why()));
        }
        let (file, policy) = lease.unzip();
        match self.ask_with(&Request::Lease(policy), file.as_slice())? {
            Answer::Done => Ok(()),
            Answer::Failed(why) => Err(CaptureError::Refused(why)),
            other => Err(CaptureError::Refused(format!("it answered {other:?}"))),
        }
    }

    /// What is shared with the server about synchronous operation.
    pub(crate) fn sync_block(&self) -> Option<&SyncBlock> {
        self.reader.ring().sync()
    }

    fn ask_done(&self, request: &Request) -> Result<(), CaptureError> {
        match self.ask(request)? {
            Answer::Done => Ok(()),
            Answer::Busy(path) => Err(CaptureError::Busy { path }),
            Answer::Failed(why) => Err(CaptureError::Refused(why)),
            other => Err(CaptureError::Refused(format!("it answered {other:?}"))),
        }
    }

    fn ask(&self, request: &Request) -> Result<Answer, CaptureError> {
        self.ask_with(request, &[])
    }

    fn ask_with(&self, request: &Request, beside: &[BorrowedFd<'_>]) -> Result<Answer, CaptureError> {
        let unreachable = |source| CaptureError::Unreachable { socket: self.path.display().to_string(), source };
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(answer) = exchange(&socket, request, beside) {
            return Ok(answer);
        }
        // The supervisor may have died, and its heir listens at the same place.
        *socket = control::connect(&self.path).map_err(unreachable)?;
        exchange(&socket, request, beside).map_err(unreachable)
    }
}

impl Capture for MountCapture {
    fn resume(&mut self) -> Resumed {
        self.reader.resume()
    }

    fn drain(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<Sequence, CaptureError> {
        self.reader.drain(out, bytes_max)
    }

    fn release(&mut self, confirmed: Sequence, keep_free: u64) {
        self.reader.release(confirmed, keep_free);
    }

    fn captured(&self) -> Sequence {
        self.reader.ring().captured()
    }

    fn wait(&mut self, timeout: Duration) -> bool {
        let (ring, wanted) = (self.reader.ring(), self.wanted);
        let is_called = || ring.sync().is_some_and(|sync| sync.wanted() > wanted);
        let ready = self.reader.wait(timeout, self.ready_at.elapsed() < BUSY, is_called);
        let called = is_called();
        if called {
            self.wanted = ring.sync().map_or(0, SyncBlock::wanted);
        }
        if ready {
            self.ready_at = Instant::now();
        }
        ready || called
    }

    fn flush(&mut self) -> Result<(), CaptureError> {
        self.ask_done(&Request::Flush)
    }

    fn incarnation(&self) -> Incarnation {
        self.reader.ring().incarnation()
    }

    fn status(&self) -> DriverStatus {
        match self.ask(&Request::Status) {
            Ok(Answer::Status(status)) => status,
            Ok(Answer::Status1(status)) => status.into(),
            _ => self.reader.ring().status(self.order),
        }
    }
}

fn exchange(socket: &OwnedFd, request: &Request, beside: &[BorrowedFd<'_>]) -> std::io::Result<Answer> {
    control::send(socket, request, beside)?;
    let answer = control::receive(socket)?;
    Ok(answer.ok_or(std::io::ErrorKind::ConnectionReset)?.0)
}

fn beneath_root(info: RootInfo, fd: OwnedFd) -> Option<BeneathRoot> {
    Some(BeneathRoot {
        path: OsString::from_vec(info.path).into(),
        fd,
        volume: info.volume,
        id: info.id,
        shape: control::shape_of(info.shape)?,
        volume_id: info.volume_id,
    })
}

/// Starts a capture process, `exe capture ARGS`, in a session of its own and waits until it serves.
///
/// # Errors
/// Where it cannot start: with the reason that it gave.
pub fn spawn(spec: &MountSpec, exe: &Path) -> Result<MountCapture, CaptureError> {
    let mut command = Command::new(exe);
    command.arg("capture").args(spec.to_args());
    start(command)?;
    MountCapture::connect(&spec.socket)
}

/// Runs a command until it prints `ready`, and leaves it running.
fn start(mut command: Command) -> Result<(), CaptureError> {
    let failed = |error: std::io::Error| CaptureError::Start(error.to_string());
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut line = String::new();
    BufReader::new(out.expect("a pipe was asked for")).read_line(&mut line).map_err(failed)?;
    if line != "ready\n" {
        let mut why = String::new();
        let _ = err.expect("a pipe was asked for").take(1 << 16).read_to_string(&mut why);
        let _ = child.wait();
        return Err(CaptureError::Start(why.trim().into()));
    }
    std::thread::spawn(move || child.wait()); // it outlives us, or is reaped here
    Ok(())
}
