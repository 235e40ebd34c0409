use super::*;
use crate::status::{Details, SyncStatus, VerifySummary};

const SECOND: u64 = 1_000_000_000;
const PATIENCE: Patience = Patience { behind: Duration::from_secs(60), disconnected: Duration::from_secs(30) };

fn connection(state: State, since: u64) -> ConnectionStatus {
    let json = serde_json::json!({
        "set": "notes", "source": "paris", "target": "lyon", "state": state, "since": Timestamp(since),
        "mirror": {"files_done": 0, "files_total": 0, "bytes_done": 0, "bytes_total": 0},
        "queue": {"changes": 0, "bytes": 0}, "lag_seconds": 0.0, "consistent_at": null, "capture": "mount", "epoch": 1
    });
    serde_json::from_value(json).unwrap()
}

fn look(raised: &mut Raised, connections: &[ConnectionStatus], now: u64) -> Vec<(Edge, Wrong)> {
    let told = raised.look(Looked { connections, ..Looked::default() }, |_, _| true, PATIENCE, Timestamp(now));
    told.into_iter().map(|(edge, alert)| (edge, alert.wrong)).collect()
}

#[test]
fn each_wrong_is_raised_once_and_cleared_once() {
    let good = connection(State::Replicating, 0);
    let halted =
        |cause| ConnectionStatus { details: Details { cause, ..Details::default() }, ..connection(State::Halted, 0) };
    let late = ConnectionStatus { lag_seconds: Some(61.0), ..good.clone() };
    let details = |details| ConnectionStatus { details, ..good.clone() };
    let verified = VerifySummary { at: Timestamp(0), files: 9, bytes: 9, different: 2, repaired: 1 };
    let sync = SyncStatus { state: SyncState::FallenBack, since: Timestamp(0) };
    let cases = [
        (halted(None), Wrong::Halted),
        (halted(Some(Cause::Brake)), Wrong::Brake),
        (halted(Some(Cause::NoRoom)), Wrong::NoRoom),
        (connection(State::RestoreRequired, 0), Wrong::RestoreRequired),
        (connection(State::Disconnected, 0), Wrong::Disconnected),
        (connection(State::Behind, 0), Wrong::Behind),
        (late, Wrong::Behind),
        (details(Details { sync: Some(sync), ..Details::default() }), Wrong::SyncLost),
        (details(Details { verified: Some(verified), ..Details::default() }), Wrong::Different),
        (details(Details { bypassing_writes: 1, ..Details::default() }), Wrong::Bypassed),
        (details(Details { spoiled: true, ..Details::default() }), Wrong::NoImage),
    ];
    for (bad, wrong) in cases {
        let (mut raised, now) = (Raised::default(), 100 * SECOND);
        assert_eq!(look(&mut raised, std::slice::from_ref(&good), now), []);
        assert_eq!(look(&mut raised, std::slice::from_ref(&bad), now), [(Edge::Raise, wrong)]);
        assert_eq!(look(&mut raised, &[bad], now), []);
        assert_eq!(raised.list().len(), 1);
        assert_eq!(look(&mut raised, std::slice::from_ref(&good), now), [(Edge::Clear, wrong)]);
        assert_eq!(look(&mut raised, std::slice::from_ref(&good), now), []);
    }
}

#[test]
fn short_troubles_and_pauses_are_borne() {
    let mut raised = Raised::default();
    assert_eq!(look(&mut raised, &[connection(State::Disconnected, 0)], 29 * SECOND), []);
    assert_eq!(look(&mut raised, &[connection(State::Behind, 0)], 59 * SECOND), []);
    let paused = ConnectionStatus { lag_seconds: Some(9e9), ..connection(State::Paused, 0) };
    assert_eq!(look(&mut raised, &[paused], 9_000 * SECOND), []);
    assert_eq!(look(&mut raised, &[connection(State::Disconnected, 0)], 30 * SECOND).len(), 1);
}

#[test]
fn a_clock_that_was_set_back_raises_nothing() {
    let mut raised = Raised::default();
    assert_eq!(look(&mut raised, &[connection(State::Disconnected, 500 * SECOND)], 0), []);
}

#[test]
fn alerts_survive_a_restart_and_the_silence_after_it() {
    let mut raised = Raised::default();
    let bad = connection(State::Halted, 0);
    look(&mut raised, std::slice::from_ref(&bad), SECOND);
    let mut again: Raised = serde_json::from_str(&serde_json::to_string(&raised).unwrap()).unwrap();
    assert_eq!(look(&mut again, &[], 2 * SECOND), []);
    assert_eq!(look(&mut again, std::slice::from_ref(&bad), 3 * SECOND), []);
    assert_eq!(again.list()[0].since, Timestamp(SECOND));
    assert_eq!(look(&mut again, &[connection(State::Replicating, 0)], 4 * SECOND), [(Edge::Clear, Wrong::Halted)]);
}

#[test]
fn a_new_count_of_the_time_and_a_lost_session_are_no_end() {
    let mut raised = Raised::default();
    let now = 1_000 * SECOND;
    look(&mut raised, &[connection(State::Disconnected, 0)], now);
    assert_eq!(look(&mut raised, &[connection(State::Disconnected, now)], now), []);
    let mut raised = Raised::default();
    look(&mut raised, &[connection(State::Halted, 0)], now);
    assert_eq!(look(&mut raised, &[connection(State::Disconnected, now)], now), []);
    assert_eq!(look(&mut raised, &[connection(State::Halted, now)], now), []);
    assert_eq!(look(&mut raised, &[connection(State::Replicating, now)], now), [(Edge::Clear, Wrong::Halted)]);
}

