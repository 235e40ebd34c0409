//! Starts a program without a copy of this process's memory.
//!
//! A fork copies the tables of all pages, milliseconds for a process of a hundred megabytes; this child runs on the memory of
//! its parent, which stands still until the child has become the program (`vfork(2)`). `posix_spawn(3)` does the same and
//! cannot enter a cgroup before glibc 2.39.

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::{iter, mem, ptr};

use rustix::process::{Pid, WaitOptions, waitpid};

/// Beside what the list of arguments needs where the program turns out to be a script that names no shell.
const STACK_BYTES: usize = 64 << 10;
/// Signals are 1 to 64 on Linux.
const SIGNALS: std::ops::RangeInclusive<c_int> = 1..=64;
/// The stack of every architecture begins at a multiple of that.
const STACK_ALIGNED: usize = 16;

/// What is to be started.
pub struct Spawn<'a> {
    /// Program and arguments; the program with its path, or found in `PATH`.
    pub argv: &'a [&'a OsStr],
    /// Variables beside those of this process.
    pub env: &'a [(String, OsString)],
    pub input: BorrowedFd<'a>,
    /// Standard output and standard error.
    pub output: BorrowedFd<'a>,
    /// Of the cgroup that it enters; without one it adopts the orphans among its descendants (that outlives the exec, but is
    /// not handed down to them).
    pub door: Option<BorrowedFd<'a>>,
}

/// Starts it as the leader of a session, in `/`. It has to be waited for.
///
/// # Errors
/// Where it cannot be started: nothing is left of it then.
pub fn spawn(what: &Spawn<'_>) -> io::Result<Pid> {
    let argv = what.argv.iter().map(|word| CString::new(word.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let env = environment(what.env)?;
    let (argv, env) = (pointers(&argv), pointers(&env));
    let mut stack = vec![0_u8; STACK_BYTES + mem::size_of_val(argv.as_slice())];
    let mut child = Child {
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        input: what.input.as_raw_fd(),
        output: what.output.as_raw_fd(),
        door: what.door.map_or(-1, |door| door.as_raw_fd()),
        failed: 0,
    };
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the stack is the child's own until it has gone (CLONE_VFORK), and aligned. `child` and what it points to
    // outlive it for the same reason. Handlers of signals are its own (no CLONE_SIGHAND), and none runs on this memory:
    // signals are held back until the child has taken them all away.
    let pid = without_signals(|| unsafe {
        let top = top.sub(top as usize % STACK_ALIGNED);
        libc::clone(
            become_program,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            ptr::from_mut(&mut child).cast(),
        )
    })?;
    let pid = Pid::from_raw(pid).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the child, which wrote it, has ended or become the program.
    match unsafe { ptr::read_volatile(&raw const child.failed) } {
        0 => Ok(pid),
        failed => {
            let _ = waitpid(Some(pid), WaitOptions::empty());
            Err(io::Error::from_raw_os_error(failed))
        }
    }
}

/// What the child is told; it makes nothing, for what it made nobody would free.
struct Child {
    argv: *const *const c_char,
    env: *const *const c_char,
    input: RawFd,
    output: RawFd,
    door: RawFd,
    /// Why it did not become the program.
    failed: c_int,
}

/// The child, on the memory of its parent: only system calls are made, no lock is taken and nothing is allocated.
extern "C" fn become_program(child: *mut c_void) -> c_int {
    // SAFETY: the parent gave a `Child`, and stands still.
    unsafe {
        let child: *mut Child = child.cast();
        if prepare(&*child) {
            libc::execvpe(*(*child).argv, (*child).argv, (*child).env);
        }
        ptr::write_volatile(&raw mut (*child).failed, (*libc::__errno_location()).max(1));
        libc::_exit(127)
    }
}

/// False: `errno` tells why.
///
/// # Safety
/// To be called by the child alone.
unsafe fn prepare(child: &Child) -> bool {
    // SAFETY: system calls on descriptors that the parent holds open, and on values of this stack.
    unsafe {
        let stays_together = || match child.door {
            -1 => libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) == 0,
            door => libc::write(door, c"0".as_ptr().cast(), 1) == 1,
        };
        // Rust opens 0 to 2 before main: what was opened since is none of them, and is closed by the exec.
        let turn = |from, to| libc::dup2(from, to) != -1;
        let has_streams = || turn(child.input, 0) && turn(child.output, 1) && turn(child.output, 2);
        let begins = libc::setsid() != -1 && stays_together() && has_streams();
        begins && libc::chdir(c"/".as_ptr()) == 0 && forget_signals()
    }
}

/// Signals do to the program what they do to any; what this process was told to ignore stays so, but SIGPIPE, which Rust
/// ignores.
///
/// # Safety
/// As above.
unsafe fn forget_signals() -> bool {
    // SAFETY: a `sigaction` of zeros has the default handler and an empty mask.
    unsafe {
        let default: libc::sigaction = mem::zeroed();
        for signal in SIGNALS {
            let mut had: libc::sigaction = mem::zeroed();
            let is_known = libc::sigaction(signal, ptr::null(), &raw mut had) == 0;
            let is_ours =
                had.sa_sigaction != libc::SIG_DFL && (had.sa_sigaction != libc::SIG_IGN || signal == libc::SIGPIPE);
            if is_known && is_ours {
                libc::sigaction(signal, &raw const default, ptr::null_mut());
            }
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const default.sa_mask, ptr::null_mut()) == 0
    }
}

/// Calls it while no signal reaches this thread. -1 is an error.
fn without_signals(call: impl FnOnce() -> c_int) -> io::Result<c_int> {
    // SAFETY: sets of signals on this stack, filled before they are used.
    unsafe {
        let (mut all, mut had) = (mem::zeroed(), mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut had);
        let result = call();
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const had, ptr::null_mut());
        if result == -1 { Err(error) } else { Ok(result) }
    }
}

/// Later values come in place of earlier ones of the same name.
fn environment(more: &[(String, OsString)]) -> io::Result<Vec<CString>> {
    let is_replaced = |name: &OsStr| more.iter().any(|(other, _)| name == OsStr::new(other));
    let own = std::env::vars_os().filter(|(name, _)| !is_replaced(name));
    let more = more.iter().map(|(name, value)| (name.into(), value.clone()));
    let line = |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    Ok(own.chain(more).map(line).map(CString::new).collect::<Result<_, _>>()?)
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(CString::as_c_str).map(CStr::as_ptr).chain(iter::once(ptr::null())).collect()
}
