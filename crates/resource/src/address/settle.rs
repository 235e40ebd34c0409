//! Brings the addresses and routes of one interface to what they shall be.

use super::{entries, routes};
use crate::Failure;
use crate::net::netlink::Netlink;
use crate::net::table::{Entry, Route};

/// Afterwards the interface has exactly these addresses, in each IPv4 network in this order, and these routes beside others.
///
/// What is right stays untouched. The kernel removes more than it is told to (with the first address of an IPv4 network all
/// others, unless `promote_secondaries` is on; with an address the routes that name it): what it took is put back.
pub fn settle(netlink: &Netlink, index: u32, wanted: &[Entry], wanted_routes: &[Route]) -> Result<(), Failure> {
    // New ones first: an interface that is without an address for a moment loses all its routes.
    add_missing(netlink, index, wanted)?;
    for entry in on(netlink, index)?.iter().filter(|entry| !has(wanted, entry)) {
        take_away(netlink, entry)?;
    }
    for entry in out_of_order(&on(netlink, index)?, wanted) {
        take_away(netlink, &entry)?;
    }
    add_missing(netlink, index, wanted)?;
    put_routes(netlink, index, wanted_routes)?;
    check(&on(netlink, index)?, wanted)
}

fn on(netlink: &Netlink, index: u32) -> Result<Vec<Entry>, Failure> {
    Ok(entries(netlink)?.into_iter().filter(|entry| entry.index == index).collect())
}

fn has(table: &[Entry], entry: &Entry) -> bool {
    table.iter().any(|other| other.is(entry.cidr))
}

fn add_missing(netlink: &Netlink, index: u32, wanted: &[Entry]) -> Result<(), Failure> {
    let table = on(netlink, index)?;
    for entry in wanted.iter().filter(|entry| !has(&table, entry) && !entry.is_the_kernels_own()) {
        entry.add(netlink).map_err(Failure::at(format!("add {}", entry.cidr)))?;
    }
    Ok(())
}

fn take_away(netlink: &Netlink, entry: &Entry) -> Result<(), Failure> {
    entry.remove(netlink).map_err(Failure::at(format!("remove {}", entry.cidr)))
}

/// In IPv4 the first address of a network is the one that the host sends from: the addresses from the first on that is not
/// where it shall be in its network. They are removed in reverse, so that none becomes the first for a moment.
fn out_of_order(table: &[Entry], wanted: &[Entry]) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    for entry in table.iter().filter(|entry| entry.cidr.address().is_ipv4()) {
        let is_late = found.iter().any(|other| is_beside(other, entry));
        if is_late || place(table, entry) != place(wanted, entry) {
            found.push(entry.clone());
        }
    }
    found.reverse();
    found
}

fn place(table: &[Entry], entry: &Entry) -> Option<usize> {
    table.iter().filter(|other| is_beside(other, entry)).position(|other| other.is(entry.cidr))
}

fn is_beside(one: &Entry, other: &Entry) -> bool {
    one.cidr.prefix() == other.cidr.prefix() && one.cidr.contains(other.cidr.address())
}

fn put_routes(netlink: &Netlink, index: u32, wanted: &[Route]) -> Result<(), Failure> {
    let there = routes(netlink, index)?;
    for route in wanted.iter().filter(|route| !there.contains(route)) {
        route.put(netlink).map_err(Failure::at("put a route back"))?;
    }
    Ok(())
}

fn check(table: &[Entry], wanted: &[Entry]) -> Result<(), Failure> {
    let lost = wanted.iter().find(|entry| !has(table, entry) && !entry.is_the_kernels_own());
    let stayed = table.iter().find(|entry| !has(wanted, entry) && !entry.is_the_kernels_own());
    match (lost, stayed) {
        (None, None) => Ok(()),
        (Some(entry), _) => {
            Err(Failure::Failed(format!("{} was added and is gone: somebody else removes it", entry.cidr)))
        }
        (_, Some(entry)) => Err(Failure::Failed(format!("{} is back: somebody else adds it", entry.cidr))),
    }
}
