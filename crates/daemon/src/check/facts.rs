//! What there is on this machine of a group that nobody keeps alike: looked at, in bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use stead_resource::role_file::Role;
use stead_resource::service::{UnitName, unit_files};

use super::checklist::{Area, Fact, Is};
use super::groups::Local;
use super::packages;
use super::parts::{Part, parts, sha256};

/// Files at the top of the sets whose owners are looked at, owners that are told, and files of a directory of jobs.
const TOP_MAX: usize = 1_000;
const OWNERS_MAX: usize = 50;
const JOBS_MAX: usize = 100;
/// Longest unit file that is read.
const UNIT_BYTES_MAX: u64 = 1 << 20;

/// Files of the machine, and directories of jobs.
const FILES: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/crontab"];
const JOBS: [&str; 2] = ["/etc/cron.d", "/var/spool/cron/crontabs"];

impl Local {
    /// All of it.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let mut facts = self.role_file_facts();
        let parts = parts(&self.group);
        facts.extend(parts.iter().map(part_fact));
        let named = self.named_in_units();
        facts.extend(named.files.iter().map(|file| file_fact(Area::File, file)));
        let programs: BTreeSet<PathBuf> = named.programs.union(&programs_of(&parts)).cloned().collect();
        facts.extend(named.programs.difference(&programs_of(&parts)).map(|file| file_fact(Area::Program, file)));
        facts.extend(packages::facts(&programs));
        facts.extend(owner_facts(&self.roots));
        facts.extend(machine_facts(Path::new("/")));
        facts
    }

    fn role_file_facts(&self) -> Vec<Fact> {
        let role = self.role();
        let there = if role == Role::Active { "as declared, serving" } else { "as declared, standing by" };
        let is =
            |found: Vec<String>| if found.is_empty() { Is::Right(there.into()) } else { Is::Wrong(found.join("; ")) };
        let one = |file: &stead_resource::role_file::RoleFile| Fact {
            area: Area::RoleFile,
            what: file.path.display().to_string(),
            is: is(file.look(role)),
        };
        self.role_files.iter().map(one).collect()
    }

    /// What the units of the group name, outside of its sets.
    fn named_in_units(&self) -> Named {
        let of_services = self.group.services.iter().map(|service| service.unit.as_ref());
        let of_resources = self.group.resources.iter().map(|resource| resource.unit.as_ref());
        let units = of_services.chain(of_resources).filter_map(|unit| unit?.parse::<UnitName>().ok());
        let mut named = Named::default();
        for file in units.flat_map(|unit| unit_files(Path::new("/"), &unit)) {
            let is_short = fs::metadata(&file).is_ok_and(|meta| meta.len() <= UNIT_BYTES_MAX);
            if is_short {
                named.add(&fs::read_to_string(&file).unwrap_or_default());
            }
        }
        let is_outside = |file: &PathBuf| !self.roots.iter().any(|root| file.starts_with(root));
        named.files.retain(is_outside);
        named.programs.retain(is_outside);
        named
    }
}

/// Files that units name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    files: BTreeSet<PathBuf>,
    programs: BTreeSet<PathBuf>,
}

impl Named {
    fn add(&mut self, unit: &str) {
        for (key, value) in unit.lines().filter_map(|line| line.trim().split_once('=')) {
            let path = || {
                let word = value.trim().trim_start_matches(['-', '@', ':', '+', '!']);
                word.split_whitespace().next().unwrap_or_default().trim_matches('"').to_owned()
            };
            // Specifiers and globs are other files for each unit.
            let usable = |path: String| (path.starts_with('/') && !path.contains(['%', '*', '?'])).then(|| path.into());
            match key.trim() {
                "EnvironmentFile" => self.files.extend(usable(path())),
                key if key.starts_with("Exec") => self.programs.extend(usable(path())),
                _ => {}
            }
        }
    }
}

fn programs_of(parts: &[Part]) -> BTreeSet<PathBuf> {
    parts.iter().filter_map(|part| part.name.strip_prefix("program ")).map(PathBuf::from).collect()
}

