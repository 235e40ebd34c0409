//! Scripts as people write them, and worse: real processes, with a cgroup and without.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
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

/// Signals that a process blocks, ignores and handles, by the text of its status.
fn signals(status: &str) -> [u64; 3] {
    let set = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| u64::from_str_radix(set(name).trim(), 16).unwrap())
}

#[test]
fn a_program_begins_with_nothing_of_this_process_but_its_variables() {
    const SIGPIPE: u64 = 1 << 12;
    let [_, ignored, handled] = signals(&fs::read_to_string("/proc/self/status").unwrap());
    assert!(ignored & SIGPIPE != 0 && handled != 0, "Rust ignores SIGPIPE and handles its stack's end");
    for command in both("pwd; echo $$; cut -d' ' -f6 /proc/$$/stat; echo $MORE$HOME; cat /proc/self/status") {
        let env = vec![("MORE".into(), "more of ".into()), ("HOME".into(), "home".into())];
        let ran = run(&Command { env, ..command }, LONG);
        let text = ran.output.text();
        let lines: Vec<_> = text.lines().collect();

        assert_eq!((lines[0], lines[1], lines[3]), ("/", lines[2], "more of home"), "{text}");
        assert_eq!(signals(&text), [0, ignored & !SIGPIPE, 0], "{text}");
    }
}

#[test]
fn programs_are_found_as_a_shell_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    fs::write(&script, "echo names no shell").unwrap();
    let why = |command: Command| match command.run(LONG).end {
        End::NotStarted(why) => why,
        end => panic!("{end:?}"),
    };
    assert!(why(Command::new([&script])).contains("Permission denied"));
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(Command::new([&script]).run(LONG).output.text(), "names no shell\n");
    assert!(why(Command::new(["there-is-no-such-program"])).contains("No such file"));
    assert!(why(Command::new(["echo", "a\0b"])).contains("nul"));
}

/// Each parent stands still until its child is the program, and no other thread of its process does.
#[test]
fn many_are_started_at_once() {
    let one = |at: usize| {
        let ran = Command::new(["sh", "-c", &format!("echo {at}; exit {}", at % 100)]).run(LONG);
        assert_eq!((ran.end, ran.output.text()), (End::Exited((at % 100) as i32), format!("{at}\n")));
    };
    std::thread::scope(|scope| {
        for thread in 0..16 {
            scope.spawn(move || (0..50).for_each(|at| one(thread * 50 + at)));
        }
    });
}
