//! Backup and restore of a node's state, and what is handed to whoever helps.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::daemon::{Daemon, mounts_beneath, stead};
use crate::trust::{Pair, connection, join, json, until};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The number of the stream that the node's daemon began last.
fn incarnation(state: &Path) -> u64 {
    let stream = fs::read_to_string(state.join("sets/notes/source/stream.toml")).unwrap();
    stream.lines().find_map(|line| line.strip_prefix("incarnation = ")).unwrap().parse().unwrap()
}

#[test]
fn a_source_is_brought_back_from_an_old_backup_and_the_target_follows_it() {
    let mut pair = Pair::protected();
    let file = pair.paris.dir().join("backup");
    let said = pair.paris.stead(&["state", "backup", text(&file)]).done();
    assert!(said.contains("private key"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(String::from_utf8_lossy(&fs::read(&file).unwrap()).contains("private key"));
    pair.paris.stead(&["state", "backup", text(&file)]).refused(1, &["exists"]);
    let state = pair.paris.state();
    stead(&state, &["state", "restore", text(&file), "--force"]).refused(1, &["a daemon is running"]);

    // After the backup, more streams begin and more is replicated: the backup knows nothing of it.
    for round in 0..2 {
        pair.paris.stop();
        pair.paris.launch();
        pair.carries(&format!("round {round}"));
    }
    let used = incarnation(&state);
    pair.paris.kill();
    stead(&state, &["state", "restore", text(&file), "--force"]).refused(1, &["notes is being captured"]);
    for (path, _) in mounts_beneath(&pair.source()) {
        assert!(Command::new("umount").arg("-l").arg(path).status().unwrap().success());
    }
    fs::write(pair.source().join("while nobody watched"), "x").unwrap();
    until("capture ended", 20, || fs::remove_dir_all(&state).is_ok() && !state.exists());
    stead(&state, &["state", "restore", text(&file)]).done();
    stead(&state, &["state", "restore", text(&file)]).refused(3, &["not empty", "--force"]);
    pair.paris.launch();
    assert!(incarnation(&state) > used + 1_000_000, "{} after {used}", incarnation(&state));
    until("the target follows", 40, || connection(&pair.paris)["state"] == "replicating");
    pair.carries("after the restore");
    assert_eq!(fs::read_to_string(pair.replica().join("while nobody watched")).unwrap(), "x");
    pair.paris.stead(&["verify", "notes"]).done();
}

#[test]
fn a_target_is_brought_back_and_only_what_differs_is_sent() {
    let mut pair = Pair::protected();
    pair.lyon.kill();
    let file = pair.lyon.dir().join("backup");
    // Also where no daemon runs.
    stead(&pair.lyon.state(), &["state", "backup", text(&file)]).done();
    fs::remove_dir_all(pair.lyon.state()).unwrap();
    fs::write(pair.source().join("meanwhile"), "x").unwrap();
    stead(&pair.lyon.state(), &["state", "restore", text(&file)]).done();
    pair.lyon.launch();
    until("it is connected again", 40, || connection(&pair.paris)["state"] == "replicating");
    pair.carries("to the restored target");
    assert_eq!(fs::read_to_string(pair.replica().join("meanwhile")).unwrap(), "x");
    pair.paris.stead(&["verify", "notes"]).done();
}

#[test]
fn damaged_backups_are_refused_and_change_nothing() {
    let paris = Daemon::start("paris", "127.0.0.2:0");
    let file = paris.dir().join("backup");
    paris.stead(&["state", "backup", text(&file)]).done();
    let good = fs::read(&file).unwrap();
    let state = paris.dir().join("new");
    let middle = good.len() / 2;
    let spoiled = [&good[..middle], &[good[middle] ^ 1], &good[middle + 1..]].concat();
    for (bytes, reason) in [
        (&good[..middle], "cut off"),
        (&spoiled, "damaged"),
        (&b"hello"[..], "not a backup"),
        (&b"stead-state-backup 9\n"[..], "another version"),
    ] {
        fs::write(&file, bytes).unwrap();
        stead(&state, &["state", "restore", text(&file)]).refused(1, &[reason]);
        assert!(!state.exists());
    }
}

#[test]
fn the_support_file_helps_and_holds_no_secrets() {
    let pair = Pair::protected();
    let invitation = pair.lyon.stead(&["invite"]).done();
    let secret = invitation.trim().rsplit(':').next().unwrap();
    for node in [&pair.paris, &pair.lyon] {
        let file = node.dir().join("support.tar");
        let said = node.stead(&["support", text(&file)]).done();
        assert!(said.contains("no keys"), "{said}");
        let bytes = fs::read(&file).unwrap();
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        for name in ["status.json", "plan-check", "daemon.log", "machine/proc/mounts", "state/plan.toml"] {
            assert!(holds(name.as_bytes()), "{name} is missing");
        }
        for evidence in ["listens on", "\"replicating\"", "source = \"paris\"", "ID="] {
            assert!(holds(evidence.as_bytes()), "{evidence} is missing");
        }
        let key = fs::read(node.state().join("node.key")).unwrap();
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        // The private part of an Ed25519 key in PKCS#8: 32 bytes at 16.
        assert!(!holds(&key[16..48]) && !holds(&hex.as_bytes()[32..96]), "the private key");
        assert!(!holds(secret.as_bytes()), "the secret of an invitation");
        assert!(!holds(b"secret_sha256"), "the invitations");
        let names = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
        let names = String::from_utf8(names.stdout).unwrap();
        assert!(!names.contains("node.key") && !names.contains("rotation"), "{names}");
    }
}

#[test]
fn the_support_file_is_written_also_where_no_daemon_runs() {
    let mut paris = Daemon::start("paris", "127.0.0.2:0");
    paris.stop();
    let file = paris.dir().join("support.tar");
    paris.stead(&["support", text(&file)]).done();
    let bytes = fs::read(&file).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("there is no daemon"));
    paris.stead(&["support", text(&file)]).refused(1, &["exists"]);
}

/// What ten minutes do to an invitation, and a clock that was set back.
#[test]
fn an_invitation_that_is_too_old_or_of_the_future_has_expired() {
    let (paris, mut lyon) = (Daemon::start("paris", "127.0.0.2:0"), Daemon::start("lyon", "127.0.0.3:0"));
    for shift in [-700i64, 700] {
        let line = lyon.stead(&["invite"]).done();
        lyon.stop();
        let file = lyon.state().join("invites.toml");
        let shifted: Vec<String> = fs::read_to_string(&file)
            .unwrap()
            .lines()
            .map(|line| match line.strip_prefix("made = ") {
                Some(made) => format!("made = {}", made.parse::<i64>().unwrap() + shift),
                None => line.into(),
            })
            .collect();
        fs::write(&file, shifted.join("\n")).unwrap();
        lyon.launch();
        paris.stead(&["join", line.trim()]).refused(1, &["has expired", "stead invite"]);
    }
    join(&paris, &lyon);
    assert_eq!(json(&paris, &["nodes", "--json"])[1]["reachable"], true);
}
