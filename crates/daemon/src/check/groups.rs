//! Would a takeover of a group work on this machine, and would it be safe?

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use stead_model::NodeName;
use stead_model::plan::{GroupPlan, ResourcePlan, ScriptPlan, ServicePlan, Takeover};
use stead_resource::role_file::{Role, RoleFile};
use stead_resource::service::{self, Boot, Load, UnitName};
use stead_resource::{Output, Stop, Term};

use super::parts::{self, Part, Remembered};
use super::trial::{self, Trial};
use super::{addresses, agents, outside, registrations, room};
use crate::failover::kept::GroupDir;
use crate::names;

const UNIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Files of a replica that are looked at for owners that this machine does not know.
const FILES_MAX: usize = 1_000_000;
/// Owners that are named.
const OWNERS_SHOWN: usize = 5;
/// What the plan itself says about a group that an administrator should know.
pub(super) fn by_plan(group: &GroupPlan) -> Vec<String> {
    let mut found = Vec::new();
    let (name, source, target) = (&group.name, &group.source, &group.target);
    match (group.takeover, &group.witness) {
        (Takeover::Automatic, None) => found.push(format!(
            "group {name}: there is no witness, so that a person has to approve each takeover; name a third node with \
             --witness"
        )),
        (Takeover::UnsafeTwoNode, None) => found.push(format!(
            "group {name}: {source} and {target} may both serve where they do not hear each other; name a third node \
             with --witness"
        )),
        _ => {}
    }
    if group.paths.len() < 2 {
        found.push(format!(
            "group {name}: there is one heartbeat path, and a cut of it looks like a dead {source}; name two with --path"
        ));
    }
    found
}

/// A group on this machine, one of the two.
pub(crate) struct Local {
    pub(crate) group: GroupPlan,
    /// This node.
    pub(crate) own: NodeName,
    /// Where its sets are here, and where all sets are.
    pub(crate) roots: Vec<PathBuf>,
    pub(crate) all_roots: Vec<PathBuf>,
    /// Files that are others while it serves.
    pub(crate) role_files: Vec<RoleFile>,
    /// The state directory, and what is kept of the group in it.
    pub(crate) state: PathBuf,
    pub(crate) dir: GroupDir,
    /// Does this node serve?
    pub(crate) serves: bool,
    /// Is here what its sets hold?
    pub(crate) has_data: bool,
}

impl Local {
    /// What stands against a takeover on this machine; `parts`: its units and programs as they are here.
    pub(crate) fn findings(&self, parts: &[Part]) -> Vec<String> {
        let mut found = on_this_machine(&self.group, &self.own, &self.roots);
        found.extend(agents::findings(&self.trial()));
        let places: Vec<_> = self.roots.iter().chain([&self.state]).cloned().collect();
        found.extend(room::findings(&places));
        found.extend(self.changes(parts));
        found.extend(self.role_files.iter().flat_map(|file| file.look(self.role())));
        if self.serves {
            found.extend(outside::finding(&self.group, &self.roots, &self.all_roots));
        }
        let (name, own) = (&self.group.name, &self.own);
        found.into_iter().map(|text| format!("group {name} on {own}: {text}")).collect()
    }

    /// Of all its resources.
    fn trial(&self) -> Trial {
        let resources = self.group.resources.iter().map(|resource| resource.name.clone()).collect();
        let Local { has_data, serves, .. } = *self;
        Trial { group: self.group.clone(), resources, has_data, serves, limit: trial::TIMEOUT }
    }

    pub(crate) fn role(&self) -> Role {
        if self.serves { Role::Active } else { Role::Standby }
    }

    fn changes(&self, parts: &[Part]) -> Vec<String> {
        match self.dir.parts::<Remembered>() {
            Ok(Some(then)) => parts::changed(parts, &then),
            Ok(None) => Vec::new(),
            Err(failure) => vec![failure.to_string()],
        }
    }
}

fn on_this_machine(group: &GroupPlan, own: &NodeName, roots: &[PathBuf]) -> Vec<String> {
    let mut found = addresses::findings(&group.addresses);
    found.extend(group.services.iter().flat_map(service_findings));
    found.extend(group.resources.iter().flat_map(resource_findings));
    found.extend(mounts_finding(group, roots));
    found.extend(group.resources.iter().filter_map(|resource| outside_finding(resource, roots)));
    let scripts = &group.scripts;
    let hooks = [&scripts.pre_failover, &scripts.post_failover, &scripts.pre_failback, &scripts.post_failback];
    found.extend(hooks.into_iter().flatten().filter_map(script_finding));
    if let Some(fence) = group.other(own).and_then(|other| group.fence.get(other)) {
        found.extend(fence.agent.first().filter(|agent| !is_found(agent)).map(|agent| missing("fence agent", agent)));
    }
    found.extend(registrations::findings(group));
    found.extend(owner_finding(roots));
    found
}

fn service_findings(plan: &ServicePlan) -> Vec<String> {
    match &plan.unit {
        Some(unit) => unit_findings(unit),
        None => program_findings([&plan.start, &plan.stop, &plan.status]),
    }
}

