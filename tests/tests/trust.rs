//! Who may talk to whom, and how a replica is proved and repaired.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use stead_tests::command::{run, text, until};
use stead_tests::compare::same;
use stead_tests::host::Hosts;
use stead_tests::node::Node;
use stead_tests::site::{Pairing, Site};
use stead_tests::town::{ADDRESS, Town};
use stead_tests::tree;

fn refused(node: &Node, args: &[&str], words: &[&str]) {
    let output = node.output(args).unwrap();
    let said = text(&output.stderr).to_lowercase();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}{}", text(&output.stdout));
    for word in words {
        assert!(said.contains(word), "{args:?} should speak of {word:?}: {said}");
    }
}

#[test]
fn an_invitation_works_once() {
    let hosts = Hosts::new().unwrap();
    let (paris, lyon) = (Node::start(&hosts.paris).unwrap(), Node::start(&hosts.lyon).unwrap());
    let stranger = Node::start_as(&hosts.paris, "stranger", 7131).unwrap();
    let line = lyon.invite().unwrap();
    paris.cli(["join", &line]).unwrap();
    refused(&stranger, &["join", &line], &["used"]);
}

#[test]
fn a_wrong_invitation_is_refused_and_five_tries_are_all() {
    let hosts = Hosts::new().unwrap();
    let (paris, lyon) = (Node::start(&hosts.paris).unwrap(), Node::start(&hosts.lyon).unwrap());
    let line = lyon.invite().unwrap();
    let (head, end) = line.split_at(line.len() - 1);
    let wrong = format!("{head}{}", if end == "0" { "1" } else { "0" });
    for _ in 0..5 {
        refused(&paris, &["join", &wrong], &[]);
    }
    refused(&paris, &["join", &line], &[]);
    // A new one works.
    paris.cli(["join", &lyon.invite().unwrap()]).unwrap();
}

#[test]
fn an_address_that_comes_up_later_is_listened_on() {
    let hosts = Hosts::new().unwrap();
    if !hosts.paris.has_network() {
        return println!("network namespaces are not permitted here: no address can come up later");
    }
    let (mut paris, lyon) = (Node::start(&hosts.paris).unwrap(), Node::start(&hosts.lyon).unwrap());
    paris.stop().unwrap();
    paris.launch_as(&["--listen", "10.77.0.9:7131"], &[]).unwrap();
    assert!(paris.log().contains("10.77.0.9 is no address of this machine yet"), "{}", paris.log());
    run(hosts.paris.command("ip").args("address add 10.77.0.9/24 dev eth0".split(' '))).unwrap();
    let line = paris.invite().unwrap().replace(&paris.listen(), "10.77.0.9:7131");
    lyon.cli(["join", &line]).unwrap();
}

#[test]
fn an_invitation_of_another_node_is_noticed_by_its_fingerprint() {
    let hosts = Hosts::new().unwrap();
    let (paris, lyon) = (Node::start(&hosts.paris).unwrap(), Node::start(&hosts.lyon).unwrap());
    let other = Node::start_as(&hosts.lyon, "other", 7131).unwrap();
    // Somebody else answers under the address that the line names.
    let line = lyon.invite().unwrap().replace(&lyon.listen(), &other.listen());
    refused(&paris, &["join", &line], &[]);
    for garbage in ["stead1:nonsense", "stead9:10.77.0.2:7130:x:y", "", "stead1:10.77.0.2:1:aa:bb"] {
        let output = paris.output(["join", garbage]).unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{garbage:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{garbage:?} is refused in silence");
    }
}

#[test]
fn a_node_that_never_joined_gets_nothing() {
    let hosts = Hosts::new().unwrap();
    let (paris, lyon) = (Node::start(&hosts.paris).unwrap(), Node::start(&hosts.lyon).unwrap());
    let source = hosts.paris.disk().join("notes");
    fs::create_dir(&source).unwrap();
    let map = format!("{}={}", source.display(), hosts.lyon.disk().join("notes").display());
    let source = source.display().to_string();
    refused(&paris, &["protect", &source, "--on", lyon.name(), "--map", &map], &["lyon"]);
    assert!(!hosts.lyon.disk().join("notes").exists());
}

#[test]
fn trust_outlives_a_restart() {
    let mut site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    site.paris.stop().unwrap();
    site.lyon.stop().unwrap();
    site.lyon.launch().unwrap();
    site.paris.launch().unwrap();
    site.protect(&notes, &[]).unwrap();
    site.settle(&notes).unwrap();
}

/// The replica's files past the guard: the way of a careless administrator, or of a bad disk.
fn past_the_guard(site: &Site, notes: &Pairing) -> PathBuf {
    site.hosts.lyon.beneath(&notes.replica)
}

#[test]
fn verify_finds_what_was_changed_on_the_replica_and_repair_mends_it() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source, 300, 10 << 20, 4).unwrap();
    tree::odd(&notes.source.join("odd")).unwrap();
    site.protect(&notes, &[]).unwrap();
    let equal = site.paris.output(["verify", "notes"]).unwrap();
    assert_eq!(equal.status.code(), Some(0), "{}{}", text(&equal.stdout), text(&equal.stderr));

    let replica = past_the_guard(&site, &notes);
    plant(&replica);
    let found = site.paris.output(["verify", "notes", "--json"]).unwrap();
    let said = text(&found.stdout);
    assert_eq!(found.status.code(), Some(3), "{said}{}", text(&found.stderr));
    for name in ["file-000001.dat", "file-000002.dat", "file-000003.dat", "file-000004.dat", "orphan"] {
        assert!(said.contains(name), "{name} is not named: {said}");
    }
    assert!(same(&notes.beneath, &replica).is_err(), "verify alone changes nothing");

    let repaired = site.paris.output(["verify", "notes", "--repair"]).unwrap();
    let code = repaired.status.code();
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {}{}", text(&repaired.stdout), text(&repaired.stderr));
    site.settle(&notes).unwrap();
    assert_eq!(site.paris.output(["verify", "notes"]).unwrap().status.code(), Some(0));
}

