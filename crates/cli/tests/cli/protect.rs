//! From `protect` to `unprotect` between two real daemons: what is arranged, what is refused, what is undone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::{Daemon, Said, mounts_beneath};

struct Site {
    paris: Daemon,
    lyon: Daemon,
}

/// Two nodes that trust each other.
fn site() -> Site {
    let (paris, lyon) = (Daemon::start("paris", "127.0.0.2:0"), Daemon::start("lyon", "127.0.0.3:0"));
    let line = lyon.stead(&["invite"]).done();
    paris.stead(&["join", line.trim()]).done();
    Site { paris, lyon }
}

impl Site {
    fn source(&self, name: &str) -> PathBuf {
        let dir = self.paris.dir().join(name);
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/file"), "content").unwrap();
        dir
    }

    fn replica(&self, name: &str) -> PathBuf {
        self.lyon.dir().join(name)
    }

    fn protect(&self, from: &Path, to: &Path, more: &[&str]) -> Said {
        let (path, map) = (text(from), format!("{}={}", from.display(), to.display()));
        self.paris.stead(&[&["protect", path, "--on", "lyon", "--map", &map], more].concat())
    }

    fn states(&self) -> Vec<String> {
        let state = |node: &Daemon| {
            let status: serde_json::Value = serde_json::from_str(&node.stead(&["status", "--json"]).done()).unwrap();
            let connections = status["connections"].as_array().unwrap().clone();
            let words = connections.iter().map(|c| format!("{} {}", c["set"], c["state"]).replace('"', ""));
            words.collect::<Vec<_>>().join(", ")
        };
        vec![state(&self.paris), state(&self.lyon)]
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_set_lives_from_protect_to_unprotect() {
    let site = site();
    let (source, replica) = (site.source("notes"), site.replica("a/b/notes"));
    let said = site.protect(&source, &replica, &[]).done();
    assert!(said.starts_with("protected: lyon is "), "{said}");
    assert_eq!(site.states(), ["notes replicating", "notes replicating"]);
    assert_eq!(site.paris.stead(&["plan", "show"]).done(), site.lyon.stead(&["plan", "show"]).done());
    site.paris.stead(&["plan", "check"]).done();
    site.lyon.stead(&["plan", "check"]).done();
    fs::write(source.join("later"), "written while it is protected").unwrap();
    site.paris.stead(&["wait", "notes", "--timeout", "20s"]).done();
    assert_eq!(fs::read_to_string(replica.join("later")).unwrap(), "written while it is protected");
    assert_eq!(fs::read_to_string(replica.join("sub/file")).unwrap(), "content");
    let guarded = fs::write(replica.join("stray"), "x").unwrap_err();
    assert_eq!(guarded.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let said = site.paris.stead(&["verify", "notes"]).done();
    assert!(said.contains("set notes: equal"), "{said}");
    site.paris.stead(&["mirror", "notes"]).done();
    site.paris.stead(&["wait", "notse"]).refused(1, &["there is no set notse; did you mean notes?"]);
    site.lyon.stead(&["wait", "notes"]).refused(1, &["its source is paris", "Run the command on paris"]);
    site.lyon.stead(&["unprotect", "notes"]).refused(1, &["its source is paris", "--force"]);

    site.paris.stead(&["unprotect", "notes"]).done();
    assert_eq!(site.states(), ["", ""]);
    assert!(replica.is_dir(), "the replica stays");
    assert_eq!(fs::read_to_string(source.join("sub/file")).unwrap(), "content");
    for node in [&site.paris, &site.lyon] {
        assert!(!node.state().join("sets/notes").exists());
        assert_eq!(mounts_beneath(node.dir()), []);
    }
    site.paris.stead(&["unprotect", "notes"]).refused(1, &["there is no set notes"]);
}

#[test]
fn what_lands_on_something_is_refused() {
    let site = site();
    let (notes, mail) = (site.source("notes"), site.source("mail"));
    site.protect(&notes, &site.replica("notes"), &[]).done();
    site.protect(&notes, &site.replica("x"), &["--set", "again"]).refused(1, &["in set notes already"]);
    site.protect(&notes.join("sub"), &site.replica("x"), &[]).refused(1, &["in set notes already"]);
    site.protect(&mail, &site.replica("x"), &["--set", "notes"]).refused(1, &["of that name already", "--set"]);
    for to in ["notes", "notes/inside", ""] {
        let to = site.lyon.dir().join(to);
        site.protect(&mail, &to, &[]).refused(1, &["--map SRC=DST"]);
    }
    let state = site.lyon.state();
    site.protect(&mail, &state.join("x"), &[]).refused(1, &["state directory"]);

    std::os::unix::fs::symlink("/tmp", site.replica("link")).unwrap();
    site.protect(&mail, &site.replica("link/x"), &[]).refused(1, &["is a symlink, to /tmp"]);
    fs::write(site.replica("file"), "x").unwrap();
    site.protect(&mail, &site.replica("file"), &[]).refused(1, &["is not a directory"]);
    site.protect(&mail, &site.replica("file/x"), &[]).refused(1, &["file"]);
    assert_eq!(site.paris.sets(), ["notes"]);
    assert_eq!(site.lyon.sets(), ["notes"]);
}

#[test]
fn a_directory_that_is_not_empty_needs_a_word_and_what_goes_is_listed() {
    let site = site();
    let (source, replica) = (site.source("notes"), site.replica("full"));
    fs::create_dir_all(replica.join("sub/deep")).unwrap();
    fs::write(replica.join("sub/file"), "older").unwrap();
    fs::write(replica.join("stray"), "x").unwrap();
    site.protect(&source, &replica, &[]).refused(1, &["not empty", "--into-non-empty"]);
    let stray = replica.join("stray").display().to_string();
    let deep = replica.join("sub/deep").display().to_string();
    assert!(replica.join("stray").exists());
    assert!(site.paris.sets().is_empty());
    let said = site.protect(&source, &replica, &["--into-non-empty"]);
    assert!(said.err.contains(&stray) && said.err.contains(&deep), "{}", said.err);
    assert!(!said.err.contains("sub/file"), "{}", said.err);
    said.done();
    assert_eq!(site.states(), ["notes replicating", "notes replicating"]);
    assert!(!replica.join("stray").exists() && !replica.join("sub/deep").exists());
    assert_eq!(fs::read_to_string(replica.join("sub/file")).unwrap(), "content");
}

#[test]
fn a_target_without_room_or_abilities_is_named_before_anything_is_made() {
    let site = site();
    let source = site.source("notes");
    fs::write(source.join("big"), vec![1; 8 << 20]).unwrap();
    let small = site.replica("small");
    mount_tmpfs(&small, "size=2m");
    site.protect(&source, &small.join("notes"), &[]).refused(1, &["room for", "8 MiB"]);
    assert!(!small.join("notes").exists());
    site.protect(&source, Path::new("/proc/notes"), &[]).refused(1, &["/proc"]);
    assert!(site.paris.sets().is_empty() && site.lyon.sets().is_empty());
}

#[test]
fn another_file_system_inside_is_named_and_left_out() {
    let site = site();
    let source = site.source("notes");
    mount_tmpfs(&source.join("other"), "size=2m");
    let said = site.protect(&source, &site.replica("notes"), &[]);
    assert!(said.err.contains("other is another file system inside"), "{}", said.err);
    said.done();
}

#[test]
fn a_target_that_is_away_is_no_reason_to_stay_protected() {
    let mut site = site();
    let source = site.source("notes");
    site.protect(&source, &site.replica("notes"), &[]).done();
    site.lyon.kill();
    let said = site.paris.stead(&["unprotect", "notes"]);
    assert!(said.err.contains("stead unprotect notes --force"), "{}", said.err);
    said.done();
    site.lyon.launch();
    assert_eq!(site.lyon.sets(), ["notes"]);
    site.lyon.stead(&["plan", "check"]).done();
    site.lyon.stead(&["unprotect", "notes", "--force"]).done();
    assert!(site.lyon.sets().is_empty());
}

#[test]
fn who_works_in_a_set_is_named_and_works_on_when_it_ends() {
    let site = site();
    let source = site.source("notes");
    site.protect(&source, &site.replica("notes"), &[]).done();
    let mut busy = Command::new("sleep").arg("100").current_dir(source.join("sub")).spawn().unwrap();
    let mut open = fs::File::create(source.join("open")).unwrap();
    open.write_all(b"before ").unwrap();
    let said = site.paris.stead(&["unprotect", "notes"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for named in ["sleep (process", "works in", "has open"] {
        assert!(said.err.contains(named), "{}", said.err);
    }
    assert_eq!(site.states(), ["", ""]);
    assert_eq!(mounts_beneath(site.paris.dir()), []);
    open.write_all(b"and after").unwrap();
    open.sync_all().unwrap();
    open.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::read_to_string(source.join("open")).unwrap(), "before and after");
    let cwd = format!("/proc/{}/cwd", busy.id());
    fs::write(format!("{cwd}/made"), "by who works there").unwrap();
    assert_eq!(fs::read_to_string(source.join("sub/made")).unwrap(), "by who works there");
    site.protect(&source, &site.replica("again"), &[]).done();
    fs::write(source.join("later"), "it is captured anew").unwrap();
    site.paris.stead(&["wait", "notes", "--timeout", "20s"]).done();
    assert_eq!(fs::read_to_string(site.replica("again").join("open")).unwrap(), "before and after");
    assert_eq!(fs::read_to_string(site.replica("again").join("later")).unwrap(), "it is captured anew");
    drop(open);
    busy.kill().unwrap();
    busy.wait().unwrap();
    site.paris.stead(&["unprotect", "notes"]).done();
}

#[test]
fn a_plan_in_a_file_makes_and_ends_sets() {
    let site = site();
    let source = site.source("notes");
    site.protect(&source, &site.replica("notes"), &["--exclude", "*.tmp"]).done();
    let plan = site.paris.stead(&["plan", "show"]).done();
    let file = site.paris.dir().join("plan.toml");
    let apply_as = |text: &str, options: &[&str]| {
        fs::write(&file, text).unwrap();
        site.paris.stead(&[&["plan", "apply", file.to_str().unwrap()], options].concat())
    };
    let apply = |text: &str| apply_as(text, &[]);
    assert_eq!(apply(&plan).done(), "nothing to change\n");
    apply(&plan.replace("order = \"strict\"", "order = \"flush\""))
        .refused(1, &["how it is captured", "stead unprotect"]);
    let paused = plan.replace("mode = ", "paused = true\nmode = ");
    let told = "set notes → lyon: paused false → true\n";
    assert_eq!(apply_as(&paused, &["--dry-run"]).done(), told);
    assert_eq!(site.states()[0], "notes replicating", "it was only told");
    assert_eq!(apply(&paused).done(), format!("{told}the plan is applied\n"));
    assert_eq!(site.states()[0], "notes paused");
    apply(&plan).done();
    apply("version = 1\n").refused(2, &["this will end set notes", "--yes"]);
    assert_eq!(site.paris.sets().len(), 1);
    let json: serde_json::Value =
        serde_json::from_str(&apply_as("version = 1\n", &["--yes", "--json"]).done()).unwrap();
    assert_eq!((&json["applied"], &json["differences"][0]["kind"]), (&true.into(), &"gone".into()), "{json}");
    assert!(site.paris.sets().is_empty());
    fs::remove_dir_all(site.replica("notes")).unwrap();
    apply(&plan).done();
    assert_eq!(site.paris.stead(&["plan", "show"]).done(), plan);
}

#[test]
fn what_was_protected_is_protected_after_a_restart() {
    let mut site = site();
    let source = site.source("notes");
    site.protect(&source, &site.replica("notes"), &[]).done();
    site.paris.stop();
    site.paris.launch();
    site.lyon.stop();
    site.lyon.launch();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while site.states() != ["notes replicating", "notes replicating"] {
        assert!(std::time::Instant::now() < deadline, "{:?}", site.states());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn mount_tmpfs(at: &Path, options: &str) {
    fs::create_dir_all(at).unwrap();
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status().unwrap();
    assert!(status.success());
}

#[test]
fn what_is_protected_is_inaccessible_from_boot_until_the_daemon_is_up() {
    let mut site = site();
    let (source, replica) = (site.source("notes"), site.replica("notes"));
    site.protect(&source, &replica, &[]).done();
    site.paris.stop();
    site.lyon.stop();
    // As after a reboot: no capture, no guard.
    for path in [&source, &replica] {
        assert!(Command::new("umount").arg(path).status().unwrap().success());
    }
    let raise = |node: &Daemon| crate::daemon::stead(&node.state(), &["barrier"]).done();
    assert!(raise(&site.paris).contains(text(&source)));
    assert!(raise(&site.lyon).contains(text(&replica)));
    assert_eq!(raise(&site.paris), "", "once is enough");
    assert_eq!(fs::read_dir(&source).unwrap().count() + fs::read_dir(&replica).unwrap().count(), 0);
    assert!(fs::write(source.join("past-the-capture"), "x").is_err());
    site.lyon.launch();
    site.paris.launch();
    site.paris.stead(&["wait", "notes", "--timeout", "30s"]).done();
    for path in [&source, &replica] {
        assert_eq!(fs::read_to_string(path.join("sub/file")).unwrap(), "content");
        let kinds: Vec<_> = mounts_beneath(path).into_iter().map(|(_, kind)| kind).collect();
        assert!(!kinds.contains(&"tmpfs".to_string()), "{kinds:?}");
    }
}