fn part_fact(part: &Part) -> Fact {
    let (area, what) = match part.name.split_once(' ') {
        Some(("unit", unit)) => (Area::Unit, unit),
        Some(("program", path)) => (Area::Program, path),
        _ => (Area::File, part.name.as_str()),
    };
    let key: Vec<_> = part.files.iter().map(|(name, (_, hash))| format!("{name} {hash}")).collect();
    let shown = part.files.values().map(|(path, hash)| match path.to_str() {
        Some(path) if path == what => short(hash).to_owned(),
        _ => format!("{} {}", path.display(), short(hash)),
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let is = if key.is_empty() { Is::Absent } else { Is::Here { key: key.join("\n"), shown } };
    Fact { area, what: what.into(), is }
}

/// A file by its content.
fn file_fact(area: Area, path: &Path) -> Fact {
    let is = match sha256(path) {
        Ok(hash) => Is::Here { shown: short(&hash).into(), key: hash },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Is::Absent,
        Err(e) => Is::Unknown(e.to_string()),
    };
    Fact { area, what: path.display().to_string(), is }
}

/// Enough of a hash to tell two files apart.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Owners of what lies at the top of the sets, by their ids, which are what a replica has.
fn owner_facts(roots: &[PathBuf]) -> Vec<Fact> {
    let beneath = |root: &PathBuf| fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let top = roots.iter().cloned().chain(roots.iter().flat_map(beneath)).take(TOP_MAX);
    let (mut users, mut groups) = (BTreeSet::new(), BTreeSet::new());
    for meta in top.filter_map(|path| fs::symlink_metadata(path).ok()) {
        users.insert(meta.uid());
        groups.insert(meta.gid());
    }
    let of = |word: &'static str, ids: BTreeSet<u32>, file: &str| {
        let names = names(&fs::read_to_string(file).unwrap_or_default());
        let fact = move |id: u32| {
            let is = names.get(&id).map(|name| Is::Here { key: name.clone(), shown: name.clone() });
            Fact { area: Area::Owner, what: format!("{word} {id}"), is: is.unwrap_or(Is::Absent) }
        };
        ids.into_iter().take(OWNERS_MAX).map(fact).collect::<Vec<_>>()
    };
    [of("user", users, "/etc/passwd"), of("group", groups, "/etc/group")].concat()
}

/// Names by their ids, of `/etc/passwd` or `/etc/group`.
fn names(text: &str) -> BTreeMap<u32, String> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    // Of several names of an id the first counts.
    text.lines().rev().filter_map(line).collect()
}

/// `root`: `/` but in tests.
fn machine_facts(root: &Path) -> Vec<Fact> {
    let beneath = |dir: &str| {
        let dir = root.join(&dir[1..]);
        let mut files: Vec<_> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|file| file.is_file())
            .collect();
        files.sort();
        files.into_iter().take(JOBS_MAX)
    };
    let files = FILES.iter().map(|file| root.join(&file[1..])).chain(JOBS.iter().flat_map(|dir| beneath(dir)));
    let mut facts: Vec<_> = files.map(|file| file_fact(Area::Machine, &file)).collect();
    facts.push(Fact { area: Area::Machine, what: "time zone".into(), is: zone(root) });
    facts
}

fn zone(root: &Path) -> Is {
    let is = |name: &str| Is::Here { key: name.into(), shown: name.into() };
    let leads = fs::read_link(root.join("etc/localtime")).ok();
    let name = leads.as_deref().and_then(Path::to_str).and_then(|to| to.split_once("zoneinfo/"));
    match (name, fs::read_to_string(root.join("etc/timezone"))) {
        (Some((_, name)), _) => is(name),
        (None, Ok(name)) if !name.trim().is_empty() => is(name.trim()),
        (None, _) if root.join("etc/localtime").exists() => file_fact(Area::Machine, &root.join("etc/localtime")).is,
        (None, _) => is("UTC"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_units_name_is_found() {
        let mut named = Named::default();
        named.add(
            "[Service]\nEnvironmentFile=-/etc/default/notes\nEnvironmentFile = /etc/notes/%i.env\nExecStartPre=/usr/bin/test -e /x\n\
             ExecStart=-@/usr/sbin/notes notes -c /etc/notes.ini\nExecReload=kill\nUser=/x\n",
        );
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        assert_eq!(named.files, paths(&["/etc/default/notes"]));
        assert_eq!(named.programs, paths(&["/usr/bin/test", "/usr/sbin/notes"]));
    }

    #[test]
    fn the_machine_is_told_by_the_content_of_its_files() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("etc/cron.d")).unwrap();
        fs::write(at("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        fs::write(at("etc/cron.d/backup"), "@daily root backup\n").unwrap();
        symlink("/usr/share/zoneinfo/Europe/Paris", at("etc/localtime")).unwrap();
        let facts = machine_facts(root.path());
        let is = |name: &str| &facts.iter().find(|fact| fact.what.ends_with(name)).expect(name).is;
        assert!(matches!(is("hosts"), Is::Here { shown, .. } if shown.len() == 12));
        assert_eq!(*is("resolv.conf"), Is::Absent);
        assert!(matches!(is("cron.d/backup"), Is::Here { .. }));
        assert_eq!(*is("time zone"), Is::Here { key: "Europe/Paris".into(), shown: "Europe/Paris".into() });
    }

    #[test]
    fn owners_are_told_by_their_ids() {
        let known = names("root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nnotes:x:1000:\n");
        assert_eq!(known.get(&0).map(String::as_str), Some("root"));
        assert_eq!(known.get(&1000).map(String::as_str), Some("notes"));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let facts = owner_facts(&[dir.path().into()]);
        let uid = fs::metadata(dir.path()).unwrap().uid();
        assert!(facts.iter().any(|fact| fact.what == format!("user {uid}")), "{facts:?}");
        assert_eq!(facts.iter().filter(|fact| fact.what.starts_with("user")).count(), 1);
    }
}
