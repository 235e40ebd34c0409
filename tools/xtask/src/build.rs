//! Where the workspace is, and how its binary is built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use stead_tests::command::run;

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = here.as_deref().and_then(|dir| dir.ancestors().nth(2)).map(Path::to_path_buf);
    root.unwrap_or_else(|| ".".into())
}

/// The cargo that runs this chore.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    // What cargo set for this process is not meant for the next one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        cargo.env_remove(name);
    }
    cargo.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    cargo
}

/// Where cargo puts what it builds.
pub fn target() -> Result<PathBuf> {
    let metadata = run(cargo().args(["metadata", "--format-version=1", "--no-deps", "--offline"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target directory")?.into())
}

/// Builds the `stead` binary and returns its path; what cargo says is shown. `STEAD_BIN` names one that is used instead.
pub fn stead(profile: &str) -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("STEAD_BIN") {
        return Ok(chosen.into());
    }
    let status = cargo().args(["build", "--package", "stead", "--profile", profile]).status()?;
    if !status.success() {
        bail!("building stead failed");
    }
    let dir = if profile == "release" { "release" } else { "debug" };
    Ok(target()?.join(dir).join("stead"))
}

/// Lets the helpers use that binary.
///
/// Called before any other thread reads the environment.
pub fn use_binary(path: &Path) -> Result<()> {
    if !path.is_file() {
        bail!("{} was not built", path.display());
    }
    stead_tests::node::choose_binary(path);
    Ok(())
}
