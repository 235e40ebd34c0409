//! The loads of the system tests, each as a process of its own.

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((word, rest)) if word == "load-sqlite" => stead_tests::load::main(rest),
        Some((word, rest)) if word == "load-random" => stead_tests::random::main(rest),
        Some((word, rest)) if word == "serve" => stead_tests::service::main(rest),
        _ => bail!("usage: stead-load load-sqlite|load-random|serve …"),
    }
}
