//! The mounts of a set, and what lies beneath them.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use stead_model::VolumeId;
use stead_model::handle::HandleShape;

use super::ServeError;
use crate::check::clear_dead;
use crate::control::{RootInfo, shape_number};
use crate::fuse::device;
use crate::root::Root;
use crate::{BeneathRoot, MountSpec, Order, Refusal, check, sys};

/// All mounts of a set. Dropped before they were handed over, they are undone.
pub struct Mounts {
    all: Vec<Mount>,
    keep: bool,
}

struct Mount {
    place: CString,
    /// A private copy of the mount beneath: without the mounts nested in it, and whatever is mounted over it.
    /// `None` where the kernel refuses to copy it.
    tree: Option<OwnedFd>,
    root: BeneathRoot,
    device: Option<OwnedFd>,
    /// Topmost nested mounts.
    nested: Vec<(CString, OwnedFd)>,
    flags: MountFlags,
}

impl Mounts {
    /// Opens everything that has to be open before something is mounted over it.
    pub fn prepare(spec: &MountSpec) -> Result<Mounts, ServeError> {
        let mut mounts = Mounts { all: Vec::new(), keep: false };
        for path in &spec.roots {
            clear_dead(path);
            let mount = Mount::prepare(path, &mounts.all)?;
            mounts.all.push(mount);
        }
        Ok(mounts)
    }

    /// Mounts, and shakes hands with the kernel.
    pub fn mount(&mut self, order: Order) -> Result<(), ServeError> {
        for mount in &mut self.all {
            let what = |what: &str| format!("{what} {}", mount.root.path.display());
            let device = device::open().map_err(|why| Refusal::NoFuse { why })?;
            device::mount(&device, &mount.place, mount.flags).map_err(ServeError::system(what("mounting over")))?;
            let raw = device.as_raw_fd();
            mount.device = Some(device);
            device::shake_hands(raw, order).map_err(ServeError::system(what("greeting the kernel for")))?;
        }
        Ok(())
    }

    /// Makes nested mounts visible again, on top of ours; what cannot be is named in the log.
    pub fn attach_nested(&mut self) {
        self.keep = true;
        for (place, tree) in self.all.iter().flat_map(|mount| &mount.nested) {
            if let Err(error) = sys::attach_mount(tree, place) {
                eprintln!("stead capture: {place:?} is hidden, it could not be mounted again: {error}");
            }
        }
    }

    /// Lets the kernel cache as many dirty pages as of a local file system: by default it holds FUSE short. Where it
    /// refuses, large writes are slower.
    pub fn loosen_write_back(&self) {
        for mount in &self.all {
            let Ok(stat) = rustix::fs::stat(&mount.root.path) else { continue };
            let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
            for (file, value) in [("strict_limit", "0"), ("max_ratio", "100")] {
                let _ = std::fs::write(format!("/sys/class/bdi/{major}:{minor}/{file}"), value);
            }
        }
    }

    /// Unmounts everything, or nothing.
    pub fn unmount(&mut self, lazy: bool) -> Result<(), (String, Errno)> {
        let detach = UnmountFlags::DETACH;
        for at in 0..self.all.len() {
            let mount = &mut self.all[at];
            mount.renew_nested();
            for (place, _) in &mount.nested {
                let _ = rustix::mount::unmount(place, detach);
            }
            let result = rustix::mount::unmount(&mount.place, if lazy { detach } else { UnmountFlags::empty() });
            if let Err(error) = result
                && error != Errno::INVAL
            // somebody else has unmounted it
            {
                for (place, tree) in &mount.nested {
                    let _ = sys::attach_mount(tree, place);
                }
                // A set is captured as a whole or not at all; what is gone cannot come back under open files.
                return if at == 0 {
                    Err((mount.root.path.display().to_string(), error))
                } else {
                    self.unmount_rest(at)
                };
            }
            for (place, tree) in &mount.nested {
                let _ = sys::attach_mount(tree, place);
            }
        }
        Ok(())
    }

    fn unmount_rest(&mut self, from: usize) -> Result<(), (String, Errno)> {
        for mount in &self.all[from..] {
            let _ = rustix::mount::unmount(&mount.place, UnmountFlags::DETACH);
        }
        Ok(())
    }

    /// Writes back what the kernel holds of all mounts.
    pub fn sync(&self) -> std::io::Result<()> {
        for mount in &self.all {
            let dir = rustix::fs::open(
                &mount.root.path,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            rustix::fs::syncfs(&dir)?;
        }
        Ok(())
    }

    /// The directories, as the server needs them.
    pub fn roots(&self) -> Vec<Root> {
        let root = |(index, mount): (usize, &Mount)| Root {
            index: index as u32,
            device: mount.device.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            beneath: mount.root.fd.as_raw_fd(),
            volume: mount.root.volume,
            id: mount.root.id,
            shape: mount.root.shape,
        };
        self.all.iter().enumerate().map(root).collect()
    }

    /// The directories, as the daemon is told of them.
    pub fn infos(&self) -> Vec<RootInfo> {
        let info = |mount: &Mount| RootInfo {
            path: mount.root.path.as_os_str().as_bytes().into(),
            volume: mount.root.volume,
            id: mount.root.id,
            shape: shape_number(mount.root.shape),
            volume_id: mount.root.volume_id.clone(),
        };
        self.all.iter().map(info).collect()
    }

    /// Numbers of all descriptors that belong to the mounts.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.all.iter().flat_map(|mount| {
            let trees = mount.tree.iter().chain(&mount.device).chain(mount.nested.iter().map(|(_, tree)| tree));
            trees.chain([&mount.root.fd]).map(AsRawFd::as_raw_fd)
        })
    }

    /// Descriptors of the directories beneath.
    pub fn beneath(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().map(|mount| mount.root.fd.as_fd())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for mount in self.all.iter().filter(|mount| mount.device.is_some() && !self.keep) {
            let _ = rustix::mount::unmount(&mount.place, UnmountFlags::DETACH);
        }
    }
}

