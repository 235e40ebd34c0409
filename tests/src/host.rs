//! Test hosts: network namespaces with an address each, joined by a pair of virtual network cards, and an own ext4
//! image with a journal as their disk. Where the kernel permits neither, loopback addresses and plain directories.

use std::fs;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cutdisk::{Cut, CutDisk};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{run, until, words};
use crate::node::PORT;
use crate::rng::Rng;
use crate::run::{MARK, Run, kill_marked, marked, mounts_beneath, signal};

/// The kernel's own writing of inode tables would disturb what is measured.
const MOUNT_OPTIONS: &str = "noatime,noinit_itable";
const MKFS: &[&str] = &["-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,discard"];

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
    // Goes before the run's directory does.
    power: Option<Arc<Mutex<Power>>>,
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
    /// Can its power be cut? Everything written costs twice then.
    pub can_lose_power: bool,
}

impl Default for Disk {
    fn default() -> Self {
        Disk { image_mib: 4096, mkfs: &[], can_lose_power: false }
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
        Hosts::with_disks(disk, disk)
    }

    /// Two hosts with a disk of its own kind each.
    ///
    /// # Errors
    /// As [`Hosts::new`].
    pub fn with_disks(paris_disk: Disk, lyon_disk: Disk) -> Result<Hosts> {
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
        let mut paris =
            Host::new(&run, "paris", if paris_net.is_some() { "10.77.0.1" } else { "127.77.0.1" }, paris_net)?;
        let mut lyon = Host::new(&run, "lyon", if lyon_net.is_some() { "10.77.0.2" } else { "127.77.0.2" }, lyon_net)?;
        for (host, disk) in [(&mut paris, paris_disk), (&mut lyon, lyon_disk)] {
            if let Err(why) = host.make_disk(disk) {
                let name = host.name;
                shortcomings.push(format!("{name} has no loop device of its own ({why:#}): a plain directory instead"));
                fs::create_dir_all(host.disk())?;
            }
        }
        Ok(Hosts { paris, lyon, shortcomings, run })
    }

