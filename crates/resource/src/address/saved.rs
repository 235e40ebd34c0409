//! What an interface had before an address was taken: a small file. Lines, so that a person can read it in need:
//!
//! ```text
//! stead-addresses 1
//! boot 6a0e…                      id of the boot that it holds for
//! at 1234                         seconds since that boot
//! interface eth0 2                name and number
//! taken 10.0.0.100/24
//! replaced 10.0.0.2/24            or "replaced -"
//! address 0218… 10.0.0.2/24       body of the kernel's message about each address, in order; the words are for people
//! route 0200…                     and about each route that somebody configured
//! end 9ae0daaf                    CRC-32 of all before, in hex
//! ```
//! Everything that the kernel told is in the bodies, also what this version does not know; as `ip address save` has it.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use super::{announce, entries, find, routes, settle};
use crate::net::link::Link;
use crate::net::netlink::Netlink;
use crate::net::table::{Entry, Route};
use crate::{Cidr, Failure, files};

const MAGIC: &str = "stead-addresses 1";

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    boot: String,
    at: u64,
    interface: String,
    index: u32,
    taken: Cidr,
    /// The host's own address in whose place the taken one went.
    pub replaced: Option<Cidr>,
    /// All addresses of the interface, in the kernel's order.
    pub entries: Vec<Entry>,
    /// All routes through it that somebody configured.
    pub routes: Vec<Route>,
}

impl Saved {
    /// As it is now.
    pub fn of(netlink: &Netlink, link: &Link, taken: Cidr, replaced: Option<Cidr>) -> Result<Saved, Failure> {
        let table = entries(netlink)?.into_iter();
        Ok(Saved {
            boot: boot_id()?,
            at: now(),
            interface: link.name.clone(),
            index: link.index,
            taken,
            replaced,
            entries: table.filter(|entry| entry.index == link.index).collect(),
            routes: routes(netlink, link.index)?,
        })
    }

