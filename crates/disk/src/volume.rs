//! Volumes: an open directory on the original mount, from which every file of its file system is reached by file id,
//! also while another file system (FUSE, a read-only bind) lies over its path.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use stead_model::handle::HandleShape;
use stead_model::{FileId, VolumeId};

use crate::{DiskError, sys};

/// How often a file is tried to be opened whose inode is being made anew.
const BUSY_TRIES: u32 = 100;

/// An open directory whose file system gives handles of a known shape.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    shape: HandleShape,
    volume: u32,
    id: FileId,
    volume_id: VolumeId,
    device: (u32, u32),
}

impl Root {
    /// Opens the directory at `path`. `volume` is the index of its file system in the set's table of volumes.
    ///
    /// # Errors
    /// Where it is no directory, or its file system has no file handles that tell reused inode numbers apart.
    pub fn open(path: &Path, volume: u32) -> Result<Root, DiskError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags | OFlags::NOATIME, Mode::empty())
            .or_else(|_| rustix::fs::openat(CWD, path, flags, Mode::empty()))
            .map_err(DiskError::at("open directory", path.display()))?;
        Root::from_fd(fd, volume)
    }

    /// Takes a directory that is already open for reading (not O_PATH).
    ///
    /// # Errors
    /// As [`Root::open`].
    pub fn from_fd(fd: OwnedFd, volume: u32) -> Result<Root, DiskError> {
        let handle =
            sys::name_to_handle(fd.as_fd(), c"").map_err(DiskError::at("get the file handle of", "the root"))?;
        let bytes = &handle.bytes[..handle.len];
        let shape = HandleShape::of(handle.kind, bytes)
            .ok_or_else(|| DiskError::new("use the file handles of", "this file system", Errno::NOTSUP))?;
        let id = shape.file(handle.kind, bytes, volume).expect("a handle of its own shape");
        let stat = rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
            .map_err(DiskError::at("stat", "the root"))?;
        let volume_id = volume_id(fd.as_fd(), shape)?;
        Ok(Root { fd, shape, volume, id, volume_id, device: (stat.stx_dev_major, stat.stx_dev_minor) })
    }

    /// The same directory on a mount of its own that touches no access times (reading a symlink would); as it is where
    /// the kernel gives no such mount.
    #[must_use]
    pub fn quiet(mut self) -> Root {
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let quiet = rustix::mount::open_tree(&self.fd, c"", clone).and_then(|tree| {
            sys::mount_quiet(tree.as_fd())?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOATIME;
            rustix::fs::openat(&tree, c".", flags, Mode::empty())
        });
        if let Ok(fd) = quiet {
            self.fd = fd;
        }
        self
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How its file system writes handles.
    pub fn shape(&self) -> HandleShape {
        self.shape
    }

    /// Index of its file system in the set's table of volumes.
    pub fn volume(&self) -> u32 {
        self.volume
    }

    /// The directory's own file id.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Which file system it is on.
    pub fn volume_id(&self) -> &VolumeId {
        &self.volume_id
    }

    /// Major and minor number of its device: entries with others belong to another volume.
    pub fn device(&self) -> (u32, u32) {
        self.device
    }
}

/// File id of `name` in the directory `dir` of `root`'s file system; `None` where there is no such name.
///
/// # Errors
/// What the kernel said; EXDEV where the name leads to another kind of file system.
pub fn file_id_at(root: &Root, dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Option<FileId>> {
    match sys::name_to_handle(dir, name) {
        Ok(handle) => {
            let file = root.shape.file(handle.kind, &handle.bytes[..handle.len], root.volume);
            file.map(Some).ok_or(Errno::XDEV)
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// File id of an open file of `root`'s file system.
///
/// # Errors
/// As [`file_id_at`].
pub fn file_id_of(root: &Root, fd: BorrowedFd<'_>) -> rustix::io::Result<FileId> {
    file_id_at(root, fd, c"")?.ok_or(Errno::NOENT)
}

/// Opens a file by its id; `None` where it is gone. The descriptor is close-on-exec.
///
/// # Errors
/// What the kernel said.
pub fn open_by_id(root: &Root, file: FileId, flags: OFlags) -> rustix::io::Result<Option<OwnedFd>> {
    let handle = root.shape.handle(file);
    for _ in 0..BUSY_TRIES {
        match sys::open_by_handle(root.fd(), &handle, flags.bits() as i32) {
            Ok(fd) => return Ok(Some(fd)),
            Err(Errno::STALE | Errno::NOENT) => return Ok(None),
            // The inode's number is being given to a new file at this moment: the kernel says so.
            Err(Errno::NOMEM) => std::thread::yield_now(),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::NOMEM)
}

fn volume_id(fd: BorrowedFd<'_>, shape: HandleShape) -> Result<VolumeId, DiskError> {
    let subvolume = match shape {
        HandleShape::Btrfs { root } => root,
        _ => 0,
    };
    let uuid = match sys::fs_uuid(fd) {
        // Some file systems (tmpfs) have a UUID of zeros.
        Ok(uuid) if uuid != [0; 16] => uuid,
        _ => fs_number(fd).map_err(DiskError::at("stat the file system of", "the root"))?,
    };
    Ok(VolumeId { uuid, subvolume })
}

/// `f_fsid` twelve bytes after the file system's magic number: derived from the UUID on ext4, xfs and btrfs.
fn fs_number(fd: BorrowedFd<'_>) -> rustix::io::Result<[u8; 16]> {
    let vfs = rustix::fs::fstatvfs(fd)?;
    let magic = rustix::fs::fstatfs(fd)?.f_type as u64;
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&magic.to_le_bytes());
    uuid[8..].copy_from_slice(&vfs.f_fsid.to_le_bytes());
    Ok(uuid)
}
