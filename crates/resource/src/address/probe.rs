//! Does anybody hold an address?

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::Stop;
use crate::net::Mac;
use crate::net::arp::Arp;
use crate::net::link::Link;
use crate::net::nd::Nd;
use crate::net::netlink::Netlink;
use crate::net::packet::PacketSocket;

/// How to ask.
///
/// RFC 5227 §1.1 asks three times within up to seven seconds, for hosts that join any network at any moment. Whoever stands
/// in for a server knows its network and is waited for: a holder on a local network answers within a millisecond. Where it
/// may be slower (a loaded host, a bridge that learns), ask for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How often.
    pub count: u32,
    /// How long an answer is waited for after each.
    pub wait: Duration,
}

impl Default for Probe {
    /// Three times, 30 ms each.
    fn default() -> Probe {
        Probe { count: 3, wait: Duration::from_millis(30) }
    }
}

impl Probe {
    /// How long it takes where nobody answers.
    pub fn takes(self) -> Duration {
        self.wait * self.count
    }

    /// Who answers, if anybody; never one of the host's own interfaces. Where there are no neighbours nobody does.
    pub(crate) fn run(self, netlink: &Netlink, link: &Link, address: IpAddr, stop: &Stop) -> io::Result<Option<Mac>> {
        let Some(mac) = link.neighbourly() else { return Ok(None) };
        let own = own_macs(netlink)?;
        let question = question(mac, address);
        let socket = open(link, address)?;
        for _ in 0..self.count {
            socket.send(&question)?;
            let answer = |frame: &[u8]| claim_in(frame, address).map(Claim::by).filter(|by| !own.contains(by));
            let answer = socket.find(Instant::now() + self.wait, stop, answer)?;
            if answer.is_some() || stop.is_called() {
                return Ok(answer);
            }
        }
        Ok(None)
    }
}

/// What a frame says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its sender has it.
    Holds(Mac),
    /// Its sender is about to take it (RFC 5227 §2.1.1, RFC 4862 §5.4.3).
    Probes(Mac),
}

impl Claim {
    /// Whose it is.
    pub fn by(self) -> Mac {
        let (Claim::Holds(mac) | Claim::Probes(mac)) = self;
        mac
    }
}

/// Reads a frame of the address's family.
pub fn claim_in(frame: &[u8], address: IpAddr) -> Option<Claim> {
    match address {
        IpAddr::V4(address) => {
            let arp = Arp::parse(frame)?;
            let probes = arp.sender.is_unspecified() && arp.target == address;
            let claim = if probes { Claim::Probes } else { Claim::Holds };
            (probes || arp.sender == address).then_some(claim(arp.sender_mac))
        }
        IpAddr::V6(address) => match Nd::parse(frame)? {
            Nd::Advertisement { mac, target, .. } => (target == address).then_some(Claim::Holds(mac)),
            Nd::Solicitation { from, source, .. } if source == address => Some(Claim::Holds(from)),
            Nd::Solicitation { from, source, target } => {
                (source.is_unspecified() && target == address).then_some(Claim::Probes(from))
            }
        },
    }
}

/// A socket for frames that can speak of the address.
pub fn open(link: &Link, address: IpAddr) -> io::Result<PacketSocket> {
    if address.is_ipv4() { PacketSocket::arp(link.index) } else { PacketSocket::nd(link.index) }
}

/// Hardware addresses of the host itself: with two interfaces on one network, one can hear the other.
pub fn own_macs(netlink: &Netlink) -> io::Result<BTreeSet<Mac>> {
    Ok(Link::all(netlink)?.into_iter().filter_map(|link| link.mac).collect())
}

fn question(mac: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => Arp::probe(mac, address).frame().to_vec(),
        IpAddr::V6(target) => Nd::Solicitation { from: mac, source: Ipv6Addr::UNSPECIFIED, target }.frame(),
    }
}