fn resource_findings(plan: &ResourcePlan) -> Vec<String> {
    let checks = plan.checks.iter().map(|check| &check.command);
    let mut found = program_findings([&plan.start, &plan.stop, &plan.status].into_iter().chain(checks));
    found.extend(plan.unit.iter().flat_map(|unit| unit_findings(unit)));
    found
}

/// Programs under names of their own have a view of the mounts of their own.
fn mounts_finding(group: &GroupPlan, roots: &[PathBuf]) -> Option<String> {
    let named = group.resources.iter().find(|resource| resource.identity.is_some())?;
    let root = roots.iter().find(|root| names::misses_mounts(root))?;
    Some(format!(
        "what is mounted at {} while resource {} runs is not seen by it, which has a name of its own: mount --make-rshared /",
        root.display(),
        named.name
    ))
}

/// What is shared and not replicated is another directory on the other node.
fn outside_finding(plan: &ResourcePlan, roots: &[PathBuf]) -> Option<String> {
    let path = plan.shared_path().filter(|path| !roots.iter().any(|root| path.starts_with(root)))?;
    let (name, path) = (&plan.name, path.display());
    Some(format!(
        "resource {name} shares {path}, which is in none of the group's sets: what is written there stays here"
    ))
}

fn program_findings<'a>(commands: impl IntoIterator<Item = &'a Vec<String>>) -> Vec<String> {
    let programs = commands.into_iter().filter_map(|argv| argv.first());
    programs.filter(|program| !is_found(program)).map(|program| missing("program", program)).collect()
}

fn unit_findings(unit: &str) -> Vec<String> {
    let Ok(name) = unit.parse::<UnitName>() else { return Vec::new() };
    let stop = Stop::never();
    let looked = service::manager().look(&name, Term::new(UNIT_TIMEOUT, &stop), &mut Output::default());
    let standing = match looked {
        Ok(standing) => standing,
        Err(why) => return vec![format!("nothing is known of unit {name}: {why}")],
    };
    let mut found = Vec::new();
    if standing.load != Load::Loaded {
        found.push(format!("there is no unit {name} ({:?}); install it here too", standing.load));
    }
    if standing.boot == Boot::Enabled {
        found.push(format!("unit {name} starts at boot by itself: systemctl disable {name}"));
    }
    found
}

fn script_finding(script: &ScriptPlan) -> Option<String> {
    script.command.first().filter(|program| !is_found(program)).map(|program| missing("script", program))
}

/// Is it a program that can be run, by its path or in `PATH`?
pub(super) fn is_found(program: &str) -> bool {
    let runs =
        |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return runs(Path::new(program));
    }
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| runs(&dir.join(program))))
}

pub(super) fn missing(what: &str, program: &str) -> String {
    format!("{what} {program} is not there, or cannot be run")
}

/// Names users that own files here and that this machine does not know.
fn owner_finding(roots: &[PathBuf]) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let known: BTreeSet<u32> = users.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect();
    let mut unknown = BTreeSet::new();
    let mut left = FILES_MAX;
    let mut places: Vec<PathBuf> = roots.to_vec();
    while let Some(place) = places.pop()
        && left > 0
        && unknown.len() < OWNERS_SHOWN
    {
        left -= 1;
        let Ok(meta) = fs::symlink_metadata(&place) else { continue };
        if !known.contains(&meta.uid()) {
            unknown.insert(meta.uid());
        }
        if meta.is_dir() {
            places.extend(fs::read_dir(&place).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    let named: Vec<_> = unknown.iter().map(u32::to_string).collect();
    (!named.is_empty()).then(|| {
        format!(
            "files belong to users whom this machine does not know: {}; make them with the same ids",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_their_path_and_in_path() {
        assert!(is_found("/bin/sh") && is_found("sh"));
        assert!(!is_found("/etc/passwd") && !is_found("no-such-program") && !is_found("/no/such"));
    }

    #[test]
    fn what_is_shared_and_not_replicated_is_told() {
        let plan: ResourcePlan =
            toml::from_str("name = 'files'\nsamba = { share = 'x', path = '/srv/notes/x' }").unwrap();
        let found = |roots: &[&str]| outside_finding(&plan, &roots.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(found(&["/srv/mail", "/srv/notes"]), None);
        assert!(found(&["/srv/note"]).unwrap().contains("resource files shares /srv/notes/x, which is in none"));
        assert_eq!(outside_finding(&ResourcePlan::default(), &[]), None);
    }

    #[test]
    fn owners_whom_nobody_knows_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/file");
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(&file, b"x").unwrap();
        assert_eq!(owner_finding(&[dir.path().into()]), None);
        if std::os::unix::fs::chown(&file, Some(3_999_999_999), None).is_err() {
            return eprintln!("not run: this process may not give files away");
        }
        assert!(owner_finding(&[dir.path().into()]).unwrap().contains("3999999999"));
    }
}
