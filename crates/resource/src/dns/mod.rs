//! Records of the DNS: changed at the primary server of their zone by signed dynamic updates (RFC 2136, RFC 8945).
//!
//! A record is changed only where it holds a value that it may have held before, which the server looks at in the same
//! step; what anybody else put there stays, and is told. Questions are signed too, and nothing is believed whose signature
//! does not fit. A zone without given servers is looked up by the resolvers of `/etc/resolv.conf`, its primary being the
//! one that its SOA names.
//!
//! Everything goes over TCP: an answer is whole, and nobody answers in the place of the server.

mod key;
#[cfg(feature = "dns")]
mod problem;
mod question;
#[cfg(feature = "dns")]
mod resolve;
#[cfg(feature = "dns")]
mod server;
#[cfg(feature = "dns")]
mod update;
#[cfg(feature = "dns")]
mod value;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use key::{Algorithm, Key};
pub use question::Question;

use crate::{Done, Failure, Outcome, Stop, Term};

/// The kinds of records that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// The name that this one is another name of.
    Cname,
    /// The name of an address.
    Ptr,
}

/// A record, and how it is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The zone in which it is.
    pub zone: String,
    /// Its whole name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// How long others may remember it.
    pub ttl_s: u32,
    /// The primary server, and others that are asked where it does not answer; none: as the zone's SOA says.
    pub servers: Vec<SocketAddr>,
    /// A file with the key that the server knows, as BIND has it.
    pub key_file: PathBuf,
}

/// What a server told of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which server.
    pub server: SocketAddr,
    /// What the record holds; a name may have several of one kind.
    pub values: Vec<String>,
    /// How long others may remember it; none: there is no record.
    pub ttl_s: Option<u32>,
    /// So much is the server's clock ahead of this one, in seconds, or behind it.
    pub clock_ahead_s: i64,
}

impl Record {
    /// Has it hold `new` in the place of one of `old`, and reads it back.
    pub fn set_until(&self, new: &str, old: &[String], limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
        Outcome::of(|| self.set(new, old, Term::new(limit, stop)))
    }

    /// What it holds. Changes nothing.
    pub fn look_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Seen, Failure>> {
        Outcome::of(|| self.look(Term::new(limit, stop)))
    }

    /// Would the server take a change? It is asked to put there what is there.
    pub fn try_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Seen, Failure>> {
        Outcome::of(|| self.try_out(Term::new(limit, stop)))
    }
}

#[cfg(not(feature = "dns"))]
impl Record {
    fn set(&self, _: &str, _: &[String], _: Term) -> Result<Done, Failure> {
        Err(absent())
    }

    fn look(&self, _: Term) -> Result<Seen, Failure> {
        Err(absent())
    }

    fn try_out(&self, _: Term) -> Result<Seen, Failure> {
        Err(absent())
    }
}

#[cfg(not(feature = "dns"))]
fn absent() -> Failure {
    Failure::Unusable("this program was built without DNS: build it with the feature dns".into())
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Cname => "CNAME",
            Kind::Ptr => "PTR",
        })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)
    }
}
