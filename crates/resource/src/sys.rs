//! Thin, safe covers for what no crate offers safely. Nothing here decides anything.
#![allow(unsafe_code, reason = "system calls")]

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{getpid, set_child_subreaper, setsid};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use socket2::{SockAddr, SockAddrStorage, Socket};

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

/// The program will lead a session of its own, in the cgroup behind the door; without one it adopts the orphans among its
/// descendants (that outlives the exec, but is not handed down to them).
pub fn lead_a_session(command: &mut Command, door: Option<File>) {
    let prepare = move || {
        setsid()?;
        match &door {
            Some(door) => (&mut &*door).write_all(b"0"),
            None => Ok(set_child_subreaper(Some(getpid()))?),
        }
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated, no lock is taken.
    unsafe { command.pre_exec(prepare) };
}
