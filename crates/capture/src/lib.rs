//! The hand that captures every change beneath the protected directories: in order, with its bytes, as records of
//! `stead-model`.
//!
//! ```text
//!   application ── kernel ── /dev/fuse ── server ── file system beneath
//!                                           │ record
//!                                         ring ── Capture::drain ── daemon
//! ```
//! A driver outlives the daemon. The `mount` driver is a process of its own ([`serve`]): a single-threaded supervisor
//! that mounts and owns the state, and a server that shares its descriptors and answers the kernel. The daemon starts
//! it with [`spawn`], or finds it again with [`MountCapture::connect`], and drains the ring through [`Capture`].
//!
//! [`WatchCapture`] serves single files: a small driver within the daemon.
//!
//! This crate is the home of `unsafe`: system calls that no safe crate offers, and memory shared between processes.

mod bypass;
mod capture;
mod check;
mod client;
mod control;
mod dirty;
mod fuse;
mod lease;
mod nodes;
mod ring;
mod root;
mod server;
mod slots;
mod spec;
mod supervisor;
mod sync;
mod sys;
mod watch;

pub use capture::{Capture, CaptureError, DriverStatus, Order};
pub use check::{Checked, Refusal, check};
pub use client::{BeneathRoot, MountCapture, spawn};
pub use ring::{Resumed, Unconfirmed};
pub use spec::{BadSpec, MountSpec};
pub use supervisor::{ServeError, new_incarnation, serve};
pub use sync::{BootNs, SyncPolicy, SyncState, SyncStatus, boot_ns};
pub use watch::{WatchCapture, WatchRoot};
