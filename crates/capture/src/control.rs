//! Messages between daemon and supervisor: one packet each over a Unix socket, descriptors beside the first answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stead_model::handle::HandleShape;
use stead_model::plan::OnLeaseLost;
use stead_model::{FileId, Sequence, VolumeId};

use crate::nodes::ROOTS_MAX;
use crate::{DriverStatus, Order};

/// Version of the messages and of the shared memory. Capture processes of earlier ones are understood still: 1 says less in
/// its status, and before 3 none knows of leases.
pub const VERSION: u32 = 3;
/// The first version that knows of leases.
pub const VERSION_LEASES: u32 = 3;

const PACKET_BYTES_MAX: usize = 512 << 10;
const FDS_MAX: usize = 1 + ROOTS_MAX;

/// What the daemon asks.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Who is there? Answered with `Hello` and the descriptors: ring, then one for each root.
    Hello,
    /// Push everything that the kernel holds back into the stream.
    Flush,
    /// Unmount and end.
    Stop { lazy: bool },
    /// How is it?
    Status,
    /// Let the kernel forget what it has cached.
    Invalidate,
    /// Past the lease in the file of the descriptor beside it, do that with changes; none: change without one (version 3).
    Lease(Option<OnLeaseLost>),
}

/// What the supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Hello(Hello),
    Done,
    /// The mount at this path is in use.
    Busy(String),
    Failed(String),
    Status1(Status1),
    Status(DriverStatus),
}

/// The status as version 1 says it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status1 {
    driver: String,
    order: Order,
    ring_bytes: u64,
    ring_used_bytes: u64,
    head: Sequence,
    dropped_records: u64,
    dropped_bytes: u64,
    dirty_files: u64,
    alive: bool,
    pid: u32,
    restarts: u32,
    nodes: u64,
}

impl From<Status1> for DriverStatus {
    fn from(old: Status1) -> DriverStatus {
        DriverStatus {
            driver: old.driver,
            order: old.order,
            ring_bytes: old.ring_bytes,
            ring_used_bytes: old.ring_used_bytes,
            head: old.head,
            dropped_records: old.dropped_records,
            dropped_bytes: old.dropped_bytes,
            dirty_files: old.dirty_files,
            alive: old.alive,
            pid: old.pid,
            restarts: old.restarts,
            nodes: old.nodes,
            ..DriverStatus::default()
        }
    }
}

/// Who answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    pub order: Order,
    pub roots: Vec<RootInfo>,
}

/// A root, without its descriptor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootInfo {
    pub path: Vec<u8>,
    pub volume: u32,
    pub id: FileId,
    /// Number of the shape, and the subvolume of btrfs.
    pub shape: (u8, u64),
    pub volume_id: VolumeId,
}

/// A handle shape as a number; [`shape_of`] reads it.
pub fn shape_number(shape: HandleShape) -> (u8, u64) {
    match shape {
        HandleShape::Ino32 => (1, 0),
        HandleShape::Ino64 => (2, 0),
        HandleShape::Shmem => (3, 0),
        HandleShape::Btrfs { root } => (4, root),
    }
}

/// The handle shape of a number.
pub fn shape_of(number: (u8, u64)) -> Option<HandleShape> {
    Some(match number.0 {
        1 => HandleShape::Ino32,
        2 => HandleShape::Ino64,
        3 => HandleShape::Shmem,
        4 => HandleShape::Btrfs { root: number.1 },
        _ => return None,
    })
}

/// Listens at `path`; what is left there of an earlier process is removed.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    let _ = std::fs::remove_file(path);
    with_address(path, |address| Ok(rustix::net::bind(&socket, address)?))?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

/// Connects to who listens at `path`.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    with_address(path, |address| Ok(rustix::net::connect(&socket, address)?))?;
    Ok(socket)
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// An address has room for 107 bytes: a longer path is reached through a descriptor of its directory.
fn with_address<T>(path: &Path, act: impl FnOnce(&SocketAddrUnix) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().as_bytes().len() < 100 {
        return act(&SocketAddrUnix::new(path)?);
    }
    let (dir, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let dir = std::fs::File::open(dir)?;
    let short = Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&dir).to_string()).join(name);
    act(&SocketAddrUnix::new(short)?)
}

/// Sends a message, with descriptors beside it.
pub fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message and what descriptors came with it. `None`: the other side has gone.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    let message = postcard::from_bytes(&bytes[..got.bytes]).map_err(io::Error::other)?;
    Ok(Some((message, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as a capture process of version 1 sends them.
    #[test]
    fn messages_of_the_first_version_are_understood() {
        let status = b"\x04\x05mount\x00\x80\x20\x10\x96\x01\x02\x03\x04\x01\x2a\x05\x06";
        let Answer::Status1(status) = postcard::from_bytes(status).unwrap() else { panic!("another answer") };
        let status = DriverStatus::from(status);
        assert_eq!((status.driver.as_str(), status.order, status.ring_bytes), ("mount", Order::Strict, 4096));
        assert_eq!((status.ring_used_bytes, status.head, status.dropped_records), (16, 150, 2));
        assert_eq!((status.dropped_bytes, status.dirty_files, status.alive), (3, 4, true));
        assert_eq!((status.pid, status.restarts, status.nodes, status.sync), (42, 5, 6, None));
        let hello = postcard::from_bytes(b"\x00\x01\x00\x00").unwrap();
        assert!(matches!(hello, Answer::Hello(Hello { version: 1, order: Order::Strict, roots }) if roots.is_empty()));
        let requests =
            [Request::Hello, Request::Flush, Request::Stop { lazy: true }, Request::Status, Request::Invalidate];
        let bytes: Vec<_> = requests.iter().map(|request| postcard::to_stdvec(request).unwrap()).collect();
        assert_eq!(bytes, [&b"\x00"[..], b"\x01", b"\x02\x01", b"\x03", b"\x04"]);
        let leases = [None, Some(OnLeaseLost::SuspendIo), Some(OnLeaseLost::Stop)].map(Request::Lease);
        let bytes = leases.map(|request| postcard::to_stdvec(&request).unwrap());
        assert_eq!(bytes, [&b"\x05\x00"[..], b"\x05\x01\x00", b"\x05\x01\x01"]);
    }
}
