//! The files that define a unit, as systemd finds them: the unit's own and its drop-ins.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::UnitName;

/// Where units are, the first first (systemd.unit(5)).
const PLACES: [&str; 13] = [
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/system.attached",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
];

/// The files of a unit beneath `root` (`/` but in tests): first its own, which none has that is not there, then its drop-ins
/// in the order in which they count. Whether a file can be read is not looked at.
pub fn unit_files(root: &Path, unit: &UnitName) -> Vec<PathBuf> {
    let names = names(root, unit.as_str());
    let Some(own) = names.iter().find_map(|name| own_file(root, name)) else { return Vec::new() };
    let mut dropins = BTreeMap::new();
    for dir in names.iter().flat_map(|name| dropin_dirs(root, name)) {
        for file in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if file.extension().is_some_and(|extension| extension == "conf") {
                dropins.entry(file.file_name().map(ToOwned::to_owned)).or_insert(file);
            }
        }
    }
    [own].into_iter().chain(dropins.into_values()).collect()
}

/// Its name, the name that it is an alias of, and their templates.
fn names(root: &Path, name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    let real = own_file(root, name).and_then(|file| fs::canonicalize(file).ok());
    names.extend(real.and_then(|file| Some(file.file_name()?.to_str()?.to_owned())).filter(|real| real.contains('.')));
    names.extend(names.clone().iter().filter_map(|name| template(name)));
    names.dedup();
    names
}

/// `notes@.service` of `notes@paris.service`.
fn template(name: &str) -> Option<String> {
    let (stem, rest) = name.split_once('@')?;
    let (_, kind) = rest.rsplit_once('.')?;
    Some(format!("{stem}@.{kind}"))
}

fn own_file(root: &Path, name: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| root.join(place).join(name)).find(|file| fs::symlink_metadata(file).is_ok())
}

/// Directories of drop-ins for a name, the most special first: of `a-b.service` also those of `a-.service` and `service`.
fn dropin_dirs(root: &Path, name: &str) -> Vec<PathBuf> {
    let Some((stem, kind)) = name.rsplit_once('.') else { return Vec::new() };
    let mut of = vec![format!("{name}.d")];
    let dashes = stem.trim_end_matches('-').match_indices('-').map(|(at, _)| at).collect::<Vec<_>>();
    of.extend(dashes.into_iter().rev().map(|at| format!("{}-.{kind}.d", &stem[..at])));
    of.push(format!("{kind}.d"));
    of.iter().flat_map(|dir| PLACES.iter().map(move |place| root.join(place).join(dir))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str], unit: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let shown = |path: PathBuf| path.strip_prefix(root.path()).unwrap().display().to_string();
        unit_files(root.path(), &unit.parse().unwrap()).into_iter().map(shown).collect()
    }

    #[test]
    fn a_unit_of_the_administrator_hides_that_of_the_package() {
        let files = ["usr/lib/systemd/system/notes.service", "etc/systemd/system/notes.service"];
        assert_eq!(found(&files, "notes"), ["etc/systemd/system/notes.service"]);
        assert_eq!(found(&files[..1], "notes"), files[..1]);
        assert!(found(&files, "mail").is_empty());
    }

    #[test]
    fn dropins_count_in_the_order_of_their_names_and_once() {
        let files = [
            "usr/lib/systemd/system/notes-web.service",
            "usr/lib/systemd/system/notes-web.service.d/50-limits.conf",
            "etc/systemd/system/notes-web.service.d/50-limits.conf",
            "etc/systemd/system/notes-.service.d/10-all.conf",
            "etc/systemd/system/service.d/90-every.conf",
            "etc/systemd/system/notes-web.service.d/README",
        ];
        let expected = [files[0], files[3], files[2], files[4]];
        assert_eq!(found(&files, "notes-web"), expected);
    }

    #[test]
    fn an_instance_is_defined_by_its_template() {
        let files = ["etc/systemd/system/notes@.service", "etc/systemd/system/notes@paris.service.d/a.conf"];
        assert_eq!(found(&files, "notes@paris"), files);
    }

    #[test]
    fn an_alias_is_what_it_stands_for() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("etc/systemd/system");
        fs::create_dir_all(place.join("real.service.d")).unwrap();
        fs::write(place.join("real.service"), "").unwrap();
        fs::write(place.join("real.service.d/a.conf"), "").unwrap();
        std::os::unix::fs::symlink("real.service", place.join("notes.service")).unwrap();
        let found = unit_files(root.path(), &"notes".parse().unwrap());
        assert_eq!(found, [place.join("notes.service"), place.join("real.service.d/a.conf")]);
    }
}
