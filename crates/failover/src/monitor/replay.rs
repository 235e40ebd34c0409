//! What would have been concluded with other values.

use std::time::Instant;

use super::{Monitor, MonitorConfig, MonitorInput, MonitorOutput};

/// Plays recorded heartbeats, in the order of their times, to a monitor with that configuration, which begins at `from`,
/// never stalls and ends at `until`. Returns what it would have told, and when.
pub fn replay(
    config: MonitorConfig,
    recorded: &[(Instant, MonitorInput)],
    from: Instant,
    until: Instant,
) -> Vec<(Instant, MonitorOutput)> {
    let mut monitor = Monitor::new(config, true, from);
    let mut told = Vec::new();
    for (at, input) in recorded.iter().filter(|(at, _)| (from..=until).contains(at)) {
        run(&mut monitor, *at, &mut told);
        monitor.handle(*input, *at);
        collect(&mut monitor, *at, &mut told);
    }
    run(&mut monitor, until, &mut told);
    told
}

fn run(monitor: &mut Monitor, until: Instant, told: &mut Vec<(Instant, MonitorOutput)>) {
    while let Some((at, _)) = monitor.poll_timeout().filter(|(at, _)| *at <= until) {
        monitor.handle_timeout(at);
        collect(monitor, at, told);
    }
}

fn collect(monitor: &mut Monitor, at: Instant, told: &mut Vec<(Instant, MonitorOutput)>) {
    told.extend(std::iter::from_fn(|| monitor.poll_output()).map(|output| (at, output)));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::monitor::Watch;

    #[test]
    fn a_gap_that_was_a_failure_is_none_with_a_longer_timeout() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let heard = |at: u32| (begin + second * at, MonitorInput::Heard { path: 0, leaving: false });
        let recorded = [heard(1), heard(2), heard(6), heard(7)];
        let failures = |timeout: u32| {
            let config = MonitorConfig { timeout: second * timeout, ..MonitorConfig::default() };
            let told = replay(config, &recorded, begin, begin + second * 8);
            let failed = told.into_iter().filter(|(_, output)| *output == MonitorOutput::Became(Watch::Failed));
            failed.map(|(at, _)| (at - begin).as_secs()).collect::<Vec<_>>()
        };
        assert_eq!((failures(3), failures(5)), (vec![5], vec![]));
    }
}
