//! Two real daemons on loopback: trust, status, refusals, exit codes.

use std::fs;

use crate::daemon::{Daemon, Said, stead};

fn two() -> (Daemon, Daemon) {
    (Daemon::start("paris", "127.0.0.2:0"), Daemon::start("lyon", "127.0.0.3:0"))
}

fn joined() -> (Daemon, Daemon) {
    let (paris, lyon) = two();
    let line = lyon.stead(&["invite"]).done();
    paris.stead(&["join", line.trim()]).done();
    (paris, lyon)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// The line with its last digit changed.
fn spoiled(line: &str) -> String {
    let (rest, last) = line.split_at(line.len() - 1);
    format!("{rest}{}", if last == "0" { "1" } else { "0" })
}

#[test]
fn an_invitation_joins_two_nodes_once() {
    let (paris, lyon) = two();
    let line = lyon.stead(&["invite"]).done();
    assert_eq!(line.lines().count(), 1);
    let line = line.trim();
    assert!(line.starts_with("stead1:127.0.0.3:"), "{line}");

    paris.stead(&["join", &spoiled(line)]).refused(1, &["the secret is wrong", "4 tries"]);
    let said = paris.stead(&["join", line]).done();
    assert!(said.contains("joined lyon"), "{said}");
    paris.stead(&["join", line]).refused(1, &["used already", "stead invite"]);
    let again = lyon.stead(&["invite"]).done();
    assert!(paris.stead(&["join", again.trim()]).done().contains("again"));

    for (here, there) in [(&paris, "lyon"), (&lyon, "paris")] {
        let nodes = json(&here.stead(&["nodes", "--json"]).done());
        assert_eq!(nodes[1]["name"], there);
        assert_eq!(nodes[1]["reachable"], true);
        let status = json(&here.stead(&["status", "--json"]).done());
        assert_eq!(status["connections"], json("[]"));
        assert_eq!(status["unreachable"], json("[]"));
    }
}

#[test]
fn wrong_lines_are_refused_with_the_reason() {
    let (paris, lyon) = two();
    let line = lyon.stead(&["invite"]).done();
    let line = line.trim();
    paris.stead(&["join", "hello"]).refused(2, &["not an invitation"]);
    paris.stead(&["join", &line.replace("stead1", "stead9")]).refused(1, &["another version"]);
    paris.stead(&["join", &line[..line.len() - 3]]).refused(2, &["cut off"]);
    lyon.stead(&["join", line]).refused(1, &["this node's own"]);

    let parts: Vec<_> = line.split(':').collect();
    let other = "ab".repeat(32);
    let pinned_elsewhere = line.replace(parts[3], &other);
    paris.stead(&["join", &pinned_elsewhere]).refused(1, &["another certificate"]);
    let nobody = line.replace("127.0.0.3", "127.0.0.4");
    paris.stead(&["join", &nobody]).refused(1, &["does not answer"]);

    for left in (0..5).rev() {
        let tries = format!("{left} tries");
        paris.stead(&["join", &spoiled(line)]).refused(1, &["wrong", tries.as_str()]);
    }
    paris.stead(&["join", line]).refused(1, &["void"]);
}

#[test]
fn two_nodes_of_one_name_are_refused() {
    let (paris, other) = (Daemon::start("paris", "127.0.0.2:0"), Daemon::start("paris", "127.0.0.3:0"));
    let line = other.stead(&["invite"]).done();
    paris.stead(&["join", line.trim()]).refused(1, &["both nodes are called paris", "--name"]);
}

#[test]
fn trust_survives_restarts_and_silence_is_named() {
    let (paris, mut lyon) = joined();
    lyon.kill();
    let status = json(&paris.stead(&["status", "--json"]).done());
    assert_eq!(status["unreachable"], json(r#"["lyon"]"#));
    assert!(paris.stead(&["status"]).done().contains("lyon does not answer"));
    lyon.launch();
    let status = json(&paris.stead(&["status", "--json"]).done());
    assert_eq!(status["unreachable"], json("[]"));
}

#[test]
fn a_state_directory_has_one_daemon_one_name_and_no_newer_version() {
    let mut paris = Daemon::start("paris", "127.0.0.2:0");
    let state = paris.state().to_path_buf();
    let daemon = |args: &[&str]| stead(&state, &[&["daemon", "--listen", "127.0.0.2:0"], args].concat());
    daemon(&[]).refused(1, &["a daemon is running"]);
    paris.stop();
    daemon(&["--name", "rome"]).refused(2, &["belongs to node paris"]);
    fs::write(state.join("version"), "99\n").unwrap();
    daemon(&[]).refused(1, &["version 99"]);
}

#[test]
fn a_daemon_that_is_not_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stead"));
    std::os::unix::process::CommandExt::uid(command.arg("daemon").env("STEAD_STATE", dir.path()), 65534);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not run as root"), "{said}");
}

#[test]
fn without_a_daemon_the_exit_code_is_4() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["status"][..], &["invite"], &["wait", "notes"], &["plan", "show"]] {
        stead(dir.path(), args).refused(4, &["there is no daemon", "systemctl start stead"]);
    }
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["protekt"][..], &["protect"], &["protect", "/srv"], &["wait"], &["wait", "notes", "--timeout", "3d"]]
    {
        stead(dir.path(), args).refused(2, &["--help"]);
    }
    stead(dir.path(), &["protect", "/srv", "--on", "ly/on"]).refused(2, &["ly/on"]);
    for args in [&["--help"][..], &["protect", "--help"], &["--version"]] {
        stead(dir.path(), args).done();
    }
}

