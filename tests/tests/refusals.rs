//! Bad input: a clear line on standard error, the right exit code, nothing half done.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use stead_tests::command::{output, run, text};
use stead_tests::node::{Node, PORT, stead};
use stead_tests::run::mounts_beneath;
use stead_tests::site::{Site, extra_disk};

fn check(what: &str, output: &Output, code: i32, words: &[&str]) -> Vec<String> {
    let said = text(&output.stderr);
    let mut wrong = Vec::new();
    if output.status.code() != Some(code) {
        wrong.push(format!(
            "{what}: exit code {:?} instead of {code}: {said}{}",
            output.status.code(),
            text(&output.stdout)
        ));
    }
    for word in words {
        if !said.to_lowercase().contains(&word.to_lowercase()) {
            wrong.push(format!("{what}: standard error should speak of {word:?}: {said:?}"));
        }
    }
    if said.trim().is_empty() || said.contains("panicked") {
        wrong.push(format!("{what}: no clear line on standard error: {said:?}"));
    }
    wrong
}

#[test]
fn protect_refuses_what_it_cannot_do_and_leaves_nothing() {
    let site = Site::new().unwrap();
    let (disk, target) = (site.hosts.paris.disk(), site.hosts.lyon.disk());
    for dir in ["good", "inside/deep", "holds"] {
        fs::create_dir_all(disk.join(dir)).unwrap();
    }
    fs::write(disk.join("good/file"), "x").unwrap();
    fs::create_dir_all(target.join("full")).unwrap();
    fs::write(target.join("full/occupied"), "not ours").unwrap();
    let state = site.paris.state().to_path_buf();
    let path = |name: &str| disk.join(name).display().to_string();
    let onto = |name: &str| target.join(name).display().to_string();
    let (state_dir, state_parent) = (state.display().to_string(), state.parent().unwrap().display().to_string());
    let on = site.lyon.name();
    let cases: Vec<(&str, Vec<String>, i32, Vec<&str>)> = vec![
        ("a path that is not there", vec![path("missing")], 1, vec!["missing"]),
        ("the root", vec!["/".into()], 1, vec!["/"]),
        ("the state directory", vec![state_dir.clone()], 1, vec!["state"]),
        ("a parent of the state directory", vec![state_parent], 1, vec!["state"]),
        (
            "a non-empty target",
            vec![path("good"), "--map".into(), format!("{}={}", path("good"), onto("full"))],
            1,
            vec!["empty", "--into-non-empty"],
        ),
        ("a malformed rule", vec![path("good"), "--exclude".into(), "a[".into()], 2, vec!["a["]),
        ("a path in /proc", vec!["/proc/self".into()], 1, vec!["/proc"]),
        (
            "a relative target",
            vec![path("good"), "--map".into(), format!("{}=somewhere", path("good"))],
            2,
            vec!["somewhere"],
        ),
    ];
    let mut wrong = Vec::new();
    let before = mounts_beneath(&disk);
    let contents = run(Command::new("ls").arg("-AR").arg(&target)).unwrap();
    for (what, paths, code, words) in &cases {
        let mut args = vec!["protect".to_string()];
        args.extend(paths.iter().cloned());
        args.extend(["--on", on, "--set", "bad"].map(String::from));
        wrong.extend(check(what, &site.paris.output(&args).unwrap(), *code, words));
    }
    let unknown = site.paris.output(["protect", &path("good"), "--on", "nowhere"]).unwrap();
    wrong.extend(check("an unknown target", &unknown, 1, &["nowhere"]));
    let usage = site.paris.output(["protect", "--frobnicate"]).unwrap();
    wrong.extend(check("an unknown option", &usage, 2, &["frobnicate"]));
    let missing = site.paris.output(["wait", "nothing"]).unwrap();
    wrong.extend(check("a set that is not there", &missing, 1, &["nothing"]));
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(mounts_beneath(&disk), before, "a mount was left");
    assert_eq!(run(Command::new("ls").arg("-AR").arg(&target)).unwrap(), contents, "something was left on the target");
    assert!(site.paris.connection("bad").is_err(), "a connection was left");

    let good = site.pairing("good").unwrap();
    site.protect(&good, &[]).unwrap();
    let map = |from: &str, to: String| ["--map".to_string(), format!("{}={to}", path(from))];
    let mut later = Vec::new();
    for (what, source, extra, words) in [
        ("a path that is in a set", "good", None, "good"),
        ("a path inside of a set", "good/sub", None, "good"),
        ("a mapping inside of another replica", "inside", Some(map("inside", onto("good/sub"))), "good"),
        ("a mapping around another replica", "inside", Some(map("inside", onto(""))), ""),
    ] {
        fs::create_dir_all(disk.join(source)).unwrap();
        let mut args = vec!["protect".into(), path(source), "--on".into(), on.into(), "--set".into(), "second".into()];
        args.extend(extra.into_iter().flatten());
        later.extend(check(what, &site.paris.output(&args).unwrap(), 1, &[words]));
    }
    assert!(later.is_empty(), "{later:#?}");
    site.settle(&good).unwrap();
}

