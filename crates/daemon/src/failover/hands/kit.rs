//! What a group has to bring up and to run on this node, made from its plan.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stead_api::Failure;
use stead_model::plan::{AddressPlan, FencePlan, GroupPlan, ResourcePlan, ServicePlan};
use stead_model::{GroupName, NodeName};
use stead_resource::Cidr;
use stead_resource::address::{Address, Holder, Mode};
use stead_resource::command::Command;
use stead_resource::role_file::RoleFile;
use stead_resource::service::{Commands, Manager, Unit, UnitName};

use super::resources::{Kind, Runs, instance_name};
use super::role_files::role_files;
use super::services::Service;
use super::watches::PROBE;
use crate::names;

/// How long a script, or starting and stopping a service, may take where the plan does not say.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Kit<M> {
    pub(super) plan: GroupPlan,
    pub(super) roots: Vec<PathBuf>,
    pub(super) addresses: Vec<Address>,
    pub(super) role_files: Vec<RoleFile>,
    pub(super) services: Vec<Service<M>>,
    pub(super) resources: Vec<Kind<M>>,
    /// What turns the other node off.
    pub(super) fence: Option<FencePlan>,
}

/// Where things are on this node.
pub(crate) struct Places {
    /// The group's own directory.
    pub(crate) dir: PathBuf,
    /// Those of its sets.
    pub(crate) roots: Vec<PathBuf>,
    /// Their paths on either node, each with where it is here.
    pub(crate) paths: Vec<(String, String)>,
    /// Beneath it are resource agents.
    pub(crate) agents: PathBuf,
    /// This program, which starts others under names of their own.
    pub(crate) program: PathBuf,
}

impl<M: Manager> Kit<M> {
    /// `manager` is asked once for each unit.
    pub(super) fn new(
        plan: GroupPlan,
        me: &NodeName,
        places: Places,
        manager: impl Fn() -> M,
    ) -> Result<Kit<M>, Failure> {
        let Places { dir, roots, paths, agents, program } = places;
        let refused = |why: String| refused(&plan.name, &why);
        let other = plan.other(me).ok_or_else(|| refused(format!("{me} is none of its two nodes")))?;
        let addresses = plan.addresses.iter().enumerate().map(|(at, address)| self::address(address, saved(&dir, at)));
        let under = |resource| names::under(&program, plan.identity(resource).as_ref());
        let resources = plan.resources.iter();
        let runs = |it| Runs { under: under(it), keeps: kept_name(&dir, &plan.name, it) };
        let resources = resources.map(|it| Kind::new(it, &plan.name, runs(it), &agents, &manager));
        let services = plan.services.iter().map(|service| self::service(service, &manager));
        Ok(Kit {
            addresses: addresses.collect::<Result<_, _>>().map_err(refused)?,
            services: services.collect::<Result<_, _>>().map_err(refused)?,
            resources: resources.collect::<Result<_, _>>().map_err(refused)?,
            role_files: role_files(&plan, &paths, &dir),
            fence: plan.fence.get(other).cloned(),
            plan,
            roots,
        })
    }

    pub(super) fn name(&self) -> &GroupName {
        &self.plan.name
    }
}

/// The file in which an address keeps what its interface had before.
pub(crate) fn saved(dir: &Path, at: usize) -> PathBuf {
    dir.join(format!("address-{at}.saved"))
}

/// Unique on this machine, also where it has several daemons, and the same after a restart.
fn kept_name(dir: &Path, group: &GroupName, resource: &ResourcePlan) -> String {
    let number = fs::metadata(dir).map_or(0, |dir| dir.ino());
    format!("{number:x}-{}", instance_name(group, resource))
}

pub(super) fn refused(group: &GroupName, why: &str) -> Failure {
    Failure::new(format!("group {group} cannot be run"), why, "Correct the plan")
}

fn address(plan: &AddressPlan, saved: PathBuf) -> Result<Address, String> {
    let cidr = plan.address.parse::<Cidr>().map_err(|e| format!("{}: {e}", plan.address))?;
    let mode = if plan.replace { Mode::Replacing { own: None } } else { Mode::Beside };
    let holder = if plan.take { Holder::Fenced } else { Holder::Possible(PROBE) };
    Ok(Address { cidr, interface: plan.interface.clone(), mode, holder, saved })
}

fn service<M>(plan: &ServicePlan, manager: &impl Fn() -> M) -> Result<Service<M>, String> {
    let timeout = plan.timeout.map_or(STEP_TIMEOUT, |span| span.0);
    Ok(match &plan.unit {
        Some(unit) => {
            let unit = Unit { name: unit.parse::<UnitName>()?, manager: manager() };
            Service::Unit { unit, timeout }
        }
        None => {
            let [start, stop, status] = [&plan.start, &plan.stop, &plan.status].map(Command::new);
            Service::Commands { commands: Box::new(Commands { start, stop, status }), timeout }
        }
    })
}
