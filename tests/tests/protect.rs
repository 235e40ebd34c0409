//! Protecting what is there, and everything that happens to it afterwards.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stead_tests::command::{run, until};
use stead_tests::compare::{Compare, same};
use stead_tests::random::Workload;
use stead_tests::rng::Rng;
use stead_tests::site::{Site, extra_disk};
use stead_tests::tree;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");

#[test]
fn the_first_mirror_copies_everything() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::odd(&notes.source.join("odd")).unwrap();
    tree::plain(&notes.source.join("plain"), 500, 20 << 20, 3).unwrap();
    site.protect(&notes, &[]).unwrap();
    site.settle(&notes).unwrap();
    let blocks = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap());
    let reserved = "odd/contents/preallocated";
    assert_eq!(blocks(&notes.beneath.join(reserved)), blocks(&notes.replica.join(reserved)), "{reserved}");
    let sparse = "odd/contents/sparse";
    assert!(blocks(&notes.replica.join(sparse)) <= blocks(&notes.beneath.join(sparse)) + 64, "{sparse}");
}

#[test]
fn a_set_that_is_written_while_it_is_mirrored_ends_equal() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    let seed = Rng::seed();
    println!("seed {seed}");
    tree::plain(&notes.source.join("plain"), 3_000, 60 << 20, seed).unwrap();
    let workload = Workload { seed, workers: 2, operations: 1_500 };
    let mut args = stead_tests::node::protect_args("notes", &site.lyon, &[(&notes.source, &notes.replica)], &[]);
    args.push("--no-wait".into());
    site.paris.cli(args).unwrap();
    workload.run(Path::new(LOAD), &notes.source).unwrap();
    for number in (0..3_000).step_by(7) {
        let name = format!("plain/d{:04}/file-{number:06}.dat", number / 100);
        match number % 3 {
            0 => fs::remove_file(notes.source.join(name)).unwrap(),
            1 => fs::rename(notes.source.join(&name), notes.source.join(format!("moved-{number}"))).unwrap(),
            _ => {
                let file = File::options().write(true).open(notes.source.join(name)).unwrap();
                file.write_all_at(b"changed while it was mirrored", 3).unwrap();
            }
        }
    }
    site.replicates("notes").unwrap();
    site.settle(&notes).unwrap();
}

#[test]
fn an_empty_directory_can_be_protected() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    site.protect(&notes, &[]).unwrap();
    site.settle(&notes).unwrap();
    tree::odd(&notes.source.join("odd")).unwrap();
    site.settle(&notes).unwrap();
}

#[test]
fn files_held_open_are_replicated_as_they_change() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    site.protect(&notes, &[]).unwrap();
    let mut log = File::options().append(true).create(true).open(notes.source.join("log")).unwrap();
    for round in 0..5 {
        writeln!(log, "line {round}").unwrap();
        site.paris.wait("notes").unwrap();
        let copied = fs::read_to_string(notes.replica.join("log")).unwrap();
        assert_eq!(copied.lines().count(), round + 1, "{copied:?}");
    }
}

#[test]
fn rules_decide_what_belongs_to_the_set() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    for dir in ["keep", "cache", "keep/cache"] {
        fs::create_dir(notes.source.join(dir)).unwrap();
        for file in ["a.txt", "b.tmp"] {
            fs::write(notes.source.join(dir).join(file), "x").unwrap();
        }
    }
    site.protect(&notes, &["--exclude", "*.tmp", "--exclude", "/cache"]).unwrap();
    let there = |path: &str| notes.replica.join(path).exists();
    let check = |wanted: &[(&str, bool)]| {
        site.paris.wait("notes").unwrap();
        for (path, is_there) in wanted {
            assert_eq!(there(path), *is_there, "{path}");
            assert!(notes.source.join(path).exists() || !is_there, "{path} is gone from the source");
        }
    };
    check(&[("keep/a.txt", true), ("keep/b.tmp", false), ("cache", false), ("keep/cache/a.txt", true)]);
    // A name that starts to match moves in with its content, one that stops to match moves out.
    fs::write(notes.source.join("keep/draft.tmp"), "finished in the end").unwrap();
    fs::rename(notes.source.join("keep/draft.tmp"), notes.source.join("keep/draft.txt")).unwrap();
    fs::rename(notes.source.join("keep/a.txt"), notes.source.join("keep/a.tmp")).unwrap();
    fs::rename(notes.source.join("keep/cache"), notes.source.join("keep/store")).unwrap();
    fs::write(notes.source.join("cache/new"), "x").unwrap();
    fs::rename(notes.source.join("cache"), notes.source.join("published")).unwrap();
    check(&[("keep/draft.txt", true), ("keep/a.txt", false), ("keep/a.tmp", false), ("keep/store/a.txt", true)]);
    check(&[("published/a.txt", true), ("published/new", true), ("published/b.tmp", false)]);
    assert_eq!(fs::read(notes.replica.join("keep/draft.txt")).unwrap(), b"finished in the end");
    fs::write(notes.source.join("published/new"), "still followed").unwrap();
    site.paris.wait("notes").unwrap();
    assert_eq!(fs::read(notes.replica.join("published/new")).unwrap(), b"still followed");
}

