//! Scripts as people write them, and worse: real processes, with a cgroup and without.

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use common::{LONG, is_alive, pids};
use stead_resource::command::{Command, End, Ran, end_kept};
use stead_resource::script::{Event, Occasion, Script};

const SHORT: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_millis(100);

/// A shell script, in both ways of keeping its processes together.
fn both(text: &str) -> [Command; 2] {
    [true, false].map(|use_cgroup| Command { grace: GRACE, use_cgroup, ..Command::new(["sh", "-c", text]) })
}

fn run(command: &Command, limit: Duration) -> Ran {
    let ran = command.run(limit);
    assert!(ran.took < limit + GRACE + Duration::from_secs(2), "{ran:?}");
    ran
}

#[test]
fn a_script_finds_in_its_environment_what_happened() {
    let names = "EPOCH|EVENT|GROUP|REASON|SET_PATHS|SOURCE|TARGET";
    let lines = "printf '%s\\n' \"$STEAD_SET_PATHS\" | while IFS= read -r p; do echo \"<$p>\"; done";
    let show = format!("env | grep -E '^STEAD_({names})=' | sort; {lines}");
    let occasion = Occasion {
        event: Event::PreFailover,
        group: "notes".into(),
        source: "paris".parse().unwrap(),
        target: "lyon".parse().unwrap(),
        epoch: 7,
        reason: "all paths silent for 3.0 s".into(),
        set_paths: vec!["/srv/a b".into(), "/srv/c:d".into()],
    };
    let script = Script { command: Command::new(["sh", "-c", show.as_str()]) };
    let ran = script.run(&occasion, LONG);
    assert_eq!(ran.value, End::Exited(0));
    assert_eq!(
        ran.output.text(),
        "STEAD_EPOCH=7\nSTEAD_EVENT=pre-failover\nSTEAD_GROUP=notes\nSTEAD_REASON=all paths silent for 3.0 s\n\
         STEAD_SET_PATHS=/srv/a b\nSTEAD_SOURCE=paris\nSTEAD_TARGET=lyon\n</srv/a b>\n</srv/c:d>\n"
    );
    let odd = Occasion { set_paths: vec![PathBuf::from("/srv/a\nb")], ..occasion };
    assert!(matches!(script.run(&odd, LONG).value, End::NotStarted(_)));
}

#[test]
fn every_end_is_told_as_it_was() {
    for (text, end) in [("exit 0", End::Exited(0)), ("exit 7", End::Exited(7)), ("kill -9 $$", End::Killed(9))] {
        for command in both(text) {
            assert_eq!(run(&command, LONG).end, end, "{text}");
        }
    }
    assert!(matches!(Command::new(["/nonexistent/script"]).run(LONG).end, End::NotStarted(_)));
    assert!(matches!(Command::new::<String>([]).run(LONG).end, End::NotStarted(_)));
}

#[test]
fn output_and_errors_come_in_one_order() {
    let ran = Command::new(["sh", "-c", "echo one; echo two >&2; echo three"]).run(LONG);
    assert_eq!(ran.output.text(), "one\ntwo\nthree\n");
}

#[test]
fn input_is_read_and_ends() {
    let mut command = Command::new(["cat"]);
    command.input.0 = vec![b'x'; 100_000];
    let ran = command.run(LONG);
    assert_eq!((ran.end, ran.output.omitted()), (End::Exited(0), 100_000 - 65_536));
    assert!(!format!("{command:?}").contains("120"), "{command:?}");
}

#[test]
fn a_polite_script_ends_itself_within_the_grace() {
    for command in both("trap 'echo asked; exit 3' TERM; while :; do sleep 0.01; done") {
        let ran = run(&command, SHORT);
        assert_eq!(ran.end, End::TimedOut { limit: SHORT, unkillable: 0 });
        // The shell itself may tell of its child's end before.
        assert!(ran.output.text().ends_with("asked\n"), "{:?}", ran.output.text());
    }
}

