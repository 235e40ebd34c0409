//! More than one source, more than one target, and targets that have something already.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stead_tests::command::{run, text, until};
use stead_tests::compare::{Compare, same};
use stead_tests::host::{Host, Hosts};
use stead_tests::load::{Journal, Load, Options, examine_copy};
use stead_tests::node::Node;
use stead_tests::site::Site;
use stead_tests::tree;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");

fn load(host: &Host, database: &Path, rate: u64) -> (Options, Load) {
    let name = database.display().to_string().replace('/', "-");
    let options = Options {
        database: database.into(),
        acknowledgements: host.dir().join(format!("acknowledged{name}")),
        journal: Journal::Wal,
        rate,
        seconds: 0,
    };
    let load = Load::start(Path::new(LOAD), host, &options).unwrap();
    (options, load)
}

#[test]
fn several_sources_and_sets_share_one_target() {
    let site = Site::new().unwrap();
    let nice = Node::start_as(&site.hosts.paris, "nice", 7131).unwrap();
    nice.join(&site.lyon).unwrap();
    let disk = site.hosts.paris.disk();
    let mut sets = Vec::new();
    for (node, set) in [(&site.paris, "notes"), (&site.paris, "mail"), (&nice, "books")] {
        let (source, replica) = (disk.join(set), site.hosts.lyon.disk().join(set));
        fs::create_dir(&source).unwrap();
        node.protect(set, &site.lyon, &[(&source, &replica)], &[]).unwrap();
        let (_, load) = load(&site.hosts.paris, &source.join("db"), 50);
        sets.push((node, set, source, replica, load));
    }
    std::thread::sleep(Duration::from_secs(1));
    let told = site.lyon.status().unwrap().to_string();
    for (node, set, source, replica, load) in sets {
        load.kill();
        node.wait(set).unwrap();
        same(&site.hosts.paris.beneath(&source), &replica).unwrap_or_else(|e| panic!("{set}: {e:#}"));
        assert!(told.contains(&format!("\"set\":\"{set}\"")), "lyon does not know {set}: {told}");
    }
}

#[test]
fn a_target_filled_by_hand_gets_only_what_differs() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source, 500, 40 << 20, 6).unwrap();
    run(Command::new("cp").args(["-a"]).arg(&notes.source).arg(&notes.replica)).unwrap();
    fs::write(notes.source.join("d0000/file-000001.dat"), "changed since it was carried there").unwrap();
    fs::write(notes.replica.join("d0000/file-000002.dat"), "spoiled on the way").unwrap();
    let before = site.hosts.paris.traffic().unwrap();
    site.protect(&notes, &["--seeded", "--yes"]).unwrap();
    let sent = site.hosts.paris.traffic().unwrap().since(before).sent;
    println!("{} KiB sent of 40 MiB", sent >> 10);
    assert!(sent < 3 << 20, "{sent} bytes");
    site.settle(&notes).unwrap();
}

/// The plan of a set with more targets, as an operator edits it.
fn add_target(plan: &str, target: &str, to: &Path, route: Option<&str>) -> String {
    let from = plan.lines().find(|line| line.trim_start().starts_with("from = ")).unwrap().trim();
    let route = route.map(|route| format!("route = \"{route}\"\n")).unwrap_or_default();
    format!(
        "{plan}\n[[connection]]\nset = \"notes\"\ntarget = \"{target}\"\n{route}\n[[connection.mapping]]\n{from}\nto = \"{}\"\n",
        to.display()
    )
}

