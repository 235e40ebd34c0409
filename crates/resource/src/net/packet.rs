//! Whole Ethernet frames of one protocol, on one interface.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use socket2::{Domain, SockFilter, Socket, Type};

use super::{arp, nd, readable};
use crate::{Stop, sys};

/// Larger than any frame that matters here.
const FRAME_BYTES_MAX: usize = 1600;

/// Frames looked at after the time has come, so that a flood cannot hold up.
const LATE_FRAMES_MAX: u32 = 1000;

/// A socket for frames of one protocol on one interface.
pub struct PacketSocket(Socket);

impl PacketSocket {
    /// For ARP frames.
    pub fn arp(index: u32) -> io::Result<PacketSocket> {
        PacketSocket::open(index, arp::PROTOCOL, &[])
    }

    /// For neighbour solicitations and advertisements; the kernel drops all other IPv6 packets, of which there are many.
    pub fn nd(index: u32) -> io::Result<PacketSocket> {
        PacketSocket::open(index, nd::PROTOCOL, &nd_filter())
    }

    /// No frame passes before the filter is there: until it is bound the socket has no protocol.
    fn open(index: u32, protocol: u16, filter: &[SockFilter]) -> io::Result<PacketSocket> {
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        if !filter.is_empty() {
            socket.attach_filter(filter)?;
        }
        sys::bind_packet(&socket, index, protocol)?;
        Ok(PacketSocket(socket))
    }

    /// Sends a whole frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        (&self.0).write(frame).map(drop)
    }

    /// What came until that moment, or until it is to stop, and means something to `read`, the first of it.
    pub fn find<T>(
        &self,
        moment: Instant,
        stop: &Stop,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        // What already lies there is looked at even when the moment has passed: the own process may have been stalled.
        let mut late = 0;
        loop {
            readable([self.0.as_fd()], stop, moment)?;
            let is_late = Instant::now() >= moment || stop.is_called();
            match self.take(&mut read)? {
                Taken::Found(found) => return Ok(Some(found)),
                Taken::Nothing if is_late => return Ok(None),
                _ if late == LATE_FRAMES_MAX => return Ok(None),
                _ => late += u32::from(is_late),
            }
        }
    }

    /// The next frame that lies there.
    fn take<T>(&self, read: &mut impl FnMut(&[u8]) -> Option<T>) -> io::Result<Taken<T>> {
        let mut frame = [0; FRAME_BYTES_MAX];
        match (&self.0).read(&mut frame) {
            Ok(len) => Ok(read(&frame[..len]).map_or(Taken::Other, Taken::Found)),
            // The interface went down: told once, and it may come up again.
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::NetworkDown) => Ok(Taken::Other),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Taken::Nothing),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

enum Taken<T> {
    Found(T),
    Other,
    Nothing,
}

/// Passes neighbour solicitations and advertisements.
fn nd_filter() -> [SockFilter; 7] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, nd::NEXT_HEADER_AT),
        SockFilter::new(IF_EQUAL, 0, 4, nd::ICMPV6.into()),
        SockFilter::new(LOAD_BYTE, 0, 0, nd::TYPE_AT),
        SockFilter::new(IF_EQUAL, 1, 0, nd::SOLICITATION.into()),
        SockFilter::new(IF_EQUAL, 0, 1, nd::ADVERTISEMENT.into()),
        SockFilter::new(RETURN, 0, 0, FRAME_BYTES_MAX as u32),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
