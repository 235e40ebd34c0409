//! Fence agents: one that works, and all the ways in which they do not.

use std::fs;
use std::time::Duration;

use stead_resource::command::{Command, Secret};
use stead_resource::fence::{Agent, Power};
use stead_resource::{Failure, Outcome};

const LIMIT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(300);

/// Reads its input as the agents of distributions do, then does what the test wants for `$action`.
fn agent(off: &str, status: &str) -> (tempfile::TempDir, Agent) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "cd {}; while IFS= read -r line; do echo \"$line\" >> told; \
         case $line in action=*) action=${{line#action=}} ;; esac; done; \
         case $action in off) {off} ;; status) {status} ;; monitor) exit 0 ;; *) exit 1 ;; esac",
        dir.path().display()
    );
    let parameters = [("plug", "paris"), ("password", "a=b c")];
    let parameters = parameters.map(|(name, value)| (name.into(), Secret(value.into()))).into();
    let command = Command { grace: Duration::from_millis(50), ..Command::new(["sh", "-c", &text]) };
    (dir, Agent { command, parameters })
}

fn off(off: &str, status: &str, limit: Duration) -> Outcome<Result<(), Failure>> {
    let (_dir, agent) = agent(off, status);
    agent.off(limit)
}

#[test]
fn a_node_that_is_off_is_fenced() {
    let (dir, agent) = agent("touch dead", "[ -e dead ] && exit 2; exit 0");
    assert_eq!(agent.status(LIMIT).value, Power::On);
    assert_eq!(agent.off(LIMIT).value, Ok(()));
    assert_eq!(agent.status(LIMIT).value, Power::Off);
    let told = fs::read_to_string(dir.path().join("told")).unwrap();
    assert!(told.contains("action=off\nplug=paris\npassword=a=b c\n"), "{told}");
    assert!(!format!("{agent:?}").contains("a=b c"));
}

#[test]
fn power_that_goes_slowly_is_waited_for() {
    let fenced = off("(sleep 1; touch dead) >/dev/null 2>&1 &", "[ -e dead ] && exit 2; exit 0", LIMIT);
    assert_eq!(fenced.value, Ok(()));
    assert!(fenced.took >= Duration::from_millis(900), "{:?}", fenced.took);
}

#[test]
fn an_agent_that_fails_at_a_node_that_is_off_has_fenced_it() {
    assert_eq!(off("echo already off; exit 1", "exit 2", LIMIT).value, Ok(()));
}

#[test]
fn a_broken_program_fences_nobody() {
    let command = Command::new(["sh", "-c", "case in the middle"]);
    let agent = Agent { command, parameters: Vec::new() };
    let fenced = agent.off(LIMIT).value;
    assert!(matches!(&fenced, Err(Failure::Unknown(why)) if why.contains("broken")), "{fenced:?}");
    assert!(matches!(agent.status(LIMIT).value, Power::Unknown(_)));
}

#[test]
fn an_agent_that_hangs_at_a_node_that_is_off_has_fenced_it() {
    assert_eq!(off("touch dead; exec sleep 1000", "[ -e dead ] && exit 2; exit 0", LIMIT / 4).value, Ok(()));
}

#[test]
fn an_agent_that_lies_is_not_believed() {
    let fenced = off("echo Success: powered off; exit 0", "exit 0", Duration::from_secs(1));
    assert!(
        matches!(&fenced.value, Err(Failure::Failed(why)) if why.contains("status says that it is on")),
        "{fenced:?}"
    );
    assert!(fenced.output.text().contains("Success"));
}

#[test]
fn what_is_not_known_is_not_fenced() {
    for status in ["exit 1", "kill -9 $$", "exit 3"] {
        let fenced = off("exit 0", status, Duration::from_secs(1)).value;
        assert!(matches!(fenced, Err(Failure::Unknown(_))), "{status}: {fenced:?}");
    }
    let fenced = off("exit 1", "exit 0", LIMIT).value;
    assert!(matches!(fenced, Err(Failure::Failed(_))), "{fenced:?}");
}

#[test]
fn an_agent_that_hangs_is_ended_and_has_failed() {
    for (action, status) in [("exec sleep 1000", "exit 0"), ("exit 0", "exec sleep 1000")] {
        let fenced = off(action, status, SHORT);
        assert!(matches!(fenced.value, Err(Failure::TimedOut(_) | Failure::Unknown(_))), "{fenced:?}");
        assert!(fenced.took < Duration::from_secs(2), "{:?}", fenced.took);
    }
}

#[test]
fn parameters_that_would_say_something_else_are_refused() {
    let (_dir, mut agent) = agent("exit 0", "exit 2");
    for (name, value) in [("plug", "paris\naction=on"), ("action", "on"), ("a=b", "c"), ("", "x")] {
        agent.parameters = vec![(name.into(), Secret(value.into()))];
        assert!(matches!(agent.off(LIMIT).value, Err(Failure::Unusable(_))), "{name}={value}");
        assert!(matches!(agent.status(LIMIT).value, Power::Unknown(_)));
    }
}
