//! What of the parts of a group cannot be meant.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::check::BadGroup;
use super::{AddressPlan, CheckPlan, FencePlan, HeartbeatPath, ScriptPlan, ServicePlan};
use crate::plan::{LookPlan, NfsPlan, ResourcePlan, SambaPlan, Span};

/// Why it cannot be meant.
pub(super) type Why = Result<(), &'static str>;

const PROGRAM_MS: RangeInclusive<u128> = 1..=3_600_000;
const INTERVAL_MS: RangeInclusive<u128> = 100..=3_600_000;
const FAILURES: RangeInclusive<u32> = 1..=1_000;
const RESTARTS: RangeInclusive<u32> = 0..=100;
const WITHIN_MS: RangeInclusive<u128> = 1_000..=7 * 86_400_000;
const NAME_BYTES: RangeInclusive<usize> = 1..=64;
/// Bytes of an interface's name, as the kernel has it.
const INTERFACE_BYTES: RangeInclusive<usize> = 1..=15;

impl AddressPlan {
    /// The address without the length of its network; none: it is not an address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.split_once('/')?.0.parse().ok()
    }

    /// Can a host take it on a network?
    ///
    /// # Errors
    /// Why not, to be read behind the address.
    pub fn check(&self) -> Result<(), &'static str> {
        let prefix: u32 = self.address.split_once('/').and_then(|(_, prefix)| prefix.parse().ok()).unwrap_or(u32::MAX);
        match self.ip() {
            _ if prefix == u32::MAX => Err("has no network; write it as 10.0.0.100/24 or fd00::100/64"),
            None => Err("is no address; write it as 10.0.0.100/24 or fd00::100/64"),
            Some(ip) if prefix > bits(ip) => Err("has a longer network than there are addresses"),
            Some(ip) if !is_of_one_host(ip) || ip.is_loopback() || is_end_of_network(ip, prefix) => {
                Err("is not an address that a host can take on a network")
            }
            Some(_) => self.check_interface(),
        }
    }

    fn check_interface(&self) -> Why {
        let is_name = |name: &String| {
            INTERFACE_BYTES.contains(&name.len()) && !name.contains(|c: char| c == '/' || c.is_whitespace())
        };
        if !self.interface.iter().chain(&self.backup_interface).all(is_name) {
            return Err("is on an interface whose name no interface has");
        }
        match &self.backup_interface {
            Some(_) if self.replace => Err("replaces the host's own, which is on one interface: it has no backup"),
            Some(_) if self.interface == self.backup_interface => Err("has its own interface as its backup"),
            _ => Ok(()),
        }
    }
}

impl HeartbeatPath {
    /// Can heartbeats go that way?
    ///
    /// # Errors
    /// Why not, to be read behind the path.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.source.is_ipv4() != self.target.is_ipv4() {
            return Err("is from an address of IPv4 to one of IPv6, or back");
        }
        let is_usable = is_of_one_host(self.source) && is_of_one_host(self.target);
        if is_usable { Ok(()) } else { Err("names an address that is not of one host") }
    }
}

impl ServicePlan {
    pub(super) fn check(&self) -> Why {
        let commands = [&self.start, &self.stop, &self.status];
        let given = commands.iter().filter(|command| !command.is_empty()).count();
        match (&self.unit, given) {
            (Some(unit), 0) => check_unit(unit)?,
            (None, 3) => commands.into_iter().try_for_each(|command| check_program(command))?,
            (Some(_), _) => return Err("it has a unit and commands; use either"),
            (None, 0) => return Err("it has neither a unit nor the commands start, stop and status"),
            (None, _) => return Err("it needs all three of start, stop and status"),
        }
        check_limit(self.timeout)
    }
}

impl ResourcePlan {
    pub(super) fn check(&self) -> Why {
        self.check_name()?;
        self.check_kind()?;
        [self.start_timeout, self.stop_timeout].into_iter().try_for_each(check_limit)?;
        [Some(self.quick), self.deep].into_iter().flatten().try_for_each(|look| look.check())?;
        self.checks.iter().try_for_each(CheckPlan::check)?;
        if !RESTARTS.contains(&self.restarts()) {
            return Err("restarts is more than 100");
        }
        match WITHIN_MS.contains(&self.within().as_millis()) {
            true => Ok(()),
            false => Err("within is not between 1s and 7d"),
        }
    }

    pub(super) fn check_identity(&self) -> Result<(), BadGroup> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let bad = |(field, why)| BadGroup::Identity { resource: self.name.clone(), field, why };
        let unit =
            "cannot be that of a unit, which systemd starts; have its ExecStart begin with stead as, in a drop-in";
        let share = "cannot be that of a share: its server has a name";
        match () {
            () if self.unit.is_some() => Err(bad(("host", unit))),
            () if self.samba.is_some() || self.nfs.is_some() => Err(bad(("host", share))),
            () => identity.check().map_err(bad),
        }
    }

    fn check_name(&self) -> Why {
        let is_usable = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_name = NAME_BYTES.contains(&self.name.len()) && self.name.chars().all(is_usable);
        if is_name { Ok(()) } else { Err("name is not made of 1 to 64 letters, digits, - and _") }
    }

    fn check_kind(&self) -> Why {
        let commands = [&self.start, &self.stop, &self.status];
        let given = commands.iter().filter(|command| !command.is_empty()).count();
        let kinds = [self.agent.is_some(), self.unit.is_some(), given > 0, self.samba.is_some(), self.nfs.is_some()];
        match kinds.into_iter().filter(|is_given| *is_given).count() {
            0 => return Err("it has none of agent, unit, samba, nfs, and the commands start, stop and status"),
            1 => {}
            _ => return Err("it has more than one of agent, unit, samba, nfs, and commands; use one"),
        }
        match (given, &self.agent) {
            (0, Some(agent)) => return check_agent(agent),
            (0, None) => {}
            (3, _) => commands.into_iter().try_for_each(|command| check_program(command))?,
            _ => return Err("it needs all three of start, stop and status"),
        }
        self.unit.iter().try_for_each(|unit| check_unit(unit))?;
        self.samba.iter().try_for_each(SambaPlan::check)?;
        self.nfs.iter().try_for_each(NfsPlan::check)?;
        match () {
            () if !self.parameters.is_empty() => Err("it has parameters and no agent that takes them"),
            () if self.deep.is_some() => Err("deep is of agents alone; write [[group.resource.check]]"),
            () => Ok(()),
        }
    }
}

