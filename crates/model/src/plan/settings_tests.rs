use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn settings(text: &str) -> Settings {
    toml::from_str::<SettingsSpec>(text).unwrap().settings()
}

#[test]
fn what_is_not_said_comes_from_the_defaults() {
    let defaults: SettingsSpec = toml::from_str(
        "bandwidth = '1MiB/s'\npause-schedule = ['0 8 * * * for 1h']\n[brake]\ndeletions = 7\nwindow = '10s'\n",
    )
    .unwrap();
    let own: SettingsSpec = toml::from_str("bandwidth = 'unlimited'\n[brake]\ndeletions = 'off'\n").unwrap();
    let merged = own.or(&defaults).settings();
    assert_eq!(merged.bandwidth, None);
    assert_eq!(merged.pause_schedule.len(), 1);
    assert_eq!(merged.brake, Brake { deletions: None, rewrites: None, window: Duration::from_secs(10) });
    let none: SettingsSpec = toml::from_str("pause-schedule = []").unwrap();
    assert!(none.or(&defaults).settings().pause_schedule.is_empty());
}

#[test]
fn the_default_brake_passes_a_directory_of_5000_files() {
    assert!(Settings::default().brake.deletions.is_some_and(|limit| limit > 5_000));
}

#[test]
fn the_first_window_that_holds_gives_the_rate() {
    let settings = settings(
        "bandwidth = '10MiB/s'\nbandwidth-schedule = ['0 12 * * * for 1h at unlimited', '0 8 * * * for 10h at 2MiB/s']",
    );
    let rate = |time| settings.rate_at(at(time));
    let (full, low) = (Some(Rate(10 << 20)), Some(Rate(2 << 20)));
    assert_eq!(rate("2026-11-20T07:00:00.000Z"), Current { value: full, until: Some(at("2026-11-20T08:00:00.000Z")) });
    assert_eq!(rate("2026-11-20T08:00:00.000Z"), Current { value: low, until: Some(at("2026-11-20T12:00:00.000Z")) });
    assert_eq!(rate("2026-11-20T12:30:00.000Z"), Current { value: None, until: Some(at("2026-11-20T13:00:00.000Z")) });
    assert_eq!(rate("2026-11-20T13:00:00.000Z").value, low);
    assert_eq!(rate("2026-11-20T18:00:00.000Z").value, full);
    assert_eq!(Settings::default().rate_at(at("2026-11-20T18:00:00.000Z")), Current { value: None, until: None });
}

#[test]
fn pauses_that_follow_each_other_are_one() {
    let settings = settings("pause-schedule = ['0 8 * * Fri for 2h', '0 10 * * Fri for 2h', '0 11 * * Fri for 3h']");
    let paused = |time| settings.is_paused_at(at(time));
    let end = Some(at("2026-11-20T14:00:00.000Z"));
    assert_eq!(paused("2026-11-20T08:00:00.000Z"), Current { value: true, until: end });
    assert_eq!(paused("2026-11-20T13:59:59.999Z"), Current { value: true, until: end });
    assert_eq!(
        paused("2026-11-20T14:00:00.000Z"),
        Current { value: false, until: Some(at("2026-11-27T08:00:00.000Z")) }
    );
}

#[test]
fn a_pause_without_end_is_told_in_bounded_time() {
    let settings = settings("pause-schedule = ['* * * * * for 2m']");
    assert!(settings.is_paused_at(at("2026-11-20T14:00:00.000Z")).value);
}

#[test]
fn verifies_are_due_by_the_earliest_of_their_moments() {
    let settings = settings("verify-schedule = ['0 3 * * Sun', '0 4 15 * *']");
    assert_eq!(settings.next_verify(at("2026-11-14T12:00:00.000Z")), Some(at("2026-11-15T03:00:00.000Z")));
    assert_eq!(settings.next_verify(at("2026-11-15T03:00:00.000Z")), Some(at("2026-11-15T04:00:00.000Z")));
    assert!(settings.is_verify_due(at("2026-11-15T03:59:59.000Z"), at("2026-11-15T04:00:00.000Z")));
    assert!(!settings.is_verify_due(at("2026-11-15T04:00:00.000Z"), at("2026-11-15T04:00:01.000Z")));
}
