//! Who is told that something is wrong, beside the command: the tables `[[alerts.snmp]]`, `[[alerts.mail]]` and
//! `[[alerts.webhook]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AlertsPlan, PlanError, is_default};
use crate::GroupName;
use crate::delivery::Policy;

/// Messages that a manager gets in a minute where the plan does not say.
const SNMP_PER_MINUTE: u32 = 60;
const MAIL_PER_MINUTE: u32 = 4;
const WEBHOOK_PER_MINUTE: u32 = 30;
/// How long events are gathered for a message that takes several.
const GATHER: Duration = Duration::from_secs(5);
/// Events that such a message holds.
const BATCH_MAX: usize = 100;
/// The shortest password of SNMPv3 (RFC 3414, 11.2).
const PASSWORD_MIN: &str = "at least 8 characters";

/// A manager that gets SNMP notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SnmpPlan {
    /// Its name, unique among all receivers.
    pub name: GroupName,
    /// `HOST` or `HOST:PORT`; the port is 162 otherwise.
    pub address: String,
    /// Which version is spoken.
    #[serde(default)]
    pub version: SnmpVersion,
    /// Whether the manager has to confirm each notification: an inform rather than a trap.
    #[serde(default, skip_serializing_if = "is_default")]
    pub inform: bool,
    /// Of version 2c: a file that holds the community.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub community_file: Option<PathBuf>,
    /// Of version 3: the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How the user is authenticated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auth: SnmpAuth,
    /// A file that holds the password for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_password_file: Option<PathBuf>,
    /// How notifications are encrypted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub privacy: SnmpPrivacy,
    /// A file that holds the password for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_password_file: Option<PathBuf>,
    /// Most notifications in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 6000))]
    pub per_minute: Option<u32>,
}

/// Version of SNMP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnmpVersion {
    /// 2c: neither authenticated nor encrypted.
    V2c,
    /// 3, authenticated and encrypted (authPriv).
    #[default]
    V3,
}

/// Authentication of SNMPv3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnmpAuth {
    /// HMAC-SHA-96, for managers that know no better.
    Sha,
    /// HMAC-192-SHA-256.
    #[default]
    Sha256,
    /// HMAC-384-SHA-512.
    Sha512,
}

/// Encryption of SNMPv3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnmpPrivacy {
    /// AES with 128 bits.
    #[default]
    Aes128,
    /// AES with 256 bits, keys extended as Cisco and Net-SNMP do.
    Aes256,
}

/// Somebody who gets mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MailPlan {
    /// Its name, unique among all receivers.
    pub name: GroupName,
    /// The mail server: `HOST` or `HOST:PORT`; the port is 25, 587 or 465 otherwise, as `encryption` says.
    pub server: String,
    /// From whom it comes.
    pub from: String,
    /// Whom it goes to.
    pub to: Vec<String>,
    /// How the connection is kept secret.
    #[serde(default)]
    pub encryption: Encryption,
    /// A file with the certificates that are trusted, as PEM; none: those that this machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Who logs in; none: nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A file that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Most mails in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 6000))]
    pub per_minute: Option<u32>,
}

/// How the connection to a mail server is kept secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Not at all; port 25.
    None,
    /// From STARTTLS on, which the server has to know; port 587.
    #[default]
    Starttls,
    /// From the beginning; port 465.
    Tls,
}

/// A program that gets JSON by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WebhookPlan {
    /// Its name, unique among all receivers.
    pub name: GroupName,
    /// Where to POST: `https://HOST[:PORT]/PATH`, or `http://` without secrecy.
    pub url: String,
    /// A file with the certificates that are trusted, as PEM; none: those that this machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A file that holds a token, sent as `Authorization: Bearer TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Most messages in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 6000))]
    pub per_minute: Option<u32>,
}

/// All receivers of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Receivers<'a>(pub(super) &'a AlertsPlan);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// By SNMP.
    Snmp(SnmpPlan),
    /// By mail.
    Mail(MailPlan),
    /// By HTTP.
    Webhook(WebhookPlan),
}

/// A file that a receiver needs, and where the plan names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile<'a> {
    /// The list.
    pub kind: &'static str,
    /// The place in it, from 1.
    pub number: usize,
    /// Of which receiver.
    pub receiver: &'a GroupName,
    /// Which field.
    pub field: &'static str,
    /// The file.
    pub path: &'a Path,
    /// Nobody else may read it.
    pub is_secret: bool,
}

impl SecretFile<'_> {
    /// It cannot be used, for that reason.
    pub fn is_bad(&self, why: String) -> PlanError {
        let SecretFile { kind, number, field, .. } = *self;
        PlanError::Receiver { kind, number, name: self.receiver.to_string(), field, why }
    }
}

