//! Requests to the kernel's routing netlink (`rtnetlink(7)`), and what it answers: attributes are kept as bytes, so that
//! what is saved and put back is all of it, also what this version does not know.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

/// The kernel answers at once; this bounds a wait for what never comes.
const WAIT: Duration = Duration::from_secs(5);
/// The kernel's dumps come in pieces of at most 32 KiB.
const REPLY_BYTES_MAX: usize = 64 << 10;
const HEADER_BYTES: usize = 16;
const DUMPS_MAX: usize = 10;

const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const DUMP_INTERRUPTED: u16 = libc::NLM_F_DUMP_INTR as u16;

/// One message without its header: a fixed structure and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `RTM_…`.
    pub kind: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// A socket to the kernel.
pub struct Netlink {
    socket: OwnedFd,
    number: Cell<u32>,
}

impl Netlink {
    /// For requests.
    pub fn open() -> io::Result<Netlink> {
        Netlink::listening(0)
    }

    /// Hears, too, what changes in those groups (`RTMGRP_…`).
    pub fn listening(groups: u32) -> io::Result<Netlink> {
        // No protocol is number 0: NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(WAIT))?;
        Ok(Netlink { socket, number: Cell::new(0) })
    }

    /// Has one thing done; returns when it is.
    pub fn request(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let number = self.send(kind, REQUEST | ACK | flags, body)?;
        loop {
            for (header, body) in split(&self.receive(RecvFlags::empty())?)? {
                if header.number == number && header.kind == NLMSG_ERROR {
                    return error_in(body);
                }
            }
        }
    }

    /// All of a table. One that changed while it was told is asked for again.
    pub fn dump(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        for _ in 0..DUMPS_MAX {
            if let Some(messages) = self.dump_once(kind, body)? {
                return Ok(messages);
            }
        }
        Err(io::Error::new(ErrorKind::ResourceBusy, "the kernel's tables change all the time"))
    }

    fn dump_once(&self, kind: u16, body: &[u8]) -> io::Result<Option<Vec<Message>>> {
        let number = self.send(kind, REQUEST | DUMP, body)?;
        let mut messages = Vec::new();
        let mut is_whole = true;
        loop {
            for (header, body) in split(&self.receive(RecvFlags::empty())?)? {
                if header.number != number {
                    continue;
                }
                is_whole &= header.flags & DUMP_INTERRUPTED == 0;
                match header.kind {
                    NLMSG_DONE => return Ok(is_whole.then_some(messages)),
                    NLMSG_ERROR => error_in(body)?,
                    kind => messages.push(Message { kind, body: body.to_vec() }),
                }
            }
        }
    }

    /// What was heard and lies there. `None`: more than there was room for, so anything may have changed.
    pub fn heard(&self) -> io::Result<Option<Vec<Message>>> {
        match self.receive(RecvFlags::DONTWAIT) {
            Ok(bytes) => {
                let messages = split(&bytes)?.map(|(header, body)| Message { kind: header.kind, body: body.to_vec() });
                Ok(Some(messages.collect()))
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Some(Vec::new())),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn send(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<u32> {
        let number = self.number.get().wrapping_add(1);
        self.number.set(number);
        let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
        message.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(number.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(number)
    }

    fn receive(&self, flags: RecvFlags) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; REPLY_BYTES_MAX];
        let (len, _) = recv(&self.socket, &mut bytes[..], flags)?;
        bytes.truncate(len);
        Ok(bytes)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

struct Header {
    kind: u16,
    flags: u16,
    number: u32,
}

/// The messages of one datagram.
fn split(mut bytes: &[u8]) -> io::Result<impl Iterator<Item = (Header, &[u8])>> {
    let mut messages = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        let len = u32_at(header, 0) as usize;
        let body = bytes.get(HEADER_BYTES..len).ok_or(ErrorKind::InvalidData)?;
        messages.push((Header { kind: u16_at(header, 4), flags: u16_at(header, 6), number: u32_at(header, 8) }, body));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(messages.into_iter())
}

fn error_in(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().map(|code| i32::from_ne_bytes(*code)).ok_or(ErrorKind::InvalidData)?;
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

/// The attributes after a fixed structure; what is damaged ends them.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes.first_chunk::<4>()?, 0));
        let payload = bytes.get(4..len)?;
        // The two high bits are flags.
        let kind = u16_at(bytes, 2) & 0x3fff;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// Appends an attribute.
pub fn push_attribute(body: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    body.extend((payload.len() as u16 + 4).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(payload);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Two bytes of a message that is long enough.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes of a message that is long enough.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
