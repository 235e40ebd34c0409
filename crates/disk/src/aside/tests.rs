use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use stead_model::{Rules, RulesSpec};

use super::*;

const SECOND: i128 = 1_000_000_000;

fn tree(root: &Path) -> Tree {
    Tree { root: root.into(), rules: Rules::default(), since: None }
}

fn names(tree: &Tree) -> Vec<String> {
    let mut names = Vec::new();
    list(tree, &mut |entry| {
        names.push(entry.path.display().to_string());
        Ok(())
    })
    .unwrap();
    names.sort();
    names
}

fn copied(tree: &Tree, to: &Path) -> Vec<Entry> {
    let mut all = Vec::new();
    copy(tree, to, &mut |entry| {
        all.push(entry);
        Ok(())
    })
    .unwrap();
    all
}

#[test]
fn what_changed_since_is_taken_with_a_margin_and_what_a_clock_set_back_left_in_the_future() {
    let (at, now) = (1_000 * SECOND, 2_000 * SECOND);
    let since = Since { at: at as u64, now: now as u64 };
    assert!(since.takes(at) && since.takes(at + 1) && since.takes(now));
    assert!(since.takes(at - 2 * SECOND), "written a moment before it was noted");
    assert!(!since.takes(at - 2 * SECOND - 1) && !since.takes(0) && !since.takes(-SECOND));
    let stepped = Since { at: at as u64, now: (500 * SECOND) as u64 };
    assert!(stepped.takes(600 * SECOND), "later than now: the clock was set back since");
    assert!(!stepped.takes(500 * SECOND), "before the instant, and in the past");
    assert!(Since { at: 0, now: 0 }.takes(0), "no instant: everything");
}

#[test]
fn only_what_the_rules_take_and_what_changed_since_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::create_dir_all(dir.path().join(".stead-holding")).unwrap();
    for name in ["a/b/old", "a/x.tmp", ".stead-holding/1", "old"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(dir.path().join("a/b/new"), "new").unwrap();
    let changed = |name: &str| {
        let meta = fs::metadata(dir.path().join(name)).unwrap();
        i128::from(meta.ctime()) * SECOND + i128::from(meta.ctime_nsec())
    };
    let spec = RulesSpec { exclude: vec!["*.tmp".into()], ..RulesSpec::default() };
    let all = Tree { rules: Rules::new(&spec).unwrap(), ..tree(dir.path()) };
    assert_eq!(names(&all), ["a", "a/b", "a/b/new", "a/b/old", "old"]);
    let at = (changed("a/b/new") + MARGIN) as u64;
    let since = Tree { since: Some(Since { at, now: u64::MAX }), ..all.clone() };
    assert_eq!(names(&since), ["a/b", "a/b/new"]);
    let later = Tree { since: Some(Since { at: at + 1, now: u64::MAX }), ..all };
    assert!(names(&later).is_empty());
}

#[test]
fn single_files_are_taken_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    for name in ["a.ini", "b.ini", "sub/a.ini"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let rules = Rules::new(&RulesSpec::only(["a.ini"].iter())).unwrap();
    assert_eq!(names(&Tree { rules, ..tree(dir.path()) }), ["a.ini"]);
}

#[test]
fn a_copy_has_content_holes_owner_mode_times_and_xattrs() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to/deeper"));
    fs::create_dir_all(from.join("d/empty")).unwrap();
    let file = fs::File::create(from.join("d/f")).unwrap();
    file.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 5000], 4 << 20).unwrap();
    symlink("nowhere", from.join("d/l")).unwrap();
    rustix::net::bind(
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap(),
        &rustix::net::SocketAddrUnix::new(from.join("d/s")).unwrap(),
    )
    .unwrap();
    let _ = rustix::fs::setxattr(from.join("d/f"), "user.note", b"x", rustix::fs::XattrFlags::empty());
    for name in ["d/f", "d"] {
        let _ = std::os::unix::fs::chown(from.join(name), Some(1234), Some(4321));
        fs::set_permissions(from.join(name), fs::Permissions::from_mode(0o2750)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(77, 5);
        fs::File::open(from.join(name)).unwrap().set_modified(time).unwrap();
    }
    let entries = copied(&tree(&from), &to);
    let left: Vec<_> = entries.iter().filter(|entry| !entry.is_copied).map(|entry| entry.path.clone()).collect();
    assert_eq!((entries.len(), left), (5, vec!["d/s".into()]));
    assert_eq!(fs::read(from.join("d/f")).unwrap(), fs::read(to.join("d/f")).unwrap());
    assert_eq!(fs::read_link(to.join("d/l")).unwrap(), Path::new("nowhere"));
    for name in ["d/f", "d", "d/empty", "d/l"] {
        let [a, b] = [&from, &to].map(|root| fs::symlink_metadata(root.join(name)).unwrap());
        let of = |meta: &fs::Metadata| (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
        assert_eq!(of(&a), of(&b), "{name}");
    }
    assert!(fs::metadata(to.join("d/f")).unwrap().blocks() * 512 < 1 << 20, "holes stay holes");
    let before = fs::metadata(to.parent().unwrap()).unwrap().permissions();
    fs::set_permissions(to.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_file(to.join("d/f")).unwrap();
    fs::remove_file(to.join("d/l")).unwrap();
    copied(&tree(&from), &to);
    assert_eq!(fs::metadata(to.join("d")).unwrap().mode() & 0o7777, 0o700, "what is there stays as it is");
    assert_eq!(fs::metadata(to.parent().unwrap()).unwrap().permissions(), before);
    let mut value = [0; 8];
    let [a, b] = [&from, &to].map(|root| rustix::fs::getxattr(root.join("d/f"), "user.note", &mut value));
    assert_eq!(a, b);
}

#[test]
fn whoever_is_told_can_end_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    let ended = list(&tree(dir.path()), &mut |_| Err(io::Error::other("enough"))).unwrap_err();
    assert!(ended.to_string().contains("enough"), "{ended}");
}
