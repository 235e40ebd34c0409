//! fanotify(7): reports of what is changed on a file system, by the handle of the file.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;

use super::{Result, check};

/// What fanotify reports: somebody changed a file.
pub struct Report<'a> {
    /// What happened.
    pub mask: u64,
    /// Which process did it, 0: one that this process cannot see.
    pub pid: u32,
    /// The file system.
    pub fsid: u64,
    /// The file: kind and bytes of its handle.
    pub kind: i32,
    pub handle: &'a [u8],
}

/// Lets the kernel report every modification of the file systems of `dirs`, at least one of which it has to allow.
pub fn report_changes(dirs: &[RawFd]) -> Result<OwnedFd> {
    const INIT: u32 = libc::FAN_CLASS_NOTIF
        | libc::FAN_REPORT_FID
        | libc::FAN_UNLIMITED_QUEUE
        | libc::FAN_NONBLOCK
        | libc::FAN_CLOEXEC;
    const NAMES: u64 = libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
    const MASK: u64 = NAMES | libc::FAN_MODIFY | libc::FAN_ATTRIB | libc::FAN_CLOSE_WRITE | libc::FAN_ONDIR;
    // SAFETY: the new descriptor is owned by the result.
    let group =
        unsafe { OwnedFd::from_raw_fd(check(libc::fanotify_init(INIT, libc::O_RDONLY as u32).into())? as RawFd) };
    let mut marked = Err(Errno::NODEV);
    for dir in dirs {
        let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
        // SAFETY: the path is null: the directory itself is meant.
        let added = check(unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, MASK, *dir, ptr::null()) }.into());
        marked = marked.or(added);
    }
    marked.map(|_| group)
}

/// Calls `each` with the reports in what was read. What is not understood is passed over.
pub fn each_report(mut bytes: &[u8], mut each: impl FnMut(&Report<'_>)) {
    const HEAD_BYTES: usize = 24;
    const INFO_BYTES: usize = 20;
    let word = |bytes: &[u8], at: usize| bytes.get(at..at + 4).map(|word| [word[0], word[1], word[2], word[3]]);
    let long = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 8).and_then(|long| Some(u64::from_le_bytes(long.try_into().ok()?)))
    };
    while let (Some(len), Some(mask)) = (word(bytes, 0).map(u32::from_le_bytes), long(bytes, 8)) {
        let Some(event) = bytes.get(..len as usize).filter(|event| event.len() >= HEAD_BYTES) else { return };
        bytes = &bytes[event.len()..];
        let pid = word(event, 20).map_or(0, u32::from_le_bytes);
        let info = &event[HEAD_BYTES..];
        let handle_len = word(info, 12).map_or(0, |len| u32::from_le_bytes(len) as usize);
        let fields = (long(info, 4), word(info, 16), info.get(INFO_BYTES..INFO_BYTES + handle_len));
        if let (Some(fsid), Some(kind), Some(handle)) = fields {
            each(&Report { mask, pid, fsid, kind: i32::from_le_bytes(kind), handle });
        } else if mask & libc::FAN_Q_OVERFLOW != 0 {
            each(&Report { mask, pid, fsid: 0, kind: 0, handle: &[] });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_and_what_is_cut_off_or_strange_is_passed_over() {
        let mut bytes = Vec::new();
        for (pid, handle) in [(7_u32, &[1, 2, 3, 4, 5, 6, 7, 8][..]), (9, &[1, 2, 3, 4])] {
            let info_len = 20 + handle.len();
            bytes.extend((24 + info_len as u32).to_le_bytes());
            bytes.extend([3, 0, 24, 0]);
            bytes.extend(libc::FAN_MODIFY.to_le_bytes());
            bytes.extend((-1_i32).to_le_bytes());
            bytes.extend(pid.to_le_bytes());
            bytes.extend([1, 0, info_len as u8, 0]);
            bytes.extend(0x55_u64.to_le_bytes());
            bytes.extend((handle.len() as u32).to_le_bytes());
            bytes.extend(1_i32.to_le_bytes());
            bytes.extend(handle);
        }
        let pids = |bytes: &[u8]| {
            let mut pids = Vec::new();
            each_report(bytes, |report| {
                assert_eq!((report.mask, report.fsid, report.kind), (libc::FAN_MODIFY, 0x55, 1));
                pids.push((report.pid, report.handle.len()));
            });
            pids
        };
        assert_eq!(pids(&bytes), [(7, 8), (9, 4)]);
        for cut in 0..bytes.len() {
            assert!(pids(&bytes[..cut]).len() < 2);
        }
        bytes[36] = 200; // a handle longer than the report
        assert_eq!(pids(&bytes), [(9, 4)]);
        bytes[..4].fill(0);
        assert_eq!(pids(&bytes), []);
    }
}
