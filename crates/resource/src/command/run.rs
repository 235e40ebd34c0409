//! One run, from the start to the end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

use super::cgroup::Cgroup;
use super::family::Family;
use super::{Command, End, NOT_STARTED, Ran};
use crate::net::readable;
use crate::sys::{Spawn, spawn};
use crate::{Output, Stop};

/// How often it is looked who descends from a program that was told to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Most that is read after the end: more than a pipe holds, and no more, for somebody may go on writing.
const LAST_BYTES_MAX: usize = 1 << 20;

pub fn run(command: &Command, limit: Duration, stop: &Stop) -> Ran {
    let began = Instant::now();
    let mut output = Output::default();
    let started = if stop.is_called() { Err(io::Error::other("it was called off before")) } else { start(command) };
    let (end, left) = match started {
        Ok(running) => running.wait(command, limit, stop, &mut output),
        Err(why) => (End::NotStarted(why.to_string()), 0),
    };
    Ran { end, took: began.elapsed(), output, left }
}

struct Running {
    /// Not waited for yet.
    child: Pid,
    /// Readable when the child has ended.
    ended: OwnedFd,
    pipe: PipeReader,
    family: Family,
    /// The pipe has come to its end: nobody can write any more.
    is_silent: bool,
}

fn start(command: &Command) -> io::Result<Running> {
    if command.argv.is_empty() {
        return Err(io::Error::other("no program is named"));
    }
    let argv: Vec<_> = command.under.iter().chain(&command.argv).map(OsString::as_os_str).collect();
    let (pipe, writer) = io::pipe()?;
    fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    let cgroup = command.use_cgroup.then(Cgroup::make).flatten();
    let door = cgroup.as_ref().map(Cgroup::door).transpose()?;
    let (input, door) = (input(&command.input.0)?, door.as_ref().map(AsFd::as_fd));
    let (input, output) = (input.as_fd(), writer.as_fd());
    let child = spawn(&Spawn { argv: &argv, env: &command.env, input, output, door })?;
    let mut family = Family::new(child, cgroup);
    let ended = pidfd_open(child, PidfdFlags::empty()).inspect_err(|_| {
        family.kill();
        let _ = wait(child);
    })?;
    Ok(Running { child, ended, pipe, family, is_silent: false })
}

/// A file in memory: it needs nobody to write while the program reads.
fn input(bytes: &[u8]) -> io::Result<File> {
    if bytes.is_empty() {
        return File::open("/dev/null");
    }
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn wait(child: Pid) -> io::Result<ExitStatus> {
    let waited = retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()))?;
    let (_, status) = waited.ok_or_else(|| io::Error::other("it goes on"))?;
    Ok(ExitStatus::from_raw(status.as_raw()))
}

impl Running {
    fn wait(mut self, command: &Command, limit: Duration, stop: &Stop, output: &mut Output) -> (End, usize) {
        let moment = Instant::now() + limit;
        if self.wait_until(moment, stop, output) {
            let left =
                if command.ends_rest { self.family.end_rest() } else { self.family.release(command.keeps.as_deref()) };
            return (self.status(command, output), left);
        }
        if Instant::now() < moment {
            return (End::Cancelled { unkillable: self.kill(output) }, 0);
        }
        self.wait_politely(command.grace, stop, output);
        (End::TimedOut { limit, unkillable: self.kill(output) }, 0)
    }

    fn wait_politely(&mut self, grace: Duration, stop: &Stop, output: &mut Output) {
        self.family.ask_to_end();
        let last = Instant::now() + grace;
        while !self.wait_until(last.min(Instant::now() + LOOK_INTERVAL), stop, output) {
            if Instant::now() >= last || stop.is_called() {
                return;
            }
            self.family.look();
        }
    }

    /// Returns how many could not be ended.
    fn kill(mut self, output: &mut Output) -> usize {
        let unkillable = self.family.kill();
        let has_ended = self.wait_until(Instant::now() + Duration::from_secs(1), &Stop::never(), output);
        if has_ended {
            let _ = wait(self.child);
        } else {
            // Somebody has to wait for it, or it stays when it ends at last.
            thread::spawn(move || wait(self.child));
        }
        unkillable.max(usize::from(!has_ended))
    }

    fn status(&mut self, command: &Command, output: &Output) -> End {
        match wait(self.child).map_or_else(|e| End::NotStarted(e.to_string()), end) {
            End::Exited(code) if code == i32::from(NOT_STARTED) && !command.under.is_empty() => {
                End::NotStarted(output.text().trim().to_owned())
            }
            end => end,
        }
    }

    /// Reads what it writes until it ends, is called off, or the time has come; has it ended? What it wrote before its end is
    /// read then.
    fn wait_until(&mut self, moment: Instant, stop: &Stop, output: &mut Output) -> bool {
        loop {
            let (has_ended, can_be_read) = self.poll(moment, stop);
            if has_ended {
                for _ in 0..LAST_BYTES_MAX / BUFFER_BYTES {
                    if !self.read(output) {
                        break;
                    }
                }
                return true;
            }
            if can_be_read {
                self.read(output);
            }
            if stop.is_called() || Instant::now() >= moment {
                return false;
            }
        }
    }

    fn poll(&self, moment: Instant, stop: &Stop) -> (bool, bool) {
        let polled = if self.is_silent {
            readable([self.ended.as_fd()], stop, moment).map(|[ended]| (ended, false))
        } else {
            readable([self.ended.as_fd(), self.pipe.as_fd()], stop, moment).map(|[ended, pipe]| (ended, pipe))
        };
        polled.unwrap_or_default()
    }

    /// Reads once; was there anything?
    fn read(&mut self, output: &mut Output) -> bool {
        let mut buffer = [0; BUFFER_BYTES];
        match self.pipe.read(&mut buffer) {
            Ok(0) => self.is_silent = true,
            Ok(len) => output.add(&buffer[..len]),
            Err(_) => return false,
        }
        !self.is_silent
    }
}

const BUFFER_BYTES: usize = 16 << 10;

fn end(status: ExitStatus) -> End {
    status.code().map_or_else(|| End::Killed(status.signal().unwrap_or(0)), End::Exited)
}
