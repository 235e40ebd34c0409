//! Orphans: objects in the replica's directories that never came from the source.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, RenameFlags};
use rustix::io::Errno;

use super::ground::DIR;
use super::holding::{ASIDE, entries_of};
use super::names::Dir;
use super::{ApplyError, Replica};
use crate::volume::{file_id_at, open_by_id};
use crate::{DiskError, HOLDING};

/// How many names are tried for an object that is moved aside.
const NAMES_MAX: u32 = 10_000;

impl Replica {
    /// Paths of objects that never came from the source and that the rules do not leave out, at most `count_max`; of a
    /// directory that is one, only the directory itself.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn list_orphans(&mut self, count_max: usize) -> Result<Vec<PathBuf>, ApplyError> {
        let mut found = Vec::new();
        for root in 0..self.ground.roots.len() {
            let listed = self.orphans_beneath(root, count_max, &mut found);
            listed.map_err(DiskError::at("list", self.ground.roots[root].path.display()))?;
        }
        Ok(found)
    }

    fn orphans_beneath(&self, root: usize, count_max: usize, found: &mut Vec<PathBuf>) -> Result<(), Errno> {
        let at_root = &self.ground.roots[root];
        let volume = &self.ground.volumes[at_root.local.volume as usize].root;
        let mut waiting = vec![(at_root.local, PathBuf::new())];
        while let Some((dir, path)) = waiting.pop() {
            let Some(fd) = open_by_id(volume, dir, DIR)? else { continue };
            for (name, kind) in entries_of(fd.as_fd())? {
                if path.as_os_str().is_empty() && name.to_bytes() == HOLDING {
                    continue;
                }
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                let is_dir = kind == FileType::Directory;
                let local = match file_id_at(volume, fd.as_fd(), &name) {
                    Err(Errno::XDEV) => continue,
                    found => found?,
                };
                let Some(local) = local.filter(|_| at_root.rules.take(path.as_os_str().as_bytes(), is_dir)) else {
                    continue;
                };
                match self.map.id_of(local) {
                    Some(_) if is_dir => waiting.push((local, path)),
                    Some(_) => {}
                    None if found.len() == count_max => return Ok(()),
                    None => found.push(at_root.path.join(path)),
                }
            }
        }
        Ok(())
    }

    /// Moves an orphan to a directory of today's date beside the names of the replica.
    pub(super) fn move_aside(&mut self, dir: &Dir, name: &CStr) -> Result<(), ApplyError> {
        let aside = self.aside_today(dir.volume());
        let aside = aside.map_err(|errno| self.failed_in("move aside", dir, name, errno))?;
        self.before_name(dir, name)?;
        self.keep_mtime(dir)?;
        let rename = |to: &CStr| rustix::fs::renameat_with(dir.fd(), name, &aside, to, RenameFlags::NOREPLACE);
        let mut done = rename(name);
        if matches!(done, Err(Errno::PERM | Errno::ACCESS)) {
            self.unlock_dir(dir)?;
            self.unlock_name(dir, name)?;
            done = rename(name);
        }
        for number in 1..NAMES_MAX {
            if done != Err(Errno::EXIST) {
                break;
            }
            let mut other = name.to_bytes()[..name.to_bytes().len().min(240)].to_vec();
            other.extend(format!(".{number}").as_bytes());
            done = rename(&CString::new(other).expect("no zero"));
        }
        done.map_err(|errno| self.failed_in("move aside", dir, name, errno))?;
        self.touched(dir, name);
        Ok(())
    }

    fn aside_today(&self, volume: usize) -> Result<OwnedFd, Errno> {
        let holding = &self.ground.volumes[volume].holding;
        let aside = make_dir(holding.as_fd(), &CString::new(ASIDE).expect("no zero"))?;
        make_dir(aside.as_fd(), &CString::new(date(super::now() / 1_000_000_000)).expect("no zero"))
    }
}

fn make_dir(dir: std::os::fd::BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Err(Errno::EXIST) => {}
        made => made?,
    }
    rustix::fs::openat(dir, name, DIR, Mode::empty())
}

/// The date of a time in seconds since 1970, as "2026-11-20".
fn date(seconds: u64) -> String {
    // Years begin in March: the odd day is the last one.
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_709_251_200, "2024-03-01"),
            (1_795_132_799, "2026-11-19"),
            (4_102_444_800, "2100-01-01"),
        ] {
            assert_eq!(super::date(seconds), expected, "{seconds}");
        }
    }
}
