//! The single door for every chore: `cargo xtask demo | test | bench | soak | docs`.

mod bench;
mod build;
mod demo;
mod docs;
mod machine;
mod soak;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask CHORE

  demo                 the main job on this one machine: two nodes, a database under load, paris killed
  test                 everything that CI runs: format, lints, all tests
  bench [ROW…]         Stead beside its peers, as ratios; writes these rows of docs/reference/benchmarks.md
        --only ROW, --skip ROW   just that row, or all others; may be repeated
        --list         names of the rows
        --full         a million files where many are needed, an hour of load, more repetitions
        --files N, --minutes N, --rounds N   that many
  soak [WHAT…]         longer runs: faults, sim, fuzz, crash, takeovers, random; --minutes N for each (10), --seed S
  docs [--check]       man pages and completions from the binary into docs/reference";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match chore(&args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn chore(args: &[String]) -> Result<ExitCode> {
    let Some((word, rest)) = args.split_first() else { bail!("{USAGE}") };
    match word.as_str() {
        "demo" => demo::main()?,
        "test" => return test::main(),
        "bench" => bench::main(rest)?,
        "soak" => soak::main(rest)?,
        "docs" => docs::main(rest)?,
        "load-sqlite" => stead_tests::load::main(rest)?,
        "load-random" => stead_tests::random::main(rest)?,
        "serve" => stead_tests::service::main(rest)?,
        _ => bail!("no chore is called {word}\n{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}
