//! Changes that wait for a lease: nothing of them was begun. Each is kept as it came, so that no thread waits with it and
//! reads go on; a thread of its own begins them, in the order in which they came, when the lease is prolonged.
//!
//! The kernel remembers them too: where the server dies, it delivers them again, and the next server lets them wait again.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::hold::is_dying;
use super::worker::Worker;
use crate::fuse::abi::{self, InHeader, IoctlIn, SetattrIn, WriteIn, op, setattr};
use crate::lease::May;
use crate::sync::{BootNs, boot_ns};

/// How soon a prolonged lease is noticed while something waits.
const LOOK: Duration = Duration::from_millis(5);
/// How often it is looked whether somebody who waits is being killed.
const LOOK_AT_CALLERS: Duration = Duration::from_millis(100);
/// How long what the kernel writes back waits. Nobody can be killed out of that, and whoever ends, syncs or unmounts waits
/// for it.
const WRITE_BACK_WAITS: Duration = Duration::from_secs(10);
/// Bytes that wait, at most; what comes beyond that is refused.
const BYTES_MAX: usize = 256 << 20;

/// What waits, of one mount.
#[derive(Default)]
pub struct Suspended {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Call>,
    bytes: usize,
    /// Is there a thread that begins them again?
    is_kept: bool,
}

/// A request as it came.
struct Call {
    unique: u64,
    node: u64,
    /// The thread that asked; 0: the kernel by itself.
    caller: u32,
    since: BootNs,
    request: Vec<u8>,
}

impl Call {
    fn is_overdue(&self, now: BootNs) -> bool {
        self.caller == 0 && now.saturating_sub(self.since) >= WRITE_BACK_WAITS.as_nanos() as u64
    }
}

impl Suspended {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something to do for who keeps them? Waits a while for it.
    fn wait(&self) -> bool {
        let state = self.lock();
        if !state.calls.is_empty() {
            return !self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0.calls.is_empty();
        }
        !self
            .changed
            .wait_timeout(state, Duration::from_secs(1))
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .calls
            .is_empty()
    }

    fn add(&self, call: Call) -> Result<bool, Call> {
        let mut state = self.lock();
        if state.bytes + call.request.len() > BYTES_MAX {
            return Err(call);
        }
        state.bytes += call.request.len();
        if state.calls.is_empty() {
            eprintln!("stead capture: the lease is over: changes wait");
        }
        state.calls.push_back(call);
        self.changed.notify_all();
        Ok(!std::mem::replace(&mut state.is_kept, true))
    }

    fn take(&self, is_meant: impl Fn(&Call) -> bool) -> Vec<Call> {
        let mut state = self.lock();
        let (taken, left): (VecDeque<_>, _) = state.calls.drain(..).partition(is_meant);
        state.calls = left;
        state.bytes = state.calls.iter().map(|call| call.request.len()).sum();
        taken.into()
    }
}

impl<'s> Worker<'s, '_> {
    /// Lets a change wait where it may not be made now, or refuses it. True: there is nothing more to do with it.
    pub(super) fn suspends(&mut self, header: &InHeader, request: &[u8]) -> bool {
        let body = &request[size_of::<InHeader>().min(request.len())..];
        if !is_change(header.opcode, body) {
            return false;
        }
        match self.lease.look(self.server.bypass.lease()) {
            May::Change => false,
            May::Refuse => {
                self.refuse(header.unique, header.nodeid, Errno::ROFS);
                true
            }
            May::Wait => {
                self.park(header, request);
                true
            }
        }
    }

    fn park(&mut self, header: &InHeader, request: &[u8]) {
        // Write-back names whoever happened to be running.
        let caller = if is_write_back(header.opcode, &request[size_of::<InHeader>()..]) { 0 } else { header.pid };
        let (unique, node, since) = (header.unique, header.nodeid, boot_ns());
        match self.suspended().add(Call { unique, node, caller, since, request: request.to_vec() }) {
            Ok(false) => {}
            Ok(true) if self.start_keeper() => {}
            Ok(true) => {
                self.suspended().lock().is_kept = false;
                self.suspended()
                    .take(|_| true)
                    .iter()
                    .for_each(|call| self.refuse(call.unique, call.node, Errno::ROFS));
            }
            Err(call) => self.refuse(call.unique, call.node, Errno::ROFS),
        }
    }

    /// Begins again what waited, until the mount is gone.
    pub(super) fn keep(mut self) {
        let (mut looked_at, mut waits) = (0, false);
        while !self.is_gone() {
            if !self.suspended().wait() {
                waits = false;
                continue;
            }
            let may = self.lease.look(self.server.bypass.lease());
            match may {
                May::Change => self.begin_all(waits),
                May::Refuse => self.refuse_all(|_| true, Errno::ROFS),
                May::Wait => {
                    let now = boot_ns();
                    self.refuse_all(|call| call.is_overdue(now), Errno::ROFS);
                    if now.saturating_sub(looked_at) >= LOOK_AT_CALLERS.as_nanos() as u64 {
                        looked_at = now;
                        self.refuse_all(|call| is_dying(call.caller), Errno::INTR);
                    }
                }
            }
            waits = true;
        }
    }

    fn begin_all(&mut self, waited: bool) {
        let all = self.suspended().take(|_| true);
        if waited && !all.is_empty() {
            eprintln!("stead capture: the lease is prolonged: {} changes go on", all.len());
        }
        for call in all {
            self.serve_again(&call.request);
        }
    }

    fn refuse_all(&mut self, is_meant: impl Fn(&Call) -> bool, why: Errno) {
        self.suspended().take(is_meant).iter().for_each(|call| self.refuse(call.unique, call.node, why));
    }

    fn suspended(&self) -> &'s Suspended {
        &self.server.suspended[self.root.index as usize]
    }
}

/// Does the request change something? Reading inode flags is an ioctl, too.
fn is_change(opcode: u32, mut body: &[u8]) -> bool {
    match opcode {
        op::IOCTL => abi::take::<IoctlIn>(&mut body).is_ok_and(|asked| super::attrs::sets_flags(asked.cmd)),
        opcode => super::worker::changes(opcode),
    }
}

/// What the kernel brings by itself, or where somebody waits for all of it: content from the cache, and times with it.
fn is_write_back(opcode: u32, mut body: &[u8]) -> bool {
    match opcode {
        op::WRITE => abi::take::<WriteIn>(&mut body).is_ok_and(|asked| asked.write_flags & abi::WRITE_CACHE != 0),
        op::SETATTR => abi::take::<SetattrIn>(&mut body)
            .is_ok_and(|asked| asked.valid & !setattr::FH == setattr::MTIME | setattr::CTIME),
        _ => false,
    }
}
