//! Reference addresses: does the network that this node is on still answer? A gateway, mostly. The answer can only forbid a
//! takeover, by a node that is cut off itself; it never asks for one.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::net::arp::{Arp, Operation};
use crate::net::icmp::Echo;
use crate::net::link::Link;
use crate::net::nd::Nd;
use crate::net::netlink::Netlink;
use crate::net::packet::PacketSocket;
use crate::net::table::Entry;
use crate::net::{Mac, readable};
use crate::{Outcome, Stop};

/// A question that got no answer is asked again after that time.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// An address that tells whether this node is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Who is asked.
    pub address: IpAddr,
    /// How.
    pub way: Way,
}

/// How an address is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By ICMP echo, over whatever route leads there.
    Echo,
    /// By ARP or a neighbour solicitation, on that interface: also answered by who drops echoes.
    Neighbour {
        /// Name of the interface.
        interface: String,
    },
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It answered.
    Present,
    /// It was asked, and did not answer in time.
    Absent,
    /// It could not be asked; why.
    Unknown(String),
}

impl Reference {
    /// Asks until there is an answer, or the time is over.
    pub fn ask(&self, limit: Duration) -> Outcome<Presence> {
        self.ask_until(limit, &Stop::never())
    }

    /// The same; nothing is known where it is called off.
    pub fn ask_until(&self, limit: Duration, stop: &Stop) -> Outcome<Presence> {
        Outcome::of(|| {
            let moment = Instant::now() + limit;
            let asked = match &self.way {
                Way::Echo => echo(self.address, moment, stop),
                Way::Neighbour { interface } => neighbour(self.address, interface, moment, stop),
            };
            match asked {
                Ok(true) => Presence::Present,
                Ok(false) if stop.is_called() => Presence::Unknown("called off".into()),
                Ok(false) => Presence::Absent,
                Err(e) => Presence::Unknown(format!("{} cannot be asked: {e}", self.address)),
            }
        })
    }
}

/// Asks again and again; the last answer counts however late it is looked at.
fn ask(
    moment: Instant,
    stop: &Stop,
    mut question: impl FnMut() -> io::Result<()>,
    mut answer: impl FnMut(Instant) -> io::Result<bool>,
) -> io::Result<bool> {
    loop {
        let asked = question();
        let now = Instant::now();
        match asked {
            // The host itself found that its neighbour does not answer: no news. It is asked again.
            Err(e) if e.kind() == ErrorKind::HostUnreachable => {}
            other => other?,
        }
        if answer(moment.min(now + AGAIN_AFTER))? {
            return Ok(true);
        }
        if stop.is_called() || Instant::now() >= moment {
            return Ok(false);
        }
    }
}

fn echo(address: IpAddr, moment: Instant, stop: &Stop) -> io::Result<bool> {
    let (echo, domain, protocol) = match address {
        IpAddr::V4(_) => (Echo::V4, Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Echo::V6, Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    // Only what comes from there is delivered; which source is used shows that there is a route.
    socket.connect(&SocketAddr::new(address, 0).into())?;
    let id = next_id();
    let mut number = 0;
    let question = || {
        number += 1;
        socket.send(&echo.request(id, number)).map(drop)
    };
    ask(moment, stop, question, |until| is_answered(&socket, echo, id, until, stop))
}

fn is_answered(socket: &Socket, echo: Echo, id: u16, until: Instant, stop: &Stop) -> io::Result<bool> {
    use io::Read;
    let mut packet = [0; 1500];
    loop {
        let [can_be_read] = readable([socket.as_fd()], stop, until)?;
        match (&mut &*socket).read(&mut packet) {
            Ok(len) if echo.is_reply(&packet[..len], id) => return Ok(true),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::HostUnreachable) => {}
            Err(e) => return Err(e),
        }
        if !can_be_read && (stop.is_called() || Instant::now() >= until) {
            return Ok(false);
        }
    }
}

fn neighbour(address: IpAddr, interface: &str, moment: Instant, stop: &Stop) -> io::Result<bool> {
    let netlink = Netlink::open()?;
    let link = Link::all(&netlink)?.into_iter().find(|link| link.name == interface);
    let link = link.ok_or_else(|| io::Error::other(format!("there is no interface {interface}")))?;
    let Some(mac) = link.neighbourly().filter(|_| link.is_running()) else {
        return Err(io::Error::other(format!("{interface} is down, has no carrier, or no neighbours")));
    };
    let table = Entry::all(&netlink)?;
    let mut own = table.iter().filter(|entry| entry.index == link.index).map(|entry| entry.cidr);
    let own = own.find(|cidr| cidr.contains(address)).map(|cidr| cidr.address());
    let (socket, question) = match address {
        IpAddr::V4(address) => (PacketSocket::arp(link.index)?, arp(mac, own, address)),
        IpAddr::V6(address) => (PacketSocket::nd(link.index)?, solicitation(mac, own, address)),
    };
    ask(
        moment,
        stop,
        || socket.send(&question),
        |until| Ok(socket.find(until, stop, |frame| is_reply(frame, address).then_some(()))?.is_some()),
    )
}

fn arp(mac: Mac, own: Option<IpAddr>, address: Ipv4Addr) -> Vec<u8> {
    match own {
        Some(IpAddr::V4(own)) => Arp::request(mac, own, address),
        _ => Arp::probe(mac, address),
    }
    .frame()
    .to_vec()
}

fn solicitation(from: Mac, own: Option<IpAddr>, target: Ipv6Addr) -> Vec<u8> {
    let source = match own {
        Some(IpAddr::V6(own)) => own,
        _ => Ipv6Addr::UNSPECIFIED,
    };
    Nd::Solicitation { from, source, target }.frame()
}

fn is_reply(frame: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            Arp::parse(frame).is_some_and(|arp| arp.operation == Operation::Reply && arp.sender == address)
        }
        IpAddr::V6(address) => {
            matches!(Nd::parse(frame), Some(Nd::Advertisement { target, .. }) if target == address)
        }
    }
}

/// Of this process, no two questions share one.
fn next_id() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    (std::process::id() as u16).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
}
