//! Interfaces.

use std::fs;
use std::io;

use super::Mac;
use super::netlink::{Message, Netlink, attributes, u16_at, u32_at};

const STRUCTURE_BYTES: usize = 16;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, for as long as it exists.
    pub index: u32,
    /// Its name, which can change.
    pub name: String,
    /// Its hardware address, where it is Ethernet.
    pub mac: Option<Mac>,
    flags: u32,
}

impl Link {
    /// All of this network namespace.
    pub fn all(netlink: &Netlink) -> io::Result<Vec<Link>> {
        let messages = netlink.dump(libc::RTM_GETLINK, &[0; STRUCTURE_BYTES])?;
        Ok(messages.iter().filter_map(Link::read).collect())
    }

    /// From a message about an interface.
    pub fn read(message: &Message) -> Option<Link> {
        let body = &message.body;
        if message.kind != libc::RTM_NEWLINK || body.len() < STRUCTURE_BYTES {
            return None;
        }
        let mut link = Link { index: u32_at(body, 4), name: String::new(), mac: None, flags: u32_at(body, 8) };
        let is_ethernet = u16_at(body, 2) == libc::ARPHRD_ETHER;
        for (kind, payload) in attributes(&body[STRUCTURE_BYTES..]) {
            match kind {
                libc::IFLA_IFNAME => link.name = String::from_utf8_lossy(payload.strip_suffix(&[0])?).into_owned(),
                libc::IFLA_ADDRESS if is_ethernet => link.mac = payload.try_into().ok().map(Mac),
                _ => {}
            }
        }
        Some(link)
    }

    /// Is it switched on, with a carrier?
    pub fn is_running(&self) -> bool {
        let needed = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
        self.flags & needed == needed
    }

    /// Is it the host itself?
    pub fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }

    /// Its hardware address, where it has neighbours who can be asked.
    pub fn neighbourly(&self) -> Option<Mac> {
        self.mac.filter(|_| self.flags & (libc::IFF_NOARP | libc::IFF_LOOPBACK) as u32 == 0)
    }

    /// Does this host forward IPv6 packets that come in here?
    pub fn is_router(&self) -> bool {
        let path = format!("/proc/sys/net/ipv6/conf/{}/forwarding", self.name);
        fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
    }
}
