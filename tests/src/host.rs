//! Test hosts: network namespaces with an address each, joined by a pair of virtual network cards, and an own ext4
//! image with a journal as their disk. Where the kernel permits neither, loopback addresses and plain directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::command::{run, words};
use crate::run::{MARK, Run, kill_marked, marked, signal};

/// Two hosts that can reach each other.
pub struct Hosts {
    /// Usually the source.
    pub paris: Host,
    /// Usually the target.
    pub lyon: Host,
    /// What the machine did not permit, for a person; empty where all is as it should be.
    pub shortcomings: Vec<String>,
    // Dropped last: it removes what the hosts are made of.
    run: Arc<Run>,
}

/// One test host.
#[derive(Clone)]
pub struct Host {
    name: &'static str,
    address: String,
    netns: Option<String>,
    dir: PathBuf,
    // Keeps what the host is made of for as long as anything uses it.
    _run: Arc<Run>,
}

/// How the hosts' disks are made.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Size of each host's sparse image; it is filled only as far as it is used.
    pub image_mib: u64,
    /// More options of mkfs.ext4.
    pub mkfs: &'static [&'static str],
}

impl Default for Disk {
    fn default() -> Self {
        Disk { image_mib: 4096, mkfs: &[] }
    }
}

impl Hosts {
    /// Two hosts with the usual disks.
    ///
    /// # Errors
    /// Where a command fails; what was made until then is removed.
    pub fn new() -> Result<Hosts> {
        Hosts::with(Disk::default())
    }

    /// Two hosts with disks of that kind.
    ///
    /// # Errors
    /// As [`Hosts::new`].
    pub fn with(disk: Disk) -> Result<Hosts> {
        let run = Arc::new(Run::new()?);
        let mut shortcomings = Vec::new();
        let netns = match join_namespaces(run.name()) {
            Ok(names) => names.map(Some),
            Err(why) => {
                shortcomings.push(format!("network namespaces are not permitted here ({why:#}): loopback instead"));
                [None, None]
            }
        };
        let [paris_net, lyon_net] = netns;
        let paris = Host::new(&run, "paris", if paris_net.is_some() { "10.77.0.1" } else { "127.77.0.1" }, paris_net)?;
        let lyon = Host::new(&run, "lyon", if lyon_net.is_some() { "10.77.0.2" } else { "127.77.0.2" }, lyon_net)?;
        for host in [&paris, &lyon] {
            if let Err(why) = host.make_disk(disk) {
                let name = host.name;
                shortcomings.push(format!("{name} has no loop device of its own ({why:#}): a plain directory instead"));
                fs::create_dir_all(host.disk())?;
            }
        }
        Ok(Hosts { paris, lyon, shortcomings, run })
    }

    /// The run that the hosts belong to.
    pub fn run(&self) -> &Run {
        &self.run
    }
}

impl Host {
    fn new(run: &Arc<Run>, name: &'static str, address: &str, netns: Option<String>) -> Result<Host> {
        let dir = run.dir().join(name);
        fs::create_dir(&dir)?;
        Ok(Host { name, address: address.into(), netns, dir, _run: run.clone() })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Has it a network of its own?
    pub fn has_network(&self) -> bool {
        self.netns.is_some()
    }

    /// Directory of the host on this machine, for logs and what belongs to neither disk nor state.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Directory for the state of its daemons: on the same file system as its disk, so that hosts do not share a journal.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Its disk: an ext4 file system, mounted without atime so that comparisons read without changing anything.
    pub fn disk(&self) -> PathBuf {
        self.store().join("disk")
    }

    /// Its disk seen past whatever is mounted over directories in it: the files beneath a protected directory.
    pub fn raw(&self) -> PathBuf {
        let raw = self.dir.join("raw/disk");
        if raw.exists() { raw } else { self.disk() }
    }

    /// A path on the disk as it is seen in [`Host::raw`].
    pub fn beneath(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.disk()).map(|rest| self.raw().join(rest)).unwrap_or_else(|_| path.into())
    }

