//! The way back as an administrator goes it: what a restore would change, set by set, to other paths or another machine; a
//! failback that is compared first.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stead_tests::command::{text, until};
use stead_tests::node::Node;
use stead_tests::service::{Client, lost};
use stead_tests::site::Pairing;
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(20);
const LATER: Duration = Duration::from_secs(60);

/// Paris is dead, and lyon stands in for it.
fn stood_in(options: &[&str]) -> (Town, Client) {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&[&["--witness", "oslo"], options].concat()).unwrap();
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    (town, client)
}

/// The same with a second set, `more`, that goes with the group.
fn stood_in_with_more() -> (Town, Client, Pairing) {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    let more = town.site.pairing("more").unwrap();
    fs::write(more.source.join("a"), "of paris").unwrap();
    town.site.protect(&more, &[]).unwrap();
    town.monitor(&["--set", "more", "--witness", "oslo"]).unwrap();
    let client = town.client(100).unwrap();
    town.site.paris.wait("more").unwrap();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    (town, client, more)
}

/// The same where nobody is witness, and a person says so.
fn stood_in_by_hand() -> (Town, Client) {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&[]).unwrap();
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    let missed = || Ok(town.monitor_at(&town.site.lyon)?["state"] == "failed");
    until("paris is missed", SOON, missed).unwrap();
    town.site.lyon.cli(["failover", GROUP, "--yes"]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    (town, client)
}

fn returns(town: &mut Town) {
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    let kept =
        || Ok(town.site.paris.json(["fork", "list", "--json"])?.as_array().is_some_and(|all| all.iter().all(is_kept)));
    until("what only paris had is kept", LATER, kept).with_context(|| town.standing()).unwrap();
}

fn is_kept(fork: &Value) -> bool {
    fork["state"] == "kept"
}

/// What a dry run tells of a set, once paris can be asked.
fn dry_run(town: &Town, set: &str) -> Result<Value> {
    let mut found: Option<Value> = None;
    until("a dry run tells", SOON, || {
        let output = town.site.lyon.output(["restore", GROUP, "--dry-run", "--json"])?;
        if output.status.success() {
            found = serde_json::from_slice(&output.stdout).ok();
        }
        Ok(found.is_some())
    })?;
    let all = found.unwrap_or_default();
    all.as_array().into_iter().flatten().find(|one| one["set"] == set).cloned().context("it tells of the set")
}

fn changes(preview: &Value) -> Vec<(String, PathBuf)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let all = preview["changes"].as_array().into_iter().flatten();
    all.map(|change| (text(&change["what"]), text(&change["path"]).into())).collect()
}

fn replicates(town: &Town, node: &Node, set: &str) {
    until("the set replicates", LATER, || node.replicates(set)).with_context(|| town.standing()).unwrap();
}

fn holds(town: &Town, path: &Path, content: &str) {
    let holds = || Ok(fs::read_to_string(path).is_ok_and(|found| found == content));
    until(&format!("{} holds it", path.display()), LATER, holds).with_context(|| town.standing()).unwrap();
}

#[test]
fn a_dry_run_lists_what_a_restore_would_change_and_changes_nothing() {
    let (mut town, client) = stood_in(&[]);
    let (here, there) = (&town.notes.replica, &town.notes.source);
    let beneath = &town.notes.beneath;
    fs::write(beneath.join("only-paris"), "gone").unwrap();
    fs::write(here.join("only-lyon"), "to come").unwrap();
    fs::create_dir(here.join("dir")).unwrap();
    let (only_paris, only_lyon) = (there.join("only-paris"), there.join("only-lyon"));
    returns(&mut town);
    let told = dry_run(&town, GROUP).unwrap();
    let found = changes(&told);
    for expected in
        [("missing", only_lyon.clone()), ("extra", only_paris.clone()), ("missing", town.notes.source.join("dir"))]
    {
        let expected = (expected.0.to_string(), expected.1);
        assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
    }
    assert_eq!((&told["on"], &told["removed"]["bytes"]), (&Value::from("paris"), &Value::from(4)), "{told}");
    let shown = town.site.lyon.cli(["restore", GROUP, "--dry-run"]).unwrap();
    assert!(shown.contains("notes → paris: ") && shown.contains("nothing was changed"), "{shown}");
    assert!(only_paris.exists() && !only_lyon.exists());
    town.does("paris", "restore-required").unwrap();
    town.is_refused("paris", &["restore", GROUP, "--dry-run"], "lyon serves").unwrap();
    town.settles_with("lyon").unwrap();
    assert!(!only_paris.exists() && only_lyon.exists());
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    town.is_refused("paris", &["restore", GROUP, "--dry-run"], "where it belongs").unwrap();
}

