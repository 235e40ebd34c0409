//! Sets that change while they run: pauses, limits, targets, schedules; and what is told about them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, Said};

struct Site {
    paris: Daemon,
    lyon: Daemon,
    rome: Daemon,
}

/// Three nodes; paris trusts the others, and its set `notes` goes to lyon.
fn site() -> Site {
    site_of(0)
}

/// With so many files before it is protected.
fn site_of(files: usize) -> Site {
    let start = |name, address| Daemon::start(name, address);
    let site = Site {
        paris: start("paris", "127.0.0.2:0"),
        lyon: start("lyon", "127.0.0.3:0"),
        rome: start("rome", "127.0.0.4:0"),
    };
    for other in [&site.lyon, &site.rome] {
        let line = site.paris.stead(&["invite"]).done();
        other.stead(&["join", line.trim()]).done();
    }
    fs::create_dir_all(site.source().join("sub")).unwrap();
    fs::write(site.source().join("sub/file"), "content").unwrap();
    (0..files).for_each(|number| site.write(&format!("file-{number}")));
    site.protect(&site.lyon, "lyon", &[text(&site.source())]).done();
    site
}

impl Site {
    fn source(&self) -> PathBuf {
        self.paris.dir().join("notes")
    }

    fn replica(&self, of: &Daemon) -> PathBuf {
        of.dir().join("replica")
    }

    fn protect(&self, on: &Daemon, name: &str, paths: &[&str]) -> Said {
        let map = format!("{}={}", self.source().display(), self.replica(on).display());
        self.paris.stead(&[&["protect", "--set", "notes", "--on", name, "--map", &map], paths].concat())
    }

    fn connection(&self, target: &str) -> serde_json::Value {
        let status: serde_json::Value = serde_json::from_str(&self.paris.stead(&["status", "--json"]).done()).unwrap();
        let connections = status["connections"].as_array().unwrap();
        connections.iter().find(|c| c["target"] == target).cloned().unwrap_or_default()
    }

    fn write(&self, name: &str) {
        fs::write(self.source().join(name), name).unwrap();
    }

    fn wait(&self) {
        self.paris.stead(&["wait", "notes", "--timeout", "30s"]).done();
    }

