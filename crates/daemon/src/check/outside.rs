//! What the service of a group writes outside of every set: it would be missing where the service is taken over.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use stead_model::plan::{AddressPlan, GroupPlan};
use stead_resource::service::UnitName;

/// How long it is looked: a process that waits for a device or a FUSE server may hold whoever looks at it.
const LIMIT: Duration = Duration::from_secs(5);
/// Files that are named.
const SHOWN: usize = 8;
/// Nothing there is meant to outlive a boot.
const PASSING: [&str; 4] = ["/proc", "/dev", "/run", "/tmp"];
/// States in which a socket of the kernel's tables can be reached: TCP listens, UDP is bound.
const TABLES: [(&str, &str); 4] = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];

/// The regular files that the group's service has open for writing outside of all sets; `roots`: where the group's sets are
/// here, `all_roots`: where all sets are.
pub(super) fn finding(group: &GroupPlan, roots: &[PathBuf], all_roots: &[PathBuf]) -> Option<String> {
    let (sender, receiver) = sync_channel(1);
    let (group, roots, all_roots) = (group.clone(), roots.to_vec(), all_roots.to_vec());
    let look = move || drop(sender.send(look(&group, &roots, &all_roots)));
    let _ = thread::Builder::new().name("check-outside".into()).spawn(look);
    let unknown = "it is not known what the service writes outside of every set: its processes do not let themselves be looked at";
    receiver.recv_timeout(LIMIT).unwrap_or_else(|_| Some(unknown.into()))
}

fn look(group: &GroupPlan, roots: &[PathBuf], all_roots: &[PathBuf]) -> Option<String> {
    let serving = Serving::of(group, roots);
    let mut files = BTreeSet::new();
    let mut names = BTreeSet::new();
    for process in processes().iter().filter(|process| serving.is_one(process)) {
        let outside: Vec<_> = process.written().into_iter().filter(|file| is_outside(file, all_roots)).collect();
        if !outside.is_empty() {
            names.insert(process.name());
        }
        files.extend(outside);
    }
    told(&names, &files)
}

fn told(names: &BTreeSet<String>, files: &BTreeSet<PathBuf>) -> Option<String> {
    let mut shown: Vec<_> = files.iter().take(SHOWN).map(|file| file.display().to_string()).collect();
    if files.len() > SHOWN {
        shown.push(format!("and {} more", files.len() - SHOWN));
    }
    let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let remedy = "protect what a takeover needs of it";
    (!shown.is_empty())
        .then(|| format!("{names} has files open for writing outside of every set: {}; {remedy}", shown.join(", ")))
}

fn is_outside(file: &Path, roots: &[PathBuf]) -> bool {
    let is_beneath = |place: &Path| file.starts_with(place);
    !roots.iter().any(|root| is_beneath(root)) && !PASSING.iter().any(|place| is_beneath(Path::new(place)))
}

/// By what the processes of a service are known.
struct Serving {
    units: Vec<String>,
    /// Sockets at the group's addresses, where the service is commands.
    sockets: BTreeSet<u64>,
    roots: Vec<PathBuf>,
}

impl Serving {
    fn of(group: &GroupPlan, roots: &[PathBuf]) -> Serving {
        let of_services = group.services.iter().map(|service| service.unit.as_ref());
        let units: Vec<_> = of_services.chain(group.resources.iter().map(|resource| resource.unit.as_ref())).collect();
        let has_commands = units.iter().any(Option::is_none);
        let units = units.into_iter().filter_map(|unit| unit?.parse::<UnitName>().ok());
        let addresses: Vec<_> = group.addresses.iter().filter_map(AddressPlan::ip).collect();
        Serving {
            units: units.map(|unit| unit.to_string()).collect(),
            sockets: if has_commands { sockets_at(&addresses) } else { BTreeSet::new() },
            roots: if has_commands { roots.to_vec() } else { Vec::new() },
        }
    }

    fn is_one(&self, process: &Process) -> bool {
        let is_socket = |link: &Path| socket(link).is_some_and(|number| self.sockets.contains(&number));
        let is_in_set = |link: &Path| self.roots.iter().any(|root| link.starts_with(root));
        let by_commands = || process.links().iter().any(|link| is_socket(link) || is_in_set(link));
        self.units.iter().any(|unit| process.is_of(unit)) || by_commands()
    }
}

/// A process, by its directory in /proc.
struct Process(PathBuf);

/// All of them, but for this daemon's own.
fn processes() -> Vec<Process> {
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let all = entries.filter(|entry| is_number(&entry.file_name())).map(|entry| Process(entry.path()));
    all.filter(|process| fs::read_link(process.0.join("exe")).is_ok_and(|exe| exe != own)).collect()
}

impl Process {
    fn name(&self) -> String {
        let command = fs::read_to_string(self.0.join("comm")).unwrap_or_default();
        let number = self.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{} ({number})", command.trim_end())
    }

