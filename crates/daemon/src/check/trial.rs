//! Could resources work on this machine, as far as that is told before the day? What their agents say of it, and whether
//! their programs and units are there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_model::plan::{GroupPlan, ResourcePlan};
use stead_resource::ocf::{self, Agent, Code, Instance};
use stead_resource::service::{self, Unit};
use stead_resource::{Failure, Output, Stop};

use super::agents::Misfit;
use super::groups::{is_found, missing};
use crate::failover::hands::instance_name;
use crate::names;

/// As long as the question of the other node bears; all resources are tried at once.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(8);
/// The parameter by which an agent is told where it mounts something.
const MOUNT: &str = "directory";
/// What programs say of a copy that cannot be written.
const READ_ONLY: &str = "Read-only file system";

/// Resources of a group that are to be tried on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// With the paths that its sets have here.
    pub(crate) group: GroupPlan,
    /// Which ones.
    pub(crate) resources: Vec<String>,
    /// Is here what the group's sets hold?
    pub(crate) has_data: bool,
    /// Does this node serve? Else nothing can be written in its copies.
    pub(crate) serves: bool,
    /// How long an agent may take.
    pub(crate) limit: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tried {
    /// Resources that could not work here.
    pub(crate) misfits: Vec<Misfit>,
    /// What is not known, each in a line.
    pub(crate) unknown: Vec<String>,
    /// What cannot be known before they are started here, each in a line.
    pub(crate) later: Vec<String>,
}

/// What is to be said of a resource.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Never(String),
    Unknown(String),
    Later(String),
}

impl Trial {
    /// Asks their agents.
    pub(crate) fn of_agents(&self) -> Tried {
        self.tried(|trial, resource| trial.word_of_agent(resource, &ocf::root()))
    }

    /// The same, and looks for their programs and units.
    pub(crate) fn of_all(&self) -> Tried {
        self.tried(|trial, resource| {
            trial.word_of_agent(resource, &ocf::root()).or_else(|| trial.word_of_programs(resource))
        })
    }

    fn tried(&self, word: impl Fn(&Trial, &ResourcePlan) -> Option<Word> + Sync) -> Tried {
        let chosen = self.group.resources.iter().filter(|resource| self.resources.contains(&resource.name));
        let word = &word;
        let words: Vec<_> = thread::scope(|scope| {
            let begun: Vec<_> = chosen.map(|one| (one, scope.spawn(move || word(self, one)))).collect();
            begun.into_iter().map(|(one, tried)| (one, tried.join().ok().flatten())).collect()
        });
        let mut tried = Tried::default();
        for (resource, word) in words {
            tried.add(resource, word);
        }
        tried
    }

    /// None: it speaks not against it, or there is no agent here that could, which is told elsewhere.
    fn word_of_agent(&self, resource: &ResourcePlan, root: &Path) -> Option<Word> {
        let agent = Agent::find(resource.agent.as_ref()?.parse().ok()?, root).ok()?;
        let instance = Instance::new(agent, &instance_name(&self.group.name, resource), resource.parameters.clone());
        let under = names::under(names::program(), self.group.identity(resource).as_ref());
        let validated = instance.ok()?.under(under).validate(self.limit);
        let refusal = validated.value.err()?;
        let why = with_last_line(refusal.failure.to_string(), &validated.output);
        if !matches!(refusal.failure, Failure::Unusable(_) | Failure::Misconfigured(_)) {
            return Some(Word::Unknown(why));
        }
        let is_held = refusal.code == Some(Code::Permission) || validated.output.text().contains(READ_ONLY);
        Some(self.weighed(resource, is_held && !self.serves, why))
    }

    /// What comes with the group may not be here yet; `is_held`: it could not write.
    fn weighed(&self, resource: &ResourcePlan, is_held: bool, why: String) -> Word {
        match self.lacks(resource) {
            _ if !self.has_data => Word::Unknown(format!("{why}; the sets of the group are not mirrored here yet")),
            Some(mount) => Word::Later(format!("{why}; what comes with {} is not here yet", mount.display())),
            None if is_held => Word::Later(format!("{why}; nothing is written here while the other node serves")),
            None => Word::Never(why),
        }
    }

