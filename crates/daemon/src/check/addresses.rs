//! Where the addresses of a group would go on this machine, and what brings them up besides Stead.

use std::fs;
use std::path::PathBuf;

use stead_model::plan::AddressPlan;
use stead_resource::Cidr;
use stead_resource::address::{Mode, card, place};

/// Where addresses that come up at boot are configured, by the tools that Linux distributions have.
const NETWORKS: [&str; 6] = [
    "/etc/network/interfaces",
    "/etc/network/interfaces.d",
    "/etc/netplan",
    "/etc/systemd/network",
    "/etc/NetworkManager/system-connections",
    "/etc/sysconfig/network-scripts",
];

/// Those that have no place on this machine, and why. One whose interface is named needs that interface and no network; one
/// that replaces the host's own needs an address to replace.
pub(crate) fn unfit(addresses: &[AddressPlan]) -> Vec<(String, String)> {
    let why = |plan: &AddressPlan| {
        let cidr = plan.address.parse::<Cidr>()?;
        let mode = if plan.replace { Mode::Replacing { own: None } } else { Mode::Beside };
        place(cidr, plan.interface.as_deref(), mode).map_err(|why| why.to_string())?;
        let backup = plan.backup_interface.as_ref();
        match backup.filter(|name| card(name).is_ok_and(|card| card.is_none())) {
            Some(name) => Err(format!("there is no interface {name}, its backup")),
            None => Ok(()),
        }
    };
    addresses.iter().filter_map(|plan| Some((plan.address.clone(), why(plan).err()?))).collect()
}

pub(super) fn findings(addresses: &[AddressPlan]) -> Vec<String> {
    let unfit = unfit(addresses).into_iter().map(|(address, why)| format!("address {address} has no place: {why}"));
    let by_others = addresses.iter().filter_map(|plan| {
        let ip = plan.ip()?.to_string();
        let file = configured_at_boot(&ip)?;
        Some(format!("{} comes up at boot by {}; take it out there", plan.address, file.display()))
    });
    unfit.chain(by_others).collect()
}

fn configured_at_boot(address: &str) -> Option<PathBuf> {
    let files = NETWORKS.iter().flat_map(|place| {
        let entries = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.chain([PathBuf::from(place)]).collect::<Vec<_>>()
    });
    let names =
        |text: &str| text.split(|c: char| !(c.is_ascii_hexdigit() || ".:".contains(c))).any(|word| word == address);
    let mut named = files.filter(|file| fs::read_to_string(file).is_ok_and(|text| names(&text)));
    named.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(cidr: &str, interface: Option<&str>) -> AddressPlan {
        AddressPlan { address: cidr.into(), interface: interface.map(Into::into), ..AddressPlan::default() }
    }

    #[test]
    fn a_network_or_a_named_interface_is_needed() {
        let why = |plan: AddressPlan| unfit(&[plan]).pop().map(|(_, why)| why);
        assert_eq!(why(address("198.51.100.200/24", Some("lo"))), None, "its network may come later");
        assert!(why(address("198.51.100.200/24", None)).unwrap().contains("name the interface"));
        assert_eq!(why(address("198.51.100.200/24", Some("none0"))).unwrap(), "there is no interface none0");
        let replacing = AddressPlan { replace: true, ..address("198.51.100.200/24", Some("lo")) };
        assert!(why(replacing).unwrap().contains("to be replaced"));
    }
}
