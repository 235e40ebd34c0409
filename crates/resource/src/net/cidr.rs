use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address with the length of its network's prefix, as `10.0.0.100/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// An address that one host can hold, and the length of its network's prefix, in bits.
    ///
    /// # Errors
    /// Where no host can hold it, or the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Cidr, String> {
        if prefix > bits(address) {
            return Err(format!("{address}/{prefix}: a prefix of {address} has at most {} bits", bits(address)));
        }
        let cidr = Cidr { address, prefix };
        let unusable = address.is_unspecified() || address.is_multicast() || address.is_loopback();
        if unusable || cidr.is_an_end_of_its_network() {
            return Err(format!("{cidr} is not an address that a host can take on a network"));
        }
        Ok(cidr)
    }

    /// As the kernel tells it: whatever is configured is.
    pub(crate) fn told(address: IpAddr, prefix: u8) -> Cidr {
        Cidr { address, prefix: prefix.min(bits(address)) }
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Length of the network's prefix, in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Is that address in this one's network?
    pub fn contains(self, address: IpAddr) -> bool {
        bits(self.address) == bits(address) && self.masked(self.address) == self.masked(address)
    }

    fn masked(self, address: IpAddr) -> u128 {
        let host = u32::from(bits(address) - self.prefix);
        number(address).checked_shr(host).unwrap_or(0)
    }

    /// IPv4: the number of the network or its broadcast address.
    fn is_an_end_of_its_network(self) -> bool {
        let IpAddr::V4(v4) = self.address else { return false };
        let host = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        let low = v4.to_bits() & host;
        self.prefix < 31 && (low == 0 || low == host)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidr, String> {
        let refuse = || format!("{text:?} is not an address with a prefix; write it as 10.0.0.100/24 or fd00::100/64");
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        Cidr::new(address.parse().map_err(|_| refuse())?, prefix.parse().map_err(|_| refuse())?)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { Ipv4Addr::BITS as u8 } else { Ipv6Addr::BITS as u8 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_its_network() {
        for (network, address, is_in) in [
            ("10.0.0.2/24", "10.0.0.255", true),
            ("10.0.0.2/24", "10.0.1.0", false),
            ("10.0.0.2/32", "10.0.0.2", true),
            ("10.0.0.2/0", "192.0.2.1", true),
            ("10.0.0.2/24", "::ffff:10.0.0.3", false),
            ("fd00::1/64", "fd00::ffff", true),
            ("fd00::1/64", "fd00:0:0:1::1", false),
        ] {
            let network: Cidr = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), is_in, "{address} in {network}");
        }
    }

    #[test]
    fn what_no_host_can_hold_is_refused() {
        for bad in
            ["10.0.0.1", "10.0.0.1/33", "10.0.0.0/24", "10.0.0.255/24", "127.0.0.1/8", "224.0.0.1/4", "::/64", "x/1"]
        {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert_eq!("10.0.0.0/31".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/31");
    }
}
