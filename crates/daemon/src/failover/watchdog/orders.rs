//! What a watchdog has to take down of a group: `groups/NAME/watchdog.json`, which the daemon writes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_model::plan::{GroupPlan, NfsPlan, ResourcePlan, SambaPlan, ServicePlan};
use stead_resource::Cidr;
use stead_resource::command::Command;
use stead_resource::ocf::{self, Agent, Instance};
use stead_resource::service::{Commands, Manager, Unit};
use stead_resource::share::{Nfs, Samba};

use crate::failover::hands::instance_name;
use crate::names;
use crate::state::files;

const NAME: &str = "watchdog.json";

/// Fields that a later version adds are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Orders {
    /// How long everything may take after the deadline, in milliseconds.
    stop_budget_ms: u64,
    /// With the length of their networks.
    addresses: Vec<String>,
    services: Vec<Service>,
}

/// A unit, two commands, an agent's instance, or a share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Service {
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    status: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    instance: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<String, String>,
    /// What its programs are started by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    under: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samba: Option<SambaPlan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nfs: Option<NfsPlan>,
}

/// A service as it is stopped.
pub(super) enum Stoppable {
    Unit(Unit<Box<dyn Manager>>),
    Commands(Box<Commands>),
    Agent(Box<Instance>),
    Samba(Samba),
    Nfs(Nfs),
}

impl Orders {
    /// For a group of the plan, with the stop budget of its leases; `program`: this one, which starts others under names of
    /// their own.
    pub(crate) fn of(plan: &GroupPlan, stop_budget: Duration, program: &Path) -> Orders {
        let service = |service: &ServicePlan| Service {
            unit: service.unit.clone(),
            stop: service.stop.clone(),
            status: service.status.clone(),
            ..Service::default()
        };
        let resource = |resource: &ResourcePlan| Service {
            unit: resource.unit.clone(),
            stop: resource.stop.clone(),
            status: resource.status.clone(),
            agent: resource.agent.clone(),
            instance: if has_instance(resource) { instance_name(&plan.name, resource) } else { String::new() },
            parameters: resource.parameters.clone(),
            under: words(names::under(program, plan.identity(resource).as_ref())),
            samba: resource.samba.clone(),
            nfs: resource.nfs.clone(),
        };
        let services = plan.services.iter().map(service).chain(plan.resources.iter().rev().map(resource));
        Orders {
            stop_budget_ms: u64::try_from(stop_budget.as_millis()).unwrap_or(u64::MAX),
            addresses: plan.addresses.iter().map(|address| address.address.clone()).collect(),
            services: services.collect(),
        }
    }

    /// Writes them into the group's directory; the watchdog follows within a second.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        files::write(&dir.join(NAME), &serde_json::to_vec(self).unwrap_or_default(), 0o600)
    }

    pub(super) fn read(dir: &Path) -> io::Result<Orders> {
        Ok(serde_json::from_slice(&fs::read(dir.join(NAME))?)?)
    }

    pub(super) fn stop_budget(&self) -> Duration {
        Duration::from_millis(self.stop_budget_ms)
    }

    pub(super) fn addresses(&self) -> Vec<Cidr> {
        self.addresses.iter().filter_map(|text| text.parse().ok()).collect()
    }

    pub(super) fn services(&self, manager: &dyn Fn() -> Box<dyn Manager>) -> Vec<(String, Stoppable)> {
        self.services.iter().enumerate().filter_map(|(at, service)| service.stoppable(at, manager)).collect()
    }
}

impl Service {
    fn under(&self) -> Vec<OsString> {
        self.under.iter().map(OsString::from).collect()
    }

