//! Neighbour solicitations and advertisements of IPv6 (RFC 4861 §4.3, §4.4) on Ethernet.

use std::net::Ipv6Addr;

use super::Mac;
use super::icmp::checksum_v6;

/// Ethernet protocol number of IPv6.
pub const PROTOCOL: u16 = 0x86dd;

/// Byte of the frame with the IPv6 next header, and that with the ICMPv6 type; the frames that matter have no other headers.
pub const NEXT_HEADER_AT: u32 = 20;
/// See [`NEXT_HEADER_AT`].
pub const TYPE_AT: u32 = 54;
/// IPv6 next header: ICMPv6.
pub const ICMPV6: u8 = 58;
/// ICMPv6 types.
pub const SOLICITATION: u8 = 135;
/// See [`SOLICITATION`].
pub const ADVERTISEMENT: u8 = 136;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERNET_BYTES: usize = 14;
const HEADERS_BYTES: usize = 54;
const FRAME_BYTES: usize = HEADERS_BYTES + 24;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;

/// What such a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nd {
    /// Who has `target`? From the unspecified address it is a probe (RFC 4862 §5.4.2).
    Solicitation {
        /// Hardware address of who asks.
        from: Mac,
        /// Address of who asks.
        source: Ipv6Addr,
        /// What is asked for.
        target: Ipv6Addr,
    },
    /// `mac` has `target`, whatever was known before.
    Advertisement {
        /// Hardware address of who has it.
        mac: Mac,
        /// What it has.
        target: Ipv6Addr,
        /// Does it forward packets? Neighbours forget a default router that says no.
        is_router: bool,
    },
}

impl Nd {
    /// The frame: a solicitation to the target's solicited nodes, an advertisement to all nodes (RFC 4861 §7.2.6).
    pub fn frame(self) -> Vec<u8> {
        match self {
            Nd::Solicitation { from, source, target } => {
                // RFC 4861 §4.3: no such option where the source is unspecified.
                let option = (!source.is_unspecified()).then_some((OPTION_SOURCE, from));
                frame(from, source, solicited_nodes(target), [SOLICITATION, 0], target, option)
            }
            Nd::Advertisement { mac, target, is_router } => {
                let flags = OVERRIDE | if is_router { ROUTER } else { 0 };
                frame(mac, target, ALL_NODES, [ADVERTISEMENT, flags], target, Some((OPTION_TARGET, mac)))
            }
        }
    }

    /// Reads a frame; none where it is neither, or not valid (RFC 4861 §7.1.1, §7.1.2).
    pub fn parse(frame: &[u8]) -> Option<Nd> {
        let len = usize::from(u16::from_be_bytes([*frame.get(18)?, *frame.get(19)?]));
        let message = frame.get(HEADERS_BYTES..HEADERS_BYTES + len)?;
        let (source, destination) = (address(frame, 22)?, address(frame, 38)?);
        let is_valid = frame[12..14] == PROTOCOL.to_be_bytes()
            && frame[NEXT_HEADER_AT as usize] == ICMPV6
            && frame[21] == 255
            && message.get(1) == Some(&0)
            && checksum_v6(source, destination, message) == 0;
        if !is_valid {
            return None;
        }
        let target = address(message, 8)?;
        let from = Mac(*frame.get(6..)?.first_chunk()?);
        match message[0] {
            SOLICITATION => Some(Nd::Solicitation { from, source, target }),
            ADVERTISEMENT => {
                let mac = link_option(&message[24..], OPTION_TARGET)?.unwrap_or(from);
                Some(Nd::Advertisement { mac, target, is_router: message[4] & ROUTER != 0 })
            }
            _ => None,
        }
    }
}

fn frame(
    from: Mac,
    source: Ipv6Addr,
    to: Ipv6Addr,
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    option: Option<(u8, Mac)>,
) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    if let Some((option, mac)) = option {
        message.extend([option, 1]);
        message.extend(mac.0);
    }
    let sum = checksum_v6(source, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(FRAME_BYTES + 8);
    frame.extend(multicast_mac(to).0);
    frame.extend(from.0);
    frame.extend(PROTOCOL.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(source.octets());
    frame.extend(to.octets());
    frame.extend(message);
    debug_assert!(frame.len() >= FRAME_BYTES && ETHERNET_BYTES + 40 == HEADERS_BYTES);
    frame
}

/// RFC 4291 §2.7.1.
fn solicited_nodes(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// RFC 2464 §7.
fn multicast_mac(to: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = to.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    bytes.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// The hardware address in such an option, if there is one; `None` where the options are damaged.
fn link_option(mut options: &[u8], kind: u8) -> Option<Option<Mac>> {
    while let [found, eights, rest @ ..] = options {
        let len = usize::from(*eights) * 8;
        if len == 0 || options.len() < len {
            return None;
        }
        if *found == kind {
            return rest.first_chunk().map(|mac| Some(Mac(*mac)));
        }
        options = &options[len..];
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn frames() -> [Nd; 3] {
        let target = "fd00::100".parse().unwrap();
        [
            Nd::Solicitation { from: MAC, source: Ipv6Addr::UNSPECIFIED, target },
            Nd::Solicitation { from: MAC, source: "fd00::2".parse().unwrap(), target },
            Nd::Advertisement { mac: MAC, target, is_router: true },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for nd in frames() {
            assert_eq!(Nd::parse(&nd.frame()), Some(nd));
        }
    }

    #[test]
    fn a_damaged_frame_is_none() {
        for nd in frames() {
            let frame = nd.frame();
            for len in 0..frame.len() {
                assert_eq!(Nd::parse(&frame[..len]), None);
            }
            for at in 12..frame.len() {
                let mut damaged = frame.clone();
                damaged[at] ^= 0x08;
                assert!((14..18).contains(&at) || Nd::parse(&damaged).is_none(), "byte {at} of {nd:?}");
            }
        }
    }

    #[test]
    fn a_probe_goes_to_the_solicited_nodes_and_names_no_source() {
        let frame = frames()[0].frame();
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 1, 0]);
        assert_eq!(frame.len(), FRAME_BYTES);
    }
}
