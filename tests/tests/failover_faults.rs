//! Standing in for a server where something fails: hosts, daemons, cables, the way of heartbeats, the witness.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use stead_tests::command::{run, text, until};
use stead_tests::host::Host;
use stead_tests::node::Node;
use stead_tests::run::signal;
use stead_tests::service::{Client, Commands, one_after_the_other};
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
/// Within which a takeover with the usual time-outs has to be over.
const SOON: Duration = Duration::from_secs(20);
const WITNESS: &[&str] = &["--witness", "oslo"];

fn town(options: &[&str]) -> Town {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(options).unwrap();
    town
}

fn epoch(town: &Town, name: &str) -> u64 {
    town.monitor_at(town.node(name)).unwrap()["epoch"].as_u64().unwrap()
}

/// Waits until paris answers that client no more, for longer than an answer may take; another one may by then.
fn is_answered_no_more(client: &Client) -> Result<()> {
    let silent = || {
        let answers = client.answers();
        let last = answers.iter().rfind(|answered| answered.holder == "paris");
        Ok(last.is_none_or(|last| last.at.elapsed() > Duration::from_secs(1)))
    };
    until("paris does not answer any more", SOON, silent)
}

#[test]
fn without_a_witness_a_person_decides() {
    let mut town = town(&[]);
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    town.does("lyon", "approval").unwrap();
    assert_eq!(epoch(&town, "lyon"), 1);
    assert!(!town.site.hosts.lyon.has_address(ADDRESS).unwrap());
    town.site.lyon.cli(["approve", GROUP]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon"]).unwrap();
}

#[test]
fn without_a_witness_it_goes_by_itself_where_the_plan_says_so() {
    let mut town = town(&["--unsafe-two-node"]);
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon"]).unwrap();
}

#[test]
fn a_source_that_returns_before_it_was_approved_serves_again() {
    let mut town = town(&[]);
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    town.does("lyon", "approval").unwrap();
    town.paris_returns().unwrap();
    town.is_served_by("paris").unwrap();
    town.goes_on(&client, "paris").unwrap();
    town.does("lyon", "standby").unwrap();
    town.settles_with("paris").unwrap();
    one_after_the_other(&[&client.stop()], &["paris"]).unwrap();
}

#[test]
fn a_daemon_that_is_back_within_the_time_out_is_not_missed() {
    let mut town = town(WITNESS);
    let client = town.client(100).unwrap();
    town.site.paris.kill();
    town.site.paris.launch().unwrap();
    town.goes_on(&client, "paris").unwrap();
    town.settles_with("paris").unwrap();
    assert_eq!(epoch(&town, "lyon"), 1);
    one_after_the_other(&[&client.stop()], &["paris"]).unwrap();
}

#[test]
fn a_server_whose_daemon_is_gone_is_quiet_before_another_serves() {
    let mut town = town(WITNESS);
    let (client, own) = (town.client(100).unwrap(), town.client_on(&town.site.hosts.paris, 100).unwrap());
    town.site.paris.kill();
    town.answers(&client, "lyon", SOON).unwrap();
    is_answered_no_more(&own).unwrap();
    assert!(!town.site.hosts.paris.has_address(ADDRESS).unwrap());
    town.site.paris.launch().unwrap();
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    let own: Vec<_> = own.stop().into_iter().filter(|answered| answered.holder == "paris").collect();
    one_after_the_other(&[&client.stop(), &own], &["paris", "lyon"]).unwrap();
}

#[test]
fn a_server_whose_daemon_is_stopped_is_quiet_before_another_serves() {
    let town = town(WITNESS);
    let client = town.client(100).unwrap();
    signal(town.site.paris.pid(), Signal::STOP);
    town.answers(&client, "lyon", SOON).unwrap();
    assert!(!town.site.hosts.paris.has_address(ADDRESS).unwrap());
    signal(town.site.paris.pid(), Signal::CONT);
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    one_after_the_other(&[&client.stop()], &["paris", "lyon"]).unwrap();
}

/// As a virtual machine is, or a laptop.
#[test]
fn a_host_that_stood_still_gives_way() {
    let town = town(WITNESS);
    let client = town.client(100).unwrap();
    let paris = &town.site.hosts.paris;
    paris.plugged(false).unwrap();
    paris.signal(Signal::STOP);
    town.answers(&client, "lyon", SOON).unwrap();
    paris.signal(Signal::CONT);
    paris.plugged(true).unwrap();
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    town.goes_on(&client, "lyon").unwrap();
}

#[test]
fn one_of_two_paths_is_enough() {
    let paths = ["--path", "10.77.0.1=10.77.0.2", "--path", "10.78.0.1=10.78.0.2"];
    let town = town(&[WITNESS, &paths].concat());
    let client = town.client(100).unwrap();
    let shown = |path: &str| {
        let seen = || Ok(town.monitor_at(&town.site.lyon)?["paths"][1] == path);
        until(&format!("lyon shows {path}"), Duration::from_secs(30), seen)
    };
    town.site.hosts.paris.card("eth1", false).unwrap();
    shown("10.78.0.1=10.78.0.2 down").unwrap();
    let is_told = || Ok(town.site.lyon.cli(["alerts"])?.contains("path-down"));
    until("lyon tells that the path is down", Duration::from_secs(30), is_told).unwrap();
    town.goes_on(&client, "paris").unwrap();
    assert_eq!(town.monitor_at(&town.site.lyon).unwrap()["state"], "online");
    town.site.hosts.paris.card("eth1", true).unwrap();
    shown("10.78.0.1=10.78.0.2").unwrap();
    town.settles_with("paris").unwrap();
    assert_eq!(epoch(&town, "lyon"), 1);
}

#[test]
fn a_target_that_hears_nothing_does_not_take_over_what_the_witness_hears() {
    let town = town(WITNESS);
    let client = town.client(100).unwrap();
    let (paris, lyon) = (&town.site.hosts.paris, &town.site.hosts.lyon);
    paris.loses_heartbeats_to(lyon, true).unwrap();
    town.tells("lyon", "no takeover: the witness hears the active side").unwrap();
    town.goes_on(&client, "paris").unwrap();
    paris.loses_heartbeats_to(lyon, false).unwrap();
    town.settles_with("paris").unwrap();
    assert_eq!(epoch(&town, "lyon"), 1);
}

#[test]
fn a_server_that_hears_the_witness_alone_goes_on() {
    let town = town(WITNESS);
    let client = town.client(100).unwrap();
    let (paris, lyon) = (&town.site.hosts.paris, &town.site.hosts.lyon);
    lyon.loses_heartbeats_to(paris, true).unwrap();
    town.goes_on(&client, "paris").unwrap();
    lyon.loses_heartbeats_to(paris, false).unwrap();
    town.settles_with("paris").unwrap();
    assert_eq!(epoch(&town, "lyon"), 1);
}

/// It hears everybody, and nobody hears it: it cannot know that they do not, and its lease ends.
#[test]
fn a_server_that_nobody_hears_stops() {
    let town = town(WITNESS);
    let (client, own) = (town.client(100).unwrap(), town.client_on(&town.site.hosts.paris, 100).unwrap());
    let (paris, others) = (&town.site.hosts.paris, [&town.site.hosts.lyon, town.oslo.host()]);
    others.iter().for_each(|other| paris.loses_heartbeats_to(other, true).unwrap());
    town.answers(&client, "lyon", SOON).unwrap();
    town.does("paris", "restore-required").unwrap();
    others.iter().for_each(|other| paris.loses_heartbeats_to(other, false).unwrap());
    town.settles_with("lyon").unwrap();
    let (client, own) = (client.stop(), own.stop());
    one_after_the_other(&[&client, &own], &["paris", "lyon"]).unwrap();
}

#[test]
fn a_target_that_is_cut_off_takes_nothing_over() {
    let town = town(&[WITNESS, &["--reference", "10.77.0.4"]].concat());
    let (client, lyon) = (town.client(100).unwrap(), &town.site.hosts.lyon);
    lyon.plugged(false).unwrap();
    town.tells("lyon", "no takeover: no reference address").unwrap();
    town.goes_on(&client, "paris").unwrap();
    assert!(!lyon.has_address(ADDRESS).unwrap());
    lyon.plugged(true).unwrap();
    town.settles_with("paris").unwrap();
    assert_eq!(epoch(&town, "lyon"), 1);
}

#[test]
fn a_target_that_is_cut_off_takes_nothing_over_without_the_witness_either() {
    let town = town(WITNESS);
    let (client, lyon) = (town.client(100).unwrap(), &town.site.hosts.lyon);
    lyon.card("eth0", false).unwrap();
    lyon.card("eth1", false).unwrap();
    town.tells("lyon", "no takeover: not everything agreed in time").unwrap();
    town.goes_on(&client, "paris").unwrap();
    lyon.card("eth0", true).unwrap();
    lyon.card("eth1", true).unwrap();
    town.settles_with("paris").unwrap();
    assert_eq!(epoch(&town, "lyon"), 1);
}

#[test]
fn a_server_goes_on_without_its_witness_and_stops_without_both() {
    let mut town = town(WITNESS);
    let (client, own) = (town.client(100).unwrap(), town.client_on(&town.site.hosts.paris, 100).unwrap());
    town.oslo.kill();
    town.goes_on(&client, "paris").unwrap();
    town.site.lyon.kill();
    town.does("paris", "down").unwrap();
    is_answered_no_more(&client).unwrap();
    is_answered_no_more(&own).unwrap();
    assert!(!town.site.hosts.paris.has_address(ADDRESS).unwrap());
    let remark = town.monitor_at(&town.site.paris).unwrap()["remark"].to_string();
    assert!(
        remark.contains("waits for a lease from lyon or oslo; where oslo is gone and lyon surely dead: "),
        "{remark}"
    );
    town.oslo.launch().unwrap();
    town.is_served_by("paris").unwrap();
    town.goes_on(&client, "paris").unwrap();
    town.site.lyon.launch().unwrap();
    town.settles_with("paris").unwrap();
    assert_eq!(epoch(&town, "lyon"), 1);
}

/// As at the boot of a machine: the daemon is up, and then its network.
fn starts_before_its_network(node: &mut Node) {
    node.kill_host();
    let host = node.host().clone();
    let ip = |what: &str| _ = run(host.command("ip").arg("address").args(what.split(' '))).unwrap();
    ["eth0", "eth1"].iter().for_each(|card| ip(&format!("flush dev {card}")));
    node.launch().unwrap();
    ip(&format!("add {}/24 dev eth0", host.address()));
}

#[test]
fn machines_that_start_before_their_network_hear_each_other_once_it_is_up() {
    let mut town = town(WITNESS);
    town.site.paris.wait(GROUP).unwrap();
    for node in [&mut town.oslo, &mut town.site.lyon, &mut town.site.paris] {
        starts_before_its_network(node);
    }
    town.is_served_by("paris").unwrap();
    let client = town.client(100).unwrap();
    starts_before_its_network(&mut town.oslo);
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
}

#[test]
fn a_server_that_comes_back_alone_serves_when_a_person_insists() {
    let mut town = town(WITNESS);
    let client = town.client(100).unwrap();
    town.paris_dies().unwrap();
    town.site.lyon.kill_host();
    town.oslo.kill_host();
    town.paris_returns().unwrap();
    town.does("paris", "down").unwrap();
    let before = client.answers().len();
    let output = town.site.paris.output(["failover", GROUP, "--force", "--yes"]).unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success() && told.contains("paris would serve again, with all that it has"), "{told}");
    until("paris answers", SOON, || Ok(client.answers().len() > before)).unwrap();
    town.site.lyon.launch().unwrap();
    town.oslo.launch().unwrap();
    town.settles_with("paris").unwrap();
    town.goes_on(&client, "paris").unwrap();
    one_after_the_other(&[&client.stop()], &["paris"]).unwrap();
}

