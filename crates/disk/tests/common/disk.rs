//! File systems on loop devices, unmounted when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A directory on a file system of its own, or on the one of the temporary directory.
pub struct Disk {
    pub path: PathBuf,
    pub image: PathBuf,
    mounted: bool,
    _dir: TempDir,
}

impl Disk {
    /// A plain directory.
    pub fn plain() -> Disk {
        let dir = tempfile::tempdir().unwrap();
        Disk { path: dir.path().join("d"), image: PathBuf::new(), mounted: false, _dir: dir }.made()
    }

    /// A new file system of that kind; `None` where its tools or the kernel lack it.
    pub fn of(kind: &str, megabytes: u64) -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let disk = Disk { path: dir.path().join("d"), image, mounted: false, _dir: dir }.made();
        if kind == "tmpfs" {
            let size = format!("size={}", if megabytes == 0 { "50%".into() } else { format!("{megabytes}m") });
            return disk.mount(&["-t", "tmpfs", "-o", &size, "none"]);
        }
        Disk::mounted_with(kind, megabytes, "rw")
    }

    /// As [`Disk::of`], with an option of mount.
    pub fn mounted_with(kind: &str, megabytes: u64, option: &str) -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let disk = Disk { path: dir.path().join("d"), image, mounted: false, _dir: dir }.made();
        std::fs::File::create(&disk.image).unwrap().set_len(megabytes << 20).unwrap();
        let force = if kind == "ext4" { "-Fq" } else { "-fq" };
        run(Command::new(format!("mkfs.{kind}")).arg(force).arg(&disk.image))?;
        disk.mount_image(option)
    }

    /// Another file system, from the image as it is now: what a power cut would leave.
    pub fn crashed(&self) -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        run(Command::new("cp").arg("--sparse=always").arg(&self.image).arg(&image)).unwrap();
        let disk = Disk { path: dir.path().join("d"), image, mounted: false, _dir: dir }.made();
        disk.mount_image("rw").expect("the file system recovers")
    }

    fn mount_image(self, option: &str) -> Option<Disk> {
        let image = self.image.clone();
        let options = if self.image_is("xfs") { "loop,nouuid," } else { "loop," };
        self.mount(&["-o", &format!("{options}{option}"), image.to_str().unwrap()])
    }

    fn image_is(&self, kind: &str) -> bool {
        let out = Command::new("blkid").args(["-o", "value", "-s", "TYPE"]).arg(&self.image).output();
        out.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).trim() == kind)
    }

    fn made(self) -> Disk {
        std::fs::create_dir_all(&self.path).unwrap();
        self
    }

    fn mount(mut self, arguments: &[&str]) -> Option<Disk> {
        run(Command::new("mount").args(arguments).arg(&self.path))?;
        self.mounted = true;
        Some(self)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        } else {
            super::operations::unlock_tree(&self.path);
        }
    }
}

fn run(command: &mut Command) -> Option<()> {
    let out = command.output().ok()?;
    if !out.status.success() {
        eprintln!("{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    out.status.success().then_some(())
}

pub fn is_mounted(path: &Path) -> bool {
    stead_disk::check::is_mount_point(path).unwrap_or(false)
}
