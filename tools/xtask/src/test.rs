//! `cargo xtask test`: all that must hold before a change is taken.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use stead_tests::apt;

use crate::{build, machine};

/// Debian packages that the tests use.
const PACKAGES: &[&str] = &[
    "acl",
    "apache2-bin",
    "attr",
    "bind9",
    "bind9-dnsutils",
    "bind9-host",
    "btrfs-progs",
    "curl",
    "dbus",
    "dbus-daemon",
    "dovecot-imapd",
    "dovecot-lmtpd",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "libfaketime",
    "libnfs-utils",
    "libxml2-utils",
    "mariadb-server",
    "nfs-ganesha",
    "nfs-ganesha-vfs",
    "nfs-kernel-server",
    "nginx-light",
    "postfix",
    "postgresql",
    "procps",
    "prometheus",
    "psmisc",
    "python3-aiosmtpd",
    "resource-agents",
    "samba",
    "smbclient",
    "smitools",
    "snmptrapd",
    "sqlite3",
    "systemd",
    "util-linux",
    "wget",
    "xfsprogs",
];
/// Crates whose programs run on a mounted directory, with the version that is known to work.
const PROGRAMS: &[(&str, &str)] = &[("fsx", "0.3.2"), ("pjdfstest", "0.2.2")];

/// Runs everything; the last thing printed is cargo's own summary of the system tests.
pub fn main() -> Result<ExitCode> {
    let begin = Instant::now();
    apt::install("the tests", PACKAGES)?;
    for line in machine::shortcomings() {
        println!("not everything can be tested here: {line}");
    }
    let lint = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let steps: [(&str, &[&str]); 2] = [("format", &["fmt", "--all", "--check"]), ("lints", &lint)];
    for (name, args) in steps {
        if !passed(name, begin, build::cargo().args(args))? {
            return Ok(ExitCode::FAILURE);
        }
    }
    let programs = install_programs()?;
    let binary = build::stead("test")?;
    let mut unit = build::cargo();
    unit.args(["test", "--workspace", "--exclude", "stead-tests", "--no-fail-fast"]).env("STEAD_BIN", &binary);
    let units_passed = passed("unit, golden, property and simulation tests", begin, &mut unit)?;
    let mut system = build::cargo();
    system.args(["test", "--package", "stead-tests", "--no-fail-fast"]);
    system.env("STEAD_BIN", &binary).env("STEAD_TEST_PROGRAMS", programs).env("RUST_BACKTRACE", "0");
    if !units_passed {
        println!("xtask: unit tests failed, see above; the system tests run all the same");
    }
    let systems_passed = passed("conformance and system tests", begin, &mut system)?;
    Ok(if units_passed && systems_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn passed(name: &str, begin: Instant, command: &mut Command) -> Result<bool> {
    println!("=== {name} (after {} s)", begin.elapsed().as_secs());
    Ok(command.status().with_context(|| format!("cannot run {name}"))?.success())
}

/// Installs the programs into the target directory, once; returns where they are.
fn install_programs() -> Result<std::path::PathBuf> {
    let root = build::target()?.join("programs");
    for (name, version) in PROGRAMS {
        let stamp = root.join(format!("{name}-{version}"));
        if stamp.exists() {
            continue;
        }
        println!("installing {name} {version}");
        let mut install = build::cargo();
        install.args(["install", "--quiet", "--locked", "--version", version, name, "--root"]).arg(&root);
        // Not beside the workspace's own artefacts: another profile would rebuild them.
        install.env("CARGO_TARGET_DIR", root.join("build"));
        stead_tests::command::run(&mut install)?;
        std::fs::write(stamp, "")?;
    }
    Ok(root.join("bin"))
}
