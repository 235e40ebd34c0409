//! Telling neighbours who has an address now.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::probe;
use crate::net::arp::Arp;
use crate::net::link::Link;
use crate::net::nd::Nd;

/// When an address is announced again after the start: a neighbour may miss the first, and a switch that has just learnt
/// may drop it. RFC 5227 §2.3 asks for two that are two seconds apart, RFC 9131 §4.2 for up to three, a second or more apart.
pub const AGAIN_AFTER: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];

/// Tells all neighbours, in both ARP forms or by an unsolicited advertisement that overrides (RFC 4861 §7.2.6).
pub fn once(link: &Link, address: IpAddr) -> io::Result<()> {
    let Some(mac) = link.neighbourly().filter(|_| link.is_running()) else { return Ok(()) };
    let socket = probe::open(link, address)?;
    match address {
        IpAddr::V4(address) => {
            Arp::announcements(mac, address).into_iter().try_for_each(|arp| socket.send(&arp.frame()))
        }
        IpAddr::V6(target) => socket.send(&Nd::Advertisement { mac, target, is_router: link.is_router() }.frame()),
    }
}
