//! Programs that are started under other names than this node's: by `stead as`, which whoever runs them puts before them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::time::Duration;

use stead_api::Failure;
use stead_model::plan::IdentityPlan;
use stead_resource::command::{Command, End};
use stead_resource::identity::assume;

pub use stead_resource::command::NOT_STARTED;

const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Turns this process, which has one thread, into that program under those names; returns only where it cannot.
pub fn become_named(identity: &IdentityPlan, program: &[OsString]) -> Failure {
    let what = |name: &str| format!("{name} was not started under the name {}", identity.host);
    let Some((name, arguments)) = program.split_first() else {
        return Failure::new(what("nothing"), "", "Name a program");
    };
    let what = what(&name.to_string_lossy());
    match assume(identity) {
        Err(why) => Failure::new(what, why.to_string(), ""),
        Ok(()) => Failure::new(what, process::Command::new(name).args(arguments).exec().to_string(), ""),
    }
}

/// This program's file, as it was called when that was asked first: later there may be another version in its place.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::current_exe().unwrap_or_else(|_| "stead".into()))
}

/// What is put before a program and its arguments; nothing where it has the node's own names.
pub(crate) fn under(program: &Path, identity: Option<&IdentityPlan>) -> Vec<OsString> {
    let Some(identity) = identity else { return Vec::new() };
    let mut words: Vec<OsString> = vec![program.into(), "as".into(), identity.host.clone().into()];
    words.extend(identity.machine_id.iter().map(|id| format!("--machine-id={id}").into()));
    words.extend(identity.hosts.iter().flatten().map(|line| format!("--hosts={line}").into()));
    words.push("--".into());
    words
}

/// Why nothing can be started under them on this machine; tried, and nothing of it is left.
pub(crate) fn unfit(identity: &IdentityPlan) -> Option<String> {
    unfit_by(program(), identity)
}

fn unfit_by(program: &Path, identity: &IdentityPlan) -> Option<String> {
    let itself = [program.as_os_str().to_owned(), "--version".into()];
    let tried = Command { under: under(program, Some(identity)), ..Command::new(itself) }.run(TRY_TIMEOUT);
    match tried.end {
        End::Exited(0) => None,
        End::NotStarted(why) => Some(why.trim_start_matches("stead: ").to_owned()),
        end => Some(format!("what is started under the name {} {end}", identity.host)),
    }
}

/// Would programs that run under names of their own miss what is mounted at a path later? They see it where the mount that
/// holds the path is shared.
pub(crate) fn misses_mounts(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|table| is_shared(&table, path) == Some(false))
}

/// None: there is no such mount. Of two at the same place the later one is on top.
fn is_shared(table: &str, path: &Path) -> Option<bool> {
    let mounts = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        let point = Path::new(fields.get(4)?);
        let is_shared = fields.iter().skip(6).take_while(|field| **field != "-").any(|it| it.starts_with("shared:"));
        path.starts_with(point).then(|| (point.components().count(), is_shared))
    });
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, is_shared)| is_shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_before_a_program_says_all_of_its_names() {
        let text =
            "host = 'paris'\nmachine-id = '0123456789abcdef0123456789abcdef'\nhosts = ['10.0.0.1 paris', '::2 p']";
        let words = under("/usr/bin/stead".as_ref(), Some(&toml::from_str(text).unwrap()));
        let id = "--machine-id=0123456789abcdef0123456789abcdef";
        assert_eq!(words, ["/usr/bin/stead", "as", "paris", id, "--hosts=10.0.0.1 paris", "--hosts=::2 p", "--"]);
        assert!(under("/usr/bin/stead".as_ref(), None).is_empty());
    }

    #[test]
    fn what_cannot_be_started_under_a_name_here_says_why() {
        let unfit = |program: &str| unfit_by(program.as_ref(), &toml::from_str("host = 'paris'").unwrap());
        assert_eq!(unfit("/bin/true"), None);
        assert_eq!(unfit("/bin/false").as_deref(), Some("what is started under the name paris ended with code 1"));
        // It has the same code for the same.
        let why = unfit("/usr/sbin/chroot").unwrap();
        assert!(why.contains("chroot: cannot change root directory to 'as'"), "{why}");
    }

    #[test]
    fn the_topmost_mount_that_holds_a_path_says_whether_it_is_shared() {
        let table = "20 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n21 20 8:2 / /srv rw - ext4 /dev/b rw\n\
                     22 21 8:3 / /srv/a rw master:4 shared:5 - ext4 /dev/c rw\n23 22 8:4 / /srv/a rw master:4 - ext4 /dev/d rw\n";
        for (path, expected) in [("/etc", true), ("/srv/b", false), ("/srv/ab", false), ("/srv/a/x", false)] {
            assert_eq!(is_shared(table, path.as_ref()), Some(expected), "{path}");
        }
        assert_eq!(is_shared("", "/etc".as_ref()), None);
    }
}