#[test]
fn a_lag_about_the_limit_does_not_flap() {
    let mut raised = Raised::default();
    let lag = |seconds| ConnectionStatus { lag_seconds: Some(seconds), ..connection(State::Replicating, 0) };
    assert_eq!(look(&mut raised, &[lag(61.0)], SECOND), [(Edge::Raise, Wrong::Behind)]);
    assert_eq!(look(&mut raised, &[lag(59.0)], SECOND), []);
    assert_eq!(look(&mut raised, &[lag(61.0)], SECOND), []);
    assert_eq!(look(&mut raised, &[lag(29.0)], SECOND), [(Edge::Clear, Wrong::Behind)]);
}

#[test]
fn what_is_no_longer_planned_is_no_longer_wrong() {
    let mut raised = Raised::default();
    look(&mut raised, &[connection(State::Halted, 0)], SECOND);
    let told = raised.look(Looked::default(), |_, _| false, PATIENCE, Timestamp(2 * SECOND));
    assert!(matches!(told[..], [(Edge::Clear, _)]));
    assert!(raised.list().is_empty());
}

#[test]
fn one_wrong_may_follow_another() {
    let mut raised = Raised::default();
    look(&mut raised, &[connection(State::Disconnected, 0)], 100 * SECOND);
    let told = look(&mut raised, &[connection(State::Halted, 0)], 101 * SECOND);
    assert_eq!(told, [(Edge::Clear, Wrong::Disconnected), (Edge::Raise, Wrong::Halted)]);
}

#[test]
fn a_group_is_told_of_while_it_lasts() {
    let group = |state: &str, doing: &str, path: &str| {
        let json = serde_json::json!({
            "group": "notes", "source": "paris", "target": "lyon", "state": state, "time_to_fail_seconds": 0.0,
            "paths": [path], "doing": doing, "remark": "a remark"
        });
        ("notes".parse().unwrap(), serde_json::from_value(json).unwrap())
    };
    // Here, or on the other node.
    let failing = |(set, mut group): (SetName, MonitorStatus), here: bool| {
        (group.failing, group.other) = (here, (!here).then(|| "failing".into()));
        (set, group)
    };
    let good = group("online", "standby", "a=b");
    let cases = [
        (group("failed", "standby", "a=b"), vec![Wrong::SourceFailed]),
        (group("failed", "approval", "a=b"), vec![Wrong::SourceFailed, Wrong::Approval]),
        (group("failed-over", "active", "a=b"), vec![Wrong::StandsIn]),
        (group("online", "standby", "a=b down"), vec![Wrong::PathDown]),
        (group("late", "standby", "a=b"), vec![]),
        (failing(group("online", "standby", "a=b"), false), vec![Wrong::Failing]),
        (failing(group("failed-over", "active", "a=b"), true), vec![Wrong::StandsIn, Wrong::Failing]),
    ];
    for (bad, wrong) in cases {
        let mut raised = Raised::default();
        let mut look = |group: &(SetName, MonitorStatus)| {
            let told = raised.look(
                Looked { groups: std::slice::from_ref(group), ..Looked::default() },
                |_, _| true,
                PATIENCE,
                Timestamp(1),
            );
            told.into_iter().map(|(edge, alert)| (edge, alert.wrong)).collect::<Vec<_>>()
        };
        assert_eq!(look(&good), []);
        assert_eq!(look(&bad), wrong.iter().map(|wrong| (Edge::Raise, *wrong)).collect::<Vec<_>>());
        assert_eq!(look(&bad), []);
        assert_eq!(look(&good), wrong.iter().map(|wrong| (Edge::Clear, *wrong)).collect::<Vec<_>>());
    }
}

fn of_notes(text: &str) -> OfGroup {
    let (source, target) = ("paris".parse().unwrap(), "lyon".parse().unwrap());
    OfGroup { set: "notes".parse().unwrap(), source, target, text: text.into() }
}

#[test]
fn a_flood_is_told_while_it_lasts() {
    let flood = of_notes("120, the last from 10.0.0.9");
    let mut raised = Raised::default();
    let mut look = |flood: Option<&OfGroup>| {
        let told = raised.look(Looked { flood, ..Looked::default() }, |_, _| true, PATIENCE, Timestamp(1));
        told.into_iter().map(|(edge, alert)| (edge, alert.wrong, alert.text)).collect::<Vec<_>>()
    };
    assert_eq!(look(Some(&flood)), [(Edge::Raise, Wrong::Flood, flood.text.clone())]);
    assert_eq!(look(Some(&flood)), []);
    assert_eq!(look(None), [(Edge::Clear, Wrong::Flood, flood.text)]);
}

#[test]
fn a_role_file_that_drifted_is_told_until_it_was_looked_at_and_is_right() {
    let drift = of_notes("/etc/notes.ini was changed by hand");
    let mut raised = Raised::default();
    let mut look = |drifted: Option<&[OfGroup]>| {
        let told = raised.look(Looked { drifted, ..Looked::default() }, |_, _| true, PATIENCE, Timestamp(1));
        told.into_iter().map(|(edge, alert)| (edge, alert.wrong)).collect::<Vec<_>>()
    };
    assert_eq!(look(None), []);
    assert_eq!(look(Some(std::slice::from_ref(&drift))), [(Edge::Raise, Wrong::RoleFileDrift)]);
    assert_eq!(look(None), [], "as after a restart");
    assert_eq!(look(Some(&[])), [(Edge::Clear, Wrong::RoleFileDrift)]);
}
