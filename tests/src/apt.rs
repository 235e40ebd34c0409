//! Debian packages that a chore needs, installed by name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::run;

/// Installs those of the packages that are missing, and says which.
///
/// # Errors
/// Where something is missing and apt-get cannot install it.
pub fn install(why: &str, packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing for {why}: {}", missing.join(" "));
    if !rustix::process::geteuid().is_root() {
        bail!("installing needs root: run as root, or first: apt-get install {}", missing.join(" "));
    }
    let _quiet = NoServices::new()?;
    if get(&missing).is_err() {
        run(Command::new("apt-get").args(["update", "-q"])).context("cannot read the package lists")?;
        get(&missing).with_context(|| format!("cannot install {}", missing.join(" ")))?;
    }
    Ok(())
}

fn get(packages: &[&str]) -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]);
    run(command.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

/// While it lives, Debian's packages do not start their services: a test needs the programs, not a running database.
struct NoServices {
    made: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<NoServices> {
        let made = !Path::new(POLICY).exists();
        if made {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(NoServices { made })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_file(POLICY);
        }
    }
}
