//! Random work on one tree by several processes at once: all kinds of operations on few names, so that they collide.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags};

use crate::rng::Rng;
use crate::run::MARK;
use crate::sys;
use crate::tree::set_times;

const DIRS: u64 = 5;
const NAMES: u64 = 12;
const FILE_BYTES_MAX: u64 = 600_000;

/// A random workload: what it does follows from the seed, up to how its processes interleave.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Number that everything follows from.
    pub seed: u64,
    /// Processes at work at once.
    pub workers: u64,
    /// Operations of each.
    pub operations: u64,
}

impl Workload {
    /// Runs it to its end on a tree; `program` is the load's own executable.
    ///
    /// # Errors
    /// Where a worker fails by anything but an ordinary error of an operation.
    pub fn run(&self, program: &Path, root: &Path) -> Result<()> {
        let mut children = Vec::new();
        for worker in 0..self.workers {
            let mut command = Command::new(program);
            command.arg("load-random").arg(root).args([self.seed, worker, self.operations].map(|n| n.to_string()));
            // Found and ended with the run that the tree belongs to.
            command.env(MARK, root).stdin(Stdio::null());
            children.push(command.spawn().context("cannot start a worker")?);
        }
        for mut child in children {
            let status = child.wait()?;
            ensure!(status.success(), "a worker of seed {} ended with {status}", self.seed);
        }
        Ok(())
    }
}

/// One worker: the main function of its process. `args`: as [`Workload::run`] gives them.
///
/// # Errors
/// Where the tree is not usable.
pub fn main(args: &[String]) -> Result<()> {
    let [root, seed, worker, operations] = args else { bail!("usage: load-random ROOT SEED WORKER OPERATIONS") };
    let root = Path::new(root);
    ensure!(root.is_dir(), "{} is no directory", root.display());
    let (seed, worker): (u64, u64) = (seed.parse()?, worker.parse()?);
    let mut rng = Rng::new(seed.wrapping_mul(1_000_003).wrapping_add(worker));
    for _ in 0..operations.parse::<u64>()? {
        if let Err(e) = step(root, &mut rng) {
            check_ordinary(&e)?;
        }
    }
    Ok(())
}

/// Workers collide, so most errors are part of the game; those of a broken mount are not.
fn check_ordinary(error: &anyhow::Error) -> Result<()> {
    let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let code = io.or_else(|| error.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error()));
    let broken = [libc::EIO, libc::ENOTCONN, libc::ECONNABORTED, libc::EBADF, libc::ESTALE, libc::ENOSYS, libc::EPROTO];
    match code {
        Some(code) if broken.contains(&code) => bail!("an error that no bare file system gives: {error:#}"),
        _ => Ok(()),
    }
}

fn dir(root: &Path, rng: &mut Rng) -> PathBuf {
    match rng.below(DIRS + 2) {
        0 | 1 => root.into(),
        2 => root.join("dir-0/dir-1"),
        n => root.join(format!("dir-{}", n - 3)),
    }
}

fn name(root: &Path, rng: &mut Rng) -> PathBuf {
    dir(root, rng).join(format!("name-{}", rng.below(NAMES)))
}

fn any(root: &Path, rng: &mut Rng) -> PathBuf {
    if rng.one_in(6) { root.join(format!("dir-{}", rng.below(DIRS))) } else { name(root, rng) }
}

fn step(root: &Path, rng: &mut Rng) -> Result<()> {
    let path = name(root, rng);
    match rng.below(40) {
        0..=9 => write(&path, rng),
        10..=11 => append(&path, rng),
        12 => Ok(open(&path, File::options().write(true))?.set_len(rng.below(FILE_BYTES_MAX))?),
        13..=14 => Ok(fs::create_dir(dir(root, rng))?),
        15 => Ok(fs::create_dir(path)?),
        16..=17 => remove(&any(root, rng)),
        18 => Ok(fs::remove_dir(any(root, rng))?),
        19..=22 => Ok(fs::rename(any(root, rng), any(root, rng))?),
        23 => exchange(&any(root, rng), &any(root, rng)),
        24..=25 => Ok(fs::hard_link(path, name(root, rng))?),
        26 => Ok(symlink(format!("target-{}", rng.below(1000)), path)?),
        27 => node(&path, rng),
        28 => Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600 | rng.below(0o1000) as u32))?),
        29 => Ok(chown(path, Some(rng.below(5) as u32), Some(rng.below(5) as u32))?),
        30 => set_times(&path, rng.below(2_000_000_000) as i64, rng.below(1_000_000_000) as i64),
        31..=32 => xattr(&path, rng),
        33 => allocate(&path, rng),
        34..=35 => mapped(&path, rng),
        36 => tmpfile(root, &path, rng),
        37 => Ok(open(&path, File::options().read(true))?.sync_all()?),
        38 => replace(&path, rng),
        _ => copy(&path, &name(root, rng), rng),
    }
}

