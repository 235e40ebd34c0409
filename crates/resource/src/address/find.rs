//! Which interface an address belongs on.

use super::{entries, told};
use crate::net::link::Link;
use crate::net::netlink::Netlink;
use crate::{Cidr, Failure};

/// The named one, or that with the smallest network which contains the address.
pub fn interface(netlink: &Netlink, cidr: Cidr, name: Option<&str>) -> Result<Link, Failure> {
    let links = told("interfaces", Link::all(netlink))?;
    if let Some(name) = name {
        let found = links.into_iter().find(|link| link.name == name);
        return found.ok_or_else(|| Failure::Unusable(format!("there is no interface {name}")));
    }
    let table = entries(netlink)?;
    let networks = table.iter().filter(|entry| entry.cidr.contains(cidr.address()) && entry.cidr.prefix() > 0);
    let smallest = networks.clone().map(|entry| entry.cidr.prefix()).max();
    let is_on = |link: &Link| networks.clone().any(|it| it.index == link.index && Some(it.cidr.prefix()) == smallest);
    let mut found = links.into_iter().filter(|link| !link.is_loopback() && is_on(link));
    match (found.next(), found.next()) {
        (Some(link), None) => Ok(link),
        (None, _) => {
            Err(Failure::Unusable(format!("no interface has a network with {cidr} in it: name the interface")))
        }
        (Some(one), Some(other)) => {
            let names = format!("{} and {}", one.name, other.name);
            Err(Failure::Unusable(format!("{names} both have a network with {cidr} in it: name the interface")))
        }
    }
}

/// The one of that number.
pub fn by_index(netlink: &Netlink, index: u32) -> Result<Link, Failure> {
    let mut links = told("interfaces", Link::all(netlink))?.into_iter();
    links.find(|link| link.index == index).ok_or_else(|| Failure::Failed("the interface is gone".into()))
}
