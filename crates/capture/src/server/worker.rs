//! One serving thread: read, carry out, answer, again.

use std::thread::Scope;
use std::time::Duration;

use rustix::io::Errno;
use stead_model::{FileId, Kind, Record, Sequence};

use super::Server;
use super::follow::Follow;
use super::gate::{Desk, Gate};
use super::hold::Parked;
use super::reply::Reply;
use crate::fuse::abi::{self, InHeader, op};
use crate::fuse::device;
use crate::lease::LeaseView;
use crate::ring::Flight;
use crate::root::Root;
use crate::slots::{Before, Phase, Slot};
use crate::sync::boot_ns;
use crate::sys;

/// One serving thread of one mount.
pub struct Worker<'s, 'e> {
    pub(super) server: &'s Server,
    pub(super) root: &'s Root,
    pub(super) reply: Reply,
    slot: Slot<'s>,
    pub(super) flight: &'s Flight,
    desk: &'s Desk,
    umask: u32,
    /// Is this operation one that a dead server had begun?
    pub(super) repeats: bool,
    pub(super) lease: LeaseView,
    follow: Follow,
    scope: &'s Scope<'s, 'e>,
}

/// What becomes of a request.
pub(super) enum Answer {
    /// The reply that was built is sent.
    Reply,
    /// It is sent once that number is confirmed.
    Hold(Sequence),
    /// The kernel expects none.
    None,
}

impl<'s, 'e> Worker<'s, 'e> {
    pub(super) fn new(
        server: &'s Server,
        root: &'s Root,
        index: usize,
        desk: &'s Desk,
        scope: &'s Scope<'s, 'e>,
    ) -> Self {
        let (slot, flight) = (server.slots.take(index), server.ring.flight(index));
        let (reply, follow) = (Reply::new(), Follow::new());
        let (umask, lease) = (u32::MAX, LeaseView::default());
        Worker { server, root, reply, slot, flight, desk, umask, repeats: false, lease, follow, scope }
    }

    /// Serves until the mount is gone.
    pub fn run(mut self) {
        self.settle_in();
        while self.gate().sit(self.desk) {
            loop {
                let Some(len) = self.next_request() else {
                    self.gate().close();
                    break;
                };
                self.desk.begin();
                self.server.watch();
                self.serve(len);
                if !self.desk.end() {
                    break;
                }
            }
        }
    }

    fn settle_in(&self) {
        if sys::unshare_fs().is_err() {
            // The umask is then shared: all threads set it before they create, so modes could mix.
            eprintln!("stead capture: the umask of requests cannot be applied exactly (unshare is refused)");
        }
        self.slot.set(Phase::Idle);
    }

    /// Starts the thread that begins again what waits for the lease. False: there are too many.
    pub(super) fn start_keeper(&self) -> bool {
        self.server.start_thread(self.scope, self.root, |keeper| {
            keeper.settle_in();
            keeper.keep();
        })
    }

    /// Serves a request that was read before.
    pub(super) fn serve_again(&mut self, request: &[u8]) {
        self.slot.buffer()[..request.len()].copy_from_slice(request);
        self.serve(request.len());
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gate().is_shut()
    }