fn plant(replica: &Path) {
    let file = |number: u32| replica.join(format!("d0000/file-{number:06}.dat"));
    let bytes = fs::read(file(1)).unwrap();
    let times = run(Command::new("stat").args(["-c", "%y"]).arg(file(1))).unwrap();
    fs::write(file(1), bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
    // Same size, same time: only the content tells.
    run(Command::new("touch").args(["-m", "-d", times.trim()]).arg(file(1))).unwrap();
    fs::remove_file(file(2)).unwrap();
    run(Command::new("chown").arg("77").arg(file(3))).unwrap();
    run(Command::new("setfattr").args(["-n", "user.planted", "-v", "x"]).arg(file(4))).unwrap();
    fs::write(replica.join("orphan"), "the source knows nothing of it").unwrap();
}

#[test]
fn verify_of_a_live_set_gives_no_false_alarm() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source, 500, 30 << 20, 4).unwrap();
    site.protect(&notes, &[]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = stead_tests::rng::Rng::new(8);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let number = rng.below(500);
                let path = notes.source.join(format!("d{:04}/file-{number:06}.dat", number / 100));
                let bytes = rng.bytes(9_000);
                fs::write(path, bytes).unwrap();
            }
        });
        let verified = (0..4).map(|_| site.paris.output(["verify", "notes"]).unwrap()).collect::<Vec<_>>();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for output in verified {
            assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
        }
    });
    site.settle(&notes).unwrap();
}

#[test]
fn a_corrupt_journal_record_halts_and_is_mended_by_a_difference_mirror() {
    let mut site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source, 200, 5 << 20, 4).unwrap();
    site.protect(&notes, &[]).unwrap();
    tree::plain(&notes.source.join("more"), 200, 5 << 20, 5).unwrap();
    site.paris.wait("notes").unwrap();
    site.lyon.kill();
    let journals = journal_files(site.lyon.state());
    assert!(!journals.is_empty(), "no journal beneath {}", site.lyon.state().display());
    for path in journals {
        let mut bytes = fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        for at in (used / 4..used).step_by(20_000) {
            bytes[at] ^= 0x55;
        }
        fs::write(&path, bytes).unwrap();
    }
    site.lyon.launch().unwrap();
    fs::write(notes.source.join("afterwards"), "x").unwrap();
    let paris = &site.paris;
    until("it repairs itself", Duration::from_secs(60), || Ok(paris.state_of("notes")? == "replicating")).unwrap();
    site.settle(&notes).unwrap();
}

fn journal_files(state: &Path) -> Vec<PathBuf> {
    let listed =
        run(Command::new("find").arg(state).args(["-type", "f", "-path", "*journal*", "-size", "+0"])).unwrap();
    listed.lines().map(PathBuf::from).collect()
}

#[test]
fn an_address_that_goes_with_a_group_is_not_told_as_that_of_its_node() {
    let town = Town::new(Path::new(env!("CARGO_BIN_EXE_stead-load"))).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    until("paris has it", Duration::from_secs(30), || town.site.hosts.paris.has_address(ADDRESS)).unwrap();
    let berne = Node::start(&town.berne).unwrap();
    berne.join(&town.site.paris).unwrap();
    let listed = berne.cli(["node", "list", "--json"]).unwrap();
    assert!(listed.contains("10.77.0.1:7130") && !listed.contains(ADDRESS), "{listed}");
}