#[test]
fn sets_are_restored_one_by_one_and_to_other_paths() {
    let (mut town, client, more) = stood_in_with_more();
    fs::write(more.replica.join("b"), "of lyon").unwrap();
    returns(&mut town);
    let lyon = &town.site.lyon;
    let elsewhere = town.site.hosts.paris.disk().join("elsewhere");
    let map = |to: &Path| format!("{}={}", more.replica.display(), to.display());
    let refused: [(Vec<String>, i32, &str); 4] = [
        (vec!["--set".into(), "mor".into()], 1, "with it go notes, more"),
        (vec!["--map".into(), "/nothing=/srv".into()], 2, "the paths here are"),
        (vec!["--map".into(), format!("{}=srv", more.replica.display())], 2, "absolute path"),
        (vec!["--map".into(), map(&town.notes.source.join("inside"))], 1, "inside each other"),
    ];
    for (options, code, why) in refused {
        let args: Vec<_> = ["restore", GROUP, "--yes"].map(String::from).into_iter().chain(options).collect();
        let output = lyon.output(&args).unwrap();
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(code) && told.contains(why), "{args:?}: {} {told}", output.status);
    }
    let told = lyon.cli(["restore", GROUP, "--set", "more", "--map", &map(&elsewhere), "--yes"]).unwrap();
    assert!(told.contains("group notes is when the rest is, too: notes"), "{told}");
    holds(&town, &elsewhere.join("b"), "of lyon");
    assert!(!more.source.join("b").exists() && more.source.join("a").exists(), "the old place is as it was");
    assert_eq!(lyon.state_of(GROUP).unwrap(), "restore-required");
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    replicates(&town, &town.site.paris, "more");
    fs::write(elsewhere.join("c"), "of paris again").unwrap();
    holds(&town, &more.replica.join("c"), "of paris again");
    assert!(town.site.paris.cli(["plan", "show"]).unwrap().contains(&elsewhere.display().to_string()));
}

#[test]
fn a_failback_is_refused_while_the_sides_differ() {
    let (mut town, client) = stood_in(&[]);
    fs::write(town.notes.replica.join("same"), "0123456789").unwrap();
    returns(&mut town);
    town.settles_with("lyon").unwrap();
    let raw = town.site.hosts.paris.beneath(&town.notes.source);
    fs::write(raw.join("stray"), "nobody sent it").unwrap();
    for node in ["lyon", "paris"] {
        town.is_refused(node, &["failback", GROUP, "--yes"], "stray: extra").unwrap();
        assert_eq!(town.monitor_at(&town.site.lyon).unwrap()["doing"], "active", "nothing was stopped");
    }
    fs::remove_file(raw.join("stray")).unwrap();
    // Its content alone differs.
    let times = fs::metadata(raw.join("same")).unwrap().modified().unwrap();
    fs::write(raw.join("same"), "9876543210").unwrap();
    fs::File::options().write(true).open(raw.join("same")).unwrap().set_modified(times).unwrap();
    town.is_refused("lyon", &["failback", GROUP, "--yes", "--verify", "content"], "same: content").unwrap();
    town.site.lyon.cli(["verify", GROUP, "--repair"]).unwrap();
    let told = town.site.paris.cli(["failback", GROUP, "--yes", "--verify", "content"]).unwrap();
    assert!(told.contains("both sides were equal before") && told.contains("of content"), "{told}");
    town.answers(&client, "paris", SOON).unwrap();
}

#[test]
fn a_failback_may_be_the_end_of_watching() {
    let (mut town, client) = stood_in(&[]);
    returns(&mut town);
    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes", "--then", "stop"]).unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    for node in ["paris", "lyon", "oslo"] {
        let plan = town.node(node).cli(["plan", "show"]).unwrap();
        assert!(!plan.contains("[[group]]"), "{node}: {plan}");
    }
    replicates(&town, &town.site.paris, GROUP);
    town.goes_on(&client, "paris").unwrap();
}

#[test]
fn another_machine_takes_the_place_of_a_source_beyond_repair() {
    let (mut town, client) = stood_in(&[]);
    fs::write(town.notes.beneath.join("only-paris"), "stays").unwrap();
    let berne = Node::start(&town.berne).unwrap();
    let place = town.berne.disk();
    let map = format!("{}={}", town.notes.replica.display(), place.join(GROUP).display());
    let to = |node: &'static str| ["restore", GROUP, "--to", node, "--yes"];
    let lyon = &town.site.lyon;
    town.is_refused("lyon", &to("oslo"), "is its witness").unwrap();
    town.is_refused("lyon", &to("lyon"), "is the node that serves").unwrap();
    town.is_refused("lyon", &to("paris"), "is its source already").unwrap();
    let failed = lyon.output(to("berne")).unwrap();
    assert!(failed.status.code() == Some(1) && text(&failed.stderr).contains("not a node that this one trusts"));
    berne.join(lyon).unwrap();
    let failed = lyon.output(["restore", GROUP, "--to", "berne", "--map", &map, "--yes"]).unwrap();
    let told = text(&failed.stderr);
    assert!(failed.status.code() == Some(1) && told.contains("does not trust oslo"), "{told}");
    assert!(!berne.cli(["plan", "show"]).unwrap().contains("[[set]]"), "nothing is left of it");
    berne.join(&town.oslo).unwrap();
    lyon.cli(["restore", GROUP, "--to", "berne", "--map", &map, "--yes"]).unwrap();
    town.goes_on(&client, "lyon").unwrap();
    assert_eq!(town.monitor_at(lyon).unwrap()["epoch"], 2, "its epoch stays");
    goes_to(&mut town, &berne, &client);
}

