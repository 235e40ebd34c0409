//! Who goes on when the supervisor is killed: a clone of it that shares its descriptors and sleeps.
//!
//! The server dies with its supervisor. The heir notices, becomes the supervisor, and replaces the server as after any
//! of its deaths: to applications it is one. Connections of the daemon are closed; it finds the heir at the same socket.

use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::Supervisor;
use crate::sys;

/// How long a killed server may take to be gone.
const DEATH_MAX: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Starts the heir. Where that fails, a killed supervisor leaves the mounts dead.
    pub(super) fn start_heir(&mut self) {
        let me = std::process::id() as i32;
        match sys::clone_sharing_files() {
            Ok(0) => self.wait_to_inherit(me),
            Ok(pid) => self.heir = pid,
            Err(error) => {
                self.heir = 0;
                eprintln!("stead capture: the supervisor has no heir: {error}");
            }
        }
    }

    /// Ends the heir: what it knows of the mounts is about to change.
    pub(super) fn end_heir(&mut self) {
        if self.heir > 0 {
            sys::kill(self.heir, libc::SIGKILL);
            sys::reap(self.heir, true);
            self.heir = 0;
        }
    }

    fn wait_to_inherit(&mut self, supervisor: i32) -> ! {
        sys::die_with_parent(libc::SIGUSR1); // which is blocked, and only wakes
        // Their numbers may mean something else by the time this process acts; strays are closed by the next server.
        std::mem::forget(std::mem::take(&mut self.clients));
        std::mem::forget(std::mem::take(&mut self.flushes));
        let mut buf = [0; 128];
        while sys::parent() == supervisor {
            let _ = rustix::event::poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], None);
            while sys::read(self.signals.as_raw_fd(), &mut buf).is_ok() {}
        }
        (self.heir, self.flusher) = (0, 0);
        if let Ok(bypass) = self.bypass() {
            let (server, deaths) = bypass.server();
            sys::kill_and_wait(server as i32, DEATH_MAX);
            self.restarts = deaths;
        }
        eprintln!("stead capture: the supervisor died; its heir goes on");
        self.on_server_death(libc::SIGKILL);
        self.start_flusher();
        self.start_heir();
        self.run();
        sys::exit_now(0)
    }
}
