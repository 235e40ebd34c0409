//! Thin, safe covers for what no crate offers safely. Nothing here decides anything.
#![allow(unsafe_code, reason = "shared memory and scheduling")]

use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use stead_model::lease::{BYTES, WORDS};

/// The first 64 bytes of a file, shared with whoever maps it too: eight little-endian numbers, each read and written whole.
pub(super) struct Words(NonNull<[AtomicU64; WORDS]>);

// SAFETY: atomics in memory that stays mapped for as long as the value lives.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Of a file that has them; whoever cuts it off afterwards ends this process.
    pub(super) fn map(file: &File, writable: bool) -> io::Result<Words> {
        if file.metadata()?.len() < BYTES as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too short"));
        }
        let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: the kernel chooses a place where nothing is.
        let at = unsafe { mmap(ptr::null_mut(), BYTES, prot, MapFlags::SHARED, file, 0) }?;
        NonNull::new(at.cast()).map(Words).ok_or_else(|| io::Error::other("mapped nowhere"))
    }

    pub(super) fn load(&self, at: usize) -> u64 {
        u64::from_le(self.words()[at].load(Ordering::SeqCst))
    }

    /// Of memory that was mapped as writable.
    pub(super) fn store(&self, at: usize, value: u64) {
        self.words()[at].store(value.to_le(), Ordering::SeqCst);
    }

    fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: a page that begins there is mapped for as long as this lives.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: mapped once, by `map`; no reference outlives the value.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), BYTES) };
    }
}

/// The calling thread goes before all that are not in a hurry; what it starts does not.
pub(super) fn hurry() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives through the call.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