#[test]
fn one_set_holds_directories_on_several_file_systems() {
    let site = Site::new().unwrap();
    let mut paths = vec![site.pairing("ext4").map(|p| (p.source, p.replica)).unwrap()];
    for kind in ["xfs", "btrfs", "tmpfs"] {
        match extra_disk(&site.hosts.paris, kind, kind) {
            Ok(disk) => {
                fs::create_dir(disk.join("data")).unwrap();
                paths.push((disk.join("data"), site.hosts.lyon.disk().join(kind)));
            }
            Err(e) => println!("not tested here: {kind}: {e:#}"),
        }
    }
    for (source, _) in &paths {
        tree::plain(&source.join("before"), 50, 1 << 20, 1).unwrap();
    }
    let given: Vec<(&Path, &Path)> = paths.iter().map(|(from, to)| (from.as_path(), to.as_path())).collect();
    site.paris.protect("many", &site.lyon, &given, &[]).unwrap();
    for (source, _) in &paths {
        tree::plain(&source.join("after"), 50, 1 << 20, 2).unwrap();
        fs::rename(source.join("before/d0000"), source.join("after/moved")).unwrap();
    }
    site.paris.wait("many").unwrap();
    // Each kind reports holes in its own way.
    let compare = Compare { holes: false, ..Compare::default() };
    for (source, replica) in &paths {
        compare.same(source, replica).unwrap();
    }
}

#[test]
fn a_single_file_is_followed_through_replacement() {
    let site = Site::new().unwrap();
    let dir = site.hosts.paris.disk().join("etc");
    fs::create_dir(&dir).unwrap();
    let (file, copy) = (dir.join("notes.ini"), site.hosts.lyon.disk().join("etc/notes.ini"));
    fs::write(&file, "version = 1\n").unwrap();
    fs::write(dir.join("other"), "is not in the set").unwrap();
    fs::create_dir(copy.parent().unwrap()).unwrap();
    site.paris.protect("ini", &site.lyon, &[(&file, &copy)], &[]).unwrap();
    assert_eq!(fs::read_to_string(&copy).unwrap(), "version = 1\n");
    fs::write(&file, "version = 2\n").unwrap();
    site.paris.wait("ini").unwrap();
    same(&file, &copy).unwrap();
    fs::write(dir.join("new"), "version = 3\n").unwrap();
    fs::rename(dir.join("new"), &file).unwrap();
    site.paris.wait("ini").unwrap();
    same(&file, &copy).unwrap();
    assert!(!site.hosts.lyon.disk().join("etc/other").exists());
}

#[test]
fn hard_links_across_the_edge_stay_one_file_inside() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    let outside = site.hosts.paris.disk().join("outside");
    fs::write(&outside, "three names").unwrap();
    fs::hard_link(&outside, notes.source.join("one")).unwrap();
    fs::hard_link(&outside, notes.source.join("two")).unwrap();
    site.protect(&notes, &[]).unwrap();
    site.settle(&notes).unwrap();
    fs::write(notes.source.join("one"), "written inside").unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "written inside");
    fs::remove_file(notes.source.join("two")).unwrap();
    site.settle(&notes).unwrap();
}

#[test]
fn the_replica_cannot_be_written_by_others() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    fs::write(notes.source.join("file"), "x").unwrap();
    site.protect(&notes, &[]).unwrap();
    assert!(fs::write(notes.replica.join("file"), "by another hand").is_err());
    assert!(fs::write(notes.replica.join("new"), "by another hand").is_err());
    fs::write(notes.source.join("file"), "by the source").unwrap();
    site.paris.wait("notes").unwrap();
    assert_eq!(fs::read_to_string(notes.replica.join("file")).unwrap(), "by the source");
}

#[test]
fn unprotect_gives_the_directory_back() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    fs::write(notes.source.join("file"), "x").unwrap();
    site.protect(&notes, &[]).unwrap();
    fs::write(notes.source.join("later"), "y").unwrap();
    site.paris.cli(["unprotect", "notes"]).unwrap();
    assert!(stead_tests::run::mounts_beneath(&notes.source).is_empty(), "still mounted");
    assert_eq!(fs::read_to_string(notes.source.join("later")).unwrap(), "y");
    assert!(site.paris.connection("notes").is_err());
    until("the replica is writable again", Duration::from_secs(10), || {
        Ok(fs::write(notes.replica.join("file"), "now an ordinary directory").is_ok())
    })
    .unwrap();
    site.protect(&notes, &["--into-non-empty"]).unwrap();
    site.settle(&notes).unwrap();
}

#[test]
fn status_tells_what_happens() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source, 100, 1 << 20, 1).unwrap();
    site.protect(&notes, &[]).unwrap();
    for node in [&site.paris, &site.lyon] {
        let connection = node.connection("notes").unwrap();
        for (field, wanted) in [("set", "notes"), ("source", "paris"), ("target", "lyon"), ("state", "replicating")] {
            assert_eq!(connection[field], wanted, "{field} on {}: {connection}", node.name());
        }
        for field in ["mirror", "queue", "lag_seconds", "consistent_at", "capture", "epoch"] {
            assert!(connection.get(field).is_some(), "{field} on {}: {connection}", node.name());
        }
    }
    let mirror = &site.paris.connection("notes").unwrap()["mirror"];
    assert_eq!(mirror["files_done"], mirror["files_total"], "{mirror}");
    let begin = std::time::Instant::now();
    site.paris.cli(["status"]).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn what_stat_and_statfs_tell_is_that_of_the_file_system_beneath() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::odd(&notes.source).unwrap();
    site.protect(&notes, &[]).unwrap();
    let listing = |root: &Path| {
        run(Command::new("find").arg(".").args(["-printf", "%P %i %n %M %U %G %s %b %T@ %C@ %l\\n"]).current_dir(root))
            .unwrap()
    };
    let (seen, beneath) = (listing(&notes.source), listing(&notes.beneath));
    let differing: Vec<_> = seen.lines().zip(beneath.lines()).filter(|(a, b)| a != b).collect();
    assert!(seen == beneath, "{differing:?}");
    let free = |path: &Path| rustix::fs::statvfs(path).map(|fs| (fs.f_blocks, fs.f_files, fs.f_namemax)).unwrap();
    assert_eq!(free(&notes.source), free(&notes.beneath));
}
