//! A protected directory, as the server sees it.

use std::os::fd::RawFd;

use stead_model::FileId;
use stead_model::handle::HandleShape;

/// A protected directory: the mount over it and the directory beneath.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    /// Its place among the roots of the set.
    pub index: u32,
    /// The connection to the kernel.
    pub device: RawFd,
    /// The directory beneath.
    pub beneath: RawFd,
    /// Index of its volume in the set.
    pub volume: u32,
    /// The directory itself.
    pub id: FileId,
    /// How the file system writes handles.
    pub shape: HandleShape,
}
