//! The helpers of the system tests are themselves tested: a comparison that overlooks something proves nothing.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{FallocateFlags, IFlags, XattrFlags};
use stead_tests::compare::Compare;
use stead_tests::host::Hosts;
use stead_tests::load::{Journal, Load, Options, examine_copy};
use stead_tests::matrix::{Outcome, cases, run_case};
use stead_tests::{command, run, tree};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");

#[test]
fn the_comparison_sees_every_kind_of_difference() {
    let hosts = Hosts::new().unwrap();
    let (a, b) = (hosts.paris.disk().join("a"), hosts.paris.disk().join("b"));
    tree::odd(&a).unwrap();
    let copy = || {
        run::remove_tree(&b);
        command::run(Command::new("cp").args(["-a", "--sparse=auto"]).arg(&a).arg(&b)).unwrap();
        flags_as(&a, &b);
    };
    copy();
    let whole = Compare { holes: false, ..Compare::default() };
    whole.same(&a, &b).unwrap();
    type Plant = fn(&Path);
    let planted: [(&str, Plant); 12] = [
        ("content", |b| {
            File::options().write(true).open(b.join("contents/bytes-65536")).unwrap().write_all_at(b"!", 9).unwrap()
        }),
        ("mode", |b| fs::set_permissions(b.join("attributes/mode-0600"), fs::Permissions::from_mode(0o601)).unwrap()),
        ("owner", |b| std::os::unix::fs::chown(b.join("attributes/mode-0600"), Some(5), None).unwrap()),
        ("mtime", |b| tree::set_times(&b.join("times/old"), 1_000_000_000, 2).unwrap()),
        ("mtime", |b| tree::set_times(&b.join("times/directory"), 1_222_222_223, 222_222_222).unwrap()),
        ("xattrs", |b| rustix::fs::lsetxattr(b.join("types/symlink"), "trusted.x", b"1", XattrFlags::empty()).unwrap()),
        ("xattrs", |b| {
            rustix::fs::lsetxattr(b.join("empty"), "system.posix_acl_default", &tree::acl(7, 9, 0), XattrFlags::empty())
                .unwrap()
        }),
        ("flags", |b| {
            let file = File::open(b.join("attributes/nodump")).unwrap();
            let flags = rustix::fs::ioctl_getflags(&file).unwrap();
            rustix::fs::ioctl_setflags(&file, flags - IFlags::NODUMP).unwrap()
        }),
        ("same file", |b| {
            fs::remove_file(b.join("links/two")).unwrap();
            command::run(Command::new("cp").arg("-a").arg(b.join("links/one")).arg(b.join("links/two"))).unwrap();
        }),
        ("only in the first", |b| fs::remove_file(b.join("types/fifo")).unwrap()),
        ("only in the second", |b| fs::write(b.join("empty/more"), "").unwrap()),
        ("symlink", |b| {
            fs::remove_file(b.join("types/dangling")).unwrap();
            std::os::unix::fs::symlink("/elsewhere", b.join("types/dangling")).unwrap();
        }),
    ];
    for (what, plant) in planted {
        copy();
        plant(&b);
        let found = whole.differences(&a, &b).unwrap();
        assert!(found.iter().any(|line| line.contains(what)), "{what} was planted, found: {found:?}");
    }
    let (x, y) = (a.join("x"), a.join("y"));
    for path in [&x, &y] {
        tree::sparse(path, 1 << 20, 128 << 10, 3).unwrap();
    }
    let file = File::options().write(true).open(&x).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, 900_000, 4096).unwrap();
    file.write_all_at(&[0; 4096], 901_120).unwrap();
    let times_apart = Compare { atime: false, mtime: false, ..Compare::default() };
    let found = times_apart.differences(&x, &y).unwrap();
    assert!(found.iter().any(|line| line.contains("blocks at")), "zeros instead of a hole: {found:?}");
}

