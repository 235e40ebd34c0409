//! The datagrams of heartbeats: sockets on this node's addresses, and where they lead.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::libc::in6_pktinfo;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use stead_failover::heartbeat::{Came, DATAGRAM_LEN_MAX};
use tracing::warn;

use crate::peer::listen::bind_freely;

/// Datagrams that are read from one socket before others have their turn.
const AT_ONCE_MAX: usize = 64;

/// The sockets, by the address that they are bound to: an unspecified one receives what comes to any.
pub(super) struct Wire {
    port: u16,
    sockets: BTreeMap<IpAddr, UdpSocket>,
    /// Addresses that could not be bound, told once.
    unbound: BTreeMap<IpAddr, String>,
}

impl Wire {
    /// Binds where the daemon listens, as that does: at boot addresses come later. The port is that of the first.
    pub(super) fn new(listens: &[SocketAddr]) -> Wire {
        let port = listens.first().map_or(crate::start::PORT, SocketAddr::port);
        let mut wire = Wire { port, sockets: BTreeMap::new(), unbound: BTreeMap::new() };
        listens.iter().for_each(|address| wire.open(address.ip(), bind_freely));
        wire
    }

    /// Sends from that address of this node, or from whichever leads there. What cannot be sent is lost, as datagrams are.
    pub(super) fn send(&mut self, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let from = from.unwrap_or_else(|| self.sockets.keys().copied().find(|ip| suits(*ip, to)).unwrap_or(any));
        self.open(from, |socket, address| socket.bind(&address.into()));
        if let Some(socket) = self.sockets.get(&from) {
            let _ = socket.send_to(datagram, to);
        }
    }

    /// Hands every datagram that is there to `take`, with where it came from.
    pub(super) fn receive(&self, mut take: impl FnMut(&[u8], Came)) {
        let mut buffer = [0; DATAGRAM_LEN_MAX + 1];
        let mut control = cmsg_space!(in6_pktinfo);
        for (at, socket) in &self.sockets {
            for _ in 0..AT_ONCE_MAX {
                let Ok((len, from, to)) = received(socket, &mut buffer, &mut control) else { break };
                take(&buffer[..len], Came { at: to.unwrap_or(*at), from });
            }
        }
    }

    /// Waits for a datagram, for `wake`, or until the time is over.
    pub(super) fn wait(&self, wake: BorrowedFd<'_>, timeout: Duration) {
        let sockets = self.sockets.values().map(|socket| socket.as_fd());
        let mut fds: Vec<_> = sockets.chain([wake]).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn open(&mut self, ip: IpAddr, bind: impl FnOnce(&Socket, SocketAddr) -> io::Result<()>) {
        if self.sockets.contains_key(&ip) {
            return;
        }
        match socket(SocketAddr::new(ip, self.port), bind) {
            Ok(socket) => {
                self.unbound.remove(&ip);
                self.sockets.insert(ip, socket);
            }
            Err(e) => {
                let why = e.to_string();
                if self.unbound.insert(ip, why.clone()) != Some(why) {
                    warn!("no heartbeats from {ip}: {e}");
                }
            }
        }
    }
}

/// The next datagram: how long it is, where it came from, and which address it came to, where the kernel says so.
fn received(
    socket: &UdpSocket,
    buffer: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, Option<IpAddr>, Option<IpAddr>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let got = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), MsgFlags::empty())?;
    let from = got.address.and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|from| from.ip().into());
        v4.or_else(|| from.as_sockaddr_in6().map(|from| from.ip().into()))
    });
    let to = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into()),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    });
    Ok((got.bytes, from, to))
}

/// Can a socket bound to that address send there?
fn suits(ip: IpAddr, to: SocketAddr) -> bool {
    ip.is_ipv4() == to.is_ipv4() && (ip.is_unspecified() || ip.is_loopback() == to.ip().is_loopback())
}

fn socket(address: SocketAddr, bind: impl FnOnce(&Socket, SocketAddr) -> io::Result<()>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.cloexec().nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    bind(&socket, address)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_comes_to_any_address_is_told_with_where_it_came_and_from_where() {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut ways: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        match UdpSocket::bind("[::1]:0") {
            Ok(_) => ways.push(Ipv6Addr::LOCALHOST.into()),
            Err(e) => println!("IPv6 is not used here: {e}"),
        }
        let everywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        let mut wire = Wire::new(&everywhere.map(|ip| SocketAddr::new(ip, port)));
        ways.iter().for_each(|to| wire.send(None, SocketAddr::new(*to, port), to.to_string().as_bytes()));
        let (mut heard, until) = (Vec::new(), Instant::now() + Duration::from_secs(10));
        while heard.len() < ways.len() && Instant::now() < until {
            wire.receive(|bytes, came| heard.push((String::from_utf8_lossy(bytes).into_owned(), came)));
        }
        heard.sort();
        let came = |to: &IpAddr| Came { at: *to, from: Some(if to.is_ipv4() { ways[0] } else { *to }) };
        let expected: Vec<_> = ways.iter().map(|to| (to.to_string(), came(to))).collect();
        assert_eq!(heard, expected);
    }
}