#[test]
fn a_server_without_its_witness_waits_for_its_target() {
    let mut town = town(WITNESS);
    let client = town.client(100).unwrap();
    town.oslo.kill();
    town.site.lyon.kill();
    town.does("paris", "down").unwrap();
    town.site.lyon.launch().unwrap();
    town.is_served_by("paris").unwrap();
    town.goes_on(&client, "paris").unwrap();
    town.oslo.launch().unwrap();
    town.settles_with("paris").unwrap();
}

#[test]
fn of_two_halves_only_that_with_the_witness_serves() {
    let town = town(WITNESS);
    let (client, own) = (town.client(100).unwrap(), town.client_on(&town.site.hosts.paris, 100).unwrap());
    town.site.hosts.paris.plugged(false).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.does("paris", "down").unwrap();
    is_answered_no_more(&own).unwrap();
    assert!(!town.site.hosts.paris.has_address(ADDRESS).unwrap());
    town.site.hosts.paris.plugged(true).unwrap();
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    town.goes_on(&client, "lyon").unwrap();
    let (client, own) = (client.stop(), own.stop());
    one_after_the_other(&[&client, &own], &["paris", "lyon"]).unwrap();
}

/// Both serve where the line is cut, as the manual says, until they hear each other.
#[test]
fn of_two_halves_without_a_witness_the_newer_serves_in_the_end() {
    let town = town(&["--unsafe-two-node"]);
    let (client, own) = (town.client(100).unwrap(), town.client_on(&town.site.hosts.paris, 100).unwrap());
    town.site.hosts.paris.plugged(false).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.goes_on(&own, "paris").unwrap();
    town.site.hosts.paris.plugged(true).unwrap();
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    town.goes_on(&client, "lyon").unwrap();
    town.answers(&own, "lyon", SOON).unwrap();
}

