//! Thin, safe covers for the system calls that no crate offers. Nothing here decides anything.
#![allow(unsafe_code, reason = "system calls")]

mod report;

use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use stead_model::handle::{HANDLE_BYTES_MAX, Handle};

pub use report::{Report, each_report, report_changes};

/// Result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;

/// Takes a descriptor by its number, as tables in shared memory hold it.
pub fn fd(raw: RawFd) -> BorrowedFd<'static> {
    // SAFETY: -1 is the only number that may not be borrowed. The tables keep what they name open while it is pinned;
    // a number that is closed all the same makes the call fail, it does not break memory.
    unsafe { BorrowedFd::borrow_raw(raw.max(0)) }
}

/// Closes a descriptor that the caller owns by its number.
pub fn close(raw: RawFd) {
    // SAFETY: the caller owns the number; closing twice would hit a stranger's descriptor, not memory.
    unsafe { libc::close(raw) };
}

fn check(result: i64) -> Result<i64> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    data: [u8; libc::MAX_HANDLE_SZ as usize],
}

/// `name_to_handle_at(2)` without following a symlink at the end; an empty name means `dir` itself.
pub fn handle_at(dir: RawFd, name: &CStr) -> Result<Handle> {
    let mut handle = FileHandle { bytes: libc::MAX_HANDLE_SZ as u32, kind: 0, data: [0; libc::MAX_HANDLE_SZ as usize] };
    let mut mount = 0_i32;
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: `handle` is a file_handle with the room it names; the other pointers live through the call.
    let result = unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, dir, name.as_ptr(), &raw mut handle, &raw mut mount, flags)
    };
    check(result)?;
    let len = handle.bytes as usize;
    if len > HANDLE_BYTES_MAX {
        return Err(Errno::OPNOTSUPP);
    }
    let mut bytes = [0; HANDLE_BYTES_MAX];
    bytes[..len].copy_from_slice(&handle.data[..len]);
    Ok(Handle { kind: handle.kind, len, bytes })
}

/// `open_by_handle_at(2)`; returns an owned descriptor number.
pub fn open_handle(mount: RawFd, handle: &Handle, flags: i32) -> Result<RawFd> {
    let mut raw = FileHandle { bytes: handle.len as u32, kind: handle.kind, data: [0; libc::MAX_HANDLE_SZ as usize] };
    raw.data[..handle.len].copy_from_slice(&handle.bytes[..handle.len]);
    // SAFETY: `raw` is a file_handle with the length it names.
    let result = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount, &raw mut raw, flags | libc::O_CLOEXEC) };
    Ok(check(result)? as RawFd)
}

/// `openat(2)`; returns an owned descriptor number.
pub fn open_at(dir: RawFd, name: &CStr, flags: i32, mode: u32) -> Result<RawFd> {
    // SAFETY: the name is NUL-terminated.
    Ok(check(unsafe { libc::openat(dir, name.as_ptr(), flags | libc::O_CLOEXEC, mode) }.into())? as RawFd)
}

/// `getdents64(2)`.
pub fn getdents(dir: RawFd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is as long as said.
    Ok(check(unsafe { libc::syscall(libc::SYS_getdents64, dir, buf.as_mut_ptr(), buf.len()) })? as usize)
}

