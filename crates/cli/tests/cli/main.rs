//! The command line against real daemons on loopback. As root: protecting mounts.

mod care;
mod daemon;
mod estimate;
mod grounds;
mod groups;
mod lines;
mod live;
mod nodes;
mod protect;
mod trust;
