//! `cargo xtask docs`: reference pages that come out of the binary, so that they cannot disagree with it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use stead_tests::command::run;

use crate::build;

const SHELLS: [(&str, &str); 3] = [("bash", "stead.bash"), ("zsh", "_stead"), ("fish", "stead.fish")];

/// Writes man pages, completions and the schema of the plan; with `--check` only tells whether they are up to date.
pub fn main(args: &[String]) -> Result<()> {
    let reference = build::root().join("docs/reference");
    let binary = build::stead("dev")?;
    let is_check = args.iter().any(|arg| arg == "--check");
    let made = if is_check { build::target()?.join("docs-check") } else { reference.clone() };
    if is_check {
        let _ = fs::remove_dir_all(&made);
    }
    write(&binary, &made)?;
    if is_check {
        for part in ["man", "completions", "plan.schema.json"] {
            let same = run(Command::new("diff").arg("-r").arg(made.join(part)).arg(reference.join(part)));
            if let Err(e) = same {
                bail!("docs/reference/{part} is not what the binary says; run `cargo xtask docs`\n{e:#}");
            }
        }
    }
    Ok(())
}

fn write(binary: &Path, to: &Path) -> Result<()> {
    let man = to.join("man");
    fs::create_dir_all(&man)?;
    run(Command::new(binary).arg("man").arg(&man)).context("man pages")?;
    let completions = to.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, file) in SHELLS {
        let text = run(Command::new(binary).args(["completions", shell])).context("completions")?;
        fs::write(completions.join(file), text)?;
    }
    let schema = run(Command::new(binary).args(["plan", "schema"])).context("the schema of the plan")?;
    fs::write(to.join("plan.schema.json"), schema)?;
    Ok(())
}
