//! What others know of where a group is: records of the DNS, and hooks that are called.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::Span;
use crate::NodeName;

mod check;

/// How long others may remember a record where the plan does not say.
const TTL_USUAL: Duration = Duration::from_secs(30);
/// How long a server or a hook has to answer where the plan does not say.
const TIMEOUT_USUAL: Duration = Duration::from_secs(10);
const PORT: u16 = 53;

/// A record of the DNS that holds the value of the node that serves. It is changed once the group is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DnsPlan {
    /// The zone in which it is: `example.org`.
    pub zone: String,
    /// Its whole name: `www.example.org`.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: DnsKind,
    /// How long others may remember it, 1 s to 1 d; none: 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// What it holds while a node serves, for both nodes: `{ paris = "10.0.0.1", lyon = "10.0.1.1" }`.
    pub values: BTreeMap<NodeName, String>,
    /// The zone's primary server, and others that are asked where it does not answer, each as `10.0.0.53` or
    /// `10.0.0.53:5353`; none: the one that the zone itself names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// The key with which changes are signed, as `tsig-keygen` writes it.
    pub key_file: PathBuf,
    /// How long a change may take, at most 1 h; none: 10 s. It is tried again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DnsKind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// The name that this one is another name of.
    Cname,
    /// The name of an address.
    Ptr,
}

/// A request that is sent once for each move, by the node that serves then. In `url`, `headers` and `body`, `{group}`,
/// `{node}`, `{other}`, `{event}`, `{epoch}` and `{address}` stand for what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HookPlan {
    /// Where to: `https://HOST:PORT/PATH`, or the same with `http`.
    pub url: String,
    /// `GET`, `PUT` or another one; none: `POST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// More headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What is sent; none: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Codes that are a success; none: 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<u16>,
    /// A file with the value of a header, for passwords: `Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Which header that is; none: `Authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_header: Option<String>,
    /// Certificates of those who may vouch for the server; none: the authorities that the machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How long it may take, at most 1 h; none: 10 s. It is tried again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

impl DnsPlan {
    /// How long others may remember it.
    pub fn ttl(&self) -> Duration {
        self.ttl.map_or(TTL_USUAL, |span| span.0)
    }

    /// How long a change may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(TIMEOUT_USUAL, |span| span.0)
    }

    /// The servers that it names, with their ports.
    pub fn server_addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().filter_map(|server| server_address(server)).collect()
    }

    /// What it holds while another node than that serves.
    pub fn values_of_others(&self, node: &NodeName) -> Vec<String> {
        self.values.iter().filter(|(other, _)| *other != node).map(|(_, value)| value.clone()).collect()
    }
}

impl DnsKind {
    /// Can a record hold that?
    fn holds(self, value: &str) -> bool {
        match self {
            DnsKind::A => value.parse::<Ipv4Addr>().is_ok(),
            DnsKind::Aaaa => value.parse::<Ipv6Addr>().is_ok(),
            DnsKind::Cname | DnsKind::Ptr => is_name(value),
        }
    }
}

impl HookPlan {
    /// The method of its request.
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("POST")
    }

    /// How long it may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(TIMEOUT_USUAL, |span| span.0)
    }

    /// The header whose value is in a file, and that file.
    pub fn secret(&self) -> Option<(String, PathBuf)> {
        let header = self.secret_header.clone().unwrap_or_else(|| "Authorization".into());
        self.secret_file.clone().map(|file| (header, file))
    }
}

fn server_address(text: &str) -> Option<SocketAddr> {
    let ip = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    ip.or_else(|_| text.parse()).ok().filter(|address| address.port() > 0 && !address.ip().is_unspecified())
}

/// Is it a name of the DNS, with or without a point at its end?
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    (1..=253).contains(&name.len()) && name.split('.').all(is_label)
}
