//! The command line against real daemons on loopback. As root: protecting mounts.

mod daemon;
mod nodes;
mod protect;
