//! Nothing fails and all processors are busy: nothing is taken over. The long form is `cargo xtask bench calm`.

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stead_tests::service::one_after_the_other;
use stead_tests::town::Town;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const BUSY: Duration = Duration::from_secs(20);
/// A yellow light that lasts no longer than that is nothing that a person would see twice.
const YELLOW_MAX: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(100);

fn burn(ends: &AtomicBool) {
    let mut number = 1_u64;
    while !ends.load(Ordering::Relaxed) {
        (0..1000).for_each(|_| number = black_box(number.wrapping_mul(6_364_136_223_846_793_005)));
    }
}

/// The longest that the group was not online, as lyon saw it.
fn longest_yellow(town: &Town) -> Duration {
    let (begun, mut online, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while begun.elapsed() < BUSY {
        let asked = Instant::now();
        let monitor = town.monitor_at(&town.site.lyon).unwrap();
        assert!(["online", "late"].iter().any(|state| monitor["state"] == *state), "{monitor}");
        match monitor["state"] == "online" {
            true => online = Instant::now(),
            false => longest = longest.max(asked.saturating_duration_since(online)),
        }
        thread::sleep(LOOK);
    }
    longest
}

#[test]
fn nothing_is_taken_over_while_all_processors_are_busy() {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let client = town.client(100).unwrap();
    let ends = AtomicBool::new(false);
    let yellow = thread::scope(|scope| {
        let processors = thread::available_parallelism().map_or(2, usize::from);
        (0..processors).for_each(|_| drop(scope.spawn(|| burn(&ends))));
        let looked = scope.spawn(|| longest_yellow(&town)).join();
        ends.store(true, Ordering::Relaxed);
        looked.unwrap()
    });
    assert!(yellow < YELLOW_MAX, "it was late for {yellow:?}\n{}", town.standing());
    let monitor = town.monitor_at(&town.site.lyon).unwrap();
    assert_eq!((&monitor["active"], &monitor["epoch"]), (&"paris".into(), &1.into()), "{}", town.standing());
    town.settles_with("paris").unwrap();
    one_after_the_other(&[&client.stop()], &["paris"]).unwrap();
}
