//! Directories that other machines use while the group is here: shares of Samba, exports of NFS.
//!
//! The server is somebody else's: a service of the node, or another resource that a share requires. What is shared is told
//! to it when the group comes, and taken from it with the connections that use it when the group goes. What is shared is
//! kept in memory alone: after a boot nothing is, until the group is here again.

mod includes;
mod nfs;
mod program;
mod samba;
mod sections;
mod server;

pub use nfs::Nfs;
pub use samba::Samba;
