//! Groups in the plan: made, changed and ended by it, checked by it, and what only the plan can say of them.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use stead_tests::command::{text, until};
use stead_tests::node::Node;
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
/// Seconds within which a takeover with the usual time-outs has to be over.
const SOON: Duration = Duration::from_secs(20);

fn town() -> Town {
    Town::new(Path::new(LOAD)).unwrap()
}

fn shown(node: &Node) -> String {
    node.cli(["plan", "show"]).unwrap()
}

fn apply(town: &Town, text: &str) -> Result<String> {
    let file = town.site.hosts.run().dir().join("plan.toml");
    fs::write(&file, text)?;
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")])
}

/// The plan as it is, with more said of its only group; `more` are lines of the group itself.
fn with(plan: &str, more: &str) -> String {
    plan.replace("takeover = \"automatic\"", &format!("takeover = \"automatic\"\n{more}"))
}

#[test]
fn a_plan_makes_changes_and_ends_a_group() {
    let town = town();
    let before = shown(&town.site.lyon);
    town.monitor(&["--witness", "oslo"]).unwrap();
    let watched = shown(&town.site.lyon);
    town.site.lyon.cli(["unmonitor", GROUP]).unwrap();

    apply(&town, &watched).unwrap();
    town.is_served_by("paris").unwrap();
    assert_eq!(shown(&town.site.paris), watched, "both nodes have it");
    let told = apply(&town, &with(&watched, "heartbeat = \"400ms\"")).unwrap();
    assert_eq!(told, "group notes: heartbeat 500ms → 400ms\nthe plan is applied\n");
    assert!(shown(&town.site.paris).contains("heartbeat = \"400ms\""));

    // While lyon serves, the plan is shown and applied as it is at home.
    town.is_served_by("paris").unwrap();
    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    assert_eq!(shown(&town.site.lyon), with(&watched, "heartbeat = \"400ms\""));
    apply(&town, &with(&watched, "heartbeat = \"500ms\"")).unwrap();
    town.is_served_by("lyon").unwrap();
    let refused = town.site.lyon.output(["unmonitor", GROUP]).unwrap();
    assert_ne!(refused.status.code(), Some(0));
    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.settles_with("paris").unwrap();

    let without: String = watched.split("\n[[group]]").next().unwrap().to_owned() + "\n";
    apply(&town, &without).unwrap();
    assert!(!shown(&town.site.paris).contains("[[group]]") && !shown(&town.oslo).contains("[[group]]"));
    assert!(town.site.hosts.paris.has_address(ADDRESS).unwrap(), "what serves goes on");
    assert!(without.starts_with(before.split("\n[[connection.mapping]]").next().unwrap()));
}

#[test]
fn a_restored_source_takes_back_by_itself_where_the_plan_says_so() {
    let mut town = town();
    town.monitor(&["--witness", "oslo", "--switch-back", "10s"]).unwrap();
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    town.site.lyon.cli(["restore", GROUP, "--yes"]).unwrap();
    town.answers(&client, "paris", Duration::from_secs(40)).unwrap();
    town.settles_with("paris").unwrap();
}

#[test]
fn a_service_that_fails_its_check_is_moved_while_its_node_lives() {
    let town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let well = town.site.hosts.run().dir().join("well");
    fs::write(&well, "").unwrap();
    let check = format!(
        "\n[[group.check]]\ncommand = [\"/usr/bin/test\", \"-e\", \"{}\"]\ninterval = \"200ms\"\nfailures = 2\n",
        well.display()
    );
    apply(&town, &(shown(&town.site.lyon) + &check)).unwrap();
    town.is_served_by("paris").unwrap();
    let client = town.client(100).unwrap();
    town.goes_on(&client, "paris").unwrap();
    fs::remove_file(&well).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    let answers = client.stop();
    assert_eq!(stead_tests::service::lost(&answers, &town.notes.replica.join("notes.db")).unwrap(), 0);
}

