//! Until when a set may be changed: the lease of its group, which lies in a file that the daemon writes and servers map.
//!
//! The supervisor is given the file's descriptor. It tells servers and heirs in shared memory which one it is, so that a
//! running server follows without a message:
//!
//! ```text
//!   told   bit 63 stop · 62 ending · 32…61 number of what was told · 0…31 descriptor + 1, 0: no lease
//! ```
//! What was told carries a number, so that a thread which maps a descriptor knows afterwards that it was the right one.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, SeqCst};

use rustix::io::Errno;
use stead_model::lease::{BYTES, DEADLINE_AT, MAGIC, UNLIMITED, VERSION, VERSION_AT, WORDS};
use stead_model::plan::OnLeaseLost;

use crate::sync::{BootNs, boot_ns};
use crate::sys::{self, Atomics, Shared};

const STOP: u64 = 1 << 63;
const ENDING: u64 = 1 << 62;
const NUMBER_ONE: u64 = 1 << 32;
const NUMBERS: u64 = ENDING - NUMBER_ONE;

/// What the supervisor tells about the lease.
#[repr(transparent)]
pub struct Told(AtomicU64);

// SAFETY: an atomic.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Told {}
/// One number of the file.
#[repr(transparent)]
struct Word(AtomicU64);
// SAFETY: an atomic.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Word {}

/// May something be changed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// Yes.
    Change,
    /// Not now: the lease is over.
    Wait,
    /// No, and nobody waits for it.
    Refuse,
}

impl Told {
    // --- the supervisor

    /// From now on that lease counts; its descriptor is copied.
    ///
    /// # Errors
    /// Where it is no lease, or cannot be mapped.
    pub fn set(&self, lease: BorrowedFd<'_>, policy: OnLeaseLost) -> sys::Result<()> {
        map(lease.as_raw_fd())?;
        let copy = rustix::io::fcntl_dupfd_cloexec(lease, 3)?;
        let policy = if policy == OnLeaseLost::Stop { STOP } else { 0 };
        self.tell(policy | (copy.into_raw_fd() as u64 + 1));
        Ok(())
    }

    /// None counts any more.
    pub fn unset(&self) {
        self.tell(0);
    }

    /// The mounts end, or do not after all: whoever waits is refused meanwhile.
    pub fn end(&self, ends: bool) {
        let mark = |word: u64| (fd_of(word).is_some()).then_some(if ends { word | ENDING } else { word & !ENDING });
        let _ = self.0.fetch_update(SeqCst, SeqCst, mark);
    }

    /// The lease's descriptor.
    pub fn fd(&self) -> Option<RawFd> {
        fd_of(self.0.load(Acquire))
    }

    /// What was told before is closed once nobody can take it for what it was.
    fn tell(&self, what: u64) {
        let old = self.0.load(Acquire);
        self.0.store(what | old.wrapping_add(NUMBER_ONE) & NUMBERS, SeqCst);
        if let Some(fd) = fd_of(old) {
            sys::close(fd);
        }
    }
}

/// The lease as one serving thread sees it.
#[derive(Default)]
pub struct LeaseView {
    /// What was told when the file was mapped.
    word: u64,
    file: Option<Shared>,
}

impl LeaseView {
    /// May something be changed now? Where there is no lease this is one load.
    pub fn look(&mut self, told: &Told) -> May {
        let word = told.0.load(Acquire);
        if fd_of(word).is_none() {
            return May::Change;
        }
        self.look_at(word, told, boot_ns())
    }

    fn look_at(&mut self, word: u64, told: &Told, now: BootNs) -> May {
        if self.word & !ENDING != word & !ENDING && !self.follow(word, told) {
            return May::Wait;
        }
        let deadline = self.file.as_ref().map_or(0, deadline);
        match word {
            _ if now < deadline || deadline == UNLIMITED => May::Change,
            word if word & (STOP | ENDING) != 0 => May::Refuse,
            _ => May::Wait,
        }
    }

    /// Maps what was told. False: it is not known yet.
    fn follow(&mut self, word: u64, told: &Told) -> bool {
        let mapped = fd_of(word).map(map);
        if told.0.load(SeqCst) & !ENDING != word & !ENDING {
            return false;
        }
        let Some(Ok(file)) = mapped else { return false };
        (self.word, self.file) = (word, Some(file));
        true
    }
}

fn fd_of(word: u64) -> Option<RawFd> {
    (word as u32).checked_sub(1).map(|fd| fd as RawFd)
}

fn map(fd: RawFd) -> sys::Result<Shared> {
    if rustix::fs::fstat(sys::fd(fd))?.st_size < BYTES as i64 {
        return Err(Errno::INVAL);
    }
    let file = Shared::map_to_read(fd, BYTES)?;
    let is_lease = [(0, MAGIC), (VERSION_AT, VERSION)].iter().all(|(at, value)| word(&file, *at) == *value);
    if is_lease { Ok(file) } else { Err(Errno::INVAL) }
}