impl Receiver {
    /// Its name.
    pub fn name(&self) -> &GroupName {
        match self {
            Receiver::Snmp(plan) => &plan.name,
            Receiver::Mail(plan) => &plan.name,
            Receiver::Webhook(plan) => &plan.name,
        }
    }

    /// The list that it is in: `snmp`, `mail` or `webhook`.
    pub fn kind(&self) -> &'static str {
        match self {
            Receiver::Snmp(_) => "snmp",
            Receiver::Mail(_) => "mail",
            Receiver::Webhook(_) => "webhook",
        }
    }

    /// How it is told.
    pub fn policy(&self) -> Policy {
        match self {
            Receiver::Snmp(plan) => {
                let per_minute = plan.per_minute.unwrap_or(SNMP_PER_MINUTE);
                Policy { gather: Duration::ZERO, batch_max: 1, per_minute }
            }
            Receiver::Mail(plan) => gathered(plan.per_minute.unwrap_or(MAIL_PER_MINUTE)),
            Receiver::Webhook(plan) => gathered(plan.per_minute.unwrap_or(WEBHOOK_PER_MINUTE)),
        }
    }

    fn files(&self) -> Vec<(&'static str, Option<&Path>, bool)> {
        match self {
            Receiver::Snmp(plan) => vec![
                ("community-file", plan.community_file.as_deref(), true),
                ("auth-password-file", plan.auth_password_file.as_deref(), true),
                ("privacy-password-file", plan.privacy_password_file.as_deref(), true),
            ],
            Receiver::Mail(plan) => vec![
                ("password-file", plan.password_file.as_deref(), true),
                ("ca-file", plan.ca_file.as_deref(), false),
            ],
            Receiver::Webhook(plan) => {
                vec![("token-file", plan.token_file.as_deref(), true), ("ca-file", plan.ca_file.as_deref(), false)]
            }
        }
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let per_minute = self.policy().per_minute;
        if !(1..=6000).contains(&per_minute) {
            return Err(("per-minute", format!("per-minute is {per_minute}, not between 1 and 6000")));
        }
        for (field, path, _) in self.files() {
            if path.is_some_and(|path| !path.is_absolute()) {
                return Err((field, format!("{field} is not an absolute path")));
            }
        }
        match self {
            Receiver::Snmp(plan) => plan.check(),
            Receiver::Mail(plan) => plan.check(),
            Receiver::Webhook(plan) => plan.check(),
        }
    }
}

impl<'a> Receivers<'a> {
    /// One after the other, with their places in their lists, from 1.
    pub fn numbered(self) -> impl Iterator<Item = (usize, Receiver)> {
        let snmp = self.0.snmp.iter().cloned().map(Receiver::Snmp).enumerate();
        let mail = self.0.mail.iter().cloned().map(Receiver::Mail).enumerate();
        let webhook = self.0.webhook.iter().cloned().map(Receiver::Webhook).enumerate();
        snmp.chain(mail).chain(webhook).map(|(at, receiver)| (at + 1, receiver))
    }

    /// Are there none?
    pub fn are_none(self) -> bool {
        self.0.snmp.is_empty() && self.0.mail.is_empty() && self.0.webhook.is_empty()
    }

    /// How each of them is told, by name.
    pub fn policies(self) -> BTreeMap<String, Policy> {
        self.numbered().map(|(_, receiver)| (receiver.name().to_string(), receiver.policy())).collect()
    }

    /// The receiver of that name.
    pub fn named(self, name: &str) -> Option<Receiver> {
        self.numbered().map(|(_, receiver)| receiver).find(|receiver| receiver.name().as_str() == name)
    }

    /// What is wrong with a file that one of them needs, as `look` says of it.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn check_files(self, look: impl Fn(&SecretFile<'_>) -> Result<(), String>) -> Result<(), PlanError> {
        for (number, receiver) in self.numbered() {
            for (field, path, is_secret) in receiver.files() {
                let Some(path) = path else { continue };
                let kind = receiver.kind();
                let file = SecretFile { kind, number, receiver: receiver.name(), field, path, is_secret };
                look(&file).map_err(|why| file.is_bad(why))?;
            }
        }
        Ok(())
    }

    pub(super) fn check(self) -> Result<(), PlanError> {
        let mut names = BTreeSet::from(["command".to_owned()]);
        for (number, receiver) in self.numbered() {
            let name = receiver.name().to_string();
            let is_new = names.insert(name.clone());
            let twice = || ("name", "another receiver has that name; give each its own".to_owned());
            let checked = if is_new { receiver.check() } else { Err(twice()) };
            let kind = receiver.kind();
            checked.map_err(|(field, why)| PlanError::Receiver { kind, number, name, field, why })?;
        }
        Ok(())
    }
}

