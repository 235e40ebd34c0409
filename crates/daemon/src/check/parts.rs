//! What a takeover runs, by content: the files of units and programs, compared with those of the other node and with what
//! they were when the group moved last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use stead_model::Epoch;
use stead_model::plan::GroupPlan;
use stead_model::status::Timestamp;
use stead_resource::ocf::{self, Agent};
use stead_resource::service::{UnitName, unit_files};

use crate::peer::identity::to_hex;

/// Longest part of a file that is looked at.
const BYTES_MAX: u64 = 256 << 20;

/// A unit or a program of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// What it is called: `unit notes.service`, `program /usr/local/bin/notes`.
    pub(crate) name: String,
    /// Its files by what they are called on either node, each with its path here and the SHA-256 of its content.
    pub(crate) files: BTreeMap<String, (PathBuf, String)>,
}

/// The parts of a group as they were when it moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// Under which epoch it has been served since.
    pub(crate) epoch: Epoch,
    pub(crate) at: Timestamp,
    pub(crate) parts: Vec<Part>,
}

/// The units and programs of a group as they are on this machine. What is not there has no files.
pub(crate) fn parts(group: &GroupPlan) -> Vec<Part> {
    let of_services = group.services.iter().map(|service| service.unit.as_ref());
    let of_resources = group.resources.iter().map(|resource| resource.unit.as_ref());
    let units = of_services.chain(of_resources).filter_map(|unit| unit?.parse().ok());
    let mut found: Vec<_> = units.map(|unit| unit_part(Path::new("/"), &unit)).collect();
    let agents = group.resources.iter().filter_map(|resource| agent_path(resource.agent.as_ref()?));
    for path in commands(group).into_iter().flat_map(programs).chain(agents) {
        let name = format!("program {}", path.display());
        if !found.iter().any(|part| part.name == name) {
            found.push(Part { name, files: hashed([(path.display().to_string(), path)]) });
        }
    }
    found
}

/// What is not the same on both nodes. What is missing on one of them is told there.
pub(crate) fn differing(ours: &[Part], theirs: &[Part], other: &str) -> Vec<String> {
    let pairs = ours.iter().filter_map(|part| Some((part, theirs.iter().find(|their| their.name == part.name)?)));
    let on_both = pairs.filter(|(our, their)| !our.files.is_empty() && !their.files.is_empty());
    let told = on_both.filter_map(|(our, their)| {
        let files = unlike(our, their, &format!("only on {other}"), &format!("not on {other}"));
        (!files.is_empty())
            .then(|| format!("{} is another one on {other} ({}); make them equal", our.name, files.join(", ")))
    });
    told.collect()
}

/// What has been changed since the group moved.
pub(crate) fn changed(now: &[Part], then: &Remembered) -> Vec<String> {
    let pairs = now.iter().filter_map(|part| Some((part, then.parts.iter().find(|old| old.name == part.name)?)));
    let was_there = pairs.filter(|(_, old)| !old.files.is_empty());
    let told = was_there.filter_map(|(part, old)| {
        let files = unlike(part, old, "gone", "new");
        (!files.is_empty()).then(|| {
            let since = format!("since the group moved last ({}, epoch {})", then.at, then.epoch.number);
            format!("{} was changed {since}: {}; a switchover would prove it", part.name, files.join(", "))
        })
    });
    told.collect()
}

/// The files of two that are not the same; with a word for those that only one has.
fn unlike(one: &Part, other: &Part, only_other: &str, only_one: &str) -> Vec<String> {
    let here = one.files.iter().filter_map(|(name, (path, hash))| match other.files.get(name) {
        Some((_, theirs)) if theirs == hash => None,
        Some(_) => Some(path.display().to_string()),
        None => Some(format!("{} {only_one}", path.display())),
    });
    let there = other.files.iter().filter(|(name, _)| !one.files.contains_key(*name));
    here.chain(there.map(|(_, (path, _))| format!("{} {only_other}", path.display()))).collect()
}

fn unit_part(root: &Path, unit: &UnitName) -> Part {
    // The places of packages have other names on other distributions.
    let called = |file: &PathBuf| {
        let parts: Vec<_> = file.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        match parts.as_slice() {
            [name, dir] if dir.ends_with(".d") => format!("{dir}/{name}"),
            [name, ..] => name.to_string(),
            [] => String::new(),
        }
    };
    let files = unit_files(root, unit).into_iter().map(|file| (called(&file), file));
    Part { name: format!("unit {unit}"), files: hashed(files) }
}