    /// Waits for a request. `None`: the mount is gone.
    fn next_request(&mut self) -> Option<usize> {
        loop {
            match sys::read(self.root.device, self.slot.buffer()) {
                Ok(len) => return Some(len),
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
                Err(Errno::NODEV) => return None,
                Err(error) => {
                    eprintln!("stead capture: reading requests: {error}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    fn serve(&mut self, len: usize) {
        let request: &'s [u8] = &self.slot.buffer()[..len];
        let mut body = request;
        let Ok(header) = abi::take::<InHeader>(&mut body) else { return };
        self.gate().asks(header.pid);
        self.reply.clear();
        let place = if header.unique & abi::UNIQUE_RESEND != 0 { self.begun(header.unique) } else { None };
        if place.is_some_and(|place| self.repeat(header.unique, &place)) {
            return;
        }
        if self.suspends(&header, request) {
            return;
        }
        self.slot.begin(self.root.index, header.unique);
        let changes = changes(header.opcode);
        if changes {
            self.flight.begin(place.map_or(0, |place| place.main()));
            self.repeats = place.is_some();
            match &place {
                Some(place) => self.slot.inherit(place),
                None => self.slot.set(Phase::Executing),
            }
        }
        let result = self.dispatch_or_confess(&header, body);
        if self.repeats && result.is_err() {
            // It may have taken effect before, and failed now for another reason.
            self.doubt(header.nodeid);
        }
        self.repeats = false;
        if changes {
            let error = result.as_ref().err().map_or(0, |error| error.raw_os_error());
            self.slot.executed(error, if error == 0 { &self.reply.small } else { &[] });
            self.flight.end();
        }
        if let (Ok(Answer::Hold(number)), Some(sync)) = (&result, self.server.ring.sync()) {
            let (device, unique, caller) = (self.root.device, header.unique, header.pid);
            let call = Parked { device, unique, number: *number, caller, since: boot_ns() };
            self.server.hold.park(sync, call);
            self.server.ring.hurry();
        } else {
            self.answer(header.unique, result);
        }
        self.slot.set(Phase::Idle);
        self.follow.served(header.pid);
    }

    /// A bug in one operation must not hang whoever asked for it; what it did is unknown, so the set counts as dirty.
    fn dispatch_or_confess(&mut self, header: &InHeader, body: &'s [u8]) -> sys::Result<Answer> {
        let carried_out = std::panic::AssertUnwindSafe(|| self.dispatch(header, body));
        std::panic::catch_unwind(carried_out).unwrap_or_else(|_| {
            self.put(&Record::new(Kind::Lost, FileId::NONE));
            Err(Errno::IO)
        })
    }

    /// What a dead server had begun of a request.
    fn begun(&self, unique: u64) -> Option<Slot<'s>> {
        self.server.slots.find(self.root.index, unique)
    }

    /// Answers a request that a dead server had carried out, from what it noted. False: it had not.
    fn repeat(&mut self, unique: u64, old: &Slot<'_>) -> bool {
        if old.phase() != Phase::Executed {
            return false;
        }
        let (error, answer) = old.answer();
        self.reply.small.extend_from_slice(answer);
        self.answer(unique, if error == 0 { Ok(Answer::Reply) } else { Err(Errno::from_raw_os_error(error)) });
        old.set(Phase::Idle);
        true
    }

    /// Says that it is not known what became of a file.
    fn doubt(&self, id: u64) {
        let file = self.server.nodes.get(self.root, id).map_or(FileId::NONE, |node| node.file);
        self.put(&Record::new(Kind::Lost, file));
    }

    /// What names meant before a dead server began the operation; `None`: this is not a repetition, or it had not come
    /// so far.
    pub(super) fn before(&self) -> Option<Before> {
        if self.repeats { self.slot.before() } else { None }
    }

    /// Notes what names mean just before they are changed, unless a dead server did: its word counts.
    pub(super) fn note_before(&self, file: FileId, file2: FileId) {
        if self.before().is_none() {
            self.slot.note(Before { file, file2 });
        }
    }

    /// Answers a request that was not begun with an error. What a dead server had begun of it may have taken effect.
    pub(super) fn refuse(&mut self, unique: u64, node: u64, error: Errno) {
        if unique & abi::UNIQUE_RESEND != 0 && self.begun(unique).is_some() {
            self.doubt(node);
        }
        self.answer(unique, Err(error));
    }

    fn answer(&mut self, unique: u64, result: sys::Result<Answer>) {
        let sent = match result {
            Ok(Answer::None | Answer::Hold(_)) => return,
            Ok(Answer::Reply) => {
                let parts = [&self.reply.small[..], &self.reply.data[..self.reply.data_len]];
                device::reply(self.root.device, unique, &parts)
            }
            Err(error) => device::refuse(self.root.device, unique, error),
        };
        // ENOENT: the application was killed meanwhile; ENODEV: the mount is gone.
        if let Err(error) = sent
            && !matches!(error, Errno::NOENT | Errno::NODEV)
        {
            eprintln!("stead capture: answering: {error}");
        }
    }

    /// Puts a record into the stream; its number, where it found room.
    pub(super) fn put(&self, record: &Record<'_>) -> Option<Sequence> {
        self.server.ring.put(self.flight, record)
    }

    /// Puts the main record of an operation into the stream: once, also where it is repeated.
    pub(super) fn put_main(&self, record: &Record<'_>) {
        self.server.ring.put_main(self.flight, record);
    }

    /// Does something that may wait for a disk for long, while another thread takes the seat: at once where others ask
    /// too, else when it is found stuck.
    pub(super) fn slowly<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> T {
        if self.gate().is_crowded() && self.desk.give_up() && !self.gate().call() {
            let _ = self.server.start_worker(self.scope, self.root);
        }
        what(self)
    }

    /// Applies the umask of a request to what this thread creates next.
    pub(super) fn set_umask(&mut self, umask: u32) {
        if self.umask != umask {
            sys::umask(umask);
            self.umask = umask;
        }
    }

    fn gate(&self) -> &'s Gate {
        &self.server.gates[self.root.index as usize]
    }
}

/// Does the operation change what the stream describes?
pub(super) fn changes(opcode: u32) -> bool {
    matches!(
        opcode,
        op::SETATTR
            | op::SYMLINK
            | op::MKNOD
            | op::MKDIR
            | op::UNLINK
            | op::RMDIR
            | op::RENAME
            | op::RENAME2
            | op::LINK
            | op::WRITE
            | op::SETXATTR
            | op::REMOVEXATTR
            | op::IOCTL
            | op::FALLOCATE
            | op::TMPFILE
    )
}