impl SnmpPlan {
    /// Host and port.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        host_and_port(&self.address, 162)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        is_address("address", self.host_and_port(), &self.address)?;
        let needs = |field, what: &str| Err((field, format!("{what}; name it with {field}")));
        match self.version {
            SnmpVersion::V2c if self.community_file.is_none() => {
                needs("community-file", "version v2c needs a file that holds the community")
            }
            SnmpVersion::V2c if self.user.is_some() => {
                Err(("user", "version v2c has no users; leave user out, or take version v3".into()))
            }
            SnmpVersion::V2c => Ok(()),
            SnmpVersion::V3 if self.community_file.is_some() => {
                Err(("community-file", "version v3 has no community; leave it out, or take version v2c".into()))
            }
            SnmpVersion::V3 if self.user.as_ref().is_none_or(String::is_empty) => {
                needs("user", "version v3 needs a user")
            }
            SnmpVersion::V3 if self.auth_password_file.is_none() => needs(
                "auth-password-file",
                &format!("version v3 needs a file that holds the password of the user, {PASSWORD_MIN}"),
            ),
            SnmpVersion::V3 if self.privacy_password_file.is_none() => needs(
                "privacy-password-file",
                &format!("version v3 needs a file that holds the password for encryption, {PASSWORD_MIN}"),
            ),
            SnmpVersion::V3 => Ok(()),
        }
    }
}

impl MailPlan {
    /// Host and port of the server.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let usual = match self.encryption {
            Encryption::None => 25,
            Encryption::Starttls => 587,
            Encryption::Tls => 465,
        };
        host_and_port(&self.server, usual)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        is_address("server", self.host_and_port(), &self.server)?;
        is_mailbox("from", &self.from)?;
        if self.to.is_empty() {
            return Err(("to", "nobody gets the mail; name at least one address with to".into()));
        }
        self.to.iter().try_for_each(|to| is_mailbox("to", to))?;
        match (&self.user, &self.password_file) {
            (Some(_), None) => Err(("user", "the user has no password; name its file with password-file".into())),
            (None, Some(_)) => Err(("password-file", "it is nobody's password; say with user whose".into())),
            (Some(_), _) if self.encryption == Encryption::None => Err((
                "encryption",
                "the password would be sent in the clear; take encryption \"starttls\" or \"tls\"".into(),
            )),
            _ => Ok(()),
        }
    }
}

impl WebhookPlan {
    /// Is it `https`, and which host, port and path?
    pub fn parts(&self) -> Option<(bool, &str, u16, &str)> {
        let (is_tls, rest) = match (self.url.strip_prefix("https://"), self.url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return None,
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = host_and_port(host, if is_tls { 443 } else { 80 })?;
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then_some((is_tls, host, port, if path.is_empty() { "/" } else { path }))
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        match self.parts() {
            None => Err(("url", format!("{:?} is not like https://HOST[:PORT]/PATH", self.url))),
            Some((false, ..)) if self.token_file.is_some() => {
                Err(("token-file", "the token would be sent in the clear; take an https:// address".into()))
            }
            Some(_) => Ok(()),
        }
    }
}

fn gathered(per_minute: u32) -> Policy {
    Policy { gather: GATHER, batch_max: BATCH_MAX, per_minute }
}

fn is_address(field: &'static str, parts: Option<(&str, u16)>, said: &str) -> Result<(), (&'static str, String)> {
    parts.map(drop).ok_or_else(|| (field, format!("{said:?} is not like HOST or HOST:PORT")))
}

fn is_mailbox(field: &'static str, said: &str) -> Result<(), (&'static str, String)> {
    let is_plain = said.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>,;\"()".contains(&byte));
    let is_whole = said.split_once('@').is_some_and(|(name, host)| !name.is_empty() && is_host(host));
    if is_plain && is_whole { Ok(()) } else { Err((field, format!("{said:?} is not like NAME@HOST"))) }
}

/// `HOST`, `HOST:PORT`, `[IPV6]:PORT`.
fn host_and_port(text: &str, usual: u16) -> Option<(&str, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return Some((host, if port.is_empty() { usual } else { port.strip_prefix(':')?.parse().ok()? }));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some((text, usual));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (text, usual),
    };
    is_host(host).then_some((host, port))
}

/// A name of the DNS, or an IPv4 address.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let inside = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        inside && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    let labels = || text.split('.');
    let last_is_number = labels().next_back().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && labels().all(is_label) && (!last_is_number || text.parse::<std::net::Ipv4Addr>().is_ok())
}

#[cfg(test)]
#[path = "receivers_tests.rs"]
mod tests;
