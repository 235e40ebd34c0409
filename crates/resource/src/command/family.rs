//! A program and everything that it started.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal};

use super::cgroup::Cgroup;
use crate::Stop;
use crate::net::readable;

/// How long an end by SIGKILL is waited for.
const KILL_WAIT: Duration = Duration::from_secs(1);
/// Rounds of ending what was found, against what it starts meanwhile.
const ROUNDS_MAX: usize = 100;
const PAUSE: Duration = Duration::from_millis(2);

/// A program that leads a session, and what it started.
pub struct Family {
    leader: Pid,
    cgroup: Option<Cgroup>,
    /// Without a cgroup: what was seen to descend from it. It stays known when its parent has ended.
    seen: Vec<(Pid, OwnedFd)>,
}

impl Family {
    /// Of a child that has not been waited for. Without a cgroup it must have made itself the parent of orphans among its
    /// descendants (`PR_SET_CHILD_SUBREAPER`), so that while it lives they all descend from it.
    pub fn new(leader: Pid, cgroup: Option<Cgroup>) -> Family {
        Family { leader, cgroup, seen: Vec::new() }
    }

    /// Tells its session's first process group to end.
    pub fn ask_to_end(&mut self) {
        self.look();
        let _ = kill_process_group(self.leader, Signal::TERM);
        // Who is stopped could not heed it.
        let _ = kill_process_group(self.leader, Signal::CONT);
    }

    /// Notes who descends from it; to be called from time to time while it is given time to end.
    pub fn look(&mut self) {
        if self.cgroup.is_none() {
            for pid in descendants(self.leader) {
                self.note(pid);
            }
        }
    }

    /// Ends all of it; returns how many could not be ended.
    pub fn kill(&mut self) -> usize {
        let moment = Instant::now() + KILL_WAIT;
        let unkillable = match &self.cgroup {
            Some(cgroup) => {
                let _ = cgroup.kill();
                if cgroup.wait_until_empty(moment) { 0 } else { cgroup.count() }
            }
            None => self.kill_seen(moment),
        };
        let _ = kill_process_group(self.leader, Signal::KILL);
        let _ = kill_process(self.leader, Signal::KILL);
        unkillable
    }

    /// How many go on when it has ended by itself, as far as a cgroup kept them together. They leave it, for the one of that
    /// name.
    pub fn release(&self, keeps: Option<&str>) -> usize {
        self.cgroup.as_ref().map_or(0, |cgroup| cgroup.release(keeps))
    }

    /// Ends what goes on when it has ended by itself; returns how many that were, as far as a cgroup kept them together.
    /// The leader must not have been waited for: its number is still its own.
    pub fn end_rest(&mut self) -> usize {
        let left = self.cgroup.as_ref().map_or(0, Cgroup::count);
        if left > 0 || self.cgroup.is_none() {
            self.kill();
        }
        left
    }

    fn note(&mut self, pid: Pid) {
        if self.seen.iter().all(|(known, _)| *known != pid)
            && let Ok(fd) = pidfd_open(pid, PidfdFlags::empty())
        {
            self.seen.push((pid, fd));
        }
    }

    /// The leader comes last: stopped, it starts nothing more and still adopts the orphans among its descendants.
    fn kill_seen(&mut self, moment: Instant) -> usize {
        let _ = kill_process(self.leader, Signal::STOP);
        for _ in 0..ROUNDS_MAX {
            self.look();
            for child in self.alive().flat_map(descendants).collect::<Vec<_>>() {
                self.note(child);
            }
            if self.alive().next().is_none() || Instant::now() >= moment {
                break;
            }
            for (_, fd) in &self.seen {
                let _ = pidfd_send_signal(fd, Signal::KILL);
            }
            thread::sleep(PAUSE);
        }
        self.alive().count()
    }

    fn alive(&self) -> impl Iterator<Item = Pid> {
        self.seen.iter().filter(|(_, fd)| !has_ended(fd)).map(|(pid, _)| *pid)
    }
}

/// Ends at once what was left running under that name; returns how many that were, 0 where no cgroup kept them together.
pub fn end_kept(name: &str) -> usize {
    let Some(kept) = Cgroup::kept(name) else { return 0 };
    let count = kept.count();
    let _ = kept.kill();
    kept.wait_until_empty(Instant::now() + KILL_WAIT);
    count
}

/// All processes that descend from one, ended ones too, by the lists of children that the kernel keeps. Nobody else's
/// processes are looked at: in /proc that can take as long as one of them waits for a device.
fn descendants(of: Pid) -> Vec<Pid> {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(children(parent));
        next += 1;
    }
    found.split_off(1)
}

fn children(of: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", of.as_raw_nonzero()));
    let lists = tasks.into_iter().flatten().flatten();
    let texts = lists.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    texts.flat_map(|text| text.split_whitespace().filter_map(pid).collect::<Vec<_>>()).collect()
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

/// A descriptor of a process can be read when it has ended.
fn has_ended(process: &OwnedFd) -> bool {
    readable([process.as_fd()], &Stop::never(), Instant::now()).is_ok_and(|[has_ended]| has_ended)
}
