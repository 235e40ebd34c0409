//! Failover in the daemon: what brings its mind and its hands together.
#![allow(dead_code, reason = "the loop does not call it yet")]

mod clock;
pub(crate) mod hands;
