//! A directory that other machines use: shared by Samba, or exported by NFS.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The table `[group.resource.samba]`: a share of the Samba server on the node that serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SambaPlan {
    /// What clients call it: `//server/NAME`.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,79}\\$?$"))]
    pub share: String,
    /// The directory, with its absolute path.
    pub path: PathBuf,
    /// The server's configuration; none: the one that Samba's own programs take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Its parameters, as smb.conf has them: `"read only" = "no"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// The table `[group.resource.nfs]`: an export of the NFS server in the kernel of the node that serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NfsPlan {
    /// The directory, with its absolute path.
    pub path: PathBuf,
    /// Who may mount it, as exports(5) has them: addresses, networks, names, `*`.
    pub clients: Vec<String>,
    /// As exports(5) has them: `rw`, `no_root_squash`. Without `fsid` a number of its own is given, the same on both nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Why it cannot be meant.
type Why = Result<(), &'static str>;

const NAME_BYTES: RangeInclusive<usize> = 1..=80;
const WORD_BYTES: RangeInclusive<usize> = 1..=255;
const CLIENTS: RangeInclusive<usize> = 1..=64;
/// Sections of smb.conf that are no shares, or that Samba makes itself.
const RESERVED: [&str; 5] = ["global", "homes", "printers", "print$", "ipc$"];
/// Parameters that the plan says by itself, or that would bring other sections in.
const NOT_OPTIONS: [&str; 5] = ["path", "directory", "include", "copy", "available"];

impl SambaPlan {
    pub(super) fn check(&self) -> Why {
        let bare = self.share.strip_suffix('$').unwrap_or(&self.share);
        let is_usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !NAME_BYTES.contains(&bare.len()) || !bare.chars().all(is_usable) {
            return Err("share is not made of 1 to 80 letters, digits, -, _ and ., with $ at the end of a hidden one");
        }
        if RESERVED.contains(&self.share.to_ascii_lowercase().as_str()) {
            return Err("share has a name that Samba uses for something else");
        }
        check_path(&self.path)?;
        if self.path.to_string_lossy().contains('%') {
            return Err("path holds a %, which Samba takes for a variable");
        }
        if self.config.as_ref().is_some_and(|config| !is_plain(config)) {
            return Err("config needs its absolute path");
        }
        self.options.iter().try_for_each(|(name, value)| check_option(name, value))
    }

    /// Are both the same share to a client, if one server had both?
    pub fn is_same_share(&self, other: &SambaPlan) -> bool {
        self.share.eq_ignore_ascii_case(&other.share)
    }
}

impl NfsPlan {
    pub(super) fn check(&self) -> Why {
        check_path(&self.path)?;
        if self.path.to_string_lossy().contains(|c: char| c.is_whitespace() || "\"#\\".contains(c)) {
            return Err("path holds a character that exports(5) would have to escape");
        }
        if !CLIENTS.contains(&self.clients.len()) {
            return Err("clients are not between 1 and 64; \"*\" is everybody");
        }
        if !self.clients.iter().all(|client| is_word(client, "-_.:/*?@[]")) {
            return Err("clients holds one that is no address, network or name, as 10.0.0.0/24");
        }
        match self.options.iter().all(|option| is_word(option, "-_.:/=@+")) {
            true => Ok(()),
            false => Err("options holds one that is not like rw or fsid=7"),
        }
    }
}

/// A line of smb.conf is one parameter: it may neither end its line, nor go on in the next, nor begin a section.
fn check_option(name: &str, value: &str) -> Why {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || " :_-".contains(c);
    if name.trim() != name || !WORD_BYTES.contains(&name.len()) || !name.chars().all(is_usable) {
        return Err("options holds a name that no parameter of Samba has");
    }
    // Samba does not mind case or spaces in names.
    let key = name.replace(' ', "").to_ascii_lowercase();
    if NOT_OPTIONS.contains(&key.as_str()) {
        return Err("options holds path, directory, include, copy or available: the path is a field of its own");
    }
    match value.contains(char::is_control) || value.ends_with('\\') {
        true => Err("options holds a value with a line break, or with a \\ at its end"),
        false => Ok(()),
    }
}

fn check_path(path: &Path) -> Why {
    if is_plain(path) { Ok(()) } else { Err("path is not absolute, or holds what no line of a configuration can") }
}

/// An absolute path that a line can hold as it is.
fn is_plain(path: &Path) -> bool {
    let text = path.to_str().unwrap_or_default();
    path.is_absolute() && text.trim() == text && !text.contains(char::is_control) && !text.ends_with('\\')
}

fn is_word(text: &str, marks: &str) -> bool {
    WORD_BYTES.contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samba(change: impl FnOnce(&mut SambaPlan)) -> Why {
        let mut plan = SambaPlan { share: "files".into(), path: "/srv/files".into(), ..SambaPlan::default() };
        change(&mut plan);
        plan.check()
    }

    #[test]
    fn a_share_is_one_section_of_samba_whatever_the_plan_holds() {
        let option = |name: &str, value: &str| samba(|plan| drop(plan.options.insert(name.into(), value.into())));
        assert_eq!(option("full_audit:prefix", "%u|%I"), Ok(()));
        assert_eq!(samba(|plan| plan.share = "c$".into()), Ok(()));
        for name in ["", "$", "a b", "a]", "a/b", "Homes", "IPC$", "global"] {
            assert!(samba(|plan| plan.share = name.into()).is_err(), "{name:?}");
        }
        for path in ["srv", "/srv\n[x]", "/srv/%U", "/srv\\", "/srv "] {
            assert!(samba(|plan| plan.path = path.into()).is_err(), "{path:?}");
        }
        for (name, value) in
            [("a", "b\nc = d"), ("a", "b\\"), ("[x]", ""), ("a = b", ""), ("In Clude", "/etc/shadow"), ("PATH", "/")]
        {
            assert!(option(name, value).is_err(), "{name:?} = {value:?}");
        }
        assert!(samba(|plan| plan.config = Some("smb.conf".into())).is_err());
    }

    #[test]
    fn an_export_is_one_line_of_exports() {
        let nfs = |path: &str, client: &str, option: &str| {
            NfsPlan { path: path.into(), clients: vec![client.into()], options: vec![option.into()] }.check()
        };
        for client in ["*", "10.0.0.0/24", "fd00::/64", "@staff", "*.example.net"] {
            assert_eq!(nfs("/srv", client, "fsid=7"), Ok(()), "{client}");
        }
        for (path, client, option) in
            [("srv", "*", "rw"), ("/a b", "*", "rw"), ("/srv", "a b", "rw"), ("/srv", "*", "rw,ro"), ("/srv", "", "rw")]
        {
            assert!(nfs(path, client, option).is_err(), "{path} {client} {option}");
        }
        assert!(NfsPlan { path: "/srv".into(), ..NfsPlan::default() }.check().is_err(), "nobody could mount it");
    }
}