    fn word_of_programs(&self, resource: &ResourcePlan) -> Option<Word> {
        let checks = resource.checks.iter().map(|check| &check.command);
        let commands = [&resource.start, &resource.stop, &resource.status].into_iter().chain(checks);
        let absent = commands.filter_map(|argv| argv.first()).find(|program| !is_found(program));
        let why =
            absent.map(|program| missing("program", program)).or_else(|| missing_unit(resource.unit.as_ref()?))?;
        Some(self.weighed(resource, false, why))
    }

    /// A place that something which it requires mounts, where a path that it names is not there.
    fn lacks(&self, resource: &ResourcePlan) -> Option<PathBuf> {
        let commands = [&resource.start, &resource.stop, &resource.status].into_iter().flatten();
        let named: Vec<_> = resource.parameters.values().chain(commands).flat_map(|value| paths(value)).collect();
        let is_lacking = |mount: &PathBuf| named.iter().any(|path| path.starts_with(mount) && !path.exists());
        let mounts = self.required(resource).into_iter().filter_map(|other| other.parameters.get(MOUNT));
        mounts.map(PathBuf::from).filter(|mount| !is_mounted(mount)).find(is_lacking)
    }

    /// All that it requires, directly or not.
    fn required(&self, resource: &ResourcePlan) -> Vec<&ResourcePlan> {
        let mut names: BTreeSet<&str> = resource.requires.iter().map(String::as_str).collect();
        loop {
            let found: Vec<_> = self.group.resources.iter().filter(|one| names.contains(&*one.name)).collect();
            let more = found.iter().flat_map(|one| one.requires.iter().map(String::as_str));
            let all: BTreeSet<_> = names.iter().copied().chain(more).collect();
            if all.len() == names.len() {
                return found;
            }
            names = all;
        }
    }
}

impl Tried {
    /// The node did not answer.
    pub(crate) fn untold(why: &str) -> Tried {
        Tried { unknown: vec![format!("its resources were not tried: {why}")], ..Tried::default() }
    }

    fn add(&mut self, resource: &ResourcePlan, word: Option<Word>) {
        let line = |why: String| format!("resource {}: {why}", resource.name);
        match word {
            None => {}
            Some(Word::Unknown(why)) => self.unknown.push(line(why)),
            Some(Word::Later(why)) => self.later.push(line(why)),
            Some(Word::Never(why)) => {
                let parameter = meant(resource, &why);
                self.misfits.push(Misfit { resource: resource.name.clone(), parameter, why });
            }
        }
    }
}

/// The parameter whose value is spoken of.
fn meant(resource: &ResourcePlan, why: &str) -> Option<String> {
    let is_meant = |value: &str| value.starts_with('/') && why.contains(value);
    resource.parameters.iter().find(|(_, value)| is_meant(value)).map(|(name, _)| name.clone())
}

fn with_last_line(why: String, output: &Output) -> String {
    let written = output.text();
    let last = written.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let last = last.strip_prefix("ocf-exit-reason:").unwrap_or(last);
    if last.is_empty() || why.contains(last) { why } else { format!("{why}: {last}") }
}

/// Where nothing is known of it, it may be there.
fn missing_unit(unit: &str) -> Option<String> {
    let unit = Unit { name: unit.parse().ok()?, manager: service::manager() };
    unit.is_absent(TIMEOUT, &Stop::never()).then(|| format!("there is no unit {}", unit.name))
}

fn paths(value: &str) -> impl Iterator<Item = PathBuf> {
    let words = value.split(|c: char| c.is_whitespace() || "=,;:'\"".contains(c));
    words.filter(|word| word.starts_with('/')).map(PathBuf::from)
}

