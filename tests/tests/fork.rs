//! What the server alone had when it died is kept before it is overwritten: listed, copied out, given up.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use stead_tests::command::until;
use stead_tests::compare::same;
use stead_tests::town::{GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
/// Longer than what is kept before the instant.
const QUIET: Duration = Duration::from_secs(3);
const KEPT: Duration = Duration::from_secs(120);

/// A town that is watched over two paths: with one of them cut, paris serves and sends nothing.
fn town() -> Town {
    let town = Town::new(Path::new(LOAD)).unwrap();
    let paths = ["--path", "10.77.0.1=10.77.0.2", "--path", "10.78.0.1=10.78.0.2"];
    town.monitor(&[&["--witness", "oslo"], &paths[..]].concat()).unwrap();
    town
}

/// Everything before `last` is old, and lyon has it; from then on paris can send nothing.
fn cut_after(town: &Town, last: &str) -> Result<()> {
    std::thread::sleep(QUIET);
    fs::write(town.notes.source.join(last), last)?;
    town.site.paris.wait(GROUP)?;
    town.site.hosts.paris.card("eth0", false)
}

fn forks(town: &Town) -> Result<Vec<Value>> {
    let told = town.site.paris.json(["fork", "list", "--json"])?;
    Ok(told.as_array().context("a list")?.clone())
}

fn is_kept(town: &Town) -> Result<bool> {
    Ok(forks(town)?.first().is_some_and(|fork| fork["state"] == "kept"))
}

/// Names and sizes of what is kept, without directories and what the service holds in shared memory.
fn shown(town: &Town) -> Result<BTreeMap<PathBuf, u64>> {
    let told = town.site.paris.json(["fork", "show", GROUP, "2", "--json"])?;
    let entries = told["entries"].as_array().context("a list")?;
    let files = entries.iter().filter(|entry| entry["kind"] != "directory");
    let file = |entry: &Value| {
        assert_eq!(entry["kept"], true, "{entry}");
        let path = PathBuf::from(entry["path"].as_str().unwrap_or_default());
        (path.strip_prefix(&town.notes.source).unwrap().into(), entry["size"].as_u64().unwrap_or_default())
    };
    Ok(files.map(file).filter(|(path, _)| path != Path::new("notes.db-shm")).collect())
}

/// Copies what is kept out; returns where the set's directory is in it.
fn exported(town: &Town, name: &str) -> Result<PathBuf> {
    let out = town.site.hosts.paris.dir().join(name);
    town.site.paris.cli(["fork".as_ref(), "export".as_ref(), GROUP.as_ref(), "2".as_ref(), out.as_os_str()])?;
    Ok(out.join(town.notes.source.strip_prefix("/")?))
}

fn is_restored(town: &Town) {
    let restored = || Ok(town.monitor_at(&town.site.paris)?["doing"] == "standby");
    until("paris is restored", KEPT, restored).with_context(|| town.standing()).unwrap();
}

/// Takes all room on paris but for that.
fn fill_up(town: &Town, left: u64) -> Result<PathBuf> {
    let host = &town.site.hosts.paris;
    let room = rustix::fs::statvfs(host.store())?;
    let filler = host.store().join("filler");
    let len = (room.f_bavail * room.f_frsize).saturating_sub(left);
    rustix::fs::fallocate(fs::File::create(&filler)?, rustix::fs::FallocateFlags::empty(), 0, len)?;
    Ok(filler)
}

#[test]
fn what_only_paris_had_is_kept_before_it_becomes_what_lyon_has() {
    let mut town = town();
    let notes = town.notes.source.clone();
    fs::create_dir(notes.join("d")).unwrap();
    for old in ["old", "d/old", "changed", "renamed", "gone"] {
        fs::write(notes.join(old), old).unwrap();
    }
    cut_after(&town, "last").unwrap();
    fs::write(notes.join("changed"), "by paris").unwrap();
    fs::write(notes.join("d/only here"), "paris alone").unwrap();
    fs::rename(notes.join("renamed"), notes.join("d/moved")).unwrap();
    fs::remove_file(notes.join("gone")).unwrap();
    symlink("old", notes.join("link")).unwrap();
    chown(notes.join("d/only here"), Some(1234), Some(4321)).unwrap();

    town.paris_dies().unwrap();
    town.is_served_by("lyon").unwrap();
    let replica = town.notes.replica.clone();
    assert!(!replica.join("d/only here").exists());
    fs::write(replica.join("changed"), "by lyon, later").unwrap();
    fs::write(replica.join("lyon's"), "lyon").unwrap();

    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    until("it is kept", KEPT, || is_kept(&town)).with_context(|| town.standing()).unwrap();
    let expected = [("last", 4), ("changed", 8), ("d/only here", 11), ("d/moved", 7), ("link", 0)]
        .map(|(name, size)| (name.into(), size));
    assert_eq!(shown(&town).unwrap(), BTreeMap::from(expected));
    println!("{}", town.site.paris.cli(["fork", "list"]).unwrap());
    println!("{}", town.site.paris.cli(["fork", "show", GROUP, "2"]).unwrap());

    town.site.lyon.cli(["restore", GROUP, "--yes"]).unwrap();
    town.does("paris", "standby").unwrap();
    town.site.lyon.wait(GROUP).unwrap();
    let hosts = &town.site.hosts;
    same(&hosts.lyon.beneath(&replica), &hosts.paris.beneath(&notes)).unwrap();

    let out = exported(&town, "out").unwrap();
    for (name, content) in
        [("changed", "by paris"), ("d/only here", "paris alone"), ("d/moved", "renamed"), ("last", "last")]
    {
        assert_eq!(fs::read_to_string(out.join(name)).unwrap(), content, "{name}");
    }
    assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("old"));
    let meta = fs::metadata(out.join("d/only here")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
    assert!(!out.join("old").exists());

    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
    let back = || Ok(town.site.paris.state_of(GROUP)? == "replicating");
    until("it is replicated to lyon again", KEPT, back).with_context(|| town.standing()).unwrap();
    assert_eq!(town.site.lyon.json(["fork", "list", "--json"]).unwrap(), serde_json::json!([]), "nothing was lost");
    assert_eq!(forks(&town).unwrap().len(), 1);
    assert!(!town.site.paris.output(["fork", "drop", GROUP, "2"]).unwrap().status.success(), "it asks");
    town.site.paris.cli(["fork", "drop", GROUP, "2", "--yes"]).unwrap();
    assert!(forks(&town).unwrap().is_empty());
    assert!(!town.site.paris.state().join("forks/notes").exists());
}

#[test]
fn a_daemon_that_is_killed_while_it_keeps_goes_on_and_nothing_is_restored_before() {
    let files: usize = std::env::var("STEAD_FORK_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    let mut town = town();
    cut_after(&town, "last").unwrap();
    let only = town.notes.source.join("only");
    fs::create_dir(&only).unwrap();
    for number in 0..files {
        fs::write(only.join(number.to_string()), number.to_string()).unwrap();
    }
    town.paris_dies().unwrap();
    town.is_served_by("lyon").unwrap();

    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    town.site.lyon.cli(["restore", GROUP, "--yes", "--no-wait"]).unwrap();
    let keeping = || Ok(forks(&town)?.first().is_some_and(|fork| fork["files"].as_u64() > Some(100)));
    until("it is being kept", KEPT, keeping).with_context(|| town.standing()).unwrap();
    assert!(!is_kept(&town).unwrap(), "too fast to be killed in the middle");
    println!("{}", town.site.lyon.cli(["status"]).unwrap());
    town.site.paris.kill();
    let began = Instant::now();
    town.site.paris.launch().unwrap();
    until("it is kept", KEPT, || is_kept(&town)).with_context(|| town.standing()).unwrap();
    println!("{files} files were kept {:?} after the daemon began", began.elapsed());
    assert_eq!(shown(&town).unwrap().len(), files + 1);

    let asks = || Ok(town.site.lyon.state_of(GROUP)? == "halted");
    until("the brake asks about so many deletions", KEPT, asks).with_context(|| town.standing()).unwrap();
    town.site.lyon.cli(["resume", GROUP, "--accept-deletions"]).unwrap();
    is_restored(&town);
    assert!(!town.site.hosts.paris.beneath(&only).exists());
    let out = exported(&town, "out").unwrap();
    for number in 0..files {
        let number = number.to_string();
        assert_eq!(fs::read_to_string(out.join("only").join(&number)).unwrap(), number);
    }
}

#[test]
fn without_room_nothing_is_restored_until_there_is_or_it_is_given_up() {
    let mut town = town();
    cut_after(&town, "last").unwrap();
    fs::write(town.notes.source.join("only here"), vec![7; 1 << 20]).unwrap();
    town.paris_dies().unwrap();
    town.is_served_by("lyon").unwrap();
    let filler = fill_up(&town, 160 << 20).unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    town.site.lyon.cli(["restore", GROUP, "--yes", "--no-wait"]).unwrap();
    let blocked = || Ok(forks(&town)?.first().is_some_and(|fork| fork["state"] == "blocked"));
    until("there is no room", KEPT, blocked).with_context(|| town.standing()).unwrap();
    println!("{}", town.site.paris.cli(["fork", "list"]).unwrap());
    let status = town.site.paris.json(["status", "--json", "--local"]).unwrap();
    assert_eq!(status["connections"][0]["state"], "halted", "{status}");
    let alerted = || Ok(town.site.paris.cli(["alerts"])?.contains("no-room"));
    until("it is told", KEPT, alerted).with_context(|| town.standing()).unwrap();
    let why = || Ok(town.site.lyon.connection(GROUP)?["reason"].as_str().is_some_and(|why| why.contains("no room")));
    until("lyon knows why", KEPT, why).with_context(|| town.standing()).unwrap();
    assert!(town.site.hosts.paris.beneath(&town.notes.source).join("only here").exists());

    town.site.paris.cli(["fork", "drop", GROUP, "2", "--yes"]).unwrap();
    is_restored(&town);
    assert!(forks(&town).unwrap().is_empty());
    assert!(!town.site.hosts.paris.beneath(&town.notes.source).join("only here").exists());
    fs::remove_file(filler).unwrap();
}