#[test]
fn another_mount_inside_is_named_and_left_out() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    fs::create_dir(notes.source.join("mounted")).unwrap();
    fs::write(notes.source.join("file"), "x").unwrap();
    let mut mount = Command::new("mount");
    run(mount.args(["-t", "tmpfs", "tmpfs"]).arg(notes.source.join("mounted"))).unwrap();
    fs::write(notes.source.join("mounted/on another file system"), "x").unwrap();
    let args = stead_tests::node::protect_args("notes", &site.lyon, &[(&notes.source, &notes.replica)], &[]);
    let output = site.paris.output(&args).unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(said.contains("mounted"), "the mount is not named: {said}");
    if output.status.success() {
        site.paris.wait("notes").unwrap();
        assert!(notes.replica.join("file").exists());
        assert!(!notes.replica.join("mounted/on another file system").exists());
    }
}

#[test]
fn a_target_without_room_is_refused_before_anything_is_copied() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    stead_tests::tree::big(&notes.source.join("big"), 300 << 20, 1).unwrap();
    let small = extra_disk(&site.hosts.lyon, "small", "tmpfs").unwrap();
    let args = stead_tests::node::protect_args("notes", &site.lyon, &[(&notes.source, &small.join("notes"))], &[]);
    let output = site.paris.output(&args).unwrap();
    let wrong = check("no room", &output, 1, &["room"]);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!small.join("notes/big").exists(), "it was copied in part");
    assert_eq!(mounts_beneath(&notes.source).len(), 0, "still captured");
}

#[test]
fn into_non_empty_lists_what_goes_and_then_removes_it() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    for (root, names) in [(&notes.source, ["same", "mine"]), (&notes.replica, ["same", "stale"])] {
        fs::create_dir_all(root).unwrap();
        names.iter().for_each(|name| fs::write(root.join(name), name).unwrap());
    }
    let args =
        stead_tests::node::protect_args("notes", &site.lyon, &[(&notes.source, &notes.replica)], &["--into-non-empty"]);
    let output = site.paris.output(&args).unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.contains("stale"), "what goes is not listed: {said}");
    site.settle(&notes).unwrap();
    assert!(!notes.replica.join("stale").exists());
}

#[test]
fn the_daemon_refuses_what_it_cannot_serve() {
    let mut site = Site::new().unwrap();
    let run_daemon = |state: &Path, port: u16| {
        let mut command = site.hosts.paris.command("timeout");
        let listen = format!("{}:{port}", site.hosts.paris.address());
        command.arg("10").arg(stead().unwrap()).args(["daemon", "--listen", &listen, "--state"]).arg(state);
        output(&mut command).unwrap()
    };
    let mut wrong = check("a second daemon on one state", &run_daemon(site.paris.state(), PORT + 5), 1, &["state"]);
    wrong.extend(check("an address in use", &run_daemon(&site.hosts.paris.dir().join("other"), PORT), 1, &["7130"]));
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(site.paris.status().is_ok(), "the first daemon suffered");

    site.paris.stop().unwrap();
    let gone = site.paris.output(["status"]).unwrap();
    let wrong = check("no daemon", &gone, 4, &["daemon"]);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn without_root_or_fuse_it_says_so() {
    let site = Site::new().unwrap();
    let state = site.hosts.paris.dir().join("of-nobody");
    // Not on a host: entering its network needs root, too.
    let mut daemon = Command::new("timeout");
    daemon.arg("10").arg(stead().unwrap()).args(["daemon", "--listen", "127.0.0.1:7199", "--state"]).arg(state);
    let wrong = check("no root", &output(daemon.uid(65534).gid(65534)).unwrap(), 1, &["root"]);
    assert!(wrong.is_empty(), "{wrong:#?}");

    let notes = site.pairing("notes").unwrap();
    // A mount namespace whose /dev holds nothing but what every program needs.
    let mut node = site.hosts.paris.command("unshare");
    let state = site.hosts.paris.dir().join("state-blind");
    let script = "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9 && exec \"$@\"";
    node.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(stead().unwrap());
    node.args(["daemon", "--name", "blind", "--listen", "10.77.0.1:7140", "--state"]).arg(&state);
    let mut child = node.spawn().unwrap();
    let ask = |args: &[&str]| {
        let mut command = site.hosts.paris.command(stead().unwrap());
        output(command.args(args).env("STEAD_STATE", &state)).unwrap()
    };
    stead_tests::command::until("the blind daemon answers", std::time::Duration::from_secs(10), || {
        Ok(ask(&["status"]).status.success())
    })
    .unwrap();
    assert!(ask(&["join", &site.lyon.invite().unwrap()]).status.success());
    let map = format!("{}={}", notes.source.display(), notes.replica.display());
    let refused = ask(&["protect", &notes.source.display().to_string(), "--on", "lyon", "--map", &map]);
    let wrong = check("no /dev/fuse", &refused, 1, &["/dev/fuse"]);
    let _ = child.kill();
    let _ = child.wait();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_state_directory_of_a_newer_version_is_left_alone() {
    let mut site = Site::new().unwrap();
    site.paris.stop().unwrap();
    let state = site.paris.state().to_path_buf();
    let listed = run(Command::new("find").arg(&state).args(["-maxdepth", "1", "-name", "*version*"])).unwrap();
    let version = listed.lines().next().unwrap_or_else(|| panic!("no version file in {}", state.display()));
    fs::write(version, "999\n").unwrap();
    let mut daemon = site.hosts.paris.command("timeout");
    daemon.arg("10").arg(stead().unwrap()).args(["daemon", "--listen", "10.77.0.1:7130", "--state"]).arg(&state);
    let wrong = check("a newer state", &output(&mut daemon).unwrap(), 1, &["version"]);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(fs::read_to_string(version).unwrap(), "999\n");
    let _ = Node::start_as(&site.hosts.paris, "fresh", PORT + 1).unwrap();
}
