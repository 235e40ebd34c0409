//! Thin, safe covers for what no crate offers safely. Nothing here decides anything.
#![allow(unsafe_code, reason = "system calls")]

mod spawn;

use std::io;
use std::mem;

use rustix::thread::{UnshareFlags, unshare_unsafe};
use socket2::{SockAddr, SockAddrStorage, Socket};

pub use spawn::{Spawn, spawn};

/// Binds a packet socket to the frames of one protocol on one interface (`packet(7)`).
pub fn bind_packet(socket: &Socket, index: u32, protocol: u16) -> io::Result<()> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is a socket address of the kernel's, of plain integers, and fits in a storage.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the storage holds a sockaddr_ll of that length.
    let address = unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
    socket.bind(&address)
}

/// Gives this thread a host name and a view of the mounts of its own.
pub fn unshare_names() -> io::Result<()> {
    // SAFETY: the table of descriptors stays shared; what is unshared owns nothing of this process.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWUTS | UnshareFlags::NEWNS) }?)
}