    /// A command that runs on this host, marked as the host's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match &self.netns {
            // `ip netns exec` would give it a mount namespace of its own.
            Some(netns) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{netns}")).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env(MARK, &self.dir);
        command
    }

    /// Kills everything that runs on it, at once.
    pub fn kill_everything(&self) {
        kill_marked(&self.dir);
    }

    /// Pids of everything that runs on it.
    pub fn pids(&self) -> Vec<i32> {
        marked(&self.dir)
    }

    /// Sends a signal to everything that runs on it.
    pub fn signal(&self, what: Signal) {
        for pid in self.pids() {
            signal(pid, what);
        }
    }

    /// Bytes and packets that left and reached its network card, as /proc/net/dev counts them. On loopback, all of it.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub fn traffic(&self) -> Result<Traffic> {
        let table = run(self.command("cat").arg("/proc/net/dev"))?;
        let card = if self.netns.is_some() { "eth0:" } else { "lo:" };
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(card)).context("no such card")?;
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let at = |i: usize| fields.get(i).copied().unwrap_or(0);
        Ok(Traffic { received: at(0), sent: at(8), packets_received: at(1), packets_sent: at(9) })
    }

    fn make_disk(&self, disk: Disk) -> Result<()> {
        let image = self.dir.join("disk.img");
        fs::File::create(&image)?.set_len(disk.image_mib << 20)?;
        let lazy = "lazy_itable_init=1,lazy_journal_init=1,discard";
        let mut mkfs = Command::new("mkfs.ext4");
        run(mkfs.args(["-q", "-F", "-m", "0", "-E", lazy]).args(disk.mkfs).arg(&image))?;
        let (mounted, raw) = (self.store(), self.dir.join("raw"));
        fs::create_dir(&mounted)?;
        // The kernel's own writing of inode tables would disturb what is measured.
        let mount = run(Command::new("mount").args(["-o", "loop,noatime,noinit_itable"]).arg(&image).arg(&mounted));
        if let Err(e) = mount {
            fs::remove_dir(&mounted)?;
            fs::remove_file(&image)?;
            return Err(e);
        }
        fs::remove_dir(mounted.join("lost+found"))?;
        fs::create_dir(self.disk())?;
        fs::create_dir(&raw)?;
        run(Command::new("mount").arg("--bind").arg(&mounted).arg(&raw))?;
        run(Command::new("mount").arg("--make-private").arg(&raw))?;
        Ok(())
    }
}

/// What a network card counted.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "bytes and packets in each direction")]
pub struct Traffic {
    pub received: u64,
    pub sent: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
}

impl Traffic {
    /// What was counted since `earlier`.
    pub fn since(self, earlier: Traffic) -> Traffic {
        Traffic {
            received: self.received - earlier.received,
            sent: self.sent - earlier.sent,
            packets_received: self.packets_received - earlier.packets_received,
            packets_sent: self.packets_sent - earlier.packets_sent,
        }
    }
}

fn join_namespaces(run: &str) -> Result<[String; 2]> {
    let [paris, lyon] = [format!("{run}-paris"), format!("{run}-lyon")];
    for netns in [&paris, &lyon] {
        words(&format!("ip netns add {netns}"))?;
        words(&format!("ip -n {netns} link set lo up"))?;
        // Without it the cards' own IPv6 chatter is counted as traffic.
        let _ = words(&format!("nsenter --net=/run/netns/{netns} sysctl -qw net.ipv6.conf.all.disable_ipv6=1"));
        let _ = words(&format!("nsenter --net=/run/netns/{netns} sysctl -qw net.ipv6.conf.default.disable_ipv6=1"));
    }
    words(&format!("ip link add netns {paris} name eth0 type veth peer name eth0 netns {lyon}"))?;
    for (netns, address) in [(&paris, "10.77.0.1/24"), (&lyon, "10.77.0.2/24")] {
        words(&format!("ip -n {netns} addr add {address} dev eth0"))?;
        words(&format!("ip -n {netns} link set eth0 up"))?;
    }
    Ok([paris, lyon])
}
