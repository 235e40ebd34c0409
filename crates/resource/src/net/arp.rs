//! ARP frames (RFC 826, RFC 5227) on Ethernet.

use std::net::Ipv4Addr;

use super::Mac;

/// Ethernet protocol number of ARP.
pub const PROTOCOL: u16 = 0x0806;

const FRAME_BYTES: usize = 42;
/// Ethernet, IPv4, lengths of their addresses.
const FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// The two kinds of ARP frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has it?
    Request,
    /// I have it.
    Reply,
}

/// What an ARP frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of RFC 826")]
pub struct Arp {
    pub operation: Operation,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
}

impl Arp {
    /// Asks who holds an address, claiming none (RFC 5227 §1.1, "ARP Probe").
    pub fn probe(from: Mac, address: Ipv4Addr) -> Arp {
        Arp::request(from, Ipv4Addr::UNSPECIFIED, address)
    }

    /// Asks who holds an address.
    pub fn request(from: Mac, own: Ipv4Addr, address: Ipv4Addr) -> Arp {
        let operation = Operation::Request;
        Arp { operation, sender_mac: from, sender: own, target_mac: Mac::NONE, target: address }
    }

    /// Claims an address in both forms that neighbours may listen to (RFC 5227 §2.3, §3).
    pub fn announcements(from: Mac, address: Ipv4Addr) -> [Arp; 2] {
        let request = Arp::request(from, address, address);
        [request, Arp { operation: Operation::Reply, target_mac: Mac::BROADCAST, ..request }]
    }

    /// The frame, to everyone on the link.
    pub fn frame(self) -> [u8; FRAME_BYTES] {
        let mut frame = [0; FRAME_BYTES];
        frame[..6].copy_from_slice(&Mac::BROADCAST.0);
        frame[6..12].copy_from_slice(&self.sender_mac.0);
        frame[12..14].copy_from_slice(&PROTOCOL.to_be_bytes());
        frame[14..20].copy_from_slice(&FIXED);
        frame[21] = if self.operation == Operation::Request { 1 } else { 2 };
        frame[22..28].copy_from_slice(&self.sender_mac.0);
        frame[28..32].copy_from_slice(&self.sender.octets());
        frame[32..38].copy_from_slice(&self.target_mac.0);
        frame[38..42].copy_from_slice(&self.target.octets());
        frame
    }

    /// Reads a frame; none where it is no ARP of IPv4 on Ethernet.
    pub fn parse(frame: &[u8]) -> Option<Arp> {
        let frame: &[u8; FRAME_BYTES] = frame.first_chunk()?;
        if frame[12..14] != PROTOCOL.to_be_bytes() || frame[14..20] != FIXED {
            return None;
        }
        let operation = match frame[20..22] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return None,
        };
        Some(Arp {
            operation,
            sender_mac: mac(frame, 22),
            sender: address(frame, 28),
            target_mac: mac(frame, 32),
            target: address(frame, 38),
        })
    }
}

fn mac(frame: &[u8; FRAME_BYTES], at: usize) -> Mac {
    Mac(std::array::from_fn(|i| frame[at + i]))
}

fn address(frame: &[u8; FRAME_BYTES], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|i| frame[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_say_own_address_twice() {
        let [request, reply] =
            Arp::announcements(Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 100)).map(Arp::frame);
        let hex = |frame: [u8; 42]| frame.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex(request),
            "ffffffffffff0200000000010806\
             0001080006040001\
             0200000000010a000064\
             0000000000000a000064"
        );
        assert_eq!(
            hex(reply),
            "ffffffffffff0200000000010806\
             0001080006040002\
             0200000000010a000064\
             ffffffffffff0a000064"
        );
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let arp = Arp::probe(Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 100));
        assert_eq!(Arp::parse(&arp.frame()), Some(arp));
        for len in 0..FRAME_BYTES {
            assert_eq!(Arp::parse(&arp.frame()[..len]), None);
        }
        for at in 12..22 {
            let mut frame = arp.frame();
            frame[at] ^= 0x40;
            assert_eq!(Arp::parse(&frame), None, "byte {at}");
        }
    }
}
