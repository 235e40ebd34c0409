//! The conformance suite of the capture drivers: what they let through must be what a bare file system does, and what
//! they captured must make the same tree elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use stead_tests::compare::Compare;
use stead_tests::matrix::{Outcome, cases, run_case};
use stead_tests::random::Workload;
use stead_tests::rng::Rng;
use stead_tests::site::Site;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");

#[test]
fn the_matrix_in_order_strict() {
    matrix("strict");
}

#[test]
fn the_matrix_in_order_flush() {
    matrix("flush");
}

#[test]
fn random_work_in_order_strict() {
    random("strict");
}

#[test]
fn random_work_in_order_flush() {
    random("flush");
}

fn matrix(order: &str) {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    let bare = site.hosts.paris.disk().join("bare");
    fs::create_dir(&bare).unwrap();
    for root in [&notes.source, &bare] {
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    }
    site.protect(&notes, &["--order", order]).unwrap();
    let mut wrong = Vec::new();
    for case in cases() {
        let (on_bare, mounted) = (run_case(&case, &bare).unwrap(), run_case(&case, &notes.source).unwrap());
        if on_bare != mounted {
            if case.may_be_refused {
                println!("{}: refused through the mount: {mounted:?}, bare: {on_bare:?}", case.name);
                let name = case.name.replace(' ', "-");
                fs::remove_dir_all(bare.join(&name)).unwrap();
                fs::remove_dir_all(notes.source.join(&name)).unwrap();
            } else {
                wrong
                    .push(format!("{}: {on_bare:?} on the bare file system, {mounted:?} through the mount", case.name));
            }
        } else if on_bare != Outcome::Done {
            println!("{}: {on_bare:?} on both", case.name);
        }
    }
    let settled = site.settle_in(order, &notes);
    let apart = Compare { atime: false, mtime: false, ..Compare::default() };
    let like_bare = apart.differences(&bare, &notes.beneath).unwrap();
    let said = settled.as_ref().err().map(|e| format!("{e:#}")).unwrap_or_default();
    assert!(
        wrong.is_empty() && settled.is_ok() && like_bare.is_empty(),
        "ended otherwise: {wrong:#?}\nleft otherwise: {like_bare:#?}\nreplica: {said}"
    );
}

fn random(order: &str) {
    let site = Site::new().unwrap();
    let first = Rng::seed();
    let rounds = if std::env::var_os("STEAD_SOAK").is_some() { 10 } else { 3 };
    let notes = site.pairing("notes").unwrap();
    site.protect(&notes, &["--order", order]).unwrap();
    for round in 0..rounds {
        let seed = first + round;
        println!("STEAD_SEED={seed} repeats this");
        let root = notes.source.join(format!("round-{round}"));
        fs::create_dir(&root).unwrap();
        let workload = Workload { seed, workers: 4, operations: 1_500 };
        workload.run(Path::new(LOAD), &root).unwrap();
        if let Err(e) = site.settle_in(order, &notes) {
            panic!("seed {seed}, order {order}: {e:#}");
        }
    }
    site.paris.cli(["verify", "notes"]).unwrap();
}