    /// The usual two, and further ones without a disk of their own, all on two switches: `eth0` with addresses in
    /// 10.77.0.0/24 and `eth1` in 10.78.0.0/24, numbered from 1 in this order.
    ///
    /// # Errors
    /// Where a command fails, also because the machine permits no network namespaces.
    pub fn on_switches(others: &[&'static str]) -> Result<(Hosts, Vec<Host>)> {
        let run = Arc::new(Run::new()?);
        let names: Vec<_> = ["paris", "lyon"].iter().chain(others).copied().collect();
        let networks = join_by_switches(run.name(), &names)?;
        let host = |(at, (name, netns)): (usize, (&&'static str, String))| {
            Host::new(&run, name, &format!("10.77.0.{}", at + 1), Some(netns))
        };
        let mut made = names.iter().zip(networks).enumerate().map(host).collect::<Result<Vec<_>>>()?;
        let others = made.split_off(2);
        others.iter().try_for_each(|host| fs::create_dir_all(host.disk()))?;
        let [mut paris, mut lyon] = <[Host; 2]>::try_from(made).ok().context("two hosts were made")?;
        let mut shortcomings = Vec::new();
        for host in [&mut paris, &mut lyon] {
            if let Err(why) = host.make_disk(Disk::default()) {
                shortcomings.push(format!("{} has no loop device of its own ({why:#})", host.name));
                fs::create_dir_all(host.disk())?;
            }
        }
        Ok((Hosts { paris, lyon, shortcomings, run }, others))
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
        Ok(Host { name, address: address.into(), netns, dir, power: None, _run: run.clone() })
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

    /// Does some work on a thread in this host's network: sockets that it makes, and threads that it starts, belong there.
    ///
    /// # Errors
    /// Where the network cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let enter = || -> Result<()> {
            let Some(netns) = &self.netns else { return Ok(()) };
            let file = fs::File::open(Path::new("/run/netns").join(netns))?;
            Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
        };
        thread::scope(|scope| {
            let thread = scope.spawn(|| enter().map(|()| work()));
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
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

    /// Kills everything on it and cuts the power of its disk: what was not flushed is there afterwards only as far as the
    /// seed says. Then the disk is mounted again, and nothing runs.
    ///
    /// # Errors
    /// Where the disk is none that can lose power, or something outside of the host holds its mounts.
    pub fn lose_power(&self, seed: u64) -> Result<Cut> {
        self.kill_everything();
        let cut = self.cut_within_a_sync(&mut self.power()?.disk, seed)?;
        self.mend_disk()?;
        Ok(cut)
    }

    /// Its disk becomes read-only, as after an error of the medium, until [`Host::mend_disk`].
    ///
    /// # Errors
    /// Where the kernel does not do it.
    pub fn break_disk(&self) -> Result<()> {
        run(Command::new("mount").args(["-o", "remount,abort"]).arg(self.store())).map(drop)
    }

    /// Ends everything on it and mounts its disk anew.
    ///
    /// # Errors
    /// Where the disk is none that can lose power, or something outside of the host holds its mounts.
    pub fn mend_disk(&self) -> Result<()> {
        self.kill_everything();
        let mut power = self.power()?;
        power.unmount()?;
        power.disk.power_on()?;
        power.disk.mount(&self.store(), MOUNT_OPTIONS)?;
        self.bind_raw()
    }

    fn power(&self) -> Result<MutexGuard<'_, Power>> {
        let power = self.power.as_ref().context("this host's disk cannot lose power")?;
        Ok(power.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Most cuts come while much is on its way to the disk.
    fn cut_within_a_sync(&self, disk: &mut CutDisk, seed: u64) -> Result<Cut> {
        let mut rng = Rng::new(seed);
        if rng.one_in(4) {
            return disk.cut(seed);
        }
        let moment = disk.counts().writes + 1 + rng.below(40);
        let mut syncing = Command::new("sync").arg("-f").arg(self.store()).stderr(Stdio::null()).spawn()?;
        let deadline = Instant::now() + Duration::from_millis(50);
        while disk.counts().writes < moment && Instant::now() < deadline {
            thread::yield_now();
        }
        let cut = disk.cut(seed)?;
        syncing.wait()?;
        Ok(cut)
    }

    /// Takes its network card down or up: down, whatever is sent is lost.
    ///
    /// # Errors
    /// Where the host has no network of its own.
    pub fn link(&self, is_up: bool) -> Result<()> {
        self.card("eth0", is_up)
    }

    /// The same for that network card.
    ///
    /// # Errors
    /// As [`Host::link`].
    pub fn card(&self, card: &str, is_up: bool) -> Result<()> {
        let netns = self.netns.as_ref().context("this host has no network of its own")?;
        words(&format!("ip -n {netns} link set {card} {}", if is_up { "up" } else { "down" })).map(drop)
    }

    /// Pulls its cables out of both switches, or plugs them in: what runs on it goes on, and hears nobody.
    ///
    /// # Errors
    /// Where it is on no switches.
    pub fn plugged(&self, is_in: bool) -> Result<()> {
        let number = self.address.rsplit('.').next().unwrap_or_default();
        let turn = if is_in { "up" } else { "down" };
        ["p0", "p1"].iter().try_for_each(|port| {
            words(&format!("ip -n {}-switch link set {port}-{number} {turn}", self._run.name())).map(drop)
        })
    }

    /// Heartbeats from here to that host are lost on the way, or are no more; whatever else is sent arrives.
    ///
    /// # Errors
    /// Where the host has no network of its own.
    pub fn loses_heartbeats_to(&self, other: &Host, are_lost: bool) -> Result<()> {
        let netns = self.netns.as_ref().context("this host has no network of its own")?;
        let turn = if are_lost { "add" } else { "del" };
        [other.address.clone(), other.second_address()].iter().try_for_each(|to| {
            words(&format!("ip -n {netns} rule {turn} pref 1 to {to} ipproto udp dport {PORT} blackhole")).map(drop)
        })
    }

    /// Its address on the second switch.
    pub fn second_address(&self) -> String {
        self.address.replacen("10.77.", "10.78.", 1)
    }

    /// Does it have that address now?
    ///
    /// # Errors
    /// Where its addresses cannot be read.
    pub fn has_address(&self, address: &str) -> Result<bool> {
        Ok(run(self.command("ip").args(["-o", "addr", "show"]))?.contains(&format!(" {address}/")))
    }

    fn make_disk(&mut self, disk: Disk) -> Result<()> {
        let made = if disk.can_lose_power { self.make_cut_disk(disk) } else { self.make_plain_disk(disk) };
        made.inspect_err(|_| drop(fs::remove_dir(self.store())))?;
        let lost_and_found = self.store().join("lost+found");
        fs::remove_dir(lost_and_found)?;
        fs::create_dir(self.disk())?;
        fs::create_dir(self.dir.join("raw"))?;
        self.bind_raw()
    }

    fn make_plain_disk(&self, disk: Disk) -> Result<()> {
        let image = self.dir.join("disk.img");
        fs::File::create(&image)?.set_len(disk.image_mib << 20)?;
        fs::create_dir(self.store())?;
        let made = (|| {
            run(Command::new("mkfs.ext4").args(["-q", "-F"]).args(MKFS).args(disk.mkfs).arg(&image))?;
            let options = format!("loop,{MOUNT_OPTIONS}");
            run(Command::new("mount").args(["-o", &options]).arg(&image).arg(self.store()))
        })();
        made.map(drop).inspect_err(|_| drop(fs::remove_file(&image)))
    }

    fn make_cut_disk(&mut self, disk: Disk) -> Result<()> {
        fs::create_dir(self.store())?;
        let mut made = CutDisk::create(&self._run.dir().join(format!("{}-power", self.name)), disk.image_mib << 20)?;
        made.format("ext4", &[MKFS, disk.mkfs].concat())?;
        made.mount(&self.store(), MOUNT_OPTIONS)?;
        self.power = Some(Arc::new(Mutex::new(Power { host: self.dir.clone(), disk: made })));
        Ok(())
    }

    fn bind_raw(&self) -> Result<()> {
        let raw = self.dir.join("raw");
        run(Command::new("mount").arg("--bind").arg(self.store()).arg(&raw))?;
        run(Command::new("mount").arg("--make-private").arg(&raw)).map(drop)
    }
}

/// A disk that can lose power, with what has to go before it can.
struct Power {
    host: PathBuf,
    disk: CutDisk,
}

impl Power {
    /// Unmounts all mounts of the host; a lazy one would keep the dead file system alive.
    fn unmount(&self) -> Result<()> {
        until("the host's mounts go", Duration::from_secs(10), || {
            for mount in mounts_beneath(&self.host).iter().rev() {
                let _ = Command::new("umount").arg(mount).output();
            }
            Ok(mounts_beneath(&self.host).is_empty())
        })
        .with_context(|| format!("still mounted: {:?}", mounts_beneath(&self.host)))
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        kill_marked(&self.host);
        if let Err(e) = self.unmount() {
            eprintln!("{e:#}");
        }
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

/// Hosts on two switches, which are bridges in a namespace of their own.
fn join_by_switches(run: &str, names: &[&str]) -> Result<Vec<String>> {
    let switch = format!("{run}-switch");
    words(&format!("ip netns add {switch}"))?;
    for bridge in ["br0", "br1"] {
        words(&format!("ip -n {switch} link add {bridge} type bridge"))?;
        words(&format!("ip -n {switch} link set {bridge} up"))?;
    }
    (1..).zip(names).map(|(number, name)| plug_in(run, &switch, number, name)).collect()
}

fn plug_in(run: &str, switch: &str, number: usize, name: &str) -> Result<String> {
    let netns = format!("{run}-{name}");
    words(&format!("ip netns add {netns}"))?;
    words(&format!("ip -n {netns} link set lo up"))?;
    for (card, net) in [(0, "10.77.0"), (1, "10.78.0")] {
        let port = format!("p{card}-{number}");
        words(&format!("ip link add netns {netns} name eth{card} type veth peer name {port} netns {switch}"))?;
        words(&format!("ip -n {switch} link set {port} master br{card} up"))?;
        words(&format!("ip -n {netns} addr add {net}.{number}/24 dev eth{card}"))?;
        words(&format!("ip -n {netns} link set eth{card} up"))?;
    }
    Ok(netns)
}