#[test]
fn another_machine_takes_the_place_where_nobody_is_witness() {
    let (mut town, client) = stood_in_by_hand();
    fs::write(town.notes.beneath.join("only-paris"), "stays").unwrap();
    let berne = Node::start(&town.berne).unwrap();
    let map = format!("{}={}", town.notes.replica.display(), town.berne.disk().join(GROUP).display());
    berne.join(&town.site.lyon).unwrap();
    town.site.lyon.cli(["restore", GROUP, "--to", "berne", "--map", &map, "--yes"]).unwrap();
    town.goes_on(&client, "lyon").unwrap();
    goes_to(&mut town, &berne, &client);
}

#[test]
fn a_forced_failover_says_first_what_would_be_lost() {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    for (args, code) in [(&["failover", GROUP][..], 3), (&["failover", GROUP, "--force"], 2)] {
        for node in ["lyon", "paris"] {
            let output = town.node(node).output(args).unwrap();
            let told = text(&output.stderr);
            let of_set =
                told.contains("note: set notes on lyon: ") && told.contains("; it would be what the source was at ");
            let fits = of_set && told.contains("note: paris serves: both would");
            assert!(fits && output.status.code() == Some(code), "{node}: {} {told}", output.status);
        }
    }
    town.is_served_by("paris").unwrap();
}

#[test]
fn what_a_node_serves_goes_away_and_nothing_else() {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let client = town.client(100).unwrap();
    let away = |town: &Town, name: &str| town.node(name).cli(["group", "away", "--yes"]).unwrap();
    for (serves, other) in [("paris", "lyon"), ("lyon", "paris")] {
        assert_eq!(away(&town, other), "no group is served here\n");
        assert_eq!(away(&town, serves), format!("group {GROUP} is served by {other}\n"));
        town.answers(&client, other, SOON).unwrap();
        town.settles_with(other).unwrap();
    }
    town.lyon_dies().unwrap();
    let output = town.site.paris.output(["group", "away", "--yes"]).unwrap();
    let told = text(&output.stderr);
    assert!(!output.status.success() && told.contains("lyon could not be asked"), "{told}");
    town.goes_on(&client, "paris").unwrap();
    assert_eq!(lost(&client.stop(), &town.notes.source.join("notes.db")).unwrap(), 0);
}

#[test]
fn a_hand_over_that_fails_says_why_to_whoever_asked() {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let stop = fs::read_to_string(&town.commands.stop).unwrap();
    fs::write(&town.commands.stop, "#!/bin/bash\necho the licence server is away\nexit 1\n").unwrap();
    for node in ["lyon", "paris"] {
        let output = town.node(node).output(["switchover", GROUP, "--yes"]).unwrap();
        let told = text(&output.stderr);
        let fits =
            told.contains("paris could not hand over: undo service") && told.contains("the licence server is away");
        assert!(fits && output.status.code() == Some(1), "{node}: {} {told}", output.status);
        town.is_served_by("paris").unwrap();
    }
    fs::write(&town.commands.stop, stop).unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.is_served_by("lyon").unwrap();
}

/// Lyon gives back to berne, which stands by in the place of paris.
fn goes_to(town: &mut Town, berne: &Node, client: &Client) {
    assert_eq!(town.monitor_at(berne).unwrap()["doing"], "standby");
    is_replaced(town).unwrap();
    let (paris, lyon) = (&town.site.paris, &town.site.lyon);
    lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.answers(client, "berne", SOON).unwrap();
    replicates(town, berne, GROUP);
    assert!(![paris, lyon].iter().any(|node| node.host().has_address(ADDRESS).unwrap()));
    assert_eq!(town.monitor_at(lyon).unwrap()["doing"], "standby");
}

/// Paris comes back, serves nothing, and learns that another node is in its place.
fn is_replaced(town: &mut Town) -> Result<()> {
    town.paris_returns()?;
    let paris = &town.site.paris;
    let told = || Ok(paris.cli(["status", "--local"])?.contains("berne is its source in the place of this node"));
    until("paris is told", LATER, told).with_context(|| town.standing())?;
    ensure!(!paris.host().has_address(ADDRESS)?, "paris has the address");
    ensure!(!paris.cli(["plan", "show"])?.contains("[[set]]"), "paris has the set still");
    ensure!(fs::read_to_string(town.notes.source.join("only-paris"))? == "stays", "it is overwritten");
    paris.cli(["unmonitor", GROUP])?;
    ensure!(!paris.cli(["status", "--local"])?.contains("berne"), "it is told for ever");
    Ok(())
}