/// All commands that the plan has run on either node.
fn commands(group: &GroupPlan) -> Vec<&[String]> {
    let scripts = &group.scripts;
    let hooks = [&scripts.pre_failover, &scripts.post_failover, &scripts.pre_failback, &scripts.post_failback];
    let services = group.services.iter().flat_map(|service| [&service.start, &service.stop, &service.status]);
    let resources = group.resources.iter().flat_map(|resource| [&resource.start, &resource.stop, &resource.status]);
    let deep = group.resources.iter().flat_map(|resource| &resource.checks);
    let checks = group.checks.iter().chain(deep).map(|check| &check.command);
    let hooks = hooks.into_iter().flatten().map(|script| &script.command);
    services
        .chain(resources)
        .chain(checks)
        .chain(hooks)
        .map(Vec::as_slice)
        .filter(|command| !command.is_empty())
        .collect()
}

fn agent_path(name: &str) -> Option<PathBuf> {
    Some(Agent::find(name.parse().ok()?, &ocf::root()).ok()?.path())
}

/// The program of a command, and its first argument where that is a file: what a shell is called with.
fn programs(command: &[String]) -> Vec<PathBuf> {
    let argument = command.get(1).map(PathBuf::from).filter(|path| path.is_absolute() && path.is_file());
    command.first().map(PathBuf::from).into_iter().chain(argument).collect()
}

fn hashed(files: impl IntoIterator<Item = (String, PathBuf)>) -> BTreeMap<String, (PathBuf, String)> {
    let hashed = files.into_iter().filter_map(|(name, path)| Some((name, (path.clone(), sha256(&path).ok()?))));
    hashed.collect()
}

pub(super) fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?.take(BYTES_MAX);
    let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => context.update(&buffer[..read]),
        }
    }
    Ok(to_hex(context.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn part(files: &[(&str, &str, &str)]) -> Part {
        let file = |(name, path, hash): &(&str, &str, &str)| (name.to_string(), (path.into(), hash.to_string()));
        Part { name: "unit notes.service".into(), files: files.iter().map(file).collect() }
    }

    #[test]
    fn what_is_another_one_on_the_other_node_is_named_by_its_file() {
        let ours = [part(&[("notes.service", "/etc/notes.service", "1"), ("n.d/a.conf", "/etc/n.d/a.conf", "2")])];
        let same = part(&[("notes.service", "/lib/notes.service", "1"), ("n.d/a.conf", "/run/n.d/a.conf", "2")]);
        assert!(differing(&ours, &[same], "lyon").is_empty(), "wherever it lies");
        let theirs = part(&[("notes.service", "/etc/notes.service", "3"), ("n.d/b.conf", "/etc/n.d/b.conf", "2")]);
        let told = differing(&ours, &[theirs], "lyon");
        let files = "/etc/n.d/a.conf not on lyon, /etc/notes.service, /etc/n.d/b.conf only on lyon";
        assert_eq!(told, [format!("unit notes.service is another one on lyon ({files}); make them equal")]);
        assert!(differing(&ours, &[part(&[])], "lyon").is_empty(), "what is missing is told there");
    }

    #[test]
    fn what_was_changed_since_a_move_is_told_until_the_next() {
        let epoch = Epoch { number: 3, ..Epoch::default() };
        let then = Remembered { epoch, at: Timestamp(0), parts: vec![part(&[("n", "/bin/n", "1")])] };
        assert!(changed(&[part(&[("n", "/bin/n", "1")])], &then).is_empty());
        let told = changed(&[part(&[("n", "/bin/n", "2")])], &then).join("");
        assert!(
            told.contains("was changed since the group moved last (1970-01-01T00:00:00.000Z, epoch 3): /bin/n;"),
            "{told}"
        );
        assert!(changed(&[part(&[])], &then)[0].contains("/bin/n gone"));
        let never = Remembered { parts: vec![], ..then };
        assert!(changed(&[part(&[("n", "/bin/n", "2")])], &never).is_empty(), "it was not in the plan then");
    }

    #[test]
    fn programs_and_what_a_shell_is_called_with_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("notes.sh");
        fs::write(&script, "exit 0").unwrap();
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let shell = words(&["/bin/sh", script.to_str().unwrap(), "/etc/passwd"]);
        assert_eq!(programs(&shell), [PathBuf::from("/bin/sh"), script.clone()]);
        assert_eq!(programs(&words(&["/bin/test", "-e", "/etc/passwd"])), [PathBuf::from("/bin/test")]);
        let hash = sha256(&script).unwrap();
        fs::write(&script, "exit 1").unwrap();
        assert_ne!(sha256(&script).unwrap(), hash);
        assert_eq!(hashed([("x".into(), dir.path().join("none"))]), BTreeMap::new());
    }

    #[test]
    fn a_unit_is_its_files_with_their_dropins() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("etc/systemd/system");
        fs::create_dir_all(place.join("notes.service.d")).unwrap();
        fs::write(place.join("notes.service"), "").unwrap();
        fs::write(place.join("notes.service.d/a.conf"), "").unwrap();
        let part = unit_part(root.path(), &"notes".parse().unwrap());
        assert_eq!(part.name, "unit notes.service");
        assert_eq!(part.files.keys().collect::<Vec<_>>(), ["notes.service", "notes.service.d/a.conf"]);
    }
}
