//! What the system tests and `cargo xtask` share: test hosts made of network namespaces, Stead nodes on them, loads
//! with an invariant, trees to protect and a full comparison of two trees.
//!
//! Everything that a run makes carries the run's name, so that one sweep removes it: processes by an environment
//! variable, mounts and files by their directory, network namespaces by their name.

pub mod apt;
pub mod booted;
pub mod clock;
pub mod command;
pub mod compare;
pub mod faults;
pub mod heartbeats;
pub mod host;
pub mod load;
pub mod matrix;
pub mod node;
pub mod outside;
pub mod postgres;
pub mod random;
pub mod receivers;
pub mod relay;
pub mod rng;
pub mod run;
pub mod samba;
pub mod service;
pub mod site;
pub mod synchronous;
mod sys;
pub mod town;
pub mod tree;
pub mod writer;
pub mod zone;
