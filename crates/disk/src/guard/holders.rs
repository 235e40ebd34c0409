//! Who holds a directory: found in /proc.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::DiskError;

/// A process that holds something beneath a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its command, as /proc/PID/comm has it.
    pub command: String,
    /// The systemd unit that it belongs to, where there is one.
    pub unit: Option<String>,
    /// How it holds it.
    pub what: Hold,
    /// What it holds.
    pub path: PathBuf,
}

/// How something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// An open descriptor.
    Descriptor {
        /// Was it opened for writing?
        writable: bool,
    },
    /// A working directory or root directory.
    WorkingDirectory,
    /// A mapped file.
    Mapping {
        /// Shared and writable: stores reach the file.
        writable: bool,
    },
    /// Something is mounted there, in the process's view of the mounts.
    Mount,
}

/// Everyone who holds something beneath `path`, except this process. A process that ends meanwhile is left out.
///
/// # Errors
/// Where `path` or /proc cannot be read.
pub fn holders(path: &Path) -> Result<Vec<Holder>, DiskError> {
    let path = path.canonicalize().map_err(DiskError::at("resolve", path.display()))?;
    let device = std::fs::metadata(&path).map_err(DiskError::at("stat", path.display()))?.dev();
    let mut search = Search { path, device, views: HashSet::new(), found: Vec::new() };
    let processes = std::fs::read_dir("/proc").map_err(DiskError::at("list", "/proc"))?;
    for process in processes.flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if let Some(pid) = pid.filter(|pid| *pid != std::process::id()) {
            search.process(pid, &process.path());
        }
    }
    Ok(search.found)
}

struct Search {
    path: PathBuf,
    device: u64,
    /// Views of the mounts that were looked at.
    views: HashSet<PathBuf>,
    found: Vec<Holder>,
}

impl Search {
    fn process(&mut self, pid: u32, proc: &Path) {
        let before = self.found.len();
        self.descriptors(pid, proc);
        for place in ["cwd", "root"] {
            if let Some(path) = self.beneath(&proc.join(place)) {
                self.add(pid, Hold::WorkingDirectory, path);
            }
        }
        self.mappings(pid, proc);
        self.mounts(pid, proc);
        let (command, unit) = (command(proc), unit(proc));
        for holder in &mut self.found[before..] {
            (holder.command, holder.unit) = (command.clone(), unit.clone());
        }
    }

    fn descriptors(&mut self, pid: u32, proc: &Path) {
        let Ok(descriptors) = std::fs::read_dir(proc.join("fd")) else { return };
        for descriptor in descriptors.flatten() {
            let Some(path) = self.beneath(&descriptor.path()) else { continue };
            let info = std::fs::read_to_string(proc.join("fdinfo").join(descriptor.file_name())).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
            let path_only = flags & libc::O_PATH as u32 != 0;
            let writable = !path_only && flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32;
            self.add(pid, Hold::Descriptor { writable }, path);
        }
    }

    fn mappings(&mut self, pid: u32, proc: &Path) {
        let Ok(maps) = std::fs::read(proc.join("maps")) else { return };
        let mut seen = HashSet::new();
        for line in maps.split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let mut fields = line.split_ascii_whitespace();
            let (Some(_), Some(access), Some(_), Some(_), Some(_)) =
                (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Some(at) = line.find('/') else { continue };
            let path = PathBuf::from(&line[at..]);
            let writable = access.contains('w') && access.contains('s');
            if path.starts_with(&self.path) && seen.insert((path.clone(), writable)) {
                self.add(pid, Hold::Mapping { writable }, path);
            }
        }
    }

    /// Mounts in views other than this process's own, each view once.
    fn mounts(&mut self, pid: u32, proc: &Path) {
        let Ok(view) = std::fs::read_link(proc.join("ns/mnt")) else { return };
        let own = std::fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
        if view == own || !self.views.insert(view) {
            return;
        }
        let Ok(table) = std::fs::read(proc.join("mountinfo")) else { return };
        let mounts: Vec<_> = table.split(|byte| *byte == b'\n').filter_map(crate::mounts::parse).collect();
        for mount in mounts {
            if mount.point.starts_with(&self.path) {
                self.add(pid, Hold::Mount, mount.point);
            }
        }
    }

    /// Where the link leads, if that is beneath the directory and on its device.
    fn beneath(&self, link: &Path) -> Option<PathBuf> {
        let target = std::fs::read_link(link).ok().filter(|target| target.starts_with(&self.path))?;
        // Under a guard or another mount the same path may mean another file system.
        std::fs::metadata(link).ok().filter(|meta| meta.dev() == self.device || meta.is_dir())?;
        Some(target)
    }

    fn add(&mut self, pid: u32, what: Hold, path: PathBuf) {
        self.found.push(Holder { pid, command: String::new(), unit: None, what, path });
    }
}

fn command(proc: &Path) -> String {
    std::fs::read_to_string(proc.join("comm")).unwrap_or_default().trim_end().to_owned()
}

/// The innermost systemd unit in its control group.
fn unit(proc: &Path) -> Option<String> {
    let groups = std::fs::read_to_string(proc.join("cgroup")).ok()?;
    let suffixes = [".service", ".scope", ".socket"];
    let is_unit = |part: &&str| suffixes.iter().any(|suffix| part.ends_with(suffix));
    groups.lines().find_map(|line| line.rsplit('/').find(is_unit).map(str::to_owned))
}
