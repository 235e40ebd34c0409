//! A server's address, on the interface of the node that stands in for it.
//!
//! ```text
//!   find the interface → probe for a holder → save the table (durable) → add → announce     start
//!   watch for other claims, announce again                                                  Watch, for as long as it serves
//!   bring back what the table was → remove what was saved                                   stop, restore
//! ```
//! What was saved is a file. Another process finishes or undoes from it what this one did not live to.

mod announce;
mod find;
mod probe;
mod saved;
mod settle;
mod watch;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::net::link::Link;
use crate::net::netlink::Netlink;
use crate::net::table::{Entry, Route};
use crate::{Cidr, Done, Failure, Outcome, Resource, State, Stop, Term};
use saved::Saved;

pub use probe::Probe;
pub use watch::{Answer, Conflict, Lease, Seen, Watch};

/// Where an address goes among the host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Beside them: one node can stand in for several. The host goes on sending from its own.
    Beside,
    /// In the place of one: that one is removed, and routes that named it name the new one.
    Replacing {
        /// Which; none: the first of the interface in the network of the new one.
        own: Option<IpAddr>,
    },
}

/// Whether another holder is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Possible: ask before the address is taken.
    Possible(Probe),
    /// Fenced, by evidence: take it.
    Fenced,
}

/// An address to be taken.
#[derive(Clone, Debug)]
pub struct Address {
    /// The address, and the network that it is in.
    pub cidr: Cidr,
    /// Name of the interface; none: the one with an address in whose network it is.
    pub interface: Option<String>,
    /// Beside the host's own or in the place of one.
    pub mode: Mode,
    /// Whether somebody else may hold it.
    pub holder: Holder,
    /// Where the table of the interface is kept while the address is taken: a file of this address alone, in a directory
    /// that is there.
    pub saved: PathBuf,
}

impl Resource for Address {
    /// Takes the address and announces it once; [`Watch`] announces it again. Where it fails, or is called off before it is
    /// announced, all is as before.
    fn start_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
        Outcome::of(|| self.take(Term::new(limit, stop)))
    }

    /// Gives the address up and brings back what the interface had before. Nothing is waited for, so nothing is called off.
    fn stop_until(&self, _: Duration, _: &Stop) -> Outcome<Result<Done, Failure>> {
        Outcome::of(|| self.give_up())
    }

    /// Is it on an interface of this host?
    fn status(&self, _: Duration) -> Outcome<State> {
        Outcome::of(|| self.look().unwrap_or_else(|e| State::Unknown(e.to_string())))
    }
}

/// Brings back what an interface had before an address was taken, from the file that [`Address::saved`] named: also after a
/// crash, and from another process. After a boot only the address itself is removed: the rest was lost and configured anew.
///
/// Already done where there is no such file.
///
/// # Errors
/// Where the file is damaged, the interface is gone, or the kernel refuses; the file stays.
pub fn restore(saved: &Path) -> Outcome<Result<Done, Failure>> {
    Outcome::of(|| {
        let Some(found) = Saved::read(saved)? else { return Ok(Done::Already) };
        let netlink = open()?;
        found.bring_back(&netlink)?;
        Saved::remove(saved)?;
        Ok(Done::Changed)
    })
}

/// Removes an address from every interface that has it, and nothing else. No file is read, written or removed: it works
/// where the disk does not, and where what was saved is damaged.
///
/// # Errors
/// Where the kernel refuses.
pub fn take_off(cidr: Cidr) -> Outcome<Result<Done, Failure>> {
    Outcome::of(|| {
        let netlink = open()?;
        let mut there = entries(&netlink)?;
        there.retain(|entry| entry.cidr.address() == cidr.address());
        there.iter().try_for_each(|entry| remove_first_of_all(&netlink, entry))?;
        Ok(if there.is_empty() { Done::Already } else { Done::Changed })
    })
}

/// An interface, as far as it can carry an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// It is up and has a carrier.
    pub is_running: bool,
}

/// The interface of that name; none: there is none.
///
/// # Errors
/// Where the kernel does not tell.
pub fn card(name: &str) -> Result<Option<Card>, Failure> {
    let links = told("interfaces", Link::all(&open()?))?;
    Ok(links.into_iter().find(|link| link.name == name).map(Card::of))
}