#[test]
fn a_person_insists_where_source_and_witness_are_gone() {
    let town = town(WITNESS);
    let (client, own) = (town.client(100).unwrap(), town.client_on(&town.site.hosts.paris, 100).unwrap());
    let gone = [&town.site.hosts.paris, town.oslo.host()];
    gone.iter().for_each(|host| host.plugged(false).unwrap());
    let waits = || Ok(town.monitor_at(&town.site.lyon)?["remark"].to_string().contains("the agreement of oslo"));
    until("lyon says for whom it waits", SOON, waits).unwrap();
    town.does("paris", "down").unwrap();
    town.tells("lyon", "no takeover: not everything agreed in time").unwrap();
    is_answered_no_more(&own).unwrap();
    let lyon = &town.site.lyon;
    assert_ne!(lyon.output(["failover", GROUP]).unwrap().status.code(), Some(0), "nobody agrees");
    lyon.cli(["failover", GROUP, "--force", "--yes"]).unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.goes_on(&client, "lyon").unwrap();
    gone.iter().for_each(|host| host.plugged(true).unwrap());
    town.does("paris", "restore-required").unwrap();
    town.settles_with("lyon").unwrap();
    town.goes_on(&client, "lyon").unwrap();
    let (client, own) = (client.stop(), own.stop());
    one_after_the_other(&[&client, &own], &["paris", "lyon"]).unwrap();
}