#[test]
fn what_cannot_be_protected_is_refused_and_nothing_is_left_behind() {
    let (paris, lyon) = joined();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let data = data.to_str().unwrap();
    let state_dir = paris.state();
    let state = state_dir.to_str().unwrap();
    let above = state_dir.parent().unwrap().to_str().unwrap();
    let missing = format!("{data}/missing");
    for (args, reasons) in [
        (&[data, "--on", "rome"][..], &["rome", "not a node that this one trusts", "stead invite"][..]),
        (&[&missing, "--on", "lyon"], &["does not exist", "Create it first"]),
        (&["/", "--on", "lyon"], &["root directory"]),
        (&[state, "--on", "lyon"], &["state directory"]),
        (&[above, "--on", "lyon"], &["state directory"]),
        (&["/proc", "--on", "lyon"], &["/proc"]),
        (&[data, "--on", "lyon", "--capture", "probe"], &["probe"]),
    ] {
        paris.stead(&[&["protect"], args].concat()).refused(1, reasons);
    }
    paris.stead(&["protect", data, "--on", "paris"]).refused(2, &["this node itself"]);
    paris.stead(&["protect", data, "--on", "lyon", "--exclude", "a["]).refused(2, &["a["]);
    paris.stead(&["protect", data, "--on", "lyon", "--map", "/srv=/srv"]).refused(2, &["--map names /srv"]);
    for node in [&paris, &lyon] {
        assert_eq!(node.stead(&["plan", "show"]).done(), "version = 1\n");
        assert!(!node.state().join("sets").exists());
    }
}

#[test]
fn commands_on_unknown_sets_name_what_is_known() {
    let paris = Daemon::start("paris", "127.0.0.2:0");
    for args in [
        &["wait", "notes"][..],
        &["mirror", "notes"],
        &["verify", "notes"],
        &["pause", "notes"],
        &["unprotect", "notes"],
    ] {
        paris.stead(args).refused(1, &["there is no set notes", "stead status"]);
    }
    for args in [
        &["failover", "office"][..],
        &["switchover", "office", "--yes"],
        &["restore", "office", "--yes"],
        &["restore", "office", "--dry-run"],
        &["failback", "office", "--yes"],
        &["approve", "office"],
        &["explain", "office"],
        &["unmonitor", "office"],
    ] {
        paris.stead(args).refused(1, &["there is no group office", "stead status"]);
    }
}

#[test]
fn plans_are_checked_before_they_are_applied() {
    let paris = Daemon::start("paris", "127.0.0.2:0");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.toml");
    let file = file.to_str().unwrap();
    paris.stead(&["plan", "apply", file]).refused(2, &["cannot be read"]);
    for (text, reason) in [("version = 1\nsets = 3\n", "sets"), ("version = 7\n", "version 7"), ("x", "well-formed")] {
        fs::write(file, text).unwrap();
        paris.stead(&["plan", "apply", file]).refused(2, &[reason]);
        paris.stead(&["plan", "check", file]).refused(3, &[reason]);
    }
    let group = "version = 1\n[[group]]\nname = \"office\"\nsource = \"paris\"\ntarget = \"lyon\"\nsets = []\n\
                 [[group.address]]\naddress = \"192.0.2.9/24\"\n";
    let stranger = "line 5: group office: target is lyon, which is no node that is trusted here";
    fs::write(file, group).unwrap();
    paris.stead(&["plan", "apply", file]).refused(2, &[stranger]);
    paris.stead(&["plan", "check", file]).refused(3, &[stranger]);
    for (text, reason) in [
        (group.replace("192.0.2.9/24", "192.0.2.9"), "line 8: group office: address \"192.0.2.9\" has no network"),
        (group.replace("sets", "timeout = \"1s\"\nsets"), "line 6: group office: timeout of 1s is less than three"),
        (
            format!("{group}{}", group.split_once('\n').unwrap().1.replace("office", "web")),
            "line 15: group web: address",
        ),
    ] {
        fs::write(file, text).unwrap();
        paris.stead(&["plan", "apply", file]).refused(2, &[reason]);
        paris.stead(&["plan", "check", file]).refused(3, &[reason]);
    }
    fs::write(file, "version = 1\n").unwrap();
    paris.stead(&["plan", "apply", file]).done();
    paris.stead(&["plan", "check"]).done();
    assert_eq!(paris.stead(&["plan", "show"]).done(), "version = 1\n");
}

#[test]
fn man_pages_and_completions_come_from_the_definitions() {
    let dir = tempfile::tempdir().unwrap();
    let man = dir.path().join("man");
    stead(dir.path(), &["man", man.to_str().unwrap()]).done();
    let protect = fs::read_to_string(man.join("stead-protect.1")).unwrap();
    assert!(protect.contains("into\\-non\\-empty"));
    for shell in ["bash", "zsh", "fish"] {
        let Said { out, .. } = stead(dir.path(), &["completions", shell]);
        assert!(out.contains("protect"), "{shell}");
    }
}

#[test]
fn shutdown_ends_the_daemon() {
    let mut paris = Daemon::start("paris", "127.0.0.2:0");
    paris.stead(&["shutdown"]).done();
    assert!(paris.ended().success());
    assert!(!paris.state().join("api.sock").exists());
}
