//! Lines of what happens when, with what is told.

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn config(paths: u32) -> MonitorConfig {
    MonitorConfig { paths, ..MonitorConfig::default() }
}

/// Runs a monitor on time until `to`, as a daemon does that never stalls.
fn run(monitor: &mut Monitor, to: Instant) -> Vec<MonitorOutput> {
    while let Some((at, _)) = monitor.poll_timeout().filter(|(at, _)| *at <= to) {
        monitor.handle_timeout(at);
    }
    std::iter::from_fn(|| monitor.poll_output()).collect()
}

fn hear(monitor: &mut Monitor, path: u32, at: Instant) -> Vec<MonitorOutput> {
    let mut told = run(monitor, at);
    monitor.handle(MonitorInput::Heard { path, leaving: false }, at);
    told.extend(std::iter::from_fn(|| monitor.poll_output()));
    told
}

#[test]
fn it_counts_down_and_every_heartbeat_begins_anew() {
    use MonitorOutput::Became;
    let begin = Instant::now();
    let mut monitor = Monitor::new(config(1), false, begin);
    assert_eq!((monitor.presence(), monitor.time_to_fail(begin)), (Presence::Unknown, None));
    assert_eq!(hear(&mut monitor, 0, begin + MS(100)), [Became(Watch::Online)]);
    assert_eq!(monitor.time_to_fail(begin + MS(1100)), Some(MS(2000)));
    assert_eq!(run(&mut monitor, begin + MS(849)), []);
    assert_eq!(run(&mut monitor, begin + MS(850)), [Became(Watch::Late)]);
    assert_eq!(monitor.presence(), Presence::Present);
    assert_eq!(hear(&mut monitor, 0, begin + MS(3000)), [Became(Watch::Online)]);
    assert_eq!(run(&mut monitor, begin + MS(6000)), [Became(Watch::Late), Became(Watch::Failed)]);
    assert_eq!((monitor.presence(), monitor.time_to_fail(begin + MS(7000))), (Presence::Absent, Some(MS(0))));
    assert_eq!(hear(&mut monitor, 0, begin + MS(8000)), [Became(Watch::Online)]);
}

#[test]
fn a_node_that_was_never_heard_is_never_dead() {
    let begin = Instant::now();
    let mut monitor = Monitor::new(config(1), false, begin);
    assert_eq!(run(&mut monitor, begin + MS(3_600_000)), []);
    assert_eq!(monitor.presence(), Presence::Unknown);
    let mut monitor = Monitor::new(config(1), true, begin);
    assert_eq!(run(&mut monitor, begin + MS(2_999)), []);
    assert_eq!(run(&mut monitor, begin + MS(3_000)), [MonitorOutput::Became(Watch::Failed)]);
}

#[test]
fn a_silent_path_beside_a_living_one_is_told_and_no_more() {
    let begin = Instant::now();
    let mut monitor = Monitor::new(config(2), false, begin);
    hear(&mut monitor, 0, begin);
    let mut told = Vec::new();
    for at in 1..=20 {
        told.extend(hear(&mut monitor, 1, begin + MS(at * 500)));
    }
    assert_eq!(told, [MonitorOutput::PathDown(0)]);
    assert!(monitor.is_path_down(0) && !monitor.is_path_down(1));
    assert_eq!(hear(&mut monitor, 0, begin + MS(10_100)), [MonitorOutput::PathUp(0)]);
}

#[test]
fn an_own_stall_begins_the_count_anew() {
    let begin = Instant::now();
    let mut monitor = Monitor::new(config(1), false, begin);
    hear(&mut monitor, 0, begin);
    monitor.handle_timeout(begin + MS(3_500));
    let told: Vec<_> = std::iter::from_fn(|| monitor.poll_output()).collect();
    assert_eq!(told, [MonitorOutput::Stalled(MS(3_000)), MonitorOutput::Became(Watch::Unknown)]);
    assert_eq!(monitor.presence(), Presence::Unknown);
    assert_eq!(run(&mut monitor, begin + MS(6_499)), []);
    assert_eq!(run(&mut monitor, begin + MS(6_500)), [MonitorOutput::Became(Watch::Failed)]);
}

#[test]
fn a_call_that_is_a_little_late_is_no_stall() {
    let begin = Instant::now();
    let mut monitor = Monitor::new(config(1), false, begin);
    hear(&mut monitor, 0, begin);
    monitor.handle_timeout(begin + MS(500) + monitor.config.stall_max());
    assert_eq!(monitor.poll_output(), Some(MonitorOutput::Became(Watch::Late)));
}

#[test]
fn a_node_that_leaves_in_order_is_given_a_grace() {
    let begin = Instant::now();
    let mut monitor = Monitor::new(config(1), false, begin);
    hear(&mut monitor, 0, begin);
    for _ in 0..2 {
        monitor.handle(MonitorInput::Heard { path: 0, leaving: true }, begin + MS(100));
    }
    assert_eq!(run(&mut monitor, begin + MS(60_099)), [MonitorOutput::Leaves, MonitorOutput::Became(Watch::Unknown)]);
    assert_eq!(run(&mut monitor, begin + MS(60_100)), [MonitorOutput::Became(Watch::Failed)]);
    assert_eq!(hear(&mut monitor, 0, begin + MS(61_000)), [MonitorOutput::Became(Watch::Online)]);
    assert_eq!(monitor.time_to_fail(begin + MS(61_000)), Some(MS(3_000)));
}

#[test]
fn a_heartbeat_when_it_is_due_is_not_late() {
    let begin = Instant::now();
    let tight = MonitorConfig { interval: MS(1_000), timeout: MS(3_000), ..config(1) };
    let mut monitor = Monitor::new(tight, false, begin);
    let told: Vec<_> = (0..50).flat_map(|at| hear(&mut monitor, 0, begin + MS(at * 1_000))).collect();
    assert_eq!(told, [MonitorOutput::Became(Watch::Online)]);
}

#[test]
fn times_that_contradict_each_other_are_refused() {
    let good = MonitorConfig::default();
    let fast = MonitorConfig { interval: MS(20), timeout: MS(60), ..good };
    assert_eq!((good.check(), fast.check()), (Ok(()), Ok(())));
    let tight = BadMonitor::TooTight { interval: MS(500), timeout: MS(1_000) };
    let bad = [
        (MonitorConfig { interval: MS(9), ..good }, BadMonitor::Interval(MS(9))),
        (MonitorConfig { timeout: MS(29), ..good }, BadMonitor::Timeout(MS(29))),
        (MonitorConfig { timeout: MS(1_000), ..good }, tight),
        (MonitorConfig { leave_grace: MS(2_999), ..good }, BadMonitor::Grace(MS(2_999))),
        (MonitorConfig { paths: 0, ..good }, BadMonitor::Paths(0)),
    ];
    for (config, why) in bad {
        assert_eq!(config.check(), Err(why));
    }
}
