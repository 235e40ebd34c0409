//! Faults in random order, under load.

use std::time::Duration;

use stead_tests::faults::{self, Kind, Options};
use stead_tests::rng::Rng;

#[test]
fn nothing_is_lost_whatever_breaks() {
    let seconds = std::env::var("STEAD_FAULT_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let report = faults::break_things(&Options {
        seed: Rng::seed(),
        duration: Duration::from_secs(seconds),
        kinds: Kind::chosen().unwrap(),
        with_cluster: true,
        program: env!("CARGO_BIN_EXE_stead-load").into(),
    });
    let report = report.unwrap_or_else(|e| panic!("{e:#}"));
    report.print();
    // How long the application was held up is printed; what is too long is the bench's business.
}