fn write(path: &Path, rng: &mut Rng) -> Result<()> {
    let file = open(path, File::options().read(true).write(true).create(true))?;
    for _ in 0..=rng.below(4) {
        let len = if rng.one_in(8) { 100_000 } else { 6_000 };
        let len = rng.below(len) as usize + 1;
        let bytes = rng.bytes(len);
        file.write_all_at(&bytes, rng.below(FILE_BYTES_MAX))?;
    }
    Ok(())
}

fn append(path: &Path, rng: &mut Rng) -> Result<()> {
    let mut file = open(path, File::options().append(true).create(true))?;
    let len = rng.below(3_000) as usize;
    Ok(std::io::Write::write_all(&mut file, &rng.bytes(len))?)
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() && !path.is_symlink() { Ok(fs::remove_dir_all(path)?) } else { Ok(fs::remove_file(path)?) }
}

fn exchange(a: &Path, b: &Path) -> Result<()> {
    Ok(rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

fn node(path: &Path, rng: &mut Rng) -> Result<()> {
    let (kind, dev) = *rng.pick(&[(FileType::Fifo, 0), (FileType::Socket, 0), (FileType::CharacterDevice, 0x103)]);
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o644), dev)?)
}

/// Opens without waiting for the other end of a FIFO.
fn open(path: &Path, options: &mut OpenOptions) -> Result<File> {
    Ok(options.custom_flags(libc::O_NONBLOCK).open(path)?)
}

fn is_plain(path: &Path) -> Result<()> {
    ensure!(fs::symlink_metadata(path)?.is_file(), "not a plain file");
    Ok(())
}

fn xattr(path: &Path, rng: &mut Rng) -> Result<()> {
    let name = format!("user.x{}", rng.below(4));
    if rng.one_in(4) {
        return Ok(rustix::fs::lremovexattr(path, &name)?);
    }
    let len = rng.below(200) as usize;
    Ok(rustix::fs::lsetxattr(path, &name, &rng.bytes(len), XattrFlags::empty())?)
}

fn allocate(path: &Path, rng: &mut Rng) -> Result<()> {
    is_plain(path)?;
    let file = open(path, File::options().write(true))?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let mode = *rng.pick(&[FallocateFlags::empty(), FallocateFlags::KEEP_SIZE, punch, FallocateFlags::ZERO_RANGE]);
    Ok(rustix::fs::fallocate(&file, mode, rng.below(FILE_BYTES_MAX), rng.below(100_000) + 1)?)
}

fn mapped(path: &Path, rng: &mut Rng) -> Result<()> {
    is_plain(path)?;
    let file = open(path, File::options().read(true))?;
    let len = file.metadata()?.len();
    ensure!(len > 0, "empty");
    let at = rng.below(len);
    let bytes = rng.bytes((len - at).min(5_000) as usize);
    // Another worker may cut the file off beneath a mapping, which kills a process: only names that it never cuts.
    ensure!(path.to_string_lossy().ends_with("-0"), "not a name for mappings");
    let private = File::create(path.with_extension(format!("map{}", std::process::id())))?;
    private.set_len(len)?;
    let private =
        File::options().read(true).write(true).open(path.with_extension(format!("map{}", std::process::id())))?;
    sys::store_mapped(&private, at as usize, &bytes, true, rng.one_in(2))
}

fn tmpfile(root: &Path, path: &Path, rng: &mut Rng) -> Result<()> {
    let dir = rustix::fs::open(dir(root, rng), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let file = rustix::fs::openat(&dir, c".", OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o600))?;
    let file = File::from(file);
    file.write_all_at(&rng.bytes(2_000), rng.below(10_000))?;
    let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok(rustix::fs::linkat(CWD, proc, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

fn replace(path: &Path, rng: &mut Rng) -> Result<()> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    fs::write(&temporary, rng.bytes(3_000))?;
    Ok(fs::rename(temporary, path)?)
}

fn copy(from: &Path, to: &Path, rng: &mut Rng) -> Result<()> {
    is_plain(from)?;
    let (from, to) = (File::open(from)?, open(to, File::options().write(true).create(true))?);
    let (mut at, mut into) = (rng.below(50_000), rng.below(50_000));
    rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut into), 40_000)?;
    Ok(())
}
