//! The hand that gives a node what makes it serve, and takes it away again.
//!
//! * [`address`]: addresses on an interface: probed, taken, announced, watched, put back.
//! * [`command`]: programs that others wrote, bounded and ended whole.
//! * [`script`]: hooks before and after a service moves.
//! * [`fence`]: a node is turned off, by evidence.
//! * [`service`]: units of systemd, and plain commands.
//! * [`share`]: directories that other machines use: Samba and NFS.
//! * [`ocf`]: recovery kits: the resource agents that Linux clusters use.
//! * [`identity`]: programs under other names than their node's.
//! * [`reference`]: is this node cut off?
//! * [`role_file`]: files that are others while a node serves.
//! * [`check`]: does a service answer?
//! * [`notify`]: alerts by SNMP, mail and HTTP.
//! * [`dns`]: records of the DNS, changed at the primary server of their zone.
//! * [`hook`]: others are told by HTTP.
//!
//! Everything here blocks, for no longer than it is told, or until a [`Stop`] comes: call it from a thread that may wait.
//! Nothing here decides; each call says what was asked, what came of it, how long that took, and what a program wrote
//! meanwhile. What is not known is said to be unknown, never to be stopped.

pub mod address;
pub mod check;
pub mod command;
pub mod dns;
pub mod fence;
mod files;
pub mod hook;
mod http;
pub mod identity;
mod net;
pub mod notify;
pub mod ocf;
mod outcome;
mod procedure;
pub mod reference;
pub mod role_file;
pub mod script;
pub mod service;
pub mod share;
mod stop;
mod sys;
mod term;
mod tls;

pub use net::{Cidr, Mac};
pub use outcome::{Done, Failure, Outcome, Output, Resource, State};
pub use stop::{Call, Deadline, Stop};
pub use term::Term;
