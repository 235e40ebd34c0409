//! Ways to write that have no safe interface: mappings, AIO, io_uring.

#![allow(unsafe_code, reason = "mappings and rings are shared with the kernel; each block says why it is sound")]

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Result, ensure};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// Stores bytes through a shared (or private) mapping of the whole file; `sync` ends with msync.
pub fn store_mapped(file: &File, at: usize, bytes: &[u8], shared: bool, sync: bool) -> Result<()> {
    let len = file.metadata()?.len() as usize;
    ensure!(at + bytes.len() <= len, "a store beyond the end");
    let flags = if shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
    // SAFETY: the kernel chooses the address; the mapping is unmapped below and nothing else refers to it.
    let map = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0)? };
    // SAFETY: `at + bytes.len()` lies within the mapping, checked above; the source is another allocation.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), map.cast::<u8>().add(at), bytes.len()) };
    let synced = if sync {
        // SAFETY: the whole mapping that was made above.
        unsafe { msync(map, len, MsyncFlags::SYNC) }
    } else {
        Ok(())
    };
    // SAFETY: the whole mapping that was made above; it is not used afterwards.
    unsafe { munmap(map, len)? };
    Ok(synced?)
}

/// Writes with Linux AIO (io_submit, io_getevents).
pub fn write_aio(file: &File, at: u64, bytes: &[u8]) -> Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct Iocb {
        data: u64,
        key: u32,
        rw_flags: u32,
        opcode: u16,
        priority: i16,
        fildes: u32,
        buf: u64,
        nbytes: u64,
        offset: i64,
        reserved: u64,
        flags: u32,
        resfd: u32,
    }
    const IOCB_CMD_PWRITE: u16 = 1;
    let mut context: libc::c_ulong = 0;
    let mut request = Iocb {
        opcode: IOCB_CMD_PWRITE,
        fildes: file.as_raw_fd() as u32,
        buf: bytes.as_ptr() as u64,
        nbytes: bytes.len() as u64,
        offset: at as i64,
        ..Iocb::default()
    };
    let mut requests = [&mut request as *mut Iocb];
    let mut events = [0u64; 4];
    let nobody: *mut libc::timespec = std::ptr::null_mut();
    // SAFETY: the structures are laid out as linux/aio_abi.h says and outlive the calls: io_getevents waits for the
    // one request before anything goes out of scope.
    let (set_up, submitted, done) = unsafe {
        let set_up = libc::syscall(libc::SYS_io_setup, 1, &mut context);
        let submitted = libc::syscall(libc::SYS_io_submit, context, 1, requests.as_mut_ptr());
        let done = libc::syscall(libc::SYS_io_getevents, context, 1, 1, events.as_mut_ptr(), nobody);
        libc::syscall(libc::SYS_io_destroy, context);
        (set_up, submitted, done)
    };
    ensure!(set_up == 0 && submitted == 1 && done == 1, "AIO is not available here");
    ensure!(events[2] == bytes.len() as u64, "AIO wrote {} of {}", events[2] as i64, bytes.len());
    Ok(())
}

/// Writes with io_uring and ends with an fsync in the same ring.
pub fn write_io_uring(file: &File, at: u64, bytes: &[u8]) -> Result<()> {
    use io_uring::{IoUring, opcode, squeue, types};
    let mut ring = IoUring::new(4)?;
    let fd = types::Fd(file.as_raw_fd());
    let write = opcode::Write::new(fd, bytes.as_ptr(), bytes.len() as u32).offset(at).build();
    let write = write.flags(squeue::Flags::IO_LINK).user_data(1);
    let sync = opcode::Fsync::new(fd).build().user_data(2);
    // SAFETY: descriptor and buffer outlive submit_and_wait, which returns after both completions.
    unsafe { ring.submission().push_multiple(&[write, sync])? };
    ring.submit_and_wait(2)?;
    for completion in ring.completion() {
        let wanted = if completion.user_data() == 1 { bytes.len() as i32 } else { 0 };
        if completion.result() < 0 {
            return Err(std::io::Error::from_raw_os_error(-completion.result()).into());
        }
        ensure!(completion.result() == wanted, "io_uring wrote {} of {wanted}", completion.result());
    }
    Ok(())
}

/// Where blocks are allocated to a file, written or not, as (from, to); `None` where the file system cannot tell.
pub fn allocated(file: &File) -> Result<Option<Vec<(u64, u64)>>> {
    const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
    const FLAG_SYNC: u32 = 1;
    const EXTENTS: usize = 256;
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Extent {
        logical: u64,
        physical: u64,
        length: u64,
        reserved64: [u64; 2],
        flags: u32,
        reserved: [u32; 3],
    }
    #[repr(C)]
    struct Map {
        start: u64,
        length: u64,
        flags: u32,
        mapped: u32,
        count: u32,
        reserved: u32,
        extents: [Extent; EXTENTS],
    }
    let mut found: Vec<(u64, u64)> = Vec::new();
    loop {
        let start = found.last().map_or(0, |last| last.1);
        let length = u64::MAX - start;
        let extents = [Extent::default(); EXTENTS];
        let count = EXTENTS as u32;
        let mut map = Map { start, length, flags: FLAG_SYNC, mapped: 0, count, reserved: 0, extents };
        // SAFETY: the structure is laid out as linux/fiemap.h says, with room for as many extents as `count` tells.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &mut map) };
        if result != 0 {
            let error = std::io::Error::last_os_error();
            let unknown = [libc::ENOTTY, libc::EOPNOTSUPP, libc::EINVAL, libc::ENOSYS];
            return if error.raw_os_error().is_some_and(|code| unknown.contains(&code)) {
                Ok(None)
            } else {
                Err(error.into())
            };
        }
        for extent in &map.extents[..map.mapped as usize] {
            let (from, to) = (extent.logical.max(start), extent.logical + extent.length);
            match found.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                _ => found.push((from, to)),
            }
        }
        if map.mapped < count {
            return Ok(Some(found));
        }
    }
}