/// The interface that has the address; none: none of this host has.
///
/// # Errors
/// Where the kernel does not tell.
pub fn card_of(cidr: Cidr) -> Result<Option<Card>, Failure> {
    let netlink = open()?;
    let there = entries(&netlink)?.into_iter().find(|entry| entry.cidr.address() == cidr.address());
    let Some(there) = there else { return Ok(None) };
    let links = told("interfaces", Link::all(&netlink))?;
    Ok(links.into_iter().find(|link| link.index == there.index).map(Card::of))
}

impl Card {
    fn of(link: Link) -> Card {
        Card { is_running: link.is_running(), name: link.name }
    }
}

/// The name of the interface on which an address would go: the named one, or that with the smallest network which contains
/// it. Nothing is changed.
///
/// # Errors
/// Where there is none, or more than one; and where it is to replace an address and there is none in its network.
pub fn place(cidr: Cidr, interface: Option<&str>, mode: Mode) -> Result<String, Failure> {
    let netlink = open()?;
    let link = find::interface(&netlink, cidr, interface)?;
    replaced(&netlink, &link, cidr, mode).map(|_| link.name)
}

impl Address {
    fn take(&self, term: Term<'_>) -> Result<Done, Failure> {
        self.check_limit(term.limit)?;
        term.stop.check()?;
        let netlink = open()?;
        if self.is_taken(&netlink)? {
            self.announce(&netlink)?;
            return Ok(Done::Already);
        }
        // A start that did not end left this; it is begun anew.
        restore(&self.saved).value?;
        let link = find::interface(&netlink, self.cidr, self.interface.as_deref())?;
        let own = replaced(&netlink, &link, self.cidr, self.mode)?;
        self.ask_for_holders(&netlink, &link, term.stop)?;
        self.put(&netlink, &link, own, term.stop).inspect_err(|_| {
            let _ = restore(&self.saved);
        })?;
        // Whoever takes down what is up may have looked before it was.
        if term.stop.is_called() {
            return self.give_up().and(Err(Failure::Cancelled));
        }
        self.announce(&netlink)?;
        Ok(Done::Changed)
    }

    fn check_limit(&self, limit: Duration) -> Result<(), Failure> {
        let Holder::Possible(probe) = self.holder else { return Ok(()) };
        let takes = probe.takes();
        if takes <= limit {
            return Ok(());
        }
        Err(Failure::Unusable(format!("the limit of {limit:?} leaves no time to probe ({takes:?})")))
    }

    /// Is it on its interface, and a start of it complete?
    fn is_taken(&self, netlink: &Netlink) -> Result<bool, Failure> {
        let Some(there) = self.entry(netlink)? else { return Ok(false) };
        let link = find::by_index(netlink, there.index)?;
        if self.interface.as_ref().is_some_and(|name| *name != link.name) {
            return Err(Failure::Unusable(format!("{} is already on {}, another interface", self.cidr, link.name)));
        }
        let Some(saved) = Saved::read(&self.saved)? else { return Ok(true) };
        let table = entries(netlink)?;
        Ok(saved.is_of_this_boot() && !saved.replaced.is_some_and(|own| table.iter().any(|entry| entry.is(own))))
    }

    fn ask_for_holders(&self, netlink: &Netlink, link: &Link, stop: &Stop) -> Result<(), Failure> {
        let Holder::Possible(probe) = self.holder else { return Ok(()) };
        if !link.is_running() {
            return Err(Failure::Failed(format!("{} is down or has no carrier: nobody can be asked", link.name)));
        }
        let address = self.cidr.address();
        let found = probe.run(netlink, link, address, stop).map_err(Failure::at(format!("probe for {address}")))?;
        found.map_or(stop.check(), |holder| Err(Failure::AddressHeld { address, holder }))
    }

    /// Saves the table durably, which may take its time, then changes it.
    fn put(&self, netlink: &Netlink, link: &Link, own: Option<Cidr>, stop: &Stop) -> Result<(), Failure> {
        let saved = Saved::of(netlink, link, self.cidr, own)?;
        saved.write(&self.saved)?;
        stop.check()?;
        let mut wanted = saved.entries.clone();
        let is_source = own.is_some();
        let new = Entry::new(link.index, self.cidr, is_source);
        let at = own.and_then(|own| wanted.iter().position(|entry| entry.is(own)));
        match at {
            Some(at) => wanted[at] = new,
            None => wanted.push(new),
        }
        let routes = match own {
            Some(own) => saved.routes.iter().map(|it| it.with_source(own.address(), self.cidr.address())).collect(),
            None => saved.routes,
        };
        settle::settle(netlink, link.index, &wanted, &routes)
    }