fn deadline(file: &Shared) -> BootNs {
    word(file, DEADLINE_AT)
}

fn word(file: &Shared, at: usize) -> u64 {
    debug_assert!(at < WORDS);
    u64::from_le(file.atomics::<Word>(at * 8).0.load(Acquire))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    const NOW: BootNs = 1_000_000;

    fn lease(deadline: u64) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut words = [0; WORDS];
        (words[0], words[VERSION_AT], words[DEADLINE_AT]) = (MAGIC, VERSION, deadline);
        file.write_all(&words.map(u64::to_le_bytes).concat()).unwrap();
        file
    }

    fn told() -> Told {
        Told(AtomicU64::new(0))
    }

    fn look(view: &mut LeaseView, told: &Told, now: BootNs) -> May {
        let word = told.0.load(Acquire);
        if fd_of(word).is_none() { view.look(told) } else { view.look_at(word, told, now) }
    }

    #[test]
    fn what_is_told_counts_at_once() {
        let (told, mut view) = (told(), LeaseView::default());
        assert_eq!(look(&mut view, &told, NOW), May::Change, "no lease");
        let (one, other) = (lease(NOW), lease(NOW + 2));
        told.set(one.as_fd(), OnLeaseLost::SuspendIo).unwrap();
        assert_eq!((look(&mut view, &told, NOW - 1), look(&mut view, &told, NOW)), (May::Change, May::Wait));
        one.write_all_at(&(NOW + 1).to_le_bytes(), DEADLINE_AT as u64 * 8).unwrap();
        assert_eq!((look(&mut view, &told, NOW), look(&mut view, &told, NOW + 1)), (May::Change, May::Wait));
        told.set(other.as_fd(), OnLeaseLost::Stop).unwrap();
        assert_eq!((look(&mut view, &told, NOW + 1), look(&mut view, &told, NOW + 2)), (May::Change, May::Refuse));
        told.unset();
        assert_eq!((look(&mut view, &told, NOW + 9), told.fd()), (May::Change, None));
    }

    #[test]
    fn without_a_deadline_nothing_is_changed_and_without_end_everything() {
        let (told, mut view) = (told(), LeaseView::default());
        let file = lease(stead_model::lease::NONE);
        told.set(file.as_fd(), OnLeaseLost::SuspendIo).unwrap();
        assert_eq!(look(&mut view, &told, NOW), May::Wait);
        file.write_all_at(&UNLIMITED.to_le_bytes(), DEADLINE_AT as u64 * 8).unwrap();
        assert_eq!(look(&mut view, &told, u64::MAX), May::Change);
    }

    #[test]
    fn who_waits_is_refused_while_the_mounts_end() {
        let (told, mut view) = (told(), LeaseView::default());
        told.end(true);
        assert_eq!(look(&mut view, &told, NOW), May::Change, "no lease, nothing to be refused");
        let file = lease(NOW);
        told.set(file.as_fd(), OnLeaseLost::SuspendIo).unwrap();
        told.end(true);
        assert_eq!((look(&mut view, &told, NOW - 1), look(&mut view, &told, NOW)), (May::Change, May::Refuse));
        told.end(false);
        assert_eq!(look(&mut view, &told, NOW), May::Wait);
    }

    #[test]
    fn what_is_no_lease_is_refused_and_the_old_one_goes_on() {
        let (told, mut view) = (told(), LeaseView::default());
        let good = lease(NOW);
        told.set(good.as_fd(), OnLeaseLost::SuspendIo).unwrap();
        let other = lease(NOW);
        other.write_all_at(b"something", 0).unwrap();
        let short = tempfile::tempfile().unwrap();
        for bad in [&other, &short] {
            assert_eq!(told.set(bad.as_fd(), OnLeaseLost::Stop), Err(Errno::INVAL));
        }
        assert_eq!(look(&mut view, &told, NOW), May::Wait);
    }

    /// A descriptor is told anew all the time, its number being used again: no thread ever takes one for another.
    #[test]
    fn a_thread_that_maps_while_it_is_told_anew_maps_the_right_one() {
        let told = told();
        let (early, late) = (lease(10), lease(UNLIMITED));
        std::thread::scope(|scope| {
            let look = || {
                let mut view = LeaseView::default();
                for _ in 0..20_000 {
                    let word = told.0.load(Acquire);
                    let may = look(&mut view, &told, NOW);
                    let allowed = [May::Wait, if word & STOP == 0 { May::Change } else { May::Refuse }];
                    assert!(view.word != word || allowed.contains(&may), "{word:#x}: {may:?}");
                }
            };
            let looks = [scope.spawn(look), scope.spawn(look)];
            while looks.iter().any(|thread| !thread.is_finished()) {
                told.set(early.as_fd(), OnLeaseLost::Stop).unwrap();
                told.set(late.as_fd(), OnLeaseLost::SuspendIo).unwrap();
            }
        });
    }
}
