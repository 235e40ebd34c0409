//! Rules: which names beneath a root belong to the set.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules as the operator writes them.
///
/// A glob without `/` matches the name at any depth; one with `/` matches the path beneath the root (a leading `/` is
/// allowed and means the same). `*` and `?` never match `/`; `**` does. Exclude wins over include; an excluded
/// directory takes everything beneath it along. With includes, a file must match one of them; directories are kept so
/// that what they hold can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RulesSpec {
    /// Globs of files to take; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Globs of files and directories to leave out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Leave subdirectories out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub flat: bool,
}

impl RulesSpec {
    /// Rules that take just these names of the root itself.
    pub fn only<N: AsRef<str>>(names: impl Iterator<Item = N>) -> RulesSpec {
        let include = names.map(|name| format!("/{}", globset::escape(name.as_ref()))).collect();
        RulesSpec { include, exclude: Vec::new(), flat: true }
    }
}

/// A glob that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("glob {glob:?} is not usable: {why}")]
pub struct BadRule {
    glob: String,
    why: String,
}

/// Rules ready for use.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
    anchored: bool,
    flat: bool,
    check: u64,
}

impl Rules {
    /// Compiles the rules.
    ///
    /// # Errors
    /// Names the glob that is malformed.
    pub fn new(spec: &RulesSpec) -> Result<Rules, BadRule> {
        let anchored = spec.include.iter().chain(&spec.exclude).any(|glob| is_anchored(glob));
        let (include, exclude) = (compile(&spec.include)?, compile(&spec.exclude)?);
        Ok(Rules { include, exclude, anchored, flat: spec.flat, check: check(spec) })
    }

    /// A number that tells other rules from these, also after a restart.
    pub fn check(&self) -> u64 {
        self.check
    }

    /// Is everything beneath the root in the set?
    pub fn take_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none() && !self.flat
    }

    /// Can a rename of a directory change whether something beneath it belongs to the set?
    pub fn are_anchored(&self) -> bool {
        self.anchored || self.flat
    }

    /// Does the entry belong to the set, if its directory does? `path` is relative to the root, without leading `/`.
    pub fn take(&self, path: &[u8], is_dir: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        let hit = |set: &Option<GlobSet>| set.as_ref().is_some_and(|set| set.is_match(path));
        if hit(&self.exclude) {
            return false;
        }
        if is_dir { !self.flat } else { self.include.is_none() || hit(&self.include) }
    }
}

/// FNV-1a over the globs, each with its length and its side; 0: no rules.
fn check(spec: &RulesSpec) -> u64 {
    if *spec == RulesSpec::default() {
        return 0;
    }
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: u8| sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for (side, globs) in [(1, &spec.include), (2, &spec.exclude)] {
        for glob in globs {
            add(side);
            (glob.len() as u64).to_le_bytes().into_iter().for_each(&mut add);
            glob.bytes().for_each(&mut add);
        }
    }
    add(u8::from(spec.flat));
    sum
}

fn is_anchored(glob: &str) -> bool {
    glob.contains('/')
}

fn compile(globs: &[String]) -> Result<Option<GlobSet>, BadRule> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let bad = |why: String| BadRule { glob: glob.clone(), why };
        if glob.is_empty() {
            return Err(bad("it is empty".into()));
        }
        let path = if is_anchored(glob) { glob.trim_matches('/').to_string() } else { format!("**/{glob}") };
        let compiled = GlobBuilder::new(&path).literal_separator(true).backslash_escape(true).build();
        set.add(compiled.map_err(|e| bad(e.kind().to_string()))?);
    }
    Ok(Some(set.build().map_err(|e| BadRule { glob: globs.join(" "), why: e.to_string() })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(include: &[&str], exclude: &[&str]) -> Rules {
        let owned = |globs: &[&str]| globs.iter().map(|g| g.to_string()).collect();
        Rules::new(&RulesSpec { include: owned(include), exclude: owned(exclude), flat: false }).unwrap()
    }

    #[test]
    fn other_rules_have_another_check() {
        let all =
            [rules(&[], &[]), rules(&["a"], &[]), rules(&[], &["a"]), rules(&["a", "b"], &[]), rules(&["ab"], &[])];
        let checks: std::collections::BTreeSet<u64> = all.iter().map(Rules::check).collect();
        assert_eq!(checks.len(), all.len());
        assert_eq!(rules(&["a", "b"], &["c"]).check(), rules(&["a", "b"], &["c"]).check());
        assert_eq!(Rules::default().check(), rules(&[], &[]).check());
    }

    #[test]
    fn exclude_wins_and_stars_stay_within_a_name() {
        let rules = rules(&["*.nsf", "etc/*"], &["*.tmp", "/cache", "a/**/b"]);
        assert!(rules.take(b"x/mail.nsf", false));
        assert!(!rules.take(b"x/mail.txt", false));
        assert!(rules.take(b"etc/hosts", false));
        assert!(!rules.take(b"etc/a/hosts", false));
        assert!(!rules.take(b"x.tmp", true));
        assert!(!rules.take(b"cache", true));
        assert!(rules.take(b"x/cache", true));
        assert!(!rules.take(b"a/1/2/b", true));
    }

    #[test]
    fn names_of_any_bytes_can_be_matched() {
        let rules = rules(&[], &["*.tmp"]);
        assert!(!rules.take(b"\xff\xfe\n.tmp", false));
        assert!(rules.take(b"\xff\xfe", false));
    }

    #[test]
    fn single_names_are_taken_as_they_are() {
        let rules = Rules::new(&RulesSpec::only(["a*.ini", "b"].iter())).unwrap();
        assert!(rules.take(b"a*.ini", false) && rules.take(b"b", false));
        assert!(!rules.take(b"ab.ini", false) && !rules.take(b"d/b", false) && !rules.take(b"d", true));
    }

    #[test]
    fn a_malformed_glob_is_named() {
        let spec = RulesSpec { exclude: vec!["a[".into()], ..RulesSpec::default() };
        assert!(Rules::new(&spec).unwrap_err().to_string().contains("a["));
    }
}
