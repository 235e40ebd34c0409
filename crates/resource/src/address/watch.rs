//! While an address is taken: does anybody else claim it, and do the neighbours still know?

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::announce::{self, AGAIN_AFTER};
use super::probe::{self, Claim};
use super::{find, open, remove, told};
use crate::net::link::Link;
use crate::net::netlink::Netlink;
use crate::net::packet::PacketSocket;
use crate::net::table::Entry;
use crate::net::{Mac, readable, until};
use crate::{Cidr, Failure, Stop};

/// RFC 5227 §1.1, DEFEND_INTERVAL: an address is defended at most once in that time, or two defenders would never stop.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Neighbours, and switches, that missed all announcements or forgot them.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// Whether this node may hold the address at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It may, alone.
    Held,
    /// It is not known to.
    NotHeld,
}

/// Another host's claim on the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who claims it.
    pub by: Mac,
    /// What was done about it.
    pub answer: Answer,
}

/// What is done about a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The address was announced.
    Defended,
    /// It was defended less than ten seconds ago: nothing.
    Waited,
    /// The address was removed from this host.
    Dropped,
}

/// What a watch saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Another host claims it.
    Conflict(Conflict),
    /// It is no longer on the interface, and this watch did not remove it.
    Gone,
    /// The interface came up again, and the address was announced.
    LinkUp,
}

/// Watches one address on one interface, and announces it again: after one, two and five seconds, every minute, when the
/// interface comes up, and ten seconds after a conflict. Ends when it is dropped; removes nothing then.
pub struct Watch {
    cidr: Cidr,
    link: Link,
    /// For requests; what changes is heard on a socket of its own.
    netlink: Netlink,
    changes: Netlink,
    frames: Option<PacketSocket>,
    own: BTreeSet<Mac>,
    defended: Option<Instant>,
    /// After a conflict: who claimed it may be gone by then, and neighbours still believe it.
    owed: Option<Instant>,
    began: Instant,
    announced: usize,
}

impl Watch {
    /// Begins to watch an address that is taken.
    ///
    /// # Errors
    /// Where the address is on no interface, or the kernel refuses a socket.
    pub fn new(cidr: Cidr) -> Result<Watch, Failure> {
        // Listens before it looks, so that no change falls between.
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        let changes = Netlink::listening(groups as u32).map_err(Failure::at("listen for changes of addresses"))?;
        let netlink = open()?;
        let there = entry(&netlink, cidr)?.ok_or_else(|| Failure::Unusable(format!("{cidr} is on no interface")))?;
        let link = find::by_index(&netlink, there.index)?;
        let frames = link.neighbourly().map(|_| probe::open(&link, cidr.address())).transpose();
        let frames = frames.map_err(Failure::at(format!("listen on {}", link.name)))?;
        let own = told("interfaces", probe::own_macs(&netlink))?;
        let began = Instant::now();
        Ok(Watch { cidr, link, netlink, changes, frames, own, defended: None, owed: None, began, announced: 0 })
    }

    /// Waits for something to happen, no longer than `wait`; none where nothing did. Announces meanwhile what is due.
    /// `lease` says what this node may do at this moment: call it again, shortly, with what is true then.
    ///
    /// # Errors
    /// Where a socket fails, or the address cannot be removed.
    pub fn next(&mut self, wait: Duration, lease: Lease) -> Result<Option<Seen>, Failure> {
        self.next_until(wait, lease, &Stop::never())
    }