    fn announce(&self, netlink: &Netlink) -> Result<(), Failure> {
        let Some(there) = self.entry(netlink)? else { return Ok(()) };
        let link = find::by_index(netlink, there.index)?;
        announce::once(&link, self.cidr.address()).map_err(Failure::at(format!("announce {}", self.cidr)))
    }

    fn give_up(&self) -> Result<Done, Failure> {
        let restored = restore(&self.saved).value?;
        let netlink = open()?;
        // Without a file it was there before, or the file is lost: it goes all the same, for this node does not serve.
        match self.entry(&netlink)? {
            Some(there) if restored == Done::Already => remove(&netlink, &there).map(|()| Done::Changed),
            _ => Ok(restored),
        }
    }

    fn look(&self) -> Result<State, Failure> {
        let netlink = open()?;
        let Some(there) = self.entry(&netlink)? else { return Ok(State::Stopped) };
        let link = find::by_index(&netlink, there.index)?;
        Ok(match () {
            () if there.is_in_doubt() => {
                State::Unknown(format!("{} on {} is not yet proven free", self.cidr, link.name))
            }
            () if !link.is_running() => State::Unknown(format!("{} is down or has no carrier", link.name)),
            () => State::Started,
        })
    }

    fn entry(&self, netlink: &Netlink) -> Result<Option<Entry>, Failure> {
        let mut table = entries(netlink)?.into_iter();
        Ok(table.find(|entry| entry.cidr.address() == self.cidr.address()))
    }
}

/// The host's own address in whose place that one goes.
fn replaced(netlink: &Netlink, link: &Link, cidr: Cidr, mode: Mode) -> Result<Option<Cidr>, Failure> {
    let Mode::Replacing { own } = mode else { return Ok(None) };
    let table = entries(netlink)?;
    let mut candidates = table.iter().filter(|entry| entry.index == link.index).map(|entry| entry.cidr);
    let found = match own {
        Some(own) => candidates.find(|cidr| cidr.address() == own),
        None => candidates.find(|there| there.contains(cidr.address())),
    };
    found.map(Some).ok_or_else(|| {
        let which = own.map_or_else(|| format!("address in the network of {cidr}"), |own| own.to_string());
        Failure::Unusable(format!("{} has no {which} to be replaced", link.name))
    })
}

fn open() -> Result<Netlink, Failure> {
    Netlink::open().map_err(Failure::at("open a netlink socket"))
}

fn entries(netlink: &Netlink) -> Result<Vec<Entry>, Failure> {
    told("addresses", Entry::all(netlink))
}

fn routes(netlink: &Netlink, index: u32) -> Result<Vec<Route>, Failure> {
    told("routes", Route::through(netlink, index))
}

fn told<T>(what: &str, told: io::Result<T>) -> Result<T, Failure> {
    told.map_err(|e| Failure::Unknown(format!("the kernel does not tell its {what}: {e}")))
}

/// Removes an address of an interface; of what the kernel removes with it, what can come back without it does.
fn remove_first_of_all(netlink: &Netlink, there: &Entry) -> Result<(), Failure> {
    let (mut wanted, before) = (entries(netlink)?, routes(netlink, there.index)?);
    wanted.retain(|it| it.index == there.index && !it.is(there.cidr));
    there.remove(netlink).map_err(Failure::at(format!("remove {}", there.cidr)))?;
    let _ = settle::settle(netlink, there.index, &wanted, &[]);
    let left = routes(netlink, there.index)?;
    before.iter().filter(|route| !left.contains(route)).for_each(|route| _ = route.put(netlink));
    Ok(())
}

/// Removes an address of an interface, and brings back what the kernel removes with it.
fn remove(netlink: &Netlink, there: &Entry) -> Result<(), Failure> {
    let table = entries(netlink)?;
    let wanted: Vec<_> = table.into_iter().filter(|it| it.index == there.index && !it.is(there.cidr)).collect();
    settle::settle(netlink, there.index, &wanted, &routes(netlink, there.index)?)
}
