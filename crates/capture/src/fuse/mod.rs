//! The FUSE protocol, as far as a pass-through needs it.

pub mod abi;
pub mod device;