    /// The same, unless it is called off: nothing is announced any more then.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn next_until(&mut self, wait: Duration, lease: Lease, stop: &Stop) -> Result<Option<Seen>, Failure> {
        let moment = Instant::now() + wait;
        loop {
            if stop.is_called() {
                return Ok(None);
            }
            self.announce_what_is_due(lease)?;
            let pause = until(moment).min(until(self.due()));
            let [changed, claimed] = self.wait(Instant::now() + pause, stop).map_err(self.trouble())?;
            if changed && let Some(seen) = self.look(lease)? {
                return Ok(Some(seen));
            }
            if claimed && let Some(by) = self.claimant()? {
                return self.answer(lease).map(|answer| Some(Seen::Conflict(Conflict { by, answer })));
            }
            if Instant::now() >= moment {
                return Ok(None);
            }
        }
    }

    fn wait(&self, moment: Instant, stop: &Stop) -> io::Result<[bool; 2]> {
        match &self.frames {
            Some(frames) => readable([self.changes.as_fd(), frames.as_fd()], stop, moment),
            None => readable([self.changes.as_fd()], stop, moment).map(|[changed]| [changed, false]),
        }
    }

    /// When it is to be announced next.
    fn due(&self) -> Instant {
        let [.., last] = AGAIN_AFTER;
        let late = || last + REFRESH_INTERVAL * (self.announced + 1 - AGAIN_AFTER.len()) as u32;
        let regular = self.began + AGAIN_AFTER.get(self.announced).copied().unwrap_or_else(late);
        self.owed.map_or(regular, |owed| owed.min(regular))
    }

    fn announce_what_is_due(&mut self, lease: Lease) -> Result<(), Failure> {
        if Instant::now() < self.due() {
            return Ok(());
        }
        if self.owed.take_if(|owed| Instant::now() >= *owed).is_some() {
            self.defended = Some(Instant::now());
        }
        while Instant::now() >= self.due() {
            self.announced += 1;
        }
        if lease == Lease::Held { self.announce() } else { Ok(()) }
    }

    fn announce(&self) -> Result<(), Failure> {
        match announce::once(&self.link, self.cidr.address()) {
            // Told again when the interface comes up.
            Err(e) if e.kind() == io::ErrorKind::NetworkDown => Ok(()),
            other => other.map_err(self.trouble()),
        }
    }

    /// What was heard of interfaces and addresses says only that it is time to look.
    fn look(&mut self, lease: Lease) -> Result<Option<Seen>, Failure> {
        // Where more was said than there was room for, looking is all the more right.
        self.changes.heard().map_err(self.trouble())?;
        if entry(&self.netlink, self.cidr)?.is_none_or(|there| there.index != self.link.index) {
            return Ok(Some(Seen::Gone));
        }
        self.own = told("interfaces", probe::own_macs(&self.netlink))?;
        let was_running = self.link.is_running();
        self.link = find::by_index(&self.netlink, self.link.index)?;
        if was_running || !self.link.is_running() {
            return Ok(None);
        }
        if lease == Lease::Held {
            self.announce()?;
        }
        Ok(Some(Seen::LinkUp))
    }

    /// Who else says that it has the address. Who only asks for it is answered by the kernel.
    fn claimant(&self) -> Result<Option<Mac>, Failure> {
        let Some(frames) = &self.frames else { return Ok(None) };
        let read = |frame: &[u8]| match probe::claim_in(frame, self.cidr.address())? {
            Claim::Holds(by) if !self.own.contains(&by) => Some(by),
            _ => None,
        };
        frames.find(Instant::now(), &Stop::never(), read).map_err(self.trouble())
    }

    /// RFC 5227 §2.4: (c) for who holds the lease, (a) for everyone else.
    fn answer(&mut self, lease: Lease) -> Result<Answer, Failure> {
        if lease == Lease::NotHeld {
            if let Some(there) = entry(&self.netlink, self.cidr)? {
                remove(&self.netlink, &there)?;
            }
            return Ok(Answer::Dropped);
        }
        if let Some(last) = self.defended.filter(|last| last.elapsed() < DEFEND_INTERVAL) {
            self.owed = Some(last + DEFEND_INTERVAL);
            return Ok(Answer::Waited);
        }
        (self.defended, self.owed) = (Some(Instant::now()), Some(Instant::now() + DEFEND_INTERVAL));
        self.announce().map(|()| Answer::Defended)
    }

    fn trouble<E: std::fmt::Display>(&self) -> impl FnOnce(E) -> Failure + use<E> {
        Failure::at(format!("watch {} on {}", self.cidr, self.link.name))
    }
}

fn entry(netlink: &Netlink, cidr: Cidr) -> Result<Option<Entry>, Failure> {
    let mut table = super::entries(netlink)?.into_iter();
    Ok(table.find(|entry| entry.is(cidr)))
}