/// Closes all descriptors from `first` to `last`, those that are open.
pub fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: the caller owns what is open there.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Has a child ended? It can still be reaped then.
pub fn has_ended(pid: i32) -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` lives through the call; zeroed, it says that nothing happened.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid as u32, &raw mut info, flags) != 0 || info.si_pid() == pid
    }
}

/// `pread(2)`-free positioning: `lseek(2)` with any `whence`.
pub fn lseek(fd: RawFd, offset: i64, whence: i32) -> Result<i64> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::lseek(fd, offset, whence) })
}

/// `read(2)` of one request.
pub fn read(fd: RawFd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is as long as said.
    Ok(check(unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) } as i64)? as usize)
}

/// `writev(2)` of three parts, empty ones left out by the kernel.
pub fn write_parts(fd: RawFd, parts: [&[u8]; 3]) -> Result<()> {
    let iov = parts.map(|part| libc::iovec { iov_base: part.as_ptr() as *mut _, iov_len: part.len() });
    let count = if parts[2].is_empty() { if parts[1].is_empty() { 1 } else { 2 } } else { 3 };
    // SAFETY: each part is as long as said.
    check(unsafe { libc::writev(fd, iov.as_ptr(), count) } as i64).map(|_| ())
}

/// Puts the open file of `from` under the number `onto` and closes `from`.
pub fn replace_fd(from: RawFd, onto: RawFd) -> Result<()> {
    // SAFETY: no memory is involved; the caller owns both numbers.
    let result = check(unsafe { libc::dup3(from, onto, libc::O_CLOEXEC) }.into());
    close(from);
    result.map(|_| ())
}

/// Puts the open file of `from` under the number `onto` too, which need not be open.
pub fn dup_onto(from: RawFd, onto: RawFd) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::dup3(from, onto, libc::O_CLOEXEC) }.into()).map(|_| ())
}

/// As [`dup_onto`], kept across exec: for the standard streams.
pub fn dup_plain(from: RawFd, onto: RawFd) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::dup2(from, onto) }.into()).map(|_| ())
}

/// `fchmodat2(2)` on a descriptor of any kind, `O_PATH` included; falls back to `/proc`.
pub fn chmod(fd: RawFd, mode: u32) -> Result<()> {
    const SYS_FCHMODAT2: i64 = 452;
    // SAFETY: the path is an empty C string.
    match check(unsafe { libc::syscall(SYS_FCHMODAT2, fd, c"".as_ptr(), mode, libc::AT_EMPTY_PATH) }) {
        Err(Errno::NOSYS) => {
            let path = ProcPath::of(fd);
            // SAFETY: the path is a C string.
            check(unsafe { libc::chmod(path.as_cstr().as_ptr(), mode) }.into()).map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// `fchownat(2)` on a descriptor of any kind; `u32::MAX` keeps.
pub fn chown(fd: RawFd, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: the path is an empty C string.
    check(unsafe { libc::fchownat(fd, c"".as_ptr(), uid, gid, libc::AT_EMPTY_PATH) }.into()).map(|_| ())
}

/// `fchownat(2)` on a name, symlinks not followed.
pub fn chown_at(dir: RawFd, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: the name is a C string.
    check(unsafe { libc::fchownat(dir, name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW) }.into()).map(|_| ())
}

/// `utimensat(2)` on a descriptor of any kind.
pub fn set_times(fd: RawFd, times: &[libc::timespec; 2]) -> Result<()> {
    // SAFETY: `times` has two elements.
    check(unsafe { libc::utimensat(fd, c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) }.into()).map(|_| ())
}

/// `linkat(2)` of an open file of any kind.
pub fn link(fd: RawFd, dir: RawFd, name: &CStr) -> Result<()> {
    // SAFETY: both names are C strings.
    check(unsafe { libc::linkat(fd, c"".as_ptr(), dir, name.as_ptr(), libc::AT_EMPTY_PATH) }.into()).map(|_| ())
}

/// `mknodat(2)`.
pub fn mknod(dir: RawFd, name: &CStr, mode: u32, rdev: u64) -> Result<()> {
    // SAFETY: the name is a C string.
    check(unsafe { libc::mknodat(dir, name.as_ptr(), mode, rdev) }.into()).map(|_| ())
}

/// `renameat2(2)`.
pub fn rename(from: RawFd, name: &CStr, to: RawFd, name2: &CStr, flags: u32) -> Result<()> {
    // SAFETY: both names are C strings.
    check(unsafe { libc::renameat2(from, name.as_ptr(), to, name2.as_ptr(), flags) }.into()).map(|_| ())
}

/// `fallocate(2)` with any mode.
pub fn fallocate(fd: RawFd, mode: i32, offset: i64, len: i64) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fallocate(fd, mode, offset, len) }.into()).map(|_| ())
}

/// `ioctl(2)` whose argument is `data`, which is at least as long as the size in `command`.
pub fn ioctl(fd: RawFd, command: u32, data: &mut [u8]) -> Result<i32> {
    assert!(data.len() >= (command >> 16 & 0x3fff) as usize);
    // SAFETY: the command's own size field bounds what the kernel reads and writes, and `data` has that room.
    Ok(check(unsafe { libc::ioctl(fd, command.into(), data.as_mut_ptr()) }.into())? as i32)
}

/// Gives the calling thread a umask and working directory of its own.
pub fn unshare_fs() -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_FS) }.into()).map(|_| ())
}

/// `umask(2)`.
pub fn umask(mask: u32) {
    // SAFETY: no memory is involved.
    unsafe { libc::umask(mask) };
}

thread_local!(static THREAD_ID: Cell<u32> = const { Cell::new(0) });

/// Id of the calling thread, remembered.
pub fn thread_id() -> u32 {
    THREAD_ID.with(|id| {
        if id.get() == 0 {
            // SAFETY: no memory is involved.
            id.set(unsafe { libc::gettid() } as u32);
        }
        id.get()
    })
}

/// Is there a thread of that id?
pub fn thread_is_alive(id: u32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::kill(id as i32, 0) == 0 || *libc::__errno_location() != libc::ESRCH }
}

/// Sleeps while `word` holds `expected`, at most `timeout`.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let time = libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
    // SAFETY: word and time live through the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const time) };
}

/// Wakes up to `count` sleepers of `word`.
pub fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: the word lives through the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// A child that shares the descriptor table, but not the memory. Returns its id, 0 in the child.
///
/// Only a process with a single thread may do it.
pub fn clone_sharing_files() -> Result<i32> {
    let flags = i64::from(libc::CLONE_FILES | libc::SIGCHLD);
    // SAFETY: as fork(2): the child gets a copy of the memory and runs on the same stack addresses; the caller has one
    // thread, so no lock of the C library is held by another.
    let child = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0_i64, 0_i64, 0_i64, 0_i64) })? as i32;
    if child == 0 {
        THREAD_ID.set(0);
    }
    Ok(child)
}

/// A child of its own (fork). Returns its id, 0 in the child. Only for a process with a single thread.
pub fn fork() -> Result<i32> {
    // SAFETY: the caller has one thread.
    let child = check(unsafe { libc::fork() }.into())? as i32;
    if child == 0 {
        THREAD_ID.set(0);
    }
    Ok(child)
}

/// Ends the process without running destructors.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// The calling process gets `signal` when its parent dies.
pub fn die_with_parent(signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}

/// Makes the calling process the leader of a new session.
pub fn new_session() {
    // SAFETY: no memory is involved.
    unsafe { libc::setsid() };
}

/// Sends a signal to a process.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

/// Kills a process that need not be a child, and waits until it has ended, at most `timeout`.
pub fn kill_and_wait(pid: i32, timeout: Duration) {
    // SAFETY: no memory is involved; the new descriptor is owned.
    let opened = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    let Ok(raw) = opened else { return };
    // SAFETY: just opened.
    let process = unsafe { OwnedFd::from_raw_fd(raw as RawFd) };
    kill(pid, libc::SIGKILL);
    let mut polled = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, that lives through the call.
    unsafe { libc::poll(&raw mut polled, 1, timeout.as_millis() as i32) };
}

/// Process id of the parent.
pub fn parent() -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::getppid() }
}

/// Reaps a child if it has ended: `Some(status)`.
pub fn reap(pid: i32, wait: bool) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    let result = unsafe { libc::waitpid(pid, &raw mut status, if wait { 0 } else { libc::WNOHANG }) };
    (result == pid).then_some(status)
}

/// A descriptor that is readable once one of `signals` is pending; they are blocked otherwise.
pub fn signal_fd(signals: &[i32]) -> Result<OwnedFd> {
    // SAFETY: the set lives through the calls; the new descriptor is owned by the result.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        let raw = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(raw as RawFd))
    }
}

/// Unblocks all signals.
pub fn unblock_signals() {
    // SAFETY: the set lives through the calls.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Raises the limit of open descriptors towards `wanted`; returns what it is now.
pub fn raise_fd_limit(wanted: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through the calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let max = limit.rlim_max.max(wanted);
        let raised = libc::rlimit { rlim_cur: wanted.max(limit.rlim_cur), rlim_max: max };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0 {
            return raised.rlim_cur;
        }
        limit.rlim_cur = limit.rlim_max.min(wanted.max(limit.rlim_cur));
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    limit.rlim_cur
}

/// Opens a clone of the mount that holds `dir`, without the mounts nested in it.
pub fn clone_mount(dir: RawFd, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    // SAFETY: the path is a C string; the new descriptor is owned by the result.
    unsafe {
        let raw = check(libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags))?;
        Ok(OwnedFd::from_raw_fd(raw as RawFd))
    }
}

/// Attaches a cloned mount at `path`.
pub fn attach_mount(tree: &OwnedFd, path: &CStr) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
    // SAFETY: both paths are C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(|_| ())
}

/// `/proc/self/fd/N`: leads to the open file itself, also where it is a symlink, a device or has no name left.
pub struct ProcPath([u8; 32]);

impl ProcPath {
    /// The path of an open descriptor.
    pub fn of(fd: RawFd) -> ProcPath {
        let mut bytes = [0; 32];
        let prefix = b"/proc/self/fd/";
        bytes[..prefix.len()].copy_from_slice(prefix);
        let mut digits = [0; 10];
        let (mut at, mut rest) = (digits.len(), fd.max(0));
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        bytes[prefix.len()..prefix.len() + digits.len() - at].copy_from_slice(&digits[at..]);
        ProcPath(bytes)
    }

    /// As a C string.
    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// Memory shared with other processes through a descriptor. The bytes change under our feet: they are only reached
/// through atomics or through raw pointers.
#[derive(Debug)]
pub struct Shared {
    at: *mut u8,
    len: usize,
}

// SAFETY: a mapping may be used from any thread; what is in it is atomics, or handed out by a protocol of its user.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps `len` bytes from `offset`.
    pub fn map(memory: RawFd, offset: usize, len: usize) -> Result<Shared> {
        Self::map_at(ptr::null_mut(), 0, memory, offset, len)
    }

    /// Maps `len` bytes from `offset` twice, one after the other, so that what wraps is contiguous.
    pub fn map_twice(memory: RawFd, offset: usize, len: usize) -> Result<Shared> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping where the kernel chooses.
        let at = unsafe { libc::mmap(ptr::null_mut(), 2 * len, libc::PROT_NONE, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let whole = Shared { at: at.cast(), len: 2 * len };
        for half in 0..2 {
            // SAFETY: within the mapping just made, which nobody else knows.
            let place = unsafe { whole.at.add(half * len) };
            std::mem::forget(Self::map_at(place, libc::MAP_FIXED, memory, offset, len)?);
        }
        Ok(whole)
    }

    /// Maps the first `len` bytes, to be read only.
    pub fn map_to_read(memory: RawFd, len: usize) -> Result<Shared> {
        // SAFETY: the kernel chooses a place where nothing is.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, memory, 0) };
        if at == libc::MAP_FAILED { Err(last_errno()) } else { Ok(Shared { at: at.cast(), len }) }
    }

    fn map_at(place: *mut u8, flags: i32, memory: RawFd, offset: usize, len: usize) -> Result<Shared> {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, flags | libc::MAP_SHARED | libc::MAP_NORESERVE);
        // SAFETY: `place` is null, or within a mapping that the caller owns.
        let at = unsafe { libc::mmap(place.cast(), len, prot, flags, memory, offset as i64) };
        if at == libc::MAP_FAILED { Err(last_errno()) } else { Ok(Shared { at: at.cast(), len }) }
    }

    /// Address of a byte.
    ///
    /// # Panics
    /// Where fewer than `len` bytes are there.
    pub fn place(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "outside of the shared memory");
        // SAFETY: checked to be inside.
        unsafe { self.at.add(offset) }
    }

    /// A value in shared memory that consists of atomics only, for which every bit pattern is valid.
    ///
    /// # Panics
    /// Where it is outside or not aligned.
    pub fn atomics<T: Atomics>(&self, offset: usize) -> &T {
        let place = self.place(offset, size_of::<T>()).cast::<T>();
        assert!(place.is_aligned());
        // SAFETY: inside, aligned, valid for any bits, and changed through atomics only.
        unsafe { &*place }
    }

    /// Copies bytes out.
    pub fn append_to(&self, out: &mut Vec<u8>, offset: usize, len: usize) {
        let from = self.place(offset, len);
        out.reserve(len);
        // SAFETY: source checked, destination reserved; the caller's protocol says that nobody writes there now.
        unsafe {
            ptr::copy_nonoverlapping(from, out.as_mut_ptr().add(out.len()), len);
            out.set_len(out.len() + len);
        }
    }

    /// Bytes that the caller's protocol has given to it alone.
    #[allow(clippy::mut_from_ref, reason = "exclusive by the protocol of ring and slots, not by the borrow checker")]
    pub fn exclusive(&self, offset: usize, len: usize) -> &mut [u8] {
        // SAFETY: inside; exclusive by the caller's protocol.
        unsafe { std::slice::from_raw_parts_mut(self.place(offset, len), len) }
    }

    /// Makes the pages present. Failure costs only time later.
    pub fn populate(&self, offset: usize, len: usize) {
        // SAFETY: inside.
        unsafe { libc::madvise(self.place(offset, len).cast(), len, libc::MADV_POPULATE_WRITE) };
    }

    /// Makes the pages present and keeps them: a fault while a request is copied in would fail the request.
    pub fn pin(&self, offset: usize, len: usize) {
        let from = self.place(offset, len).cast();
        // SAFETY: inside. Failure costs only robustness.
        unsafe {
            libc::madvise(from, len, libc::MADV_POPULATE_WRITE);
            libc::mlock(from, len);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

/// Types that consist of atomics only.
///
/// # Safety
/// Every bit pattern is valid, and all fields are atomics or arrays of such types.
pub unsafe trait Atomics {}

/// A new piece of shared memory of `len` bytes, all zero, taking room only where it is touched.
pub fn shared_memory(name: &CStr, len: usize) -> Result<OwnedFd> {
    // SAFETY: the name is a C string; the new descriptor is owned by the result.
    let memory =
        unsafe { OwnedFd::from_raw_fd(check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC).into())? as RawFd) };
    rustix::fs::ftruncate(&memory, len as u64)?;
    Ok(memory)
}
