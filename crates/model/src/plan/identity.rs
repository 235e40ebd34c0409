//! The names under which an application is started, whatever its node is called.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::group::GroupPlan;
use super::resource::ResourcePlan;

/// Longest host name that the kernel takes.
const HOST_BYTES: RangeInclusive<usize> = 1..=64;
const LABEL_BYTES: RangeInclusive<usize> = 1..=63;
const MACHINE_ID_DIGITS: usize = 32;
const HOSTS_MAX: usize = 256;
const LINE_BYTES_MAX: usize = 1024;

/// The table `[group.resource.identity]`: what the programs of a resource see in the place of the node's own names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IdentityPlan {
    /// The host name: at most 64 bytes.
    #[schemars(regex(pattern = "^[A-Za-z0-9.-]{1,64}$"))]
    pub host: String,
    /// The machine id: 32 digits 0-9 and a-f; none: the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-f]{32}$"))]
    pub machine_id: Option<String>,
    /// Lines that stand in `/etc/hosts` before the node's own; none: the group's first address with the host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
}

impl IdentityPlan {
    /// Can a program be started under it?
    ///
    /// # Errors
    /// The field that cannot be meant, and why, to be read behind it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        check_host(&self.host).map_err(|why| ("host", why))?;
        self.machine_id.as_deref().map_or(Ok(()), check_machine_id).map_err(|why| ("machine-id", why))?;
        let hosts = self.hosts.as_deref().unwrap_or_default();
        if hosts.len() > HOSTS_MAX {
            return Err(("hosts", "has more than 256 lines"));
        }
        hosts.iter().try_for_each(|line| check_line(line)).map_err(|why| ("hosts", why))
    }
}

impl GroupPlan {
    /// The identity of one of its resources, with the lines of `/etc/hosts` that are usual where the plan says none.
    pub fn identity(&self, resource: &ResourcePlan) -> Option<IdentityPlan> {
        let identity = resource.identity.clone()?;
        let address = self.addresses.iter().find_map(|address| address.ip());
        let usual = || address.iter().map(|address| line(*address, &identity.host)).collect();
        Some(IdentityPlan { hosts: Some(identity.hosts.clone().unwrap_or_else(usual)), ..identity })
    }
}

/// The name as it is comes first: it is the canonical one.
fn line(address: IpAddr, host: &str) -> String {
    match host.split_once('.') {
        Some((short, _)) => format!("{address} {host} {short}"),
        None => format!("{address} {host}"),
    }
}

/// RFC 1123, section 2.1.
fn check_host(host: &str) -> Result<(), &'static str> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_label = |label: &str| {
        let is_framed = !label.starts_with('-') && !label.ends_with('-');
        LABEL_BYTES.contains(&label.len()) && is_framed && label.chars().all(is_usable)
    };
    match () {
        () if host.parse::<IpAddr>().is_ok() => Err("is an address; write a name, as paris"),
        () if !HOST_BYTES.contains(&host.len()) => Err("is not between 1 and 64 bytes long"),
        () if !host.split('.').all(is_label) => {
            Err("is no host name; write it of letters, digits and -, as paris or paris.example.org")
        }
        () => Ok(()),
    }
}

fn check_machine_id(id: &str) -> Result<(), &'static str> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_id = id.len() == MACHINE_ID_DIGITS && id.bytes().all(is_digit) && id.bytes().any(|byte| byte != b'0');
    if is_id { Ok(()) } else { Err("is not made of 32 digits 0-9 and a-f, not all 0; copy it from /etc/machine-id") }
}

fn check_line(line: &str) -> Result<(), &'static str> {
    let mut words = line.split_ascii_whitespace();
    let has_address = words.next().is_some_and(|word| word.parse::<IpAddr>().is_ok());
    let is_line = line.len() <= LINE_BYTES_MAX && !line.contains(|c: char| c.is_control() && c != '\t') && has_address;
    if is_line && words.next().is_some() { Ok(()) } else { Err("has a line that is not like 10.0.0.100 paris") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(host: &str, more: &str) -> IdentityPlan {
        toml::from_str(&format!("host = '{host}'\n{more}")).unwrap()
    }

    #[test]
    fn names_that_a_host_can_have_are_taken_and_others_refused() {
        let longest = format!("{}.{}", "a".repeat(31), "b".repeat(32));
        for host in ["paris", "Paris-2", "3com", "paris.example.org", &longest] {
            assert_eq!(identity(host, "").check(), Ok(()), "{host}");
        }
        for host in ["", "-paris", "paris-", "paris.", ".paris", "pa_ris", "pa ris", "pâris", "10.0.0.1", "fd00::1"] {
            assert_eq!(identity(host, "").check().unwrap_err().0, "host", "{host}");
        }
        for long in ["a".repeat(64), format!("{longest}b")] {
            assert_eq!(identity(&long, "").check().unwrap_err().0, "host", "{long}");
        }
    }

    #[test]
    fn the_machine_id_and_the_lines_have_their_form() {
        let good = format!("machine-id = '{}'\nhosts = ['10.0.0.100 paris', 'fd00::1\tparis p']", "0a".repeat(16));
        assert_eq!(identity("paris", &good).check(), Ok(()));
        for id in ["0A".repeat(16), "0a".repeat(15), "00".repeat(16), "0g".repeat(16)] {
            assert_eq!(identity("paris", &format!("machine-id = '{id}'")).check().unwrap_err().0, "machine-id");
        }
        for line in ["", "paris", "10.0.0.100", "10.0.0 paris", "10.0.0.1 a\\n10.0.0.2 b", "10.0.0.1 a\\u0000"] {
            assert_eq!(identity("paris", &format!("hosts = [\"{line}\"]")).check().unwrap_err().0, "hosts", "{line}");
        }
    }

    #[test]
    fn the_usual_line_is_the_groups_first_address_with_the_name() {
        let usual = |host: &str, more: &str| {
            let text = format!(
                "name = 'g'\nsource = 'a'\ntarget = 'b'\nsets = []\n{more}\n[[resource]]\nname = 'r'\nunit = 'u'\n\
                 [resource.identity]\nhost = '{host}'\n"
            );
            let group: GroupPlan = toml::from_str(&text).unwrap();
            group.identity(&group.resources[0]).unwrap().hosts.unwrap()
        };
        let address = "[[address]]\naddress = '10.0.0.100/24'\n[[address]]\naddress = 'fd00::1/64'\n";
        assert_eq!(usual("paris", address), ["10.0.0.100 paris"]);
        assert_eq!(usual("paris.example.org", address), ["10.0.0.100 paris.example.org paris"]);
        assert_eq!(usual("paris", ""), Vec::<String>::new());
    }
}