impl Mount {
    fn prepare(path: &Path, others: &[Mount]) -> Result<Mount, ServeError> {
        let checked = check(path)?;
        let place = c_string(&checked.path);
        let tree = sys::clone_mount(libc::AT_FDCWD, &place, false).ok();
        let root = open_root(&checked.path, tree.as_ref(), &checked.fs_type, others.iter().map(|mount| &mount.root))?;
        let mut nested: Vec<(CString, OwnedFd)> = Vec::new();
        for point in topmost(&checked.nested) {
            let place = c_string(point);
            match sys::clone_mount(libc::AT_FDCWD, &place, true) {
                Ok(tree) => nested.push((place, tree)),
                Err(error) => eprintln!("stead capture: {place:?} will be hidden: {error}"),
            }
        }
        let flags = mount_flags(&root.fd);
        Ok(Mount { place, tree, root, device: None, nested, flags })
    }

    /// Copies nested mounts anew: what was mounted meanwhile goes along.
    fn renew_nested(&mut self) {
        for (place, tree) in &mut self.nested {
            if let Ok(fresh) = sys::clone_mount(libc::AT_FDCWD, place, true) {
                *tree = fresh;
            }
        }
    }
}

/// Opens a directory that is not mounted over.
pub fn open_beneath<'a>(
    path: &Path,
    others: impl Iterator<Item = &'a BeneathRoot> + Clone,
) -> Result<BeneathRoot, ServeError> {
    open_root(path, None, "", others)
}

fn open_root<'a>(
    path: &Path,
    tree: Option<&OwnedFd>,
    fs_type: &str,
    others: impl Iterator<Item = &'a BeneathRoot> + Clone,
) -> Result<BeneathRoot, ServeError> {
    let fail = |what: &str| format!("{what} {}", path.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match tree {
        Some(tree) => rustix::fs::openat(tree, c".", flags, Mode::empty()),
        None => rustix::fs::open(path, flags, Mode::empty()),
    };
    let fd = opened.map_err(ServeError::system(fail("opening")))?;
    let no_handles = || Refusal::NoHandles { path: path.into(), fs_type: fs_type.into() };
    let handle = sys::handle_at(fd.as_raw_fd(), c"").map_err(|_| no_handles())?;
    let bytes = &handle.bytes[..handle.len];
    let shape = HandleShape::of(handle.kind, bytes).ok_or_else(no_handles)?;
    let volume_id = volume_id(&fd, shape);
    let known = others.clone().find(|other| other.volume_id == volume_id).map(|other| other.volume);
    let volume = known.unwrap_or_else(|| others.map(|other| other.volume + 1).max().unwrap_or(0));
    let id = shape.file(handle.kind, bytes, volume).ok_or_else(no_handles)?;
    Ok(BeneathRoot { path: path.into(), fd, volume, id, shape, volume_id })
}

fn topmost(points: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    points.iter().filter(|point| !points.iter().any(|other| other != *point && point.starts_with(other)))
}

fn c_string(path: &Path) -> CString {
    // A canonical path holds no NUL.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// The flags that the mount beneath has and that an application can notice.
fn mount_flags(beneath: &OwnedFd) -> MountFlags {
    use rustix::fs::StatVfsMountFlags as Has;
    let has = rustix::fs::fstatvfs(beneath).map_or(Has::empty(), |stat| stat.f_flag);
    let mut flags = MountFlags::empty();
    let pairs = [
        (Has::NOSUID, MountFlags::NOSUID),
        (Has::NODEV, MountFlags::NODEV),
        (Has::NOEXEC, MountFlags::NOEXEC),
        (Has::RDONLY, MountFlags::RDONLY),
        (Has::SYNCHRONOUS, MountFlags::SYNCHRONOUS),
    ];
    for (bit, flag) in pairs {
        if has.contains(bit) {
            flags |= flag;
        }
    }
    flags
}

fn volume_id(beneath: &OwnedFd, shape: HandleShape) -> VolumeId {
    const GETFSUUID: u32 = 0x8011_1500;
    let subvolume = if let HandleShape::Btrfs { root } = shape { root } else { 0 };
    let mut uuid = [0; 16];
    let mut answer = [0; 17];
    if sys::ioctl(beneath.as_raw_fd(), GETFSUUID, &mut answer).is_ok() && answer[0] == 16 {
        uuid.copy_from_slice(&answer[1..]);
    } else if let Ok(stat) = rustix::fs::fstatvfs(beneath) {
        // Unique among the mounted ones, which is all that the set's table of volumes needs.
        uuid[..8].copy_from_slice(&stat.f_fsid.to_le_bytes());
        uuid[8..].copy_from_slice(b"no-uuid:");
    }
    VolumeId { uuid, subvolume }
}
