//! Addresses of interfaces, and the routes that hang on them.

use std::io;
use std::net::IpAddr;

use super::Cidr;
use super::netlink::{Message, Netlink, attributes, push_attribute, u32_at};

const ADDRESS_BYTES: usize = 8;
const ROUTE_BYTES: usize = 12;

/// States that the kernel finds by itself and that nobody can ask for.
const STATES: u32 = libc::IFA_F_PERMANENT
    | libc::IFA_F_TENTATIVE
    | libc::IFA_F_OPTIMISTIC
    | libc::IFA_F_DADFAILED
    | libc::IFA_F_DEPRECATED;
/// `RTNH_F_ONLINK`: the next hop is on the link, whatever the interface's networks are.
const ON_LINK: u32 = 4;
const FOR_EVER: u32 = u32::MAX;
/// Routes that the kernel or a router's advertisements make and remove by themselves.
const MADE_BY_ITSELF: [u8; 3] = [libc::RTPROT_REDIRECT, libc::RTPROT_KERNEL, 9];

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the interface.
    pub index: u32,
    /// The address and its network.
    pub cidr: Cidr,
    /// `IFA_F_…`.
    pub flags: u32,
    /// Everything the kernel tells about it: `struct ifaddrmsg` and attributes.
    pub body: Vec<u8>,
}

impl Entry {
    /// All of this network namespace, in the kernel's order.
    pub fn all(netlink: &Netlink) -> io::Result<Vec<Entry>> {
        let messages = netlink.dump(libc::RTM_GETADDR, &[0; ADDRESS_BYTES])?;
        Ok(messages.into_iter().filter_map(Entry::read).collect())
    }

    /// From a message about an address that is there.
    pub fn read(message: Message) -> Option<Entry> {
        (message.kind == libc::RTM_NEWADDR).then(|| Entry::parse(message.body)).flatten()
    }

    /// From what [`Entry::body`] holds.
    pub fn parse(body: Vec<u8>) -> Option<Entry> {
        if body.len() < ADDRESS_BYTES {
            return None;
        }
        let mut flags = body[2].into();
        let (mut peer, mut local) = (None, None);
        for (kind, payload) in attributes(&body[ADDRESS_BYTES..]) {
            match kind {
                libc::IFA_ADDRESS => peer = ip(payload),
                libc::IFA_LOCAL => local = ip(payload),
                libc::IFA_FLAGS => flags = u32_at(payload.first_chunk::<4>()?, 0),
                _ => {}
            }
        }
        let cidr = Cidr::told(local.or(peer)?, body[1]);
        Some(Entry { index: u32_at(&body, 4), cidr, flags, body })
    }

    /// One to be added: for ever, without a probe of the kernel's own; `is_source`: may the host choose it for what it sends?
    pub fn new(index: u32, cidr: Cidr, is_source: bool) -> Entry {
        let address = octets(cidr.address());
        let family = if cidr.address().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let flags = libc::IFA_F_NODAD;
        let mut body = vec![family as u8, cidr.prefix(), flags as u8, 0];
        body.extend(index.to_ne_bytes());
        push_attribute(&mut body, libc::IFA_LOCAL, &address);
        push_attribute(&mut body, libc::IFA_ADDRESS, &address);
        push_attribute(&mut body, libc::IFA_FLAGS, &flags.to_ne_bytes());
        if let (IpAddr::V4(v4), 0..=30) = (cidr.address(), cidr.prefix()) {
            let broadcast = v4.to_bits() | u32::MAX.checked_shr(cidr.prefix().into()).unwrap_or(0);
            push_attribute(&mut body, libc::IFA_BROADCAST, &broadcast.to_be_bytes());
        }
        // An IPv6 address with a preferred lifetime of zero is "deprecated": it works, but is not chosen as a source. Of
        // IPv4's addresses the first of a network is chosen anyway.
        let preferred = if is_source || cidr.address().is_ipv4() { FOR_EVER } else { 0 };
        push_attribute(&mut body, libc::IFA_CACHEINFO, &lifetimes(preferred, FOR_EVER));
        Entry { index, cidr, flags, body }
    }