#[test]
fn addresses_move_without_a_set_and_are_told_of() {
    let mut town = town();
    let address = format!("{ADDRESS}/24");
    town.site.lyon.cli(["monitor", GROUP, "--source", "paris", "--address", &address, "--unsafe-two-node"]).unwrap();
    town.is_served_by("paris").unwrap();
    assert!(town.site.hosts.paris.has_address(ADDRESS).unwrap());
    town.paris_dies().unwrap();
    town.is_served_by("lyon").unwrap();
    assert!(town.site.hosts.lyon.has_address(ADDRESS).unwrap());
    let told = || Ok(town.site.lyon.cli(["alerts"])?.contains("stands-in"));
    until("lyon tells that it stands in", SOON, told).unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "standby").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
    assert!(!town.site.hosts.lyon.has_address(ADDRESS).unwrap());
}

#[test]
fn what_stands_against_a_takeover_is_found_before_the_day() {
    let town = town();
    town.monitor(&["--post-failover", "/no/such/script"]).unwrap();
    for node in [&town.site.lyon, &town.site.paris] {
        let checked = node.output(["plan", "check"]).unwrap();
        let said = text(&checked.stdout);
        assert_eq!(checked.status.code(), Some(3), "{said}");
        for expected in [
            "there is no witness",
            "there is one heartbeat path",
            "group notes on paris: script /no/such/script is not there",
            "group notes on lyon: script /no/such/script is not there",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
}

#[test]
fn an_address_that_has_no_place_is_refused_before_anything_changes() {
    let town = town();
    let refused = |args: &[&str], expected: &str| {
        let output = town.site.lyon.output(args).unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{expected}: {said}");
    };
    let monitor = ["monitor", GROUP, "--set", GROUP, "--address"];
    let nowhere = "lyon could not take address 192.0.2.9/24: no interface has a network with 192.0.2.9/24 in it";
    refused(&[&monitor[..], &["192.0.2.9/24"]].concat(), nowhere);
    let none = "lyon could not take address 192.0.2.9/24: there is no interface eth7";
    refused(&[&monitor[..], &["192.0.2.9/24", "--interface", "eth7"]].concat(), none);
    // Only lyon is in that network.
    town.site.hosts.lyon.command("ip").args(["addr", "add", "192.0.2.2/24", "dev", "eth0"]).output().unwrap();
    refused(&[&monitor[..], &["192.0.2.9/24"]].concat(), "paris could not take address 192.0.2.9/24");
    assert!(!shown(&town.site.lyon).contains("[[group]]") && !shown(&town.site.paris).contains("[[group]]"));

    town.monitor(&["--witness", "oslo"]).unwrap();
    let before = shown(&town.site.lyon);
    let address = "\n[[group.address]]\naddress = \"192.0.2.9/24\"\n";
    let more = before.replacen("\n[[group.address]]", &format!("{address}\n[[group.address]]"), 1);
    let line = 1 + more.lines().position(|line| line == "address = \"192.0.2.9/24\"").unwrap();
    let why = format!("{:#}", apply(&town, &more).unwrap_err());
    assert!(why.contains(&format!("line {line}: group notes: paris could not take address 192.0.2.9/24")), "{why}");
    assert_eq!((shown(&town.site.lyon), shown(&town.site.paris)), (before.clone(), before.clone()));
    let on_eth0 = more.replacen("192.0.2.9/24\"", "192.0.2.9/24\"\ninterface = \"eth0\"", 1);
    apply(&town, &on_eth0).unwrap();
    let has = || town.site.hosts.paris.has_address("192.0.2.9");
    until("paris has it where it is told to", SOON, has).unwrap();
}

#[test]
fn sets_and_groups_of_a_file_begin_in_one_go() {
    let town = town();
    let [mail, replica] = [&town.site.hosts.lyon, &town.site.hosts.paris].map(|host| host.disk().join("mail"));
    fs::create_dir(&mail).unwrap();
    fs::write(mail.join("letter"), "dear").unwrap();
    let (path, map) = (mail.display().to_string(), format!("{}={}", mail.display(), replica.display()));
    town.site.lyon.cli(["protect", &path, "--on", "paris", "--set", "mail", "--map", &map]).unwrap();
    let with_mail = shown(&town.site.lyon);
    town.site.lyon.cli(["unprotect", "mail"]).unwrap();
    fs::remove_dir_all(&replica).unwrap();
    let group = format!(
        "\n[[group]]\nname = \"{GROUP}\"\nsource = \"paris\"\ntarget = \"lyon\"\ntakeover = \"unsafe-two-node\"\nsets = []\n\n\
         [[group.address]]\naddress = \"{ADDRESS}/24\"\n"
    );
    let told = apply(&town, &format!("{with_mail}{group}")).unwrap();
    let set = format!("set mail: new, {path} from lyon to paris\n");
    assert_eq!(told, format!("{set}group {GROUP}: new, lyon stands in for paris\nthe plan is applied\n"));
    assert_eq!(shown(&town.site.lyon), format!("{with_mail}{group}"));
    town.is_served_by("paris").unwrap();
    town.site.lyon.wait("mail").unwrap();
    assert_eq!(fs::read_to_string(replica.join("letter")).unwrap(), "dear");
}

#[test]
fn what_changed_since_the_last_move_and_what_is_written_elsewhere_is_found() {
    let town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let checked = |name: &str| {
        let node = town.node(name);
        text(&node.output(["plan", "check"]).unwrap().stdout)
    };
    let changed = "was changed since the group moved last";
    let outside = Path::new("/var/tmp").join(format!("stead-outside-{}", std::process::id()));
    let script = format!("exec 9>{}; cd {}; exec sleep 60", outside.display(), town.notes.source.display());
    let mut writer = town.site.hosts.paris.command("sh");
    // Where this test writes to is a file outside of every set too.
    let mut writer = writer.args(["-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let found = || Ok(checked("lyon").contains(&format!("outside of every set: {}", outside.display())));
    let looked = until("the file is found", SOON, found);
    let (_, _, _) = (writer.kill(), writer.wait(), fs::remove_file(&outside));
    looked.unwrap();
    let said = checked("lyon");
    assert!(!said.contains(changed) && !said.contains("is another one"), "{said}");

    town.site.lyon.cli(["switchover", GROUP, "--yes"]).unwrap();
    town.is_served_by("lyon").unwrap();
    let remembered = || Ok(!checked("paris").contains(changed));
    until("both remember what was moved", SOON, remembered).unwrap();
    let status = fs::read_to_string(&town.commands.status).unwrap();
    fs::write(&town.commands.status, format!("{status}# changed\n")).unwrap();
    let said = checked("paris");
    for name in ["paris", "lyon"] {
        let told = format!("group notes on {name}: program {} {changed}", town.commands.status.display());
        assert!(said.contains(&told), "{told}: {said}");
    }
}

#[test]
fn heartbeats_that_were_heard_are_judged_by_other_values() {
    let town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let what_if = |value: &str| town.site.lyon.cli(["explain", GROUP, "--what-if", value]).unwrap();
    let (host, silence) = (&town.site.hosts.paris, Duration::from_millis(1500));
    until("it was heard", SOON, || Ok(what_if("timeout=3s").contains("online"))).unwrap();
    host.plugged(false).unwrap();
    std::thread::sleep(silence);
    host.plugged(true).unwrap();
    let heard = || Ok(town.monitor_at(&town.site.lyon)?["state"] == "online");
    until("it is heard again", SOON, heard).unwrap();
    assert!(!what_if("timeout=5s").contains("failed"), "{}", what_if("timeout=5s"));
    let shorter = town.site.lyon.cli(["explain", GROUP, "--what-if", "timeout=600ms", "--what-if", "heartbeat=200ms"]);
    assert!(shorter.unwrap().contains("a takeover would have been considered"));
}
