//! Hosts of a test: network namespaces without names, joined by a bridge. They end with the test's process, however it ends.
#![allow(dead_code, reason = "each test uses a part")]

pub mod systemd;

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use stead_resource::Mac;
use stead_resource::reference::{Presence, Reference, Way};

/// Long enough for anything that a test waits for.
pub const LONG: Duration = Duration::from_secs(10);

/// A network namespace, held by a process that ends when this one does.
pub struct Host {
    name: &'static str,
    space: File,
    holder: Child,
}

impl Host {
    /// A host without a network card.
    pub fn new(name: &'static str) -> Host {
        // It waits for its standard input to end.
        let mut holder = Command::new("unshare");
        holder.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let holder = holder.spawn().expect("this test needs root and util-linux");
        let path = format!("/proc/{}/ns/net", holder.id());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        wait_for("the namespace", || std::fs::read_link(&path).is_ok_and(|space| space != own));
        let host = Host { name, space: File::open(path).unwrap(), holder };
        host.ip("link set lo up");
        host
    }

    /// Does some work on a thread in this host's network.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// A command line, split at blanks, that must succeed; returns what it printed.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        let output = self.inside(|| command.args(words).output().unwrap());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line} on {}: {errors}", self.name);
        String::from_utf8(output.stdout).unwrap()
    }

    /// As [`Host::run`], of `ip`.
    pub fn ip(&self, line: &str) -> String {
        self.run(&format!("ip {line}"))
    }

    /// Sets a kernel parameter of its network.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/{name}");
        self.inside(|| std::fs::write(path, value).unwrap());
    }

    /// Hardware address of its network card.
    pub fn mac(&self) -> Mac {
        let text = self.ip("-o link show dev eth0");
        text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().parse().unwrap()
    }

    /// Its addresses and routes, as `ip` shows them to a person.
    pub fn tables(&self) -> String {
        let mut text = self.ip("-d addr show dev eth0");
        for family in ["-4", "-6"] {
            text += &self.ip(&format!("{family} route show table all dev eth0"));
        }
        text
    }

    /// Whom its neighbour cache has for an address.
    pub fn neighbour(&self, address: &str) -> Option<Mac> {
        let text = self.ip(&format!("neigh show {address}"));
        text.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).and_then(|mac| mac.parse().ok())
    }

    /// Does the address answer it within a second?
    pub fn reaches(&self, address: &str) -> bool {
        let gateway = Reference { address: address.parse().unwrap(), way: Way::Echo };
        self.inside(|| gateway.ask(Duration::from_secs(1))).value == Presence::Present
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.space.as_raw_fd())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Three hosts on a bridge: 10.9.0.1, .2 and .3 of /24, fd09::1, ::2 and ::3 of /64, on their `eth0`.
pub struct Net {
    /// Usually who holds the address first.
    pub paris: Host,
    /// Usually who takes it.
    pub lyon: Host,
    /// Who uses it.
    pub client: Host,
    /// The bridge.
    pub switch: Host,
}

impl Net {
    pub fn new() -> Net {
        let net = Net {
            paris: Host::new("paris"),
            lyon: Host::new("lyon"),
            client: Host::new("client"),
            switch: Host::new("switch"),
        };
        net.switch.ip("link add br0 type bridge mcast_snooping 0");
        net.switch.ip("link set br0 up");
        for (number, host) in [(1, &net.paris), (2, &net.lyon), (3, &net.client)] {
            net.plug_in(host, number);
        }
        net
    }

    fn plug_in(&self, host: &Host, number: u8) {
        let name = host.name;
        // No probes of the kernel's own, no chatter of routers: a test begins with what is there.
        for parameter in ["accept_dad", "accept_ra", "router_solicitations"] {
            for interface in ["all", "default"] {
                host.sysctl(&format!("ipv6/conf/{interface}/{parameter}"), "0");
            }
        }
        let peer = host.path();
        self.switch.ip(&format!("link add {name} master br0 type veth peer name eth0 netns {peer}"));
        self.switch.ip(&format!("link set {name} up"));
        host.ip(&format!("addr add 10.9.0.{number}/24 brd + dev eth0"));
        host.ip("link set eth0 up");
        host.ip(&format!("addr add fd09::{number}/64 dev eth0 nodad"));
        wait_for("the link", || host.ip("link show dev eth0").contains("LOWER_UP"));
        wait_for("its addresses", || {
            let tables = host.tables();
            !tables.contains("tentative") && tables.contains("multicast ff00::/8") && tables.contains("local fe80::")
        });
    }
}

/// Does the process run?
pub fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The processes that wrote their number into the file `pids`.
pub fn pids(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("pids")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Asks until the answer is yes.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
