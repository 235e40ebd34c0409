//! Peers: this node's key, pinned TLS in both directions, the greeting, and streams that threads can share.

mod backoff;
mod dial;
pub(crate) mod hello;
mod identity;
pub(crate) mod listen;
pub(crate) mod messages;
mod stream;
mod tls;

pub use backoff::Backoff;
pub(crate) use dial::{Book, Target, ask, ask_address};
pub use dial::{DialError, Dialer};
pub use hello::Purpose;
pub(crate) use identity::Identity;
pub use identity::{BadFingerprint, Fingerprint};
pub use stream::{PeerReader, PeerStream, PeerWriter};

#[cfg(test)]
mod tests;