impl LookPlan {
    fn check(&self) -> Why {
        check_interval(self.interval)?;
        check_failures(self.failures)?;
        check_limit(self.timeout)
    }
}

impl CheckPlan {
    pub(super) fn check(&self) -> Why {
        let addresses = [self.tcp, self.smtp, self.imap, self.dns];
        match (addresses.iter().flatten().count(), &self.http, self.command.as_slice()) {
            (1, None, []) if addresses.iter().flatten().any(|address| address.port() == 0) => {
                return Err("its address has port 0");
            }
            (1, None, []) => {}
            (0, Some(url), []) => check_url(url)?,
            (0, None, command @ [_, ..]) => check_program(command)?,
            (0, None, []) => return Err("it has none of tcp, http, smtp, imap, dns and command"),
            _ => return Err("it has more than one of tcp, http, smtp, imap, dns and command; make it more checks"),
        }
        match (self.dns, self.question()) {
            (None, _) if self.question.is_some() => return Err("question is of dns alone"),
            (Some(_), None) => {
                return Err("dns needs a question: a name and a kind of record, as \"www.example.org A\"");
            }
            _ => {}
        }
        if self.expect.is_some() && self.http.is_none() && self.dns.is_none() {
            return Err("expect is of http and dns alone");
        }
        check_interval(self.interval)?;
        check_failures(self.failures)?;
        check_limit(self.timeout)
    }
}

impl ScriptPlan {
    /// Can it be run?
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), &'static str> {
        check_program(&self.command)?;
        check_limit(self.timeout)
    }
}

impl FencePlan {
    pub(super) fn check(&self) -> Why {
        if self.agent.first().is_none_or(String::is_empty) {
            return Err("agent is empty; name a program, as fence_ipmilan");
        }
        let is_line = |(name, value): (&String, &String)| {
            !name.is_empty() && !name.contains(['=', '\n', '\0']) && !value.contains(['\n', '\0'])
        };
        if !self.parameters.iter().all(is_line) {
            return Err("parameters holds one that is not a line of NAME=VALUE");
        }
        if self.parameter_file.as_ref().is_some_and(|file| !file.is_absolute()) {
            return Err("parameter-file needs its absolute path");
        }
        check_limit(self.timeout)
    }
}

fn check_program(command: &[String]) -> Why {
    match command.first() {
        None => Err("a command is empty"),
        Some(program) if !program.starts_with('/') => Err("a command's program needs its absolute path"),
        Some(_) if command.iter().any(|word| word.contains('\0')) => Err("a command holds a NUL"),
        Some(_) => Ok(()),
    }
}

fn check_limit(timeout: Option<Span>) -> Why {
    match timeout {
        Some(timeout) if !PROGRAM_MS.contains(&timeout.0.as_millis()) => Err("timeout is not between 1ms and 1h"),
        _ => Ok(()),
    }
}

fn check_interval(interval: Option<Span>) -> Why {
    match interval {
        Some(interval) if !INTERVAL_MS.contains(&interval.0.as_millis()) => Err("interval is not between 100ms and 1h"),
        _ => Ok(()),
    }
}

fn check_failures(failures: Option<u32>) -> Why {
    match failures {
        Some(failures) if !FAILURES.contains(&failures) => Err("failures is not between 1 and 1000"),
        _ => Ok(()),
    }
}

fn check_agent(agent: &str) -> Why {
    let is_word = |text: &str| {
        let is_usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !text.is_empty() && !text.starts_with('.') && text.chars().all(is_usable)
    };
    let parts = agent.strip_prefix("ocf:").and_then(|rest| rest.split_once(':'));
    match parts.is_some_and(|(provider, kind)| is_word(provider) && is_word(kind)) {
        true => Ok(()),
        false => Err("agent is not the name of one; write it as ocf:heartbeat:IPaddr2"),
    }
}

fn check_unit(unit: &str) -> Why {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let is_name = (1..=255).contains(&unit.len()) && !unit.starts_with(['-', '.']) && unit.chars().all(is_usable);
    if is_name { Ok(()) } else { Err("unit is not the name of a unit; write it as notes.service") }
}

fn check_url(url: &str) -> Why {
    let rest = url.strip_prefix("http://").unwrap_or("");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_url =
        host.parse::<SocketAddr>().is_ok_and(|host| host.port() > 0) && path.chars().all(|c| c.is_ascii_graphic());
    if is_url { Ok(()) } else { Err("http is not like http://10.0.0.100:80/PATH") }
}

pub(super) fn is_of_one_host(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// IPv4: the number of the network or its broadcast address.
fn is_end_of_network(address: IpAddr, prefix: u32) -> bool {
    let IpAddr::V4(v4) = address else { return false };
    let host = u32::MAX.checked_shr(prefix).unwrap_or(0);
    let low = v4.to_bits() & host;
    prefix < 31 && (low == 0 || low == host)
}