/// cp copies no inode flags and changes the atimes of what it reads no further on a noatime file system.
fn flags_as(a: &Path, b: &Path) {
    for name in ["immutable", "append-only", "nodump", "immutable-directory"] {
        let path = Path::new("attributes").join(name);
        let flags = rustix::fs::ioctl_getflags(File::open(a.join(&path)).unwrap()).unwrap();
        let file = File::open(b.join(&path)).unwrap();
        rustix::fs::ioctl_setflags(&file, flags).unwrap();
    }
}

#[test]
fn every_case_of_the_matrix_ends_the_same_twice() {
    let hosts = Hosts::new().unwrap();
    let (a, b) = (hosts.paris.disk().join("a"), hosts.lyon.disk().join("a"));
    let compare = Compare { atime: false, mtime: false, ..Compare::default() };
    for root in [&a, &b] {
        fs::create_dir(root).unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for case in cases() {
        let outcomes = [run_case(&case, &a).unwrap(), run_case(&case, &b).unwrap()];
        assert_eq!(outcomes[0], outcomes[1], "{}", case.name);
        assert!(case.may_be_refused || outcomes[0] == Outcome::Done, "{}: {:?}", case.name, outcomes[0]);
    }
    compare.same(&a, &b).unwrap();
}

#[test]
fn the_load_keeps_its_invariant_when_it_is_killed() {
    let hosts = Hosts::new().unwrap();
    for journal in [Journal::Wal, Journal::Rollback] {
        let dir = hosts.paris.disk().join(format!("{journal:?}"));
        fs::create_dir(&dir).unwrap();
        let options = Options {
            database: dir.join("db"),
            acknowledgements: hosts.paris.dir().join(format!("{journal:?}.acknowledged")),
            journal,
            rate: 0,
            seconds: 0,
        };
        let load = Load::start(Path::new(LOAD), &hosts.paris, &options).unwrap();
        command::until("300 commits", std::time::Duration::from_secs(60), || {
            Ok(load.acknowledged()?.transactions >= 300)
        })
        .unwrap();
        load.kill();
        let told = stead_tests::load::acknowledged(&options.acknowledgements).unwrap();
        let found = examine_copy(&options.database, &hosts.lyon.dir().join("copy")).unwrap();
        assert!(found.transactions >= told.transactions, "{found:?} after {told:?} were acknowledged");
        let torn = File::options().write(true).open(&options.database).unwrap();
        torn.write_all_at(&[7; 2000], torn.metadata().unwrap().len() / 2).unwrap();
        assert!(examine_copy(&options.database, &hosts.lyon.dir().join("copy")).is_err(), "a torn page went unnoticed");
    }
}

#[test]
fn a_run_leaves_nothing_behind() {
    let hosts = Hosts::new().unwrap();
    let (name, dir) = (hosts.run().name().to_string(), hosts.run().dir().to_path_buf());
    let frozen = hosts.paris.disk().join("frozen");
    fs::write(&frozen, "x").unwrap();
    command::run(Command::new("chattr").arg("+i").arg(&frozen)).unwrap();
    let mut sleeper = hosts.paris.command("sleep").arg("1000").current_dir(hosts.paris.disk()).spawn().unwrap();
    command::until("the sleeper is there", std::time::Duration::from_secs(5), || Ok(hosts.paris.pids().len() == 1))
        .unwrap();
    drop(hosts);
    assert!(!dir.exists());
    let mut ended = None;
    command::until("the sleeper ends", std::time::Duration::from_secs(5), || {
        ended = sleeper.try_wait()?;
        Ok(ended.is_some())
    })
    .unwrap();
    assert!(ended.is_some_and(|status| status.code().is_none()), "killed");
    assert!(run::mounts_beneath(&dir).is_empty());
    let namespaces = fs::read_dir("/run/netns").map(|entries| entries.flatten().count()).unwrap_or(0);
    let ours = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let ours = ours.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}-"))).count();
    assert_eq!(ours, 0, "of {namespaces}");
}
