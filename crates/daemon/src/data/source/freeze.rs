//! A mount that nobody may write through for a while: while a set is handed over, nothing is changed that the other side
//! would not get.

use std::io;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};

/// Makes the file system that is mounted there read-only, in every namespace, or writable again. What was written before is
/// synced. Fails with `ResourceBusy` while a file is open for writing.
pub(super) fn freeze(mount: &Path, frozen: bool) -> io::Result<()> {
    let context = fspick(CWD, mount, FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_NO_AUTOMOUNT)?;
    fsconfig_set_flag(&context, if frozen { "ro" } else { "rw" })?;
    Ok(fsconfig_reconfigure(&context)?)
}