    /// Is the kernel still asking whether it is free, or has found that it is not?
    pub fn is_in_doubt(&self) -> bool {
        self.flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) != 0
    }

    /// Has the kernel made it by itself, so that only the kernel can make it again?
    pub fn is_the_kernels_own(&self) -> bool {
        matches!(self.cidr.address(), IpAddr::V6(v6) if v6.is_unicast_link_local() || self.flags & libc::IFA_F_TEMPORARY != 0)
    }

    /// Is it the same address, whatever its attributes?
    pub fn is(&self, cidr: Cidr) -> bool {
        self.cidr == cidr
    }

    /// The same as it is `seconds` later on interface `index`; none where its time has run out.
    pub fn later(&self, seconds: u32, index: u32) -> Option<Entry> {
        let mut body = self.body.clone();
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        if let Some(at) = self.payload_at(libc::IFA_CACHEINFO).filter(|at| body.len() >= at + 8) {
            let left = [0, 4].map(|offset| sooner(u32_at(&body, at + offset), seconds));
            let [preferred, valid] = left;
            body[at..at + 8].copy_from_slice(&lifetimes(preferred, valid)[..8]);
            if valid == 0 {
                return None;
            }
        }
        Some(Entry { index, body, ..self.clone() })
    }

    /// Adds it, with everything that it was told to have.
    pub fn add(&self, netlink: &Netlink) -> io::Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        netlink.request(libc::RTM_NEWADDR, flags, &self.request())
    }

    /// Removes it; one that is gone is.
    pub fn remove(&self, netlink: &Netlink) -> io::Result<()> {
        match netlink.request(libc::RTM_DELADDR, 0, &self.body) {
            Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            other => other,
        }
    }

    /// The body without what only the kernel can say.
    fn request(&self) -> Vec<u8> {
        // Of IPv4, the same bit says "secondary", which follows from the order.
        let secondary = if self.cidr.address().is_ipv4() { libc::IFA_F_SECONDARY } else { 0 };
        let flags = self.flags & !STATES & !secondary;
        let mut body = self.body.clone();
        body[2] = flags as u8;
        if let Some(at) = self.payload_at(libc::IFA_FLAGS) {
            body[at..at + 4].copy_from_slice(&flags.to_ne_bytes());
        }
        body
    }

    fn payload_at(&self, wanted: u16) -> Option<usize> {
        payload_at(&self.body, ADDRESS_BYTES, wanted)
    }
}

/// A route through an interface that somebody configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route(pub Vec<u8>);

impl Route {
    /// All through that interface that somebody configured, those without a gateway first: the others need them.
    pub fn through(netlink: &Netlink, index: u32) -> io::Result<Vec<Route>> {
        let messages = netlink.dump(libc::RTM_GETROUTE, &[0; ROUTE_BYTES])?;
        let routes = messages.into_iter().filter(|message| message.kind == libc::RTM_NEWROUTE);
        let mut routes: Vec<Route> = routes.filter_map(|message| Route::read(message.body, index)).collect();
        routes.sort_by_key(|route| route.attribute(libc::RTA_GATEWAY).is_some());
        Ok(routes)
    }

    fn read(mut body: Vec<u8>, index: u32) -> Option<Route> {
        if body.len() < ROUTE_BYTES || MADE_BY_ITSELF.contains(&body[5]) || body[4] == libc::RT_TABLE_LOCAL {
            return None;
        }
        // What the kernel found about the next hop (dead, link down, offloaded) cannot be asked for.
        let flags = u32_at(&body, 8) & ON_LINK;
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        let route = Route(body);
        let is_through = route.attribute(libc::RTA_OIF) == Some(&index.to_ne_bytes());
        (is_through && route.0[7] == libc::RTN_UNICAST).then(|| route.without(libc::RTA_CACHEINFO))
    }

    /// From what was saved.
    pub fn parse(body: Vec<u8>) -> Option<Route> {
        (body.len() >= ROUTE_BYTES).then_some(Route(body))
    }

    /// The same where `new` is the host's address in place of `old`.
    pub fn with_source(&self, old: IpAddr, new: IpAddr) -> Route {
        let mut route = self.clone();
        if self.attribute(libc::RTA_PREFSRC) == Some(&octets(old)[..])
            && let Some(at) = payload_at(&self.0, ROUTE_BYTES, libc::RTA_PREFSRC)
        {
            let new = octets(new);
            route.0[at..at + new.len()].copy_from_slice(&new);
        }
        route
    }

    /// Adds it, or puts it in the place of one to the same destination.
    pub fn put(&self, netlink: &Netlink) -> io::Result<()> {
        netlink.request(libc::RTM_NEWROUTE, (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16, &self.0)
    }

    fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        attributes(&self.0[ROUTE_BYTES..]).find(|(kind, _)| *kind == wanted).map(|(_, payload)| payload)
    }

    fn without(self, unwanted: u16) -> Route {
        let mut body = self.0[..ROUTE_BYTES].to_vec();
        for (kind, payload) in attributes(&self.0[ROUTE_BYTES..]).filter(|(kind, _)| *kind != unwanted) {
            push_attribute(&mut body, kind, payload);
        }
        Route(body)
    }
}

/// Where in a message the payload of an attribute begins.
fn payload_at(body: &[u8], structure: usize, wanted: u16) -> Option<usize> {
    let mut at = structure;
    for (kind, payload) in attributes(&body[structure..]) {
        if kind == wanted {
            return Some(at + 4);
        }
        at += (payload.len() + 4).next_multiple_of(4);
    }
    None
}

/// `struct ifa_cacheinfo`: seconds, and two moments that only the kernel knows.
fn lifetimes(preferred: u32, valid: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&preferred.to_ne_bytes());
    bytes[4..8].copy_from_slice(&valid.to_ne_bytes());
    bytes
}

fn sooner(left: u32, seconds: u32) -> u32 {
    if left == FOR_EVER { left } else { left.saturating_sub(seconds) }
}

fn ip(payload: &[u8]) -> Option<IpAddr> {
    match payload.len() {
        4 => payload.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        16 => payload.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