fn is_mounted(dir: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    dir.parent().is_some_and(|parent| device(dir).is_some() && device(dir) != device(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../resource/tests/ocf");

    fn trial(resources: &str) -> Trial {
        let head = "name = 'notes'\nsource = 'paris'\ntarget = 'lyon'\nsets = ['notes']\n";
        let group: GroupPlan = toml::from_str(&format!("{head}{resources}")).unwrap();
        let resources = group.resources.iter().map(|resource| resource.name.clone()).collect();
        Trial { group, resources, has_data: true, serves: true, limit: TIMEOUT }
    }

    fn faulty(code: &str, more: &str) -> String {
        format!(
            "[[resource]]\nname = 'db'\nagent = 'ocf:stead:Faulty'\n{more}\n\
             parameters = {{ state = '/no/such/mount/state', fail_validate = '{code}' }}\n"
        )
    }

    fn word(trial: &Trial) -> Option<Word> {
        trial.word_of_agent(&trial.group.resources[0], Path::new(ROOT))
    }

    #[test]
    fn what_an_agent_says_of_this_machine_counts_as_far_as_it_can_know() {
        assert_eq!(word(&trial(&faulty("", ""))), None);
        assert!(matches!(word(&trial(&faulty("5", ""))), Some(Word::Never(why)) if why.ends_with("as told")));
        assert!(matches!(word(&trial(&faulty("6", ""))), Some(Word::Never(_))), "its parameters do nowhere");
        assert!(matches!(word(&trial(&faulty("1", ""))), Some(Word::Unknown(_))), "it may pass the next time");
        let before = Trial { has_data: false, ..trial(&faulty("5", "")) };
        assert!(matches!(word(&before), Some(Word::Unknown(why)) if why.contains("not mirrored here yet")));
        assert!(matches!(word(&trial(&faulty("4", ""))), Some(Word::Never(_))));
        let standby = |code| Trial { serves: false, ..trial(&faulty(code, "")) };
        assert!(matches!(word(&standby("4")), Some(Word::Later(_))), "copies cannot be written");
        assert!(matches!(word(&standby("5")), Some(Word::Never(_))));
    }

    #[test]
    fn an_agent_that_does_not_come_to_an_end_is_not_waited_for() {
        let hung = Trial { limit: Duration::from_millis(300), ..trial(&faulty("hang", "")) };
        let begin = std::time::Instant::now();
        assert!(matches!(word(&hung), Some(Word::Unknown(_))) && begin.elapsed() < TIMEOUT);
    }

    #[test]
    fn what_is_mounted_only_with_the_group_is_waited_for() {
        let disk =
            "[[resource]]\nname = 'disk'\nagent = 'ocf:stead:Faulty'\nparameters = { directory = '/no/such/mount' }\n";
        let between = "[[resource]]\nname = 'between'\nunit = 'b.service'\nrequires = ['disk']\n";
        let requiring = trial(&format!("{}{between}{disk}", faulty("5", "requires = ['between']")));
        assert!(matches!(word(&requiring), Some(Word::Later(why)) if why.contains("/no/such/mount is not here yet")));
        let beside = trial(&format!("{}{between}{disk}", faulty("5", "")));
        assert!(matches!(word(&beside), Some(Word::Never(_))));
    }

    #[test]
    fn the_program_of_a_command_has_to_be_there_and_is_named() {
        let command = |program: &str| {
            let tried = trial(&format!("[[resource]]\nname = 'web'\nstart = ['{program}', 'start']\n")).of_all();
            tried.misfits.into_iter().map(|misfit| misfit.why).collect::<Vec<_>>()
        };
        assert_eq!(command("/bin/sh"), [""; 0]);
        assert_eq!(command("/no/such/program"), ["program /no/such/program is not there, or cannot be run"]);
    }

    #[test]
    fn the_parameter_that_is_spoken_of_is_found() {
        let trial = trial("[[resource]]\nname = 'db'\nagent = 'x:y'\nparameters = { a = 'x', ctl = '/no/ctl' }\n");
        let resource = &trial.group.resources[0];
        assert_eq!(meant(resource, "couldn't find command: /no/ctl"), Some("ctl".into()));
        assert_eq!(meant(resource, "x is not installed"), None);
    }
}