/// A second server, whose replica is at lyon, too.
struct Second {
    node: Node,
    address: &'static str,
    _commands: Commands,
}

impl Second {
    /// On the witness's host; the witness of both is on the client's.
    fn new(town: &Town, witness: &Node) -> Result<Second> {
        let (node, lyon, address) = (Node::start_as(town.oslo.host(), "rome", 7131)?, &town.site.lyon, "10.77.0.101");
        node.join(lyon)?;
        witness.join(&node)?;
        let (source, replica) = (node.host().disk().join("mail"), town.site.hosts.lyon.disk().join("mail"));
        std::fs::create_dir(&source)?;
        node.protect("mail", lyon, &[(&source, &replica)], &[])?;
        let dir = town.site.hosts.run().dir();
        let commands = Commands::write(dir, Path::new(LOAD), format!("{address}:7000").parse()?, "mail")?;
        let cidr = format!("{address}/24");
        let mut args: Vec<_> =
            ["monitor", "mail", "--set", "mail", "--witness", "berne", "--address", &cidr].map(String::from).to_vec();
        args.extend(commands.options());
        lyon.cli(args)?;
        Ok(Second { node, address, _commands: commands })
    }

    fn client(&self, on: &Host) -> Result<Client> {
        let client = Client::start(on, format!("{}:7000", self.address).parse()?, 100)?;
        until("the second service answers", SOON, || Ok(client.last().is_some()))?;
        Ok(client)
    }
}

#[test]
fn one_target_stands_in_for_two_servers_that_die_at_once() {
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    let witness = Node::start(&town.berne).unwrap();
    witness.join(&town.site.paris).unwrap();
    witness.join(&town.site.lyon).unwrap();
    town.monitor(&["--witness", "berne"]).unwrap();
    let second = Second::new(&town, &witness).unwrap();
    let (notes, mail) = (town.client(100).unwrap(), second.client(&town.berne).unwrap());
    town.oslo.kill_host();
    town.oslo.host().plugged(false).unwrap();
    town.paris_dies().unwrap();
    town.answers(&notes, "lyon", SOON).unwrap();
    town.answers(&mail, "lyon", SOON).unwrap();
    one_after_the_other(&[&notes.stop()], &["paris", "lyon"]).unwrap();
    one_after_the_other(&[&mail.stop()], &["oslo", "lyon"]).unwrap();
    drop(second.node);
}
