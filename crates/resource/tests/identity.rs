//! Names of their own, taken by threads: whoever else runs on this machine keeps its names and its mounts.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};
use stead_model::plan::IdentityPlan;
use stead_resource::Failure;
use stead_resource::command::{Command, End};
use stead_resource::identity::assume;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn identity(host: &str) -> IdentityPlan {
    let hosts = Some(vec![format!("10.0.0.100 {host}"), format!("fd00::1 {host}")]);
    IdentityPlan { host: host.into(), machine_id: Some(ID.into()), hosts }
}

fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn own_mounts() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

/// Does it in a thread that has those names; none: this process may not have any.
fn named<T: Send>(host: &str, work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| match assume(&identity(host)) {
            Ok(()) => Some(work()),
            Err(Failure::Unusable(why)) if why.contains("SYS_ADMIN") => {
                eprintln!("not run: {why}");
                None
            }
            Err(why) => panic!("{why}"),
        });
        thread.join().unwrap()
    })
}

#[test]
fn the_names_are_seen_by_who_took_them_and_by_nobody_else() {
    let files = ["/etc/hostname", "/etc/hosts", "/etc/machine-id"];
    let own = || (node_name(), files.map(|file| fs::read_to_string(file).unwrap_or_default()));
    let before = own();
    named("paris", || {
        let (name, [hostname, hosts, machine]) = own();
        assert_eq!((name.as_str(), machine.as_str()), ("paris", &*format!("{ID}\n")));
        assert_eq!(hostname, if Path::new("/etc/hostname").exists() { "paris\n" } else { "" });
        assert_eq!(hosts, format!("10.0.0.100 paris\nfd00::1 paris\n{}", before.1[1]));
        // Whoever has no rights reads them, too.
        let cat = ["/usr/bin/setpriv", "--reuid=65534", "--clear-groups", "/bin/cat", "/etc/machine-id"];
        let seen = Command::new(cat).run(Duration::from_secs(5));
        assert_eq!((seen.end, seen.output.text()), (End::Exited(0), format!("{ID}\n")));
        let inner = named("rome", || (node_name(), fs::read_to_string("/etc/hosts").unwrap()));
        assert_eq!(inner.unwrap(), ("rome".into(), format!("10.0.0.100 rome\nfd00::1 rome\n{hosts}")));
        assert_eq!(node_name(), "paris");
    });
    assert_eq!(own(), before);
    assert!(!own_mounts().contains(" - tmpfs stead "), "its mounts are seen by others");
}

#[test]
fn what_cannot_be_a_name_is_refused_before_anything_is_changed() {
    let before = node_name();
    let refused = thread::spawn(|| (assume(&identity("pa_ris")), node_name())).join().unwrap();
    assert!(matches!(refused.0, Err(Failure::Unusable(why)) if why.starts_with("host is no host name")));
    assert_eq!(refused.1, before);
}

/// A question to the thread that took a name, and its answer.
struct Asked<'a>(Sender<&'a Path>, Receiver<bool>);

impl<'a> Asked<'a> {
    fn is_mounted(&self, path: &'a Path) -> bool {
        self.0.send(path).unwrap();
        self.1.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

/// The outer name is there for its view of the mounts: those of this machine are left alone.
#[test]
fn mounts_arrive_where_they_are_shared_and_none_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let [later, inner] = ["later", "inner"].map(|name| dir.path().join(name));
    [&later, &inner].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
    named("outer", || {
        mount_bind(dir.path(), dir.path()).unwrap();
        mount_change(dir.path(), MountPropagationFlags::SHARED).unwrap();
        let tmpfs = |at: &Path| mount("x", at, "tmpfs", MountFlags::empty(), None).unwrap();
        let ((question, questions), (answer, answers)) = (channel::<&Path>(), channel());
        thread::scope(|scope| {
            scope.spawn(|| {
                assume(&identity("inner")).unwrap();
                tmpfs(&inner);
                for path in questions {
                    answer.send(own_mounts().contains(&format!(" {} ", path.display()))).unwrap();
                }
            });
            let asked = Asked(question, answers);
            assert!(asked.is_mounted(&inner));
            assert!(!own_mounts().contains(&format!(" {} ", inner.display())), "its own mount is seen by others");
            assert!(!asked.is_mounted(&later));
            tmpfs(&later);
            assert!(asked.is_mounted(&later));
            unmount(&later, UnmountFlags::empty()).unwrap();
            assert!(!asked.is_mounted(&later), "it keeps what was unmounted");
        });
    });
}

#[test]
fn what_could_not_start_a_program_is_told_apart_from_the_program() {
    let run = |under: &[&str], argv: &[&str]| {
        let under = under.iter().map(Into::into).collect();
        Command { under, ..Command::new(argv) }.run(Duration::from_secs(5)).end
    };
    let refuses = ["/bin/sh", "-c", "echo it may not; exit 125"];
    assert_eq!(run(&refuses, &["/bin/true"]), End::NotStarted("it may not".into()));
    assert_eq!(run(&[], &refuses), End::Exited(125));
    assert_eq!(run(&["/usr/bin/env"], &["/bin/sh", "-c", "exit 7"]), End::Exited(7));
    assert_eq!(run(&["/usr/bin/env"], &[]), End::NotStarted("no program is named".into()));
}
