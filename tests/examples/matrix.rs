//! Runs the operation matrix by hand on a bare directory and on a mounted one, and compares how they end:
//! `cargo run -p stead-tests --example matrix -- BARE MOUNTED [CASE…]`.

use std::path::Path;

use anyhow::{Result, bail};
use stead_tests::compare::Compare;
use stead_tests::matrix::{cases, run_case};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [bare, mounted, chosen @ ..] = args.as_slice() else { bail!("usage: matrix BARE MOUNTED [CASE…]") };
    let (bare, mounted) = (Path::new(bare), Path::new(mounted));
    for case in cases().iter().filter(|case| chosen.is_empty() || chosen.iter().any(|name| name == case.name)) {
        let outcomes = (run_case(case, bare)?, run_case(case, mounted)?);
        let verdict = if outcomes.0 == outcomes.1 { "same" } else { "DIFFERENT" };
        println!("{verdict:9} {}: {:?} | {:?}", case.name, outcomes.0, outcomes.1);
    }
    let compare = Compare { atime: false, mtime: false, ..Compare::default() };
    for line in compare.differences(bare, mounted)? {
        println!("left otherwise: {line}");
    }
    Ok(())
}
