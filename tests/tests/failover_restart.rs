//! A daemon that dies or hangs is started again by its watchdog where it was asked for that, and not where it ended in order.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use stead_tests::command::until;
use stead_tests::run::signal;
use stead_tests::service::one_after_the_other;
use stead_tests::town::{GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(20);

/// Paris answers again, by another daemon than that one.
fn is_back(town: &Town, without: &[i32]) -> i32 {
    let mut now = None;
    until("another daemon answers on paris", SOON, || {
        now = town.site.paris.daemons().into_iter().find(|pid| !without.contains(pid));
        Ok(now.is_some() && town.site.paris.output(["status", "--local"])?.status.success())
    })
    .unwrap();
    now.unwrap()
}

#[test]
fn a_daemon_that_dies_or_hangs_is_started_again_and_not_missed() {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo", "--timeout", "15s"]).unwrap();
    town.site.paris.kill();
    town.site.paris.launch_as(&["--restart", "--hung-after", "3s"], &[]).unwrap();
    town.is_served_by("paris").unwrap();
    until("its watchdog runs", SOON, || Ok(town.site.paris.watchdogs().len() == 1)).unwrap();
    let client = town.client(100).unwrap();

    let killed = town.site.paris.pid();
    town.site.paris.kill();
    let second = is_back(&town, &[killed]);
    town.is_served_by("paris").unwrap();

    signal(second, Signal::STOP);
    let third = is_back(&town, &[killed, second]);
    town.is_served_by("paris").unwrap();
    town.goes_on(&client, "paris").unwrap();
    let told = || town.site.paris.cli(["explain", GROUP]);
    until("the timeline tells of both", SOON, || {
        let told = told()?;
        Ok(told.contains("no sign of life for 3s") && told.contains("2 of 5 times"))
    })
    .unwrap();
    assert_eq!(town.monitor_at(&town.site.lyon).unwrap()["epoch"], 1);
    one_after_the_other(&[&client.stop()], &["paris"]).unwrap();

    signal(third, Signal::TERM);
    until("it ends", SOON, || Ok(town.site.paris.daemons().is_empty())).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(town.site.paris.daemons(), [] as [i32; 0], "it ended in order");
}
