//! Of which package programs are, where dpkg can tell.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stead_resource::command::Command;

use super::checklist::{Area, Fact, Is};

const LIMIT: Duration = Duration::from_secs(3);
/// Programs that are asked about.
const PROGRAMS_MAX: usize = 50;
const QUERY: &str = "/usr/bin/dpkg-query";

/// The packages of those programs, with their versions.
pub(super) fn facts(programs: &BTreeSet<PathBuf>) -> Vec<Fact> {
    if programs.is_empty() {
        return Vec::new();
    }
    if !Path::new(QUERY).exists() {
        let is = Is::Unknown("there is no dpkg here; compare the versions by hand".into());
        return vec![Fact { area: Area::Package, what: "packages of the programs".into(), is }];
    }
    // A program may be known by the directory that the one it is called in leads to, or by that one.
    let both = |path: &PathBuf| [Some(path.clone()), path.canonicalize().ok()];
    let paths: BTreeSet<PathBuf> = programs.iter().take(PROGRAMS_MAX).flat_map(both).flatten().collect();
    let owners = owners(&asked(["--search".into(), "--".into()].into_iter().chain(paths)));
    if owners.is_empty() {
        return Vec::new();
    }
    let wanted = ["--show", "--showformat=${Package} ${Version}\\n", "--"].map(PathBuf::from);
    versions(&asked(wanted.into_iter().chain(owners.into_iter().map(PathBuf::from))))
}

fn asked(arguments: impl Iterator<Item = PathBuf>) -> String {
    let argv = [PathBuf::from(QUERY)].into_iter().chain(arguments);
    let command = Command { env: vec![("LC_ALL".into(), "C".into())], ..Command::new(argv) };
    command.run(LIMIT).output.text()
}

/// `postgresql-15, other: /usr/bin/x`; of what no package has, it says so in other words.
fn owners(told: &str) -> BTreeSet<String> {
    let owned = told.lines().filter_map(|line| line.split_once(": /")).map(|(names, _)| names);
    let names = owned.filter(|names| !names.starts_with("diversion ") && !names.contains("no path found"));
    names.flat_map(|names| names.split(", ")).map(str::to_owned).collect()
}

fn versions(told: &str) -> Vec<Fact> {
    let fact = |(name, version): (&str, &str)| Fact {
        area: Area::Package,
        what: name.into(),
        is: Is::Here { key: version.into(), shown: version.into() },
    };
    told.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| !name.ends_with(':')).map(fact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_tells_is_understood() {
        let told = "coreutils: /usr/bin/test\ndpkg-query: no path found matching pattern /usr/local/bin/x\n\
                    diversion by dash from: /bin/sh\nlibc6:amd64, libc6:i386: /usr/share/doc/libc6\n";
        assert_eq!(owners(told).into_iter().collect::<Vec<_>>(), ["coreutils", "libc6:amd64", "libc6:i386"]);
        let told = versions("coreutils 9.1-1\ndpkg-query: no packages found matching x\n");
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].what.as_str(), &told[0].is),
            ("coreutils", &Is::Here { key: "9.1-1".into(), shown: "9.1-1".into() })
        );
    }

    #[test]
    fn the_package_of_a_program_is_found_where_dpkg_is() {
        let facts = facts(&["/usr/bin/env".into()].into());
        if Path::new(QUERY).exists() {
            assert!(facts.iter().any(|fact| fact.what == "coreutils"), "{facts:?}");
        } else {
            assert!(matches!(facts[0].is, Is::Unknown(_)));
        }
    }
}
