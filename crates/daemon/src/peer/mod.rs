//! Peers: this node's key, pinned TLS in both directions, the greeting, and streams that threads can share.

mod backoff;
mod book;
mod dial;
mod gate;
pub(crate) mod hello;
pub(crate) mod identity;
mod keyring;
pub(crate) mod listen;
pub(crate) mod messages;
mod stream;
mod tls;

pub use backoff::Backoff;
pub(crate) use book::Book;
pub use dial::{DialError, Dialer};
pub(crate) use dial::{ask, ask_address, ask_target};
pub use hello::Purpose;
pub use identity::{BadFingerprint, Fingerprint};
pub(crate) use identity::{Identity, from_hex, to_hex};
pub(crate) use keyring::Keyring;
pub use stream::{PeerReader, PeerStream, PeerWriter};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod version_tests;
