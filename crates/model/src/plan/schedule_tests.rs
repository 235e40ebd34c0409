use super::*;

fn at(text: &str) -> Timestamp {
    let time: Instant = text.parse().unwrap();
    Timestamp(time.as_nanosecond() as u64)
}

fn until(window: &str, now: &str) -> Option<Timestamp> {
    window.parse::<Window>().unwrap().open_until(at(now))
}

#[test]
fn working_hours_are_those_of_the_place() {
    let window = "0 8 * * Mon-Fri Europe/Paris for 10h";
    // 2026-11-20 is a Friday; Paris is an hour ahead of UTC.
    assert_eq!(until(window, "2026-11-20T06:59:59Z"), None);
    assert_eq!(until(window, "2026-11-20T07:00:00Z"), Some(at("2026-11-20T17:00:00Z")));
    assert_eq!(until(window, "2026-11-20T16:59:59.999Z"), Some(at("2026-11-20T17:00:00Z")));
    assert_eq!(until(window, "2026-11-20T17:00:00Z"), None);
    assert_eq!(until(window, "2026-11-21T10:00:00Z"), None);
    let window: Window = window.parse().unwrap();
    assert_eq!(window.next_start(at("2026-11-20T17:00:00Z")), Some(at("2026-11-23T07:00:00Z")));
}

#[test]
fn summer_time_moves_the_hours_with_the_wall() {
    let window = "0 8 * * * Europe/Paris for 1h";
    assert_eq!(until(window, "2026-03-28T07:30:00Z"), Some(at("2026-03-28T08:00:00Z")));
    assert_eq!(until(window, "2026-03-29T06:30:00Z"), Some(at("2026-03-29T07:00:00Z")));
    assert_eq!(until(window, "2026-03-29T07:30:00Z"), None);
    assert_eq!(until(window, "2026-10-25T07:30:00Z"), Some(at("2026-10-25T08:00:00Z")));
}

#[test]
fn an_hour_that_is_left_out_counts_at_the_end_of_the_gap() {
    let moments: Moments = "30 2 * * * Europe/Paris".parse().unwrap();
    assert_eq!(moments.after(at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    assert_eq!(moments.up_to(at("2026-03-29T01:30:00Z")), Some(at("2026-03-29T01:00:00Z")));
    assert_eq!(moments.up_to(at("2026-03-29T00:59:59Z")), Some(at("2026-03-28T01:30:00Z")));
    let window = "30 2 * * * Europe/Paris for 1h";
    assert_eq!(until(window, "2026-03-29T00:59:59Z"), None);
    assert_eq!(until(window, "2026-03-29T01:00:00Z"), Some(at("2026-03-29T02:00:00Z")));
}

#[test]
fn an_hour_that_comes_twice_counts_once() {
    let moments: Moments = "30 2 * * * Europe/Paris".parse().unwrap();
    let first = at("2026-10-25T00:30:00Z");
    assert_eq!(moments.after(at("2026-10-24T12:00:00Z")), Some(first));
    assert_eq!(moments.after(first), Some(at("2026-10-26T01:30:00Z")));
    assert_eq!(moments.up_to(at("2026-10-25T05:00:00Z")), Some(first));
}

#[test]
fn elapsed_time_and_time_on_the_wall_differ_over_a_change() {
    let elapsed = "0 20 * * Sat Europe/Paris for 12h";
    let wall = "0 20 * * Sat Europe/Paris until 0 8 * * Sun";
    let night = "2026-10-24T22:00:00Z";
    assert_eq!(until(elapsed, night), Some(at("2026-10-25T06:00:00Z")));
    assert_eq!(until(wall, night), Some(at("2026-10-25T07:00:00Z")));
    assert_eq!(until(wall, "2026-10-25T07:00:00Z"), None);
    assert_eq!(until(wall, "2026-10-24T17:59:00Z"), None);
}

#[test]
fn windows_may_be_longer_than_a_day_and_cross_zones() {
    let weekend = "0 18 * * Fri America/New_York until 0 8 * * Mon Europe/Paris";
    assert_eq!(until(weekend, "2026-11-21T12:00:00Z"), Some(at("2026-11-23T07:00:00Z")));
    assert_eq!(until(weekend, "2026-11-20T22:59:00Z"), None);
    assert_eq!(until("0 0 1 * * for 3d", "2026-11-03T23:59:59Z"), Some(at("2026-11-04T00:00:00Z")));
}

#[test]
fn the_answer_depends_on_the_time_alone_however_the_clock_is_set() {
    let window: Window = "0 8 * * Mon-Fri Europe/Paris for 10h".parse().unwrap();
    let times = ["2026-11-20T09:00:00Z", "2026-11-20T20:00:00Z", "2026-11-19T09:00:00Z", "2026-11-20T09:00:00Z"];
    let open: Vec<_> = times.iter().map(|time| window.open_until(at(time)).is_some()).collect();
    assert_eq!(open, [true, false, true, true]);
}

#[test]
fn a_moment_is_due_once_also_over_a_step_forward_and_not_over_one_back() {
    let moments: Moments = "0 3 * * * UTC".parse().unwrap();
    let (before, after) = (at("2026-11-20T02:59:59Z"), at("2026-11-20T03:00:00Z"));
    assert!(moments.is_due(before, after));
    assert!(!moments.is_due(after, at("2026-11-20T03:00:01Z")));
    assert!(moments.is_due(before, at("2026-11-22T12:00:00Z")));
    assert!(!moments.is_due(at("2026-11-22T12:00:00Z"), after));
    assert!(!moments.is_due(after, after));
}

#[test]
fn what_is_wrong_is_named() {
    let moments = [
        ("", "five fields"),
        ("0 3 * *", "five fields"),
        ("0 3 * * Sun Europe/Paris UTC", "more than five"),
        ("0 3 * * Sun Europe/Pariss", "Europe/Pariss is not a time zone"),
        ("0 25 * * *", "out of bounds;"),
        ("0 0 30 2 *", "no such day"),
        ("0 0 0 1 1 *", "0 3 * * Sun Europe/Paris"),
    ];
    for (text, expected) in moments {
        let message = text.parse::<Moments>().unwrap_err().to_string();
        assert!(message.to_lowercase().contains(&expected.to_lowercase()), "{text}: {message}");
    }
    for (text, expected) in
        [("0 8 * * *", "how long"), ("0 8 * * * for ever", "length of time"), ("0 8 * * * for 0s", "no time")]
    {
        let message = text.parse::<Window>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
    for (text, expected) in [("0 8 * * * for 1h", "no rate"), ("0 8 * * * for 1h at 2", "10MiB/s")] {
        let message = text.parse::<RateWindow>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn schedules_are_written_as_they_were_read() {
    for text in ["0 8 * * Mon-Fri Europe/Paris for 10h", "0 18 * * Fri UTC until 0 8 * * Mon"] {
        assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
    }
    for text in ["*/5 * * * * for 1m at 2MiB/s", "0 20 * * * UTC for 8h at unlimited"] {
        assert_eq!(text.parse::<RateWindow>().unwrap().to_string(), text);
    }
}
