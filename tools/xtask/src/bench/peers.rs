//! The peers: rsync from a daemon, tar over a socket, lsyncd, libfuse's passthrough_ll.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stead_tests::command::{run, until};
use stead_tests::host::{Host, Hosts};

use crate::build;

const RSYNC_PORT: u16 = 8730;
const TAR_PORT: u16 = 8731;

/// A process that is ended when it is dropped.
pub struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an rsync daemon on lyon; its module `disk` is lyon's disk.
pub fn rsync_daemon(hosts: &Hosts) -> Result<Ended> {
    let conf = hosts.lyon.dir().join("rsyncd.conf");
    let path = hosts.lyon.disk();
    let module = format!("uid = 0\ngid = 0\nuse chroot = no\n[disk]\npath = {}\nread only = no\n", path.display());
    fs::write(&conf, module)?;
    let mut daemon = hosts.lyon.command("rsync");
    daemon.args(["--daemon", "--no-detach", &format!("--port={RSYNC_PORT}"), "--config"]).arg(&conf);
    let daemon = Ended(daemon.stdin(Stdio::null()).spawn()?);
    let probe = format!("rsync://{}:{RSYNC_PORT}/", hosts.lyon.address());
    until("the rsync daemon answers", Duration::from_secs(5), || {
        Ok(run(hosts.paris.command("rsync").arg(&probe)).is_ok())
    })?;
    Ok(daemon)
}

/// Copies a tree to a directory of lyon's disk through the rsync daemon.
pub fn rsync(hosts: &Hosts, source: &Path, name: &str) -> Result<()> {
    let to = format!("rsync://{}:{RSYNC_PORT}/disk/{name}/", hosts.lyon.address());
    let mut rsync = hosts.paris.command("rsync");
    run(rsync.args(["-aHAXS", "--delete"]).arg(format!("{}/", source.display())).arg(to)).map(drop)
}

/// Copies a tree with `tar -S` over a socket.
pub fn tar(hosts: &Hosts, source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let listen = format!("socat -u TCP-LISTEN:{TAR_PORT},reuseaddr - | tar -C \"$0\" -xpSf -");
    let mut receiver = hosts.lyon.command("sh").args(["-c", &listen]).arg(target).stdin(Stdio::null()).spawn()?;
    let port = format!(":{TAR_PORT:04X}");
    until("tar's receiver listens", Duration::from_secs(5), || {
        let sockets = run(hosts.lyon.command("cat").arg("/proc/net/tcp"))?;
        Ok(sockets.lines().any(|line| line.contains(&port) && line.contains(" 0A ")))
    })?;
    let send = format!("tar -C \"$0\" -cSf - . | socat -u - TCP:{}:{TAR_PORT}", hosts.lyon.address());
    run(hosts.paris.command("sh").args(["-c", &send]).arg(source))?;
    let status = receiver.wait()?;
    if !status.success() {
        bail!("tar's receiver ended with {status}");
    }
    Ok(())
}

/// Starts lsyncd with its shortest delay from a directory of paris to one of lyon's disk, and waits for its first copy.
pub fn lsyncd(hosts: &Hosts, source: &Path, name: &str) -> Result<Ended> {
    let conf = hosts.paris.dir().join("lsyncd.lua");
    let to = format!("rsync://{}:{RSYNC_PORT}/disk/{name}/", hosts.lyon.address());
    let from = source.display();
    fs::write(
        &conf,
        format!(
            "settings {{ nodaemon = true }}\nsync {{ default.rsync, source = \"{from}\", target = \"{to}\", delay = 0 }}\n"
        ),
    )?;
    fs::write(source.join("started"), "")?;
    let mut daemon = hosts.paris.command("lsyncd");
    daemon.arg("-nodaemon").arg(&conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let daemon = Ended(daemon.spawn().context("cannot start lsyncd")?);
    let there = hosts.lyon.disk().join(name).join("started");
    until("lsyncd's first copy", Duration::from_secs(60), || Ok(there.exists()))?;
    Ok(daemon)
}

/// Builds passthrough_ll from the example in Debian's package and serves `beneath` at `mount` with it.
pub fn passthrough(host: &Host, beneath: &Path, mount: &Path) -> Result<Ended> {
    let program = build_passthrough()?;
    fs::create_dir_all(mount)?;
    let mut server = host.command(program);
    server.arg("-f").arg("-o").arg(format!("source={},cache=always", beneath.display())).arg(mount);
    let server = Ended(server.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?);
    until("passthrough_ll serves", Duration::from_secs(5), || {
        Ok(stead_tests::run::mounts_beneath(mount).iter().any(|at| at == mount))
    })?;
    Ok(server)
}

fn build_passthrough() -> Result<PathBuf> {
    let examples = Path::new("/usr/share/doc/libfuse3-dev/examples");
    let dir = build::target()?.join("passthrough_ll");
    let program = dir.join("passthrough_ll");
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&dir)?;
    for file in ["passthrough_ll.c", "passthrough_helpers.h"] {
        let (plain, packed) = (examples.join(file), examples.join(format!("{file}.gz")));
        if plain.exists() {
            fs::copy(plain, dir.join(file))?;
        } else if packed.exists() {
            let unpacked = Command::new("gzip").arg("-dc").arg(packed).output()?;
            fs::write(dir.join(file), unpacked.stdout)?;
        } else {
            bail!("{file} is not in {}: this system installs packages without their documents", examples.display());
        }
    }
    let flags = run(Command::new("pkg-config").args(["--cflags", "--libs", "fuse3"]))?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-w", "-o"]).arg(&program).arg(dir.join("passthrough_ll.c"));
    run(gcc.args(flags.split_whitespace()))?;
    Ok(program)
}