    /// Reads the file; none where there is none.
    pub fn read(path: &Path) -> Result<Option<Saved>, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::at(format!("read {}", path.display()))(e)),
        };
        let damaged = || Failure::Failed(format!("{} is damaged: put the addresses back by hand", path.display()));
        Saved::parse(&text).map(Some).ok_or_else(damaged)
    }

    /// Writes it; returns when it is durable.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        files::write_durably(path, self.text().as_bytes()).map_err(Failure::at(format!("write {}", path.display())))
    }

    /// Removes the file; returns when that is durable.
    pub fn remove(path: &Path) -> Result<(), Failure> {
        files::remove_durably(path).map_err(Failure::at(format!("remove {}", path.display())))
    }

    /// Has the host not booted since?
    pub fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
    }

    /// Undoes what was done after it was saved, and nothing else: what others added meanwhile stays.
    pub fn bring_back(&self, netlink: &Netlink) -> Result<(), Failure> {
        let is_fresh = self.is_of_this_boot();
        let index = self.index_now(netlink, is_fresh)?;
        let table: Vec<Entry> = entries(netlink)?.into_iter().filter(|entry| entry.index == index).collect();
        let mut wanted: Vec<Entry> =
            table.into_iter().filter(|entry| !entry.is(self.taken) || self.had(entry)).collect();
        let Some(own) = self.replaced.filter(|_| is_fresh) else {
            return settle::settle(netlink, index, &wanted, &routes(netlink, index)?);
        };
        self.put_in_place(own, index, &mut wanted);
        settle::settle(netlink, index, &wanted, &self.routes)?;
        // Neighbours that asked for it meanwhile were told nothing. Where it cannot be told they ask again.
        let _ = announce::once(&find::by_index(netlink, index)?, own.address());
        Ok(())
    }

    fn had(&self, entry: &Entry) -> bool {
        self.entries.iter().any(|other| other.is(entry.cidr))
    }

    /// Puts the host's own address back before those that it was before.
    fn put_in_place(&self, own: Cidr, index: u32, wanted: &mut Vec<Entry>) {
        let seconds = u32::try_from(now().saturating_sub(self.at)).unwrap_or(u32::MAX);
        let Some(at) = self.entries.iter().position(|entry| entry.is(own)) else { return };
        let Some(entry) = self.entries[at].later(seconds, index) else { return };
        if wanted.iter().any(|other| other.is(own)) {
            return;
        }
        let behind = &self.entries[at..];
        let place = wanted.iter().position(|it| behind.iter().any(|other| other.is(it.cidr)));
        let after_own_kind = wanted.iter().position(|it| !self.had(it));
        wanted.insert(place.or(after_own_kind).unwrap_or(wanted.len()), entry);
    }

    /// An interface keeps its number until it goes or the host boots, and its name mostly.
    fn index_now(&self, netlink: &Netlink, is_fresh: bool) -> Result<u32, Failure> {
        if is_fresh && find::by_index(netlink, self.index).is_ok() {
            return Ok(self.index);
        }
        find::interface(netlink, self.taken, Some(&self.interface)).map(|link| link.index)
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{MAGIC}\nboot {}\nat {}\ninterface {} {}\ntaken {}\nreplaced {}\n",
            self.boot,
            self.at,
            self.interface,
            self.index,
            self.taken,
            self.replaced.map_or("-".into(), |own| own.to_string()),
        );
        for entry in &self.entries {
            let _ = writeln!(text, "address {} {}", hex(&entry.body), entry.cidr);
        }
        for Route(body) in &self.routes {
            let _ = writeln!(text, "route {}", hex(body));
        }
        let sum = crc32fast::hash(text.as_bytes());
        let _ = writeln!(text, "end {sum:08x}");
        text
    }

    fn parse(text: &str) -> Option<Saved> {
        let (before, end) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let sum = u32::from_str_radix(end.strip_prefix("end ")?, 16).ok()?;
        let mut lines = text[..=before.len()].lines();
        if crc32fast::hash(&text.as_bytes()[..=before.len()]) != sum || lines.next()? != MAGIC {
            return None;
        }
        let boot = lines.next()?.strip_prefix("boot ")?.to_owned();
        let at = lines.next()?.strip_prefix("at ")?.parse().ok()?;
        let (interface, index) = lines.next()?.strip_prefix("interface ")?.rsplit_once(' ')?;
        let taken = cidr(lines.next()?.strip_prefix("taken ")?)?;
        let replaced = match lines.next()?.strip_prefix("replaced ")? {
            "-" => None,
            own => Some(cidr(own)?),
        };
        let (interface, index) = (interface.to_owned(), index.parse().ok()?);
        let mut saved = Saved { boot, at, interface, index, taken, replaced, entries: Vec::new(), routes: Vec::new() };
        lines.try_for_each(|line| saved.add_line(line))?;
        Some(saved)
    }

    fn add_line(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ')?;
        let body = unhex(rest.split(' ').next()?)?;
        match word {
            "address" => self.entries.push(Entry::parse(body)?),
            "route" => self.routes.push(Route::parse(body)?),
            _ => return None,
        }
        Some(())
    }
}

/// Any address that an interface can have.
fn cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    Some(Cidr::told(address.parse().ok()?, prefix.parse().ok()?))
}

fn boot_id() -> Result<String, Failure> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    fs::read_to_string(PATH).map(|text| text.trim().to_owned()).map_err(Failure::at(format!("read {PATH}")))
}

/// Seconds since boot, suspended ones too.
fn now() -> u64 {
    clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Saved {
        let own = Entry::new(2, "10.0.0.2/24".parse().unwrap(), true);
        Saved {
            boot: "6a0e".into(),
            at: 1234,
            interface: "eth0".into(),
            index: 2,
            taken: "10.0.0.100/24".parse().unwrap(),
            replaced: Some(own.cidr),
            entries: vec![own, Entry::new(2, "fd00::2/64".parse().unwrap(), false)],
            routes: vec![Route((0..16).collect())],
        }
    }

    #[test]
    fn the_file_reads_as_it_did_in_the_first_version() {
        let golden = include_str!("../../tests/golden/saved-1.txt");
        assert_eq!(example().text(), golden);
        assert_eq!(Saved::parse(golden), Some(example()));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let text = example().text();
        for len in 0..text.len() {
            assert_eq!(Saved::parse(&text[..len]), None, "cut at {len}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let damaged = String::from_utf8(bytes).unwrap();
            assert!(Saved::parse(&damaged).is_none_or(|read| read == example()), "byte {at}");
        }
    }
}
