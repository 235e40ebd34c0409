//! ICMP echo (RFC 792, RFC 4443 §4.1) and the checksum of the internet protocols (RFC 1071).

use std::net::Ipv6Addr;

/// Which protocol an echo is of: the types of its request and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// ICMP.
    V4,
    /// ICMPv6.
    V6,
}

impl Echo {
    fn types(self) -> (u8, u8) {
        match self {
            Echo::V4 => (8, 0),
            Echo::V6 => (128, 129),
        }
    }

    /// A request. In ICMPv6 the kernel fills in the checksum.
    pub fn request(self, id: u16, number: u16) -> [u8; 8] {
        let mut message = [self.types().0, 0, 0, 0, 0, 0, 0, 0];
        message[4..6].copy_from_slice(&id.to_be_bytes());
        message[6..8].copy_from_slice(&number.to_be_bytes());
        if self == Echo::V4 {
            let sum = checksum(&[&message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        message
    }

    /// Is this the reply to any request of that id? In ICMP a raw socket delivers the IP header too.
    pub fn is_reply(self, packet: &[u8], id: u16) -> bool {
        let skipped = if self == Echo::V4 { packet.first().map_or(0, |first| usize::from(first & 15) * 4) } else { 0 };
        let Some(message) = packet.get(skipped..) else { return false };
        message.len() >= 8 && message[..2] == [self.types().1, 0] && message[4..6] == id.to_be_bytes()
    }
}

/// Checksum of an ICMPv6 message with its pseudo header (RFC 8200 §8.1); zero over one that has a right checksum in it.
pub fn checksum_v6(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let len = (message.len() as u32).to_be_bytes();
    checksum(&[&source.octets(), &destination.octets(), &len, &[0, 0, 0, 58], message])
}

/// All parts but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words.map(|word| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0))).sum();
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_the_checksum_of_rfc_1071() {
        let message = Echo::V4.request(0x1234, 1);
        assert_eq!(message, [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1]);
        assert_eq!(checksum(&[&message]), 0);
    }

    #[test]
    fn only_a_reply_of_the_same_id_is_one() {
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert!(Echo::V4.is_reply(&packet, 0x1234));
        assert!(!Echo::V4.is_reply(&packet, 0x1235));
        assert!(!Echo::V4.is_reply(&packet[..24], 0x1234));
        assert!(!Echo::V4.is_reply(&[], 0x1234));
        assert!(Echo::V6.is_reply(&[129, 0, 0, 0, 0x12, 0x34, 0, 1], 0x1234));
    }
}
