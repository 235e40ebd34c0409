use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::Stop;

/// Time from now to a moment; zero where it has passed.
pub fn until(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now())
}

/// Waits until one of these can be read, or has an error to tell, or it is to stop, or the time has come; says which.
pub fn readable<const N: usize>(fds: [BorrowedFd<'_>; N], stop: &Stop, moment: Instant) -> io::Result<[bool; N]> {
    ready(fds.map(|fd| (fd, PollFlags::IN)), stop, moment)
}

/// The same, each for what is waited for of it.
pub fn ready<const N: usize>(
    fds: [(BorrowedFd<'_>, PollFlags); N],
    stop: &Stop,
    moment: Instant,
) -> io::Result<[bool; N]> {
    let all = fds.into_iter().chain(stop.fds().map(|fd| (fd, PollFlags::IN)));
    let mut polled: Vec<_> = all.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
    let wait = Timespec::try_from(until(moment)).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&wait)) {
        Ok(_) => Ok(std::array::from_fn(|at| !polled[at].revents().is_empty())),
        Err(Errno::INTR) => Ok([false; N]),
        Err(e) => Err(e.into()),
    }
}