    /// Applies the plan with something in it replaced.
    fn apply(&self, from: &str, to: &str) -> Said {
        let plan = self.paris.stead(&["plan", "show"]).done();
        let file = self.paris.dir().join("plan.toml");
        fs::write(&file, plan.replacen(from, to, 1)).unwrap();
        self.paris.stead(&["plan", "apply", text(&file)])
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_set_gets_another_target_and_each_is_paused_alone() {
    let site = site();
    site.protect(&site.lyon, "lyon", &[]).refused(1, &["two connections to lyon"]);
    site.protect(&site.rome, "rome", &[]).done();
    assert_eq!(fs::read_to_string(site.replica(&site.rome).join("sub/file")).unwrap(), "content");
    site.paris.stead(&["pause", "notes", "--on", "rome"]).done();
    assert_eq!(site.connection("rome")["state"], "paused");
    assert_eq!(site.connection("rome")["reason"], "paused by hand");
    assert_eq!(site.connection("lyon")["state"], "replicating");
    site.write("while-rome-pauses");
    until("the change on lyon", || site.replica(&site.lyon).join("while-rome-pauses").exists().then_some(()));
    assert!(!site.replica(&site.rome).join("while-rome-pauses").exists());
    site.paris.stead(&["resume", "notes", "--on", "rome"]).done();
    site.wait();
    assert!(site.replica(&site.rome).join("while-rome-pauses").exists());
    site.paris.stead(&["pause", "notes", "--on", "oslo"]).refused(1, &["no connection to oslo"]);

    let plan = site.paris.stead(&["plan", "show"]).done();
    let file = site.paris.dir().join("less.toml");
    let less: Vec<_> = plan.split("[[connection]]").take(2).collect();
    fs::write(&file, less.join("[[connection]]")).unwrap();
    site.paris.stead(&["plan", "apply", text(&file), "--yes"]).done();
    assert!(site.rome.sets().is_empty() && site.connection("rome").is_null());
    site.write("rome-is-gone");
    site.wait();
    assert!(site.replica(&site.lyon).join("rome-is-gone").exists());
    assert!(!site.replica(&site.rome).join("rome-is-gone").exists());
}

#[test]
fn schedules_pause_and_a_hand_resumes_until_the_next() {
    let site = site();
    site.apply("target = \"lyon\"", "target = \"lyon\"\npause-schedule = [\"0 0 1 * * UTC for 28d\"]").done();
    let paused = until("the pause", || Some(site.connection("lyon")).filter(|c| c["state"] == "paused"));
    assert!(paused["reason"].as_str().unwrap().contains("by its schedule until"), "{paused}");
    assert!(paused["paused_until"].is_string(), "{paused}");
    let said = site.paris.stead(&["status", "--check", "notes"]);
    assert_eq!((said.code, said.out.starts_with("STEAD OK - notes → lyon paused")), (Some(0), true), "{}", said.out);
    let resumed = site.paris.stead(&["resume", "notes"]);
    assert!(resumed.err.contains("that pause is over"), "{}", resumed.err);
    site.write("in-spite-of-the-schedule");
    site.wait();
    site.paris.stead(&["pause", "notes"]).done();
    assert_eq!(site.connection("lyon")["reason"], "paused by hand");
    let said = site.paris.stead(&["status", "--check"]);
    assert_eq!(said.code, Some(1), "{}", said.out);
}

#[test]
fn limits_hold_at_once_and_stand_in_the_plan() {
    let site = site();
    site.paris.stead(&["limit", "notes", "--to", "200KiB/s"]).done();
    assert_eq!(site.connection("lyon")["limit"], 204_800);
    assert!(site.paris.stead(&["plan", "show"]).done().contains("bandwidth = \"200KiB/s\""));
    let mut noise = vec![0; 400_000];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    let start = Instant::now();
    fs::write(site.source().join("noise"), noise).unwrap();
    site.wait();
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    site.paris.stead(&["limit", "notes", "--to", "unlimited"]).done();
    assert!(site.connection("lyon")["limit"].is_null());
    site.paris.stead(&["limit", "notes", "--to", "fast"]).refused(2, &["10MiB/s"]);
}

#[test]
fn what_is_wrong_is_told_once_and_so_is_its_end() {
    let mut site = site();
    let told = site.paris.dir().join("told");
    let alerts = format!("version = 1\n\n[alerts]\ncommand = \"cat >> {}\"\ndisconnected = \"1s\"\n", told.display());
    site.apply("version = 1\n", &alerts).done();
    assert!(site.paris.stead(&["alerts"]).done().contains("nothing is wrong"));
    site.lyon.stop();
    until("the alert", || site.paris.stead(&["alerts"]).done().contains("disconnected").then_some(()));
    site.paris.stop();
    site.paris.launch();
    thread::sleep(Duration::from_secs(3));
    let alerts: serde_json::Value = serde_json::from_str(&site.paris.stead(&["alerts", "--json"]).done()).unwrap();
    assert_eq!(alerts["alerts"].as_array().unwrap().len(), 1, "{alerts}");
    site.lyon.launch();
    until("the end of it", || site.paris.stead(&["alerts"]).done().contains("nothing is wrong").then_some(()));
    let lines = until("both events", || {
        let text = fs::read_to_string(&told).unwrap_or_default();
        (text.lines().count() >= 2).then_some(text)
    });
    let events: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words: Vec<_> = events.iter().map(|e| (e["event"].as_str().unwrap(), e["wrong"].as_str().unwrap())).collect();
    assert_eq!(words, [("raise", "disconnected"), ("clear", "disconnected")]);
}

#[test]
fn the_last_verify_is_kept_and_shown() {
    let mut site = site();
    site.paris.stead(&["verify", "notes", "--last"]).refused(1, &["not verified yet"]);
    site.paris.stead(&["verify", "notes"]).done();
    site.paris.stop();
    site.paris.launch();
    let said = site.paris.stead(&["verify", "notes", "--last"]).done();
    assert!(said.contains("set notes: equal"), "{said}");
    assert_eq!(
        until("the connection", || Some(site.connection("lyon")).filter(|c| !c.is_null()))["verified"]["different"],
        0
    );
    until("replication", || (site.connection("lyon")["state"] == "replicating").then_some(()));
    let status = site.paris.stead(&["status"]).done();
    assert!(status.contains("if paris died now:") && status.contains("verified "), "{status}");
}

#[test]
fn a_copy_that_was_carried_is_taken_as_a_seed() {
    let site = site();
    let replica = site.replica(&site.rome);
    fs::create_dir_all(replica.join("sub")).unwrap();
    fs::write(replica.join("sub/file"), "content").unwrap();
    fs::write(replica.join("stale"), "not in the source").unwrap();
    let said = site.protect(&site.rome, "rome", &["--seeded"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("stale"), "{}", said.err);
    assert_eq!(fs::read_to_string(replica.join("sub/file")).unwrap(), "content");
    assert!(!replica.join("stale").exists());
}

#[test]
fn a_replica_is_not_captured_anew() {
    let site = site();
    let replica = site.replica(&site.lyon);
    let map = format!("{}={}", replica.display(), site.paris.dir().join("back").display());
    let protect =
        |path: &Path| site.lyon.stead(&["protect", text(path), "--on", "paris", "--set", "again", "--map", &map]);
    protect(&replica).refused(1, &["relays set notes", "hand it back"]);
    protect(&replica.join("sub")).refused(1, &["overlaps", "the replica of set notes"]);
    assert_eq!(site.lyon.sets(), site.paris.sets());
}

#[test]
fn rules_change_without_the_target_losing_what_stays() {
    let site = site();
    site.write("a.tmp");
    site.wait();
    site.apply("order = \"strict\"", "order = \"strict\"\nrules = { exclude = [\"*.bak\"] }").done();
    site.write("b.bak");
    site.write("c");
    site.wait();
    let replica = site.replica(&site.lyon);
    let there = |name: &str| replica.join(name).exists();
    assert_eq!((there("a.tmp"), there("b.bak"), there("c")), (true, false, true));
    assert!(site.lyon.stead(&["plan", "show"]).done().contains("*.bak"));
    site.apply("exclude = [\"*.bak\"]", "exclude = []").done();
    until("the file that is taken newly", || replica.join("b.bak").exists().then_some(()));
}

/// A set of `count` files, whose brake lets 10 of them go.
fn braked_site(count: usize) -> Site {
    let site = site_of(count);
    site.apply("mode = \"async\"", "mode = \"async\"\nbrake = { deletions = 10 }").done();
    site.wait();
    site
}

impl Site {
    fn delete_all(&self, count: usize) {
        (0..count).for_each(|number| fs::remove_file(self.source().join(format!("file-{number}"))).unwrap());
        until("the brake", || self.connection("lyon")["brake"]["halted"].as_bool().filter(|halted| *halted));
    }

    fn resume(&self, more: &[&str]) -> Said {
        self.paris.stead(&[&["resume", "notes"], more].concat())
    }

    /// How many of the deleted files lyon has.
    fn left(&self) -> usize {
        let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("file-");
        fs::read_dir(self.replica(&self.lyon)).unwrap().filter(|entry| named(entry.as_ref().unwrap())).count()
    }
}

#[test]
fn what_lives_for_a_moment_does_not_halt() {
    let site = braked_site(1);
    for _ in 0..50 {
        site.write("journal");
        fs::remove_file(site.source().join("journal")).unwrap();
    }
    site.wait();
    assert_eq!(site.connection("lyon")["state"], "replicating");
}

#[test]
fn the_brake_asks_and_goes_on_with_what_is_meant() {
    let site = braked_site(30);
    site.delete_all(30);
    assert!(site.left() >= 20);
    site.resume(&[]).refused(1, &["the mass-change brake has halted it", "--accept-deletions", "--undo"]);
    site.paris.stead(&["wait", "notes", "--timeout", "5s"]).refused(1, &["mass-change brake", "stead status"]);
    assert_eq!(site.paris.stead(&["status", "--check"]).code, Some(2));
    site.resume(&["--accept-deletions"]).done();
    site.wait();
    assert_eq!(site.left(), 0);
    site.resume(&["--accept-deletions"]).refused(1, &["has halted none"]);
}

#[test]
fn what_was_taken_back_stays_until_it_is_resumed() {
    let site = braked_site(30);
    site.delete_all(30);
    site.resume(&["--undo"]).done();
    let state = || until("it halts", || Some(site.connection("lyon")).filter(|c| c["state"] == "halted"));
    assert!(state()["reason"].as_str().unwrap().contains("taken back"));
    assert_eq!(site.left(), 30);
    site.resume(&["--accept-deletions"]).refused(1, &["goes on with: stead resume"]);
    site.resume(&[]).done();
    let end = until("an end of the scan", || {
        Some(site.connection("lyon")).filter(|c| c["brake"]["halted"] == true || c["state"] == "replicating")
    });
    assert_eq!(end["brake"]["halted"], true, "{} left: {end}", site.left());
    site.resume(&["--accept-deletions"]).done();
    site.wait();
    assert_eq!(site.left(), 0);
}
