//! File systems of a target that cannot hold everything, or nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::trust::{Pair, until};

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_file_system_without_file_handles_is_refused_by_name() {
    let pair = Pair::joined();
    fs::create_dir(pair.source()).unwrap();
    let ground = pair.lyon.dir().join("ramfs");
    fs::create_dir(&ground).unwrap();
    run("mount", &["-t", "ramfs", "ramfs", text(&ground)]);
    let map = format!("{}={}", pair.source().display(), ground.join("notes").display());
    let source = pair.source();
    let protect = ["protect", text(&source), "--on", "lyon", "--map", &map];
    pair.paris.stead(&protect).refused(1, &["lyon", "file handles", "ext4, xfs, btrfs"]);
    assert!(!ground.join("notes").exists() && pair.lyon.sets().is_empty());
}

#[test]
fn a_file_system_without_access_control_lists_needs_the_operators_word() {
    let pair = Pair::joined();
    fs::create_dir(pair.source()).unwrap();
    fs::write(pair.source().join("file"), "content").unwrap();
    let (image, ground) = (pair.lyon.dir().join("image"), pair.lyon.dir().join("plain"));
    fs::File::create(&image).unwrap().set_len(128 << 20).unwrap();
    fs::create_dir(&ground).unwrap();
    run("mkfs.btrfs", &["-q", text(&image)]);
    run("mount", &["-o", "loop,noacl", text(&image), text(&ground)]);
    let (source, replica) = (pair.source(), ground.join("notes"));
    let map = format!("{}={}", source.display(), replica.display());
    let protect = ["protect", text(&source), "--on", "lyon", "--map", &map];
    pair.paris.stead(&protect).refused(1, &["access control lists", "--without acls"]);
    assert!(!replica.exists() && pair.lyon.sets().is_empty());
    pair.paris.stead(&[&protect[..], &["--without", "acls"]].concat()).done();
    until("it is there", 10, || fs::read_to_string(replica.join("file")).is_ok_and(|text| text == "content"));
    pair.paris.stead(&["unprotect", "notes"]).done();
}