    /// Is it in the control group of that unit?
    fn is_of(&self, unit: &str) -> bool {
        let groups = fs::read_to_string(self.0.join("cgroup")).unwrap_or_default();
        groups.lines().any(|line| line.split('/').any(|part| part == unit))
    }

    /// Where its working directory and its descriptors lead.
    fn links(&self) -> Vec<PathBuf> {
        let descriptors = self.descriptors().into_iter().map(|name| self.0.join("fd").join(name));
        descriptors.chain([self.0.join("cwd")]).filter_map(|link| fs::read_link(link).ok()).collect()
    }

    fn descriptors(&self) -> Vec<std::ffi::OsString> {
        fs::read_dir(self.0.join("fd")).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
    }

    /// Regular files that have a name and are open for writing.
    fn written(&self) -> Vec<PathBuf> {
        let written = self.descriptors().into_iter().filter_map(|name| {
            let info = fs::read_to_string(self.0.join("fdinfo").join(&name)).ok()?;
            let link = self.0.join("fd").join(&name);
            let meta = fs::metadata(&link).ok().filter(|_| is_writable(&info))?;
            (meta.is_file() && meta.st_nlink() > 0).then(|| fs::read_link(link).ok())?
        });
        written.filter(|path| path.is_absolute()).collect()
    }
}

/// `flags:` of a descriptor are octal; one of `O_PATH` writes nothing.
fn is_writable(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    flags & libc::O_PATH == 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// The number of a socket: `socket:[123]`.
fn socket(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn sockets_at(addresses: &[IpAddr]) -> BTreeSet<u64> {
    let of = |(table, state): (&str, &str)| {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        text.lines().skip(1).filter_map(|line| reached(line, state, addresses)).collect::<Vec<_>>()
    };
    TABLES.into_iter().flat_map(of).collect()
}

/// The number of the socket of a line of the table, where it is at one of the addresses and in that state.
fn reached(line: &str, state: &str, addresses: &[IpAddr]) -> Option<u64> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let (address, _) = fields.get(1)?.split_once(':')?;
    let is_meant = *fields.get(3)? == state && addresses.contains(&local(address)?);
    fields.get(9)?.parse().ok().filter(|_| is_meant)
}

/// An address as the kernel writes it: words of 32 bits in the order of the machine, which is little-endian.
fn local(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| std::str::from_utf8(word).ok());
    let words: Option<Vec<u32>> = words.map(|word| u32::from_str_radix(word?, 16).ok()).collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_le_bytes).collect();
    let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(|bytes| Ipv4Addr::from(bytes).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(|bytes| Ipv6Addr::from(bytes).to_canonical())).ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn files_in_sets_and_those_of_this_boot_are_not_outside() {
        let roots = [PathBuf::from("/srv/notes")];
        for (file, expected) in [
            ("/srv/notes/a", false),
            ("/srv/notes.db", true),
            ("/var/log/notes", true),
            ("/run/notes.pid", false),
            ("/tmp/x", false),
            ("/dev/null", false),
        ] {
            assert_eq!(is_outside(Path::new(file), &roots), expected, "{file}");
        }
    }

    #[test]
    fn at_most_eight_files_are_named() {
        let names = BTreeSet::from(["notes (7)".to_string()]);
        let files = |count: usize| (0..count).map(|n| PathBuf::from(format!("/var/{n:02}"))).collect();
        assert_eq!(told(&names, &files(0)), None);
        assert_eq!(
            told(&names, &files(1)).unwrap(),
            "notes (7) has files open for writing outside of every set: /var/00; protect what a takeover needs of it"
        );
        assert!(told(&names, &files(11)).unwrap().contains("/var/07, and 3 more;"));
    }

    #[test]
    fn what_is_open_for_writing_is_found_and_what_is_read_or_removed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [written, read, removed] = ["written", "read", "removed"].map(|name| dir.path().join(name));
        let _open = (fs::File::create(&written).unwrap(), fs::File::create(&removed).unwrap());
        fs::write(&read, "").unwrap();
        let _read = fs::File::open(&read).unwrap();
        fs::remove_file(&removed).unwrap();
        let mut found = Process("/proc/self".into()).written();
        found.retain(|file| file.starts_with(dir.path()));
        assert_eq!(found, [written]);
    }

    #[test]
    fn a_socket_at_an_address_is_found() {
        let listener = TcpListener::bind("127.0.0.7:0").unwrap();
        let own = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let at = |address: &str| sockets_at(&[address.parse().unwrap()]).contains(&socket(&own).unwrap());
        assert!(at("127.0.0.7") && !at("127.0.0.8"));
        assert_eq!(local("0100007F"), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(local("000000FD000000000000000001000000"), Some("fd00::1".parse().unwrap()));
    }

    #[test]
    fn a_process_of_a_unit_is_known_by_its_control_group() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup"), "0::/system.slice/notes.service\n").unwrap();
        let process = Process(dir.path().into());
        assert!(process.is_of("notes.service") && !process.is_of("tes.service"));
    }
}
