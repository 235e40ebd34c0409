//! The suites that others wrote for file systems, on a mounted directory and on the bare one beneath.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use stead_tests::command::{output, run, text};
use stead_tests::site::Site;

/// Where `cargo xtask test` installed them; without it they are not run.
fn program(name: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("STEAD_TEST_PROGRAMS").map(PathBuf::from);
    let found = dir.map(|dir| dir.join(name)).filter(|path| path.is_file());
    if found.is_none() {
        println!("{name} is not installed: run `cargo xtask test`, which installs it");
    }
    found
}

#[test]
fn pjdfstest_fails_nowhere_that_the_bare_file_system_does_not() {
    let Some(program) = program("pjdfstest") else { return };
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    let bare = site.hosts.paris.disk().join("bare");
    fs::create_dir(&bare).unwrap();
    site.protect(&notes, &[]).unwrap();
    let config = site.hosts.paris.dir().join("pjdfstest.toml");
    fs::write(&config, PJDFSTEST).unwrap();
    let failures = |root: &Path| {
        fs::set_permissions(root, fs::Permissions::from_mode(0o777)).unwrap();
        let said = output(Command::new(&program).arg("-c").arg(&config).arg("-p").arg(root)).unwrap();
        let said = format!("{}{}", text(&said.stdout), text(&said.stderr));
        assert!(said.contains("Summary:"), "it did not run to its end: {said}");
        // Lines are "test::name   verdict".
        let verdicts = said.lines().filter(|line| line.contains("::") && !line.starts_with(char::is_whitespace));
        let bad = verdicts.filter(|line| !line.ends_with("ok") && !line.ends_with("skipped"));
        let failed: BTreeSet<String> =
            bad.filter_map(|line| Some(line.split_whitespace().next()?.to_string())).collect();
        failed
    };
    let (on_bare, mounted) = (failures(&bare), failures(&notes.source));
    println!("fails on both: {:?}", on_bare.intersection(&mounted).collect::<Vec<_>>());
    let new: Vec<_> = mounted.difference(&on_bare).collect();
    assert!(new.is_empty(), "fails only through the mount: {new:#?}");
    site.settle(&notes).unwrap();
}

const PJDFSTEST: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utimensat = {}
utime_now = {}

[settings]
naptime = 0.01
allow_remount = false

[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"], ["bin", "bin"]]
"#;

#[test]
fn fsx_finds_no_difference() {
    let Some(program) = program("fsx") else { return };
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    site.protect(&notes, &[]).unwrap();
    for seed in 1..=3 {
        let file = notes.source.join(format!("fsx-{seed}"));
        let mut fsx = Command::new(&program);
        fsx.args(["-N", "3000", "-S", &seed.to_string(), "-P"]).arg(site.hosts.paris.dir());
        run(fsx.arg(&file)).unwrap();
        site.settle(&notes).unwrap();
    }
}
