//! The public test suites `pjdfstest` and `fsx`, where they are installed (`cargo install pjdfstest fsx`): nothing fails
//! on the captured directory that does not fail on the bare one.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::{Rig, with_order};
use stead_capture::{Capture, Order};

const PJDFSTEST: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utimensat = {}
utime_now = {}
stat_st_birthtime = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

const FSX: &str = r"
flen = 1048576
[opsize]
max = 100000
[weights]
truncate = 5
close_open = 5
invalidate = 5
mapread = 5
mapwrite = 5
read = 10
write = 10
fsync = 2
fdatasync = 2
sendfile = 2
punch_hole = 3
posix_fallocate = 3
copy_file_range = 3
";

fn is_installed(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("{program} is not installed: left out");
    }
    there
}

fn failures(dir: &Path, config: &Path) -> BTreeSet<String> {
    let output = Command::new("pjdfstest").arg("-c").arg(config).arg("-p").arg(dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Summary:"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines()
        .filter(|line| line.contains("FAILED"))
        .filter_map(|line| Some(line.split_whitespace().next()?.into()))
        .collect()
}

fn pjdfstest(order: Order) {
    if !is_installed("pjdfstest") {
        return;
    }
    let rig = Rig::with(with_order(order));
    let config = rig.base().join("pjdfstest.toml");
    std::fs::write(&config, PJDFSTEST).unwrap();
    let (bare, ours) = (failures(&rig.bare(), &config), failures(&rig.ours(), &config));
    let new: Vec<_> = ours.difference(&bare).collect();
    assert!(new.is_empty(), "{new:?}");
}

fn fsx(order: Order) {
    if !is_installed("fsx") {
        return;
    }
    let mut rig = Rig::with(with_order(order));
    let config = rig.base().join("fsx.toml");
    std::fs::write(&config, FSX).unwrap();
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() % 100_000;
    let output = Command::new("fsx")
        .args(["-q", "-N", "5000", "-S", &seed.to_string(), "-f"])
        .args([&config, &rig.ours().join("file")])
        .current_dir(rig.base())
        .output()
        .unwrap();
    assert!(output.status.success(), "SEED={seed} {}", String::from_utf8_lossy(&output.stderr));
    if rig.capture().status().dropped_records == 0 {
        rig.assert_replica(&format!("fsx SEED={seed}"));
    }
}

#[test]
fn pjdfstest_in_order_strict() {
    pjdfstest(Order::Strict);
}

#[test]
fn pjdfstest_in_order_flush() {
    pjdfstest(Order::Flush);
}

#[test]
fn fsx_in_order_strict() {
    fsx(Order::Strict);
}

#[test]
fn fsx_in_order_flush() {
    fsx(Order::Flush);
}
