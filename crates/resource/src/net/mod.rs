//! The kernel's network: interfaces, addresses and routes by netlink, frames by packet sockets.

pub mod arp;
mod cidr;
pub mod icmp;
pub mod link;
pub mod nd;
pub mod netlink;
pub mod packet;
mod stream;
pub mod table;
mod wait;

pub use cidr::Cidr;
pub use stead_model::Mac;
pub use stream::Stream;
pub use wait::{readable, until};