#[test]
fn a_slow_target_falls_behind_alone() {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source, 100, 3 << 20, 1).unwrap();
    site.protect(&notes, &[]).unwrap();
    let mut more = Vec::new();
    for (name, port) in [("metz", 7131), ("brest", 7132)] {
        let node = Node::start_as(&site.hosts.lyon, name, port).unwrap();
        site.paris.join(&node).unwrap();
        more.push(node);
    }
    let relay = stead_tests::relay::Relay::start(&site.hosts.lyon, 7140, &more[1].listen()).unwrap();
    let at = |name: &str| site.hosts.lyon.disk().join(format!("at-{name}"));
    let plan = site.paris.cli(["plan", "show"]).unwrap();
    let plan = add_target(&plan, "metz", &at("metz"), None);
    let plan = add_target(&plan, "brest", &at("brest"), Some(&relay.address()));
    let file = site.hosts.paris.dir().join("plan.toml");
    fs::write(&file, plan).unwrap();
    site.paris.cli(["plan", "apply", &file.display().to_string()]).unwrap();
    let state = |target: &str| {
        let status = site.paris.status().unwrap();
        let all = status["connections"].as_array().cloned().unwrap_or_default();
        let found =
            all.into_iter().find(|connection| connection["target"] == target && connection["source"] == "paris");
        found.map(|found| (found["state"].as_str().unwrap_or("").to_string(), found["lag_seconds"].as_f64()))
    };
    let all_replicate = || Ok(["lyon", "metz", "brest"].iter().all(|t| state(t).is_some_and(|s| s.0 == "replicating")));
    until("three targets replicate", Duration::from_secs(60), all_replicate)
        .unwrap_or_else(|e| panic!("{e}: {}", site.paris.status().unwrap()));
    relay.rate(Some(50_000));
    let (options, load) = load(&site.hosts.paris, &notes.source.join("db"), 0);
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(300));
        for fast in ["lyon", "metz"] {
            let (state, lag) = state(fast).unwrap();
            assert!(state == "replicating" && lag.is_some_and(|lag| lag < 2.0), "{fast}: {state}, {lag:?} s behind");
        }
    }
    println!("the slow one: {:?}", state("brest"));
    load.kill();
    relay.rate(None);
    until("three targets replicate", Duration::from_secs(60), all_replicate).unwrap();
    site.paris.wait("notes").unwrap();
    let compare = Compare { holes: false, ..Compare::default() };
    for replica in [notes.replica.clone(), at("metz"), at("brest")] {
        compare.same(&notes.beneath, &replica).unwrap();
    }
    let told = stead_tests::load::acknowledged(&options.acknowledgements).unwrap();
    let found = examine_copy(&at("brest").join("db"), &site.hosts.lyon.dir().join("copy")).unwrap();
    assert!(found.transactions >= told.transactions, "{found:?} of {told:?}");
}

#[test]
fn who_holds_files_from_before_the_mount_is_named() {
    let hosts = Hosts::new().unwrap();
    let site = Site::on(hosts).unwrap();
    let notes = site.pairing("notes").unwrap();
    fs::write(notes.source.join("log"), "old\n").unwrap();
    let file = notes.source.join("log").display().to_string();
    let mut holder = site.hosts.paris.command("sh");
    holder.args(["-c", "exec 3>>\"$1\"; exec sleep 1000 # holds it", "sh", &file]);
    let mut holder = holder.spawn().unwrap();
    let held = || {
        let fds = fs::read_dir(format!("/proc/{}/fd", holder.id()))?;
        Ok(fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("notes/log"))))
    };
    until("the file is held", Duration::from_secs(5), held).unwrap();
    let args = stead_tests::node::protect_args("notes", &site.lyon, &[(&notes.source, &notes.replica)], &[]);
    let output = site.paris.output(args).unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&holder.id().to_string()) && said.contains("log"), "the holder is not named: {said}");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// Writes through a descriptor from before the mount; returns once the replica has it.
fn write_past_the_mount(site: &Site) {
    let notes = site.pairing("notes").unwrap();
    let log = notes.source.join("log");
    fs::write(&log, "old\n").unwrap();
    let mut held = fs::File::options().append(true).open(&log).unwrap();
    site.protect(&notes, &[]).unwrap();
    std::io::Write::write_all(&mut held, b"past the mount\n").unwrap();
    held.sync_all().unwrap();
    let arrived = || Ok(fs::read_to_string(notes.replica.join("log"))?.contains("past the mount"));
    until("the file is compared", Duration::from_secs(20), arrived).unwrap();
}

#[test]
fn a_file_that_is_written_past_the_mount_is_compared() {
    write_past_the_mount(&Site::new().unwrap());
}

#[test]
fn a_write_past_the_mount_is_told() {
    let site = Site::new().unwrap();
    write_past_the_mount(&site);
    let told = || Ok(site.paris.connection("notes")?["bypassed"].as_str().is_some_and(|path| path.contains("log")));
    until("the status names the file", Duration::from_secs(5), told).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn captures_come_before_local_services_at_boot() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let unit = |name: &str| fs::read_to_string(root.join("dist").join(name)).unwrap();
    let field = |unit: &str, key: &str| -> Vec<String> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.flat_map(|value| value.split_whitespace().map(String::from).collect::<Vec<_>>()).collect()
    };
    let daemon = unit("stead.service");
    let before = field(&daemon, "Before");
    for service in ["multi-user.target", "postgresql.service", "mysql.service", "nginx.service", "cron.service"] {
        assert!(before.iter().any(|name| name == service), "stead.service does not come before {service}");
    }
    assert!(field(&daemon, "After").iter().any(|name| name == "local-fs.target"));
    assert_eq!(field(&daemon, "Type"), ["notify"], "who waits for it has to wait until captures are up");
    assert_eq!(field(&daemon, "KillMode"), ["process"], "captures outlive the daemon");
    let barrier = unit("stead-barrier.service");
    for name in ["sysinit.target", "stead.service"] {
        assert!(
            field(&barrier, "Before").iter().any(|before| before == name),
            "the barrier does not come before {name}"
        );
    }
    assert_eq!(field(&barrier, "DefaultDependencies"), ["no"]);
    assert!(field(&barrier, "WantedBy").iter().any(|name| name == "sysinit.target"));
}
