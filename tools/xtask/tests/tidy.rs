//! The rules of the house that no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest source file, in lines.
const LINES_MAX: usize = 600;

/// Who may depend on whom. Minds and hands know `model` alone; they meet in `daemon`; the command line talks to `api`
/// and starts the two processes.
const EDGES: &[(&str, &[&str])] = &[
    ("stead-model", &[]),
    ("stead-replication", &["stead-model"]),
    ("stead-failover", &["stead-model"]),
    ("stead-disk", &["stead-model"]),
    ("stead-capture", &["stead-model"]),
    ("stead-resource", &["stead-model"]),
    ("stead-api", &["stead-model"]),
    (
        "stead-daemon",
        &[
            "stead-api",
            "stead-capture",
            "stead-disk",
            "stead-failover",
            "stead-model",
            "stead-replication",
            "stead-resource",
        ],
    ),
    ("stead", &["stead-api", "stead-capture", "stead-daemon", "stead-model"]),
    ("sim", &["stead-failover", "stead-model", "stead-replication"]),
    ("cutdisk", &[]),
    // Its tests of systemd alone.
    ("stead-tests", &["cutdisk", "stead-resource"]),
    ("xtask", &["stead-tests"]),
];

#[test]
fn crates_depend_only_as_the_house_allows() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(name, to)| (*name, to.iter().copied().collect())).collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let members: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some(may) = allowed.get(name) else {
            wrong.push(format!("{name} has no place in the house yet: give it one in EDGES"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let itself = to == name && dependency["kind"] == "dev";
            if members.contains(to) && !may.contains(to) && !itself {
                wrong.push(format!("{name} depends on {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_stays_in_capture_and_the_system_modules() {
    let keyword = concat!("un", "safe");
    check(|path, line| {
        let is_system = path.ends_with("sys.rs") || path.parent().is_some_and(|dir| dir.ends_with("sys"));
        let at_home = path.starts_with("crates/capture") || is_system;
        let code = line.split("//").next().unwrap_or("");
        let uses = [" {", " fn", " impl", " extern"].iter().any(|next| code.contains(&format!("{keyword}{next}")));
        (!at_home && uses).then_some("unsafe code outside of capture and the system modules")
    });
}

#[test]
fn nothing_is_left_to_do_and_no_machine_is_named() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    check(|_, line| {
        if marks.iter().any(|mark| line.contains(mark)) {
            return Some("a mark of unfinished work");
        }
        places.iter().any(|place| line.contains(place)).then_some("a path of one machine")
    });
}

#[test]
fn source_files_stay_short() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|path| (fs::read_to_string(root().join(&path)).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

fn check(rule: impl Fn(&Path, &str) -> Option<&'static str>) {
    let mut broken = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        for (number, line) in text.lines().enumerate() {
            if let Some(why) = rule(&path, line) {
                broken.push(format!("{}:{}: {why}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// All Rust sources of the workspace, relative to its root.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in ["crates", "tools", "tests", "fuzz"] {
        walk(&root(), Path::new(top), &mut found);
    }
    assert!(found.len() > 20, "found only {} sources", found.len());
    found
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(dir)).into_iter().flatten().flatten() {
        let path = dir.join(entry.file_name());
        if entry.file_name() == "target" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            walk(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
