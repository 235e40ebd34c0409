//! What of a registration cannot be meant, each with the field that says it.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::super::amount::Span;
use super::super::group::{BadGroup, GroupPlan};
use super::{DnsPlan, HookPlan, is_name, server_address};
use crate::template;

const MANY: usize = 16;
const TTL_MS: RangeInclusive<u128> = 1_000..=86_400_000;
const TIMEOUT_MS: RangeInclusive<u128> = 1..=3_600_000;
const CODES: RangeInclusive<u16> = 100..=599;
/// Headers that belong to the connection.
const TAKEN: [&str; 4] = ["host", "connection", "content-length", "transfer-encoding"];

/// The field, and what is wrong with it.
type Bad = Result<(), (&'static str, String)>;

impl GroupPlan {
    pub(in crate::plan) fn check_outside(&self) -> Result<(), BadGroup> {
        for (list, count) in [("dns", self.dns.len()), ("hook", self.hooks.len())] {
            if count > MANY {
                return Err(BadGroup::TooMany { field: list, count });
            }
        }
        for (at, dns) in self.dns.iter().enumerate() {
            let twice = self.dns[..at].iter().any(|other| other.is_same_as(dns));
            let checked = if twice { bad("name", "is in it twice") } else { dns.check(self) };
            checked.map_err(|(field, why)| BadGroup::Outside { list: "dns", number: at + 1, field, why })?;
        }
        for (at, hook) in self.hooks.iter().enumerate() {
            let checked = hook.check();
            checked.map_err(|(field, why)| BadGroup::Outside { list: "hook", number: at + 1, field, why })?;
        }
        Ok(())
    }

    /// Two groups cannot both say what a record holds.
    pub(in crate::plan) fn check_outside_beside(&self, other: &GroupPlan) -> Result<(), BadGroup> {
        let is_theirs = |dns: &DnsPlan| other.dns.iter().any(|theirs| theirs.is_same_as(dns));
        let Some(at) = self.dns.iter().position(is_theirs) else { return Ok(()) };
        let why = format!("{} goes with group {} already", self.dns[at].name, other.name);
        Err(BadGroup::Outside { list: "dns", number: at + 1, field: "name", why })
    }
}

impl DnsPlan {
    fn is_same_as(&self, other: &DnsPlan) -> bool {
        let name = |dns: &DnsPlan| dns.name.trim_end_matches('.').to_ascii_lowercase();
        self.kind == other.kind && name(self) == name(other)
    }

    fn check(&self, group: &GroupPlan) -> Bad {
        if !is_name(&self.zone) {
            return bad("zone", "is not the name of a zone; write it as example.org");
        }
        if !is_name(&self.name) {
            return bad("name", "is not a name; write it whole, as www.example.org");
        }
        if !is_in(&self.name, &self.zone) {
            return bad("name", &format!("is not in zone {}", self.zone));
        }
        self.check_values(group)?;
        if self.ttl.is_some_and(|ttl| !TTL_MS.contains(&ttl.0.as_millis()) || ttl.0.subsec_millis() > 0) {
            return bad("ttl", "is not between 1s and 1d, in whole seconds");
        }
        if self.servers.len() > MANY || self.servers.iter().any(|server| server_address(server).is_none()) {
            return bad("servers", "names one that is not like 10.0.0.53 or 10.0.0.53:5353, or more than 16");
        }
        check_file("key-file", Some(&self.key_file))?;
        check_timeout(self.timeout)
    }

    fn check_values(&self, group: &GroupPlan) -> Bad {
        for node in [&group.source, &group.target] {
            let Some(value) = self.values.get(node) else { return bad("values", &format!("has none for {node}")) };
            if !self.kind.holds(value) {
                return bad("values", &format!("has {value:?} for {node}, which is not what such a record holds"));
            }
        }
        if let Some(node) = self.values.keys().find(|node| group.other(node).is_none()) {
            return bad("values", &format!("names {node}, which is neither source nor target"));
        }
        match self.values.get(&group.source) == self.values.get(&group.target) {
            true => bad("values", "has the same for both nodes, so that nothing would change"),
            false => Ok(()),
        }
    }
}

impl HookPlan {
    fn check(&self) -> Bad {
        check_url(&self.url)?;
        if !is_token(self.method()) || self.method().bytes().any(|byte| byte.is_ascii_lowercase()) {
            return bad("method", "is not like GET or POST");
        }
        check_names("body", &self.body)?;
        for (name, value) in &self.headers {
            check_header("headers", name)?;
            check_names("headers", value)?;
            if value.contains(|c: char| c.is_control()) {
                return bad("headers", &format!("has a value for {name} that is not one line"));
            }
        }
        check_header("secret-header", self.secret_header.as_deref().unwrap_or("Authorization"))?;
        if self.secret_header.is_some() && self.secret_file.is_none() {
            return bad("secret-header", "is there without secret-file");
        }
        if self.expect.iter().any(|code| !CODES.contains(code)) {
            return bad("expect", "has a code that is not between 100 and 599");
        }
        check_file("secret-file", self.secret_file.as_ref())?;
        check_file("ca-file", self.ca_file.as_ref())?;
        check_timeout(self.timeout)
    }
}

fn check_url(url: &str) -> Bad {
    let rest = url.strip_prefix("https://").or(url.strip_prefix("http://")).unwrap_or("");
    let host = rest.split('/').next().unwrap_or_default();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, "80"),
    };
    let is_host =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    if !is_host || !is_port || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return bad("url", "is not like https://HOST:PORT/PATH");
    }
    check_names("url", url)
}

fn check_names(field: &'static str, text: &str) -> Bad {
    match template::names(text).find(|name| !template::NAMES.contains(name)) {
        Some(name) => bad(field, &format!("has {{{name}}}, which stands for nothing; there are {}", known_names())),
        None => Ok(()),
    }
}

fn known_names() -> String {
    template::NAMES.map(|name| format!("{{{name}}}")).join(", ")
}

fn check_header(field: &'static str, name: &str) -> Bad {
    match is_token(name) && !TAKEN.contains(&name.to_ascii_lowercase().as_str()) {
        true => Ok(()),
        false => bad(field, &format!("has {name:?}, which is not the name of a header that can be set")),
    }
}

fn check_file(field: &'static str, file: Option<&PathBuf>) -> Bad {
    if file.is_some_and(|file| !file.is_absolute()) { bad(field, "needs its absolute path") } else { Ok(()) }
}

fn check_timeout(timeout: Option<Span>) -> Bad {
    match timeout.is_some_and(|timeout| !TIMEOUT_MS.contains(&timeout.0.as_millis())) {
        true => bad("timeout", "is not between 1ms and 1h"),
        false => Ok(()),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_in(name: &str, zone: &str) -> bool {
    let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    let (name, zone) = (plain(name), plain(zone));
    name.strip_suffix(&zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn bad(field: &'static str, why: &str) -> Bad {
    Err((field, why.into()))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
