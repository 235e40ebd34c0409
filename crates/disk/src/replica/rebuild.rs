//! Building the map anew from the ids that the files carry.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use stead_model::FileId;

use super::create::read_id;
use super::ground::DIR;
use super::holding::{entries, is_apart};
use super::map::Slot;
use super::names::Dir;
use super::{ApplyError, Replica};
use crate::volume::{file_id_of, open_by_id};
use crate::xattr::Target;

impl Replica {
    /// Builds the map anew from the xattrs of the replica's files; returns how many it found. Nothing is proven equal
    /// afterwards: a difference mirror must follow.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn rebuild(&mut self) -> Result<u64, ApplyError> {
        self.settle()?;
        self.map.clear();
        self.held.clear();
        self.purging.clear();
        for root in 0..self.ground.roots.len() {
            self.rebuild_root(root).map_err(|errno| self.failed("scan", FileId::NONE, errno))?;
        }
        self.find_held().map_err(|errno| self.failed("list", FileId::NONE, errno))?;
        // What is in the file is void: the next checkpoint writes it anew.
        self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).broken = true;
        Ok(self.map.len() as u64)
    }

    /// Directories wait as file ids, not as descriptors: there may be many.
    fn rebuild_root(&mut self, root: usize) -> Result<(), Errno> {
        let first = self.ground.roots[root].local;
        let mut waiting = vec![first];
        let volume = first.volume as usize;
        while let Some(local) = waiting.pop() {
            let Some(fd) = open_by_id(&self.ground.volumes[volume].root, local, DIR)? else { continue };
            if local == first {
                self.take_up(fd.as_fd(), false, volume)?;
            }
            let dir = Dir { id: None, local, fd: Arc::new(fd) };
            for (name, kind) in entries(&dir)? {
                if is_apart(&name) && self.is_holding(&dir) {
                    continue;
                }
                let is_dir = kind == FileType::Directory;
                let flags = if is_dir { DIR } else { OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC };
                let inner = match rustix::fs::openat(dir.fd(), &name, flags, Mode::empty()) {
                    Err(Errno::NOENT) => continue,
                    opened => opened?,
                };
                if let Some(local) = self.take_up(inner.as_fd(), !is_dir, volume)?.filter(|_| is_dir) {
                    waiting.push(local);
                }
            }
        }
        Ok(())
    }

    fn is_holding(&self, dir: &Dir) -> bool {
        let volume = &self.ground.volumes[dir.volume()];
        file_id_of(&volume.root, volume.holding.as_fd()) == Ok(dir.local)
    }

    /// Takes an object into the map if it carries an id; `None` where it is on another file system.
    fn take_up(
        &mut self,
        fd: std::os::fd::BorrowedFd<'_>,
        path_only: bool,
        volume: usize,
    ) -> Result<Option<FileId>, Errno> {
        let root = &self.ground.volumes[volume].root;
        let stat = rustix::fs::fstat(fd)?;
        let device = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        if device != root.device() {
            return Ok(None);
        }
        let local = file_id_of(root, fd)?;
        if let Some(id) = read_id(Target { fd, path_only }) {
            self.map.insert(Slot::new(id, local, stat.st_mode));
        }
        Ok(Some(local))
    }
}
