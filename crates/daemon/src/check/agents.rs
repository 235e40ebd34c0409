//! Can the resources of a group be started on this machine: are agents there, and given what they want; can they have the
//! names that they are to have; would a share be shared?

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_model::plan::ResourcePlan;
use stead_resource::ocf::{self, Agent};
use stead_resource::share::{Nfs, Samba};

use super::trial::{Trial, Tried};
use crate::names;

const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// As short as the question of the other node bears, for several.
const SHARE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a resource cannot be started on a machine, ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Misfit {
    /// Its name.
    pub(crate) resource: String,
    /// Which of its parameters it is about, where it is about one.
    pub(crate) parameter: Option<String>,
    pub(crate) why: String,
}

/// Agents that are not installed here, parameters that they do not take, names that nothing can have here, and shares that
/// the server here would not share. Nothing is changed.
pub(crate) fn misfits(resources: &[ResourcePlan]) -> Vec<Misfit> {
    resources.iter().flat_map(|resource| misfits_of(resource, &ocf::root())).collect()
}

/// The same, and what the agents themselves say about working here.
pub(super) fn findings(trial: &Trial) -> Vec<String> {
    let misfits = misfits(&trial.group.resources);
    let is_fit = |name: &String| !misfits.iter().any(|misfit| misfit.resource == *name);
    let resources = trial.resources.iter().filter(|name| is_fit(name)).cloned().collect();
    let Tried { misfits: more, unknown, .. } = Trial { resources, ..trial.clone() }.of_agents();
    let told = |misfit: Misfit| format!("resource {}: {}", misfit.resource, misfit.why);
    misfits.into_iter().chain(more).map(told).chain(unknown).collect()
}

fn misfits_of(resource: &ResourcePlan, root: &Path) -> Vec<Misfit> {
    let misfit = |parameter, why| Misfit { resource: resource.name.clone(), parameter, why };
    if let Some(why) = resource.identity.as_ref().and_then(names::unfit) {
        return vec![misfit(None, why)];
    }
    let Some(name) = resource.agent.as_ref() else {
        return share_misfit(resource).map(|why| misfit(None, why)).into_iter().collect();
    };
    let agent = match name.parse().map(|name| Agent::find(name, root)) {
        Ok(Ok(agent)) => agent,
        Ok(Err(why)) => return vec![misfit(None, why.to_string())],
        Err(why) => return vec![misfit(None, why)],
    };
    match agent.metadata(METADATA_TIMEOUT).value {
        Err(why) => vec![misfit(None, why.to_string())],
        Ok(told) => {
            let wrong = ocf::check(&told, &resource.parameters).into_iter();
            wrong.map(|wrong| misfit(Some(wrong.parameter), wrong.why)).collect()
        }
    }
}

fn share_misfit(resource: &ResourcePlan) -> Option<String> {
    if let Some(samba) = &resource.samba {
        return Samba::new(samba.clone()).misfit(SHARE_TIMEOUT);
    }
    Nfs::new(resource.nfs.clone()?, &resource.name).misfit(SHARE_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_that_are_not_there_and_parameters_that_they_do_not_take_are_named() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../resource/tests/ocf");
        let told = |text: &str| {
            let plan: ResourcePlan = toml::from_str(&format!("name = 'db'\n{text}")).unwrap();
            let found = misfits_of(&plan, Path::new(root)).into_iter();
            found.map(|misfit| (misfit.parameter, misfit.why)).collect::<Vec<_>>()
        };
        assert_eq!(told("unit = 'db.service'"), []);
        assert_eq!(told("agent = 'ocf:stead:Faulty'\nparameters = { state = '/x' }"), []);
        let [(None, why)] = &told("agent = 'ocf:stead:Nothing'")[..] else { panic!("there is no such agent") };
        assert!(why.contains("is not installed"), "{why}");
        let wrong = told("agent = 'ocf:stead:Faulty'\nparameters = { state = '/x', dep = '1', deep = 'x' }");
        assert_eq!(wrong[0], (Some("dep".into()), "Faulty has no parameter dep; did you mean deep?".into()));
        assert_eq!(wrong[1], (Some("deep".into()), "the parameter deep is a whole number, not \"x\"".into()));
        assert_eq!(told("agent = 'ocf:stead:Faulty'")[0].0, Some("state".into()));
    }
}
