//! Files that are others while the node serves.

use std::fs;
use std::path::Path;

use stead_failover::machine::{Lease, Outcome, Step, Turn};

use super::Bench;

fn plan(dir: &Path) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    let file = |name: &str| {
        let copies = [at(&format!("{name}.active")), at(&format!("{name}.standby"))];
        format!("[[role-file]]\npath = '{}'\nas-active = '{}'\nas-standby = '{}'\n", at(name), copies[0], copies[1])
    };
    file("a") + &file("b")
}

#[test]
fn all_are_switched_and_what_is_missing_of_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (at, read) = (|name: &str| dir.path().join(name), |name: &str| fs::read_to_string(dir.path().join(name)));
    for name in ["a.active", "a.standby", "b.active", "b.standby"] {
        fs::write(at(name), name).unwrap();
    }
    let bench = Bench::new(&at("group"), &plan(dir.path()));
    assert_eq!(bench.outcome(Step::RoleFiles, Turn::Undo), Outcome::Done);
    assert_eq!(bench.outcome(Step::RoleFiles, Turn::Undo), Outcome::Already);
    fs::remove_file(at("a.active")).unwrap();
    let Outcome::Failed(why) = bench.outcome(Step::RoleFiles, Turn::Do) else { panic!("it is not there") };
    assert!(why.contains("a.active, from which"), "{why}");
    assert_eq!((read("a").unwrap(), read("b").unwrap()), ("a.standby".into(), "b.active".into()));

    fs::write(at("b"), "by hand").unwrap();
    assert_eq!(bench.outcome(Step::RoleFiles, Turn::Undo), Outcome::Done);
    assert!(bench.was_told("b was changed by hand: what it was is kept in"));
    assert_eq!(read("b.stead-kept-1").unwrap(), "by hand");

    fs::write(at("a.active"), "a.active").unwrap();
    bench.hands.lease(Lease::None);
    assert_eq!(bench.outcome(Step::RoleFiles, Turn::Do), Outcome::Failed("the lease is over".into()));
    assert_eq!(read("a").unwrap(), "a.standby", "nothing is switched past the lease");
}