#[test]
fn what_ignores_signals_and_left_the_session_is_ended_too() {
    // A background child, a child in a session of its own, and a daemon whose parent has ended; none heeds SIGTERM.
    let text = "trap '' TERM
        sh -c 'echo $$ >> pids; exec sleep 1000' &
        setsid sh -c 'echo $$ >> pids; exec sleep 1000' &
        setsid sh -c '(setsid sh -c \"echo \\$\\$ >> pids; exec sleep 1000\" &) ; exit 0'
        echo $$ >> pids
        while :; do sleep 1000; done";
    for mut command in both(text) {
        let dir = tempfile::tempdir().unwrap();
        command.argv[2] = format!("cd {}; {text}", dir.path().display()).into();
        let ran = run(&command, SHORT);
        assert_eq!(ran.end, End::TimedOut { limit: SHORT, unkillable: 0 });
        let pids = pids(dir.path());
        assert_eq!(pids.len(), 4, "{}", ran.output.text());
        assert_eq!(pids.iter().filter(|pid| is_alive(pid)).count(), 0, "cgroup: {}", command.use_cgroup);
    }
}

#[test]
fn a_fork_storm_is_ended() {
    let one = "sh -c 'echo $$ >> pids; exec sleep 1000' &";
    let text = format!("trap '' TERM; for i in 1 2 3 4 5 6 7 8 9; do {one} {one} setsid {one} done; wait");
    for mut command in both("") {
        let dir = tempfile::tempdir().unwrap();
        command.argv[2] = format!("cd {}; {text}", dir.path().display()).into();
        assert_eq!(run(&command, SHORT).end, End::TimedOut { limit: SHORT, unkillable: 0 });
        let pids = pids(dir.path());
        assert!(!pids.is_empty());
        assert_eq!(pids.iter().filter(|pid| is_alive(pid)).count(), 0, "cgroup: {}", command.use_cgroup);
    }
}

#[test]
fn a_flood_is_bounded_and_counted() {
    for command in both("yes stead | head -c 20000000; echo the end") {
        let ran = run(&command, LONG);
        assert_eq!(ran.end, End::Exited(0));
        assert!(ran.output.text().len() < 70_000 && ran.output.text().ends_with("the end\n"));
        assert_eq!(ran.output.omitted(), 20_000_008 - 65_536);
    }
    for command in both("exec yes stead") {
        let ran = run(&command, SHORT);
        assert_eq!(ran.end, End::TimedOut { limit: SHORT, unkillable: 0 });
        assert!(ran.output.omitted() > 0 && ran.output.text().len() < 70_000);
    }
}

#[test]
fn what_a_script_leaves_running_goes_on_and_holds_nothing_up() {
    for (mut command, left) in both("").into_iter().zip([1, 0]) {
        let dir = tempfile::tempdir().unwrap();
        let text = "setsid sh -c 'echo $$ > pids; exec sleep 1000' & while [ ! -s pids ]; do sleep 0.01; done; echo up";
        command.argv[2] = format!("cd {}; {text}", dir.path().display()).into();
        let ran = run(&command, LONG);
        assert_eq!((&ran.end, ran.output.text().as_str()), (&End::Exited(0), "up\n"));
        // A machine may permit no cgroups.
        assert!(ran.left <= left, "{ran:?}");
        let pid = pids(dir.path()).remove(0);
        assert!(is_alive(&pid));
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(!group.contains("stead-run"), "{group}");
        let killed = std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
        assert!(killed.success());
    }
}

#[test]
fn what_was_left_running_under_a_name_is_ended_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = "setsid sh -c 'trap : TERM; echo $$ > pids; while :; do sleep 1; done' & while [ ! -s pids ]; do sleep 0.01; done";
    let text = format!("cd {}; {text}", dir.path().display());
    let name = format!("test-{}", std::process::id());
    let command = Command { keeps: Some(name.clone()), ..Command::new(["sh", "-c", &text]) };
    let ran = run(&command, LONG);
    let pid = pids(dir.path()).remove(0);
    assert!(ran.end.is_success() && is_alive(&pid));
    assert_eq!(end_kept("test-another"), 0);
    if ran.left == 0 {
        println!("this machine permits no cgroups: what is left running cannot be found by its name");
        assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        return;
    }
    assert!(end_kept(&name) > 0 && !is_alive(&pid));
    assert_eq!(end_kept(&name), 0, "it is gone");
}
