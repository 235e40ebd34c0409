//! `/dev/fuse`: mounting, the handshake, replies and notices.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{self, InHeader, InitIn, InitOut, OutHeader, init, op};
use crate::Order;
use crate::sys;

/// Opens `/dev/fuse`.
///
/// # Errors
/// As `open(2)`.
pub fn open() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Mounts `device` over `path` as `fuse.stead`, with the mount flags that the file system beneath has.
///
/// # Errors
/// As `mount(2)`.
pub fn mount(device: &OwnedFd, path: &CStr, flags: MountFlags) -> io::Result<()> {
    let fd = device.as_raw_fd();
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions\0");
    let options = CStr::from_bytes_until_nul(options.as_bytes()).map_err(io::Error::other)?;
    Ok(rustix::mount::mount(c"stead", path, c"fuse.stead", flags, options)?)
}

/// Answers the kernel's first request. Returns the features agreed on.
///
/// # Errors
/// Where the kernel speaks another major version, or the connection is gone.
pub fn shake_hands(device: RawFd, order: Order) -> io::Result<u64> {
    let mut buf = vec![0; abi::REQUEST_BYTES_MAX];
    let len = sys::read(device, &mut buf)?;
    let mut body = &buf[..len];
    let header: InHeader = abi::take(&mut body)?;
    let mut padded = [0; size_of::<InitIn>()];
    let known = body.len().min(padded.len());
    padded[..known].copy_from_slice(&body[..known]);
    let asked = InitIn::read_from_bytes(&padded).map_err(|_| Errno::INVAL)?;
    if header.opcode != op::INIT || asked.major != 7 || asked.minor < 31 {
        return Err(io::Error::other(format!(
            "the kernel speaks FUSE {}.{}; 7.31 is needed",
            asked.major, asked.minor
        )));
    }
    let offered = u64::from(asked.flags) | u64::from(asked.flags2) << 32;
    let agreed = offered & wanted(order);
    let answer = InitOut {
        major: 7,
        minor: asked.minor.min(42),
        max_readahead: asked.max_readahead,
        flags: agreed as u32,
        max_background: 64,
        congestion_threshold: 48,
        max_write: abi::WRITE_BYTES_MAX as u32,
        time_gran: 1,
        max_pages: 256,
        flags2: (agreed >> 32) as u32,
        ..InitOut::default()
    };
    reply(device, header.unique, &[answer.as_bytes(), &[]])?;
    Ok(agreed)
}

fn wanted(order: Order) -> u64 {
    let cache = if order == Order::Flush { init::WRITEBACK_CACHE } else { 0 };
    cache
        | init::ASYNC_READ
        | init::EXPORT_SUPPORT
        | init::BIG_WRITES
        | init::DONT_MASK
        | init::HAS_IOCTL_DIR
        | init::DO_READDIRPLUS
        | init::READDIRPLUS_AUTO
        | init::ASYNC_DIO
        | init::NO_OPEN_SUPPORT
        | init::PARALLEL_DIROPS
        | init::POSIX_ACL
        | init::MAX_PAGES
        | init::CACHE_SYMLINKS
        | init::NO_OPENDIR_SUPPORT
        | init::EXPLICIT_INVAL_DATA
        | init::HANDLE_KILLPRIV_V2
        | init::SETXATTR_EXT
        | init::INIT_EXT
        | init::HAS_RESEND
}

/// Sends an answer in up to two parts.
///
/// # Errors
/// `ENOENT` where the request was interrupted or answered already.
pub fn reply(device: RawFd, unique: u64, parts: &[&[u8]; 2]) -> sys::Result<()> {
    let len = size_of::<OutHeader>() + parts[0].len() + parts[1].len();
    let header = OutHeader { len: len as u32, error: 0, unique };
    if parts[0].is_empty() {
        return sys::write_parts(device, [header.as_bytes(), parts[1], &[]]);
    }
    sys::write_parts(device, [header.as_bytes(), parts[0], parts[1]])
}

/// Sends an error as answer.
///
/// # Errors
/// As [`reply`].
pub fn refuse(device: RawFd, unique: u64, error: Errno) -> sys::Result<()> {
    let header = OutHeader { len: size_of::<OutHeader>() as u32, error: -error.raw_os_error(), unique };
    sys::write_parts(device, [header.as_bytes(), &[], &[]])
}

/// Sends a notice to the kernel.
///
/// # Errors
/// `EINVAL` where the kernel does not know it, `ENOENT` where it does not know what it is about.
pub fn notify(device: RawFd, code: i32, body: &[u8]) -> sys::Result<()> {
    let header = OutHeader { len: (size_of::<OutHeader>() + body.len()) as u32, error: code, unique: 0 };
    sys::write_parts(device, [header.as_bytes(), body, &[]])
}