    /// Commands have no name: they are called by their place in the plan.
    fn stoppable(&self, at: usize, manager: &dyn Fn() -> Box<dyn Manager>) -> Option<(String, Stoppable)> {
        if let Some(agent) = &self.agent {
            let agent = Agent::find(agent.parse().ok()?, &ocf::root()).ok()?;
            let instance = Instance::new(agent, &self.instance, self.parameters.clone()).ok()?.under(self.under());
            return Some((self.instance.clone(), Stoppable::Agent(Box::new(instance))));
        }
        if let Some(samba) = &self.samba {
            return Some((format!("share {}", samba.share), Stoppable::Samba(Samba::new(samba.clone()))));
        }
        if let Some(nfs) = &self.nfs {
            let name = format!("export {}", nfs.path.display());
            return Some((name, Stoppable::Nfs(Nfs::new(nfs.clone(), &self.instance))));
        }
        let Some(unit) = &self.unit else {
            let [stop, status] =
                [&self.stop, &self.status].map(|argv| Command { under: self.under(), ..hurried(argv) });
            let commands = Commands { start: stop.clone(), stop, status };
            return Some((format!("service {at}"), Stoppable::Commands(Box::new(commands))));
        };
        let unit = Unit { name: unit.parse().ok()?, manager: manager() };
        Some((unit.name.to_string(), Stoppable::Unit(unit)))
    }
}

fn words(under: Vec<OsString>) -> Vec<String> {
    under.into_iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn has_instance(resource: &ResourcePlan) -> bool {
    resource.agent.is_some() || resource.nfs.is_some()
}

/// There is no time to be polite to a stop command.
fn hurried(argv: &Vec<String>) -> Command {
    Command { grace: Duration::ZERO, ..Command::new(argv) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_stopped_as_they_are_on_this_node() {
        let plan: GroupPlan = toml::from_str(
            "name = 'notes'\nsource = 'paris'\ntarget = 'lyon'\nsets = []\n[[resource]]\nname = 'a'\n\
             samba = { share = 'files', path = '/srv', config = '/etc/smb.conf' }\n[[resource]]\nname = 'b'\n\
             nfs = { path = '/srv', clients = ['*'] }\n",
        )
        .unwrap();
        let orders = Orders::of(&plan, Duration::from_secs(1), Path::new("/usr/bin/stead"));
        let again: Orders = serde_json::from_slice(&serde_json::to_vec(&orders).unwrap()).unwrap();
        let stoppable = again.services(&|| unreachable!("no unit"));
        let [(export, Stoppable::Nfs(nfs)), (share, Stoppable::Samba(samba))] = &stoppable[..] else {
            panic!("in reverse order")
        };
        assert_eq!((export.as_str(), share.as_str()), ("export /srv", "share files"));
        assert_eq!(*nfs, Nfs::new(plan.resources[1].nfs.clone().unwrap(), "notes-b"));
        assert_eq!(*samba, Samba::new(plan.resources[0].samba.clone().unwrap()));
    }

    /// Golden: a watchdog outlives the daemon that started it, and may be of another version than the next.
    #[test]
    fn the_file_is_as_in_the_first_version() {
        let golden = r#"{"stop-budget-ms":1000,"addresses":["10.0.0.100/24"],"services":[{"unit":"notes"},{"stop":["/opt/stop","now"],"status":["/opt/status"]},{"agent":"ocf:heartbeat:pgsql","instance":"notes-db","parameters":{"pgdata":"/srv"},"under":["/bin/stead","as","rome","--hosts=10.0.0.100 rome","--"]}]}"#;
        let plan: GroupPlan = toml::from_str(
            "name = 'notes'\nsource = 'paris'\ntarget = 'lyon'\nsets = []\n[[address]]\naddress = '10.0.0.100/24'\n\
             [[service]]\nunit = 'notes'\n[[service]]\nstart = ['/opt/start']\nstop = ['/opt/stop', 'now']\nstatus = ['/opt/status']\n\
             [[resource]]\nname = 'db'\nagent = 'ocf:heartbeat:pgsql'\nparameters = { pgdata = '/srv' }\n\
             identity = { host = 'rome' }\n",
        )
        .unwrap();
        let orders = Orders::of(&plan, Duration::from_secs(1), "/bin/stead".as_ref());
        assert_eq!(serde_json::to_string(&orders).unwrap(), golden);
        let dir = tempfile::tempdir().unwrap();
        orders.write(dir.path()).unwrap();
        assert_eq!(Orders::read(dir.path()).unwrap(), orders);
        assert_eq!(serde_json::from_str::<Orders>(r#"{"new":1}"#).unwrap(), Orders::default());
    }
}
