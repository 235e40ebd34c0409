//! Alerts leave the machine: by SNMP, mail and web hook, once each, also where receivers were away, and never too many.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use stead_tests::command::until;
use stead_tests::host::Hosts;
use stead_tests::receivers::Receivers;
use stead_tests::relay::{Flow, Relay};
use stead_tests::site::Site;
use stead_tests::tree;

const ID: &str = "paris/disconnected/notes/lyon";
const SOON: Duration = Duration::from_secs(60);

/// A pair behind a line that can be cut, and who is told by the source.
struct Told {
    receivers: Receivers,
    site: Site,
    line: Relay,
}

impl Told {
    fn new(sets: &[&str]) -> Told {
        let site = Site::on(Hosts::new().unwrap()).unwrap();
        let line = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
        for set in sets {
            let pairing = site.pairing(set).unwrap();
            tree::plain(&pairing.source, 2, 100, 1).unwrap();
            site.protect(&pairing, &["--route", &line.address()]).unwrap();
        }
        let receivers = Receivers::new(&site.hosts.paris).unwrap();
        Told { receivers, site, line }
    }

    /// Adds that to the plan.
    fn apply(&self, more: &str) -> Result<String> {
        let plan = self.site.paris.cli(["plan", "show"])?;
        let file = self.site.hosts.paris.dir().join("plan.toml");
        fs::write(&file, format!("{plan}{more}"))?;
        self.site.paris.cli(["plan".as_ref(), "apply".as_ref(), file.as_os_str()])
    }

    /// Cuts the line until it is an alert, and mends it until it is none.
    fn cut_and_mend(&self) {
        self.line.flow(Flow::Cut);
        self.alerts("disconnected");
        self.line.flow(Flow::Through);
        self.alerts("nothing is wrong");
    }

    fn alerts(&self, word: &str) {
        let is_said = || Ok(self.site.paris.cli(["alerts"])?.contains(word));
        until(word, SOON, is_said).unwrap_or_else(|e| panic!("{e:#}: {}", self.site.paris.log()));
    }

    /// Everyone knows of so many raises, and as many clears.
    fn know(&self, count: usize) {
        let of = |event: &str| {
            let alarms = self.receivers.alarms()?;
            Ok::<_, anyhow::Error>(alarms.iter().filter(|alarm| alarm["event"] == event).count())
        };
        let all_know = || {
            let notified =
                |name: &str| self.receivers.notifications().iter().filter(|line| line.contains(name)).count();
            let snmp = (notified("steadAlarmRaise"), notified("steadAlarmClear"));
            let text: String = self.receivers.mails()?.iter().map(|mail| mail["text"].to_string()).collect();
            let mail = (text.matches("critical: disconnected").count(), text.matches("over: disconnected").count());
            Ok([snmp, mail, (of("raise")?, of("clear")?)].iter().all(|told| *told == (count, count)))
        };
        until("everyone knows", SOON, all_know).unwrap_or_else(|e| panic!("{e:#}: {}", self.everything()));
    }

    fn everything(&self) -> String {
        let Told { receivers, site, .. } = self;
        let (mails, posts) = (receivers.mails(), receivers.posts());
        format!("{:#?}\n{mails:?}\n{posts:?}\n{}", receivers.notifications(), site.paris.log())
    }
}

#[test]
fn a_cut_line_is_told_to_everyone_and_so_is_its_end() {
    let mut told = Told::new(&["notes"]);
    told.receivers.start().unwrap();
    told.apply(&told.receivers.plan("")).unwrap();
    told.cut_and_mend();
    told.know(1);
    let ids: Vec<Value> = told.receivers.alarms().unwrap().iter().map(|alarm| alarm["id"].clone()).collect();
    assert_eq!(ids, [ID, ID], "raise and clear have one id");
    let by_snmp = format!("STEAD-MIB::steadAlarmId.0 = STRING: {ID}|");
    assert!(told.receivers.notifications().iter().all(|line| line.contains(&by_snmp)), "{}", told.everything());
    let mails = told.receivers.mails().unwrap();
    assert!(mails.iter().all(|mail| mail["text"].as_str().unwrap().contains(ID)), "{mails:?}");
    assert_eq!(mails[0]["to"][0], "admins@example.org");
}

#[test]
fn what_happens_while_receivers_are_away_comes_later_and_once() {
    let mut told = Told::new(&["notes"]);
    told.apply(&told.receivers.plan("")).unwrap();
    told.cut_and_mend();
    told.site.paris.kill();
    told.site.paris.launch().unwrap();
    told.receivers.start().unwrap();
    told.know(1);
    std::thread::sleep(Duration::from_secs(3));
    told.know(1);
}

#[test]
fn a_storm_is_limited_and_its_size_told() {
    let sets: Vec<String> = (0..6).map(|n| format!("set{n}")).collect();
    let names: Vec<&str> = sets.iter().map(String::as_str).collect();
    let mut told = Told::new(&names);
    told.receivers.start().unwrap();
    told.apply(&told.receivers.plan("per-minute = 2\n")).unwrap();
    told.line.flow(Flow::Cut);
    let all_wrong = || Ok(told.site.paris.cli(["alerts"])?.lines().count() == sets.len());
    until("all are alerts", SOON, all_wrong).unwrap();
    until("two notifications", SOON, || Ok(told.receivers.notifications().len() == 2)).unwrap();
    told.line.flow(Flow::Through);
    told.alerts("nothing is wrong");
    let held_back = |line: &String| -> u64 {
        let number = line.split("steadHeldBack.0 = Gauge32: ").nth(1).unwrap_or_default();
        number.trim_end_matches('|').parse().unwrap_or_default()
    };
    let sum = || told.receivers.notifications().iter().map(held_back).sum::<u64>() as usize;
    let is_all_told = || Ok(told.receivers.notifications().len() + sum() == 2 * sets.len());
    until("the manager knows how much it missed", 3 * SOON, is_all_told)
        .unwrap_or_else(|e| panic!("{e:#}: {}", told.everything()));
    let notifications = told.receivers.notifications();
    let count = |name: &str| notifications.iter().filter(|line| line.contains(name)).count();
    assert_eq!((count("steadAlarmRaise"), count("steadAlarmClear")), (2, 2), "{}", told.everything());
    assert!(told.receivers.posts().unwrap().len() <= 4, "gathered: {}", told.everything());
}

#[test]
fn a_test_says_who_is_told_and_who_is_not() {
    let mut told = Told::new(&[]);
    let test = |args: &[&str]| {
        let output = told.site.paris.output([&["alert", "test"], args].concat()).unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(test(&[]).0, 1, "there is nobody");
    told.apply(&told.receivers.plan("")).unwrap();
    let (code, said) = test(&[]);
    assert_eq!((code, said.matches("not told: ").count()), (1, 3), "{said}");
    told.receivers.start().unwrap();
    let test = |args: &[&str]| {
        let output = told.site.paris.output([&["alert", "test"], args].concat()).unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = test(&["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let names: Vec<_> = said["receivers"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!((code, names), (0, vec!["noc".into(), "admins".into(), "chat".into()]), "{said}");
    assert_eq!(test(&["chat"]).0, 0);
    assert_eq!(test(&["nobody"]).0, 1);
    let kinds: Vec<_> = told.receivers.alarms().unwrap().iter().map(|alarm| alarm["kind"].clone()).collect();
    assert_eq!(kinds, vec!["test"; 4], "twice a raise and its clear");
    assert_eq!(told.receivers.notifications().len(), 2);
    told.alerts("nothing is wrong");
}

#[test]
fn a_plan_whose_receivers_cannot_work_is_refused() {
    let told = Told::new(&[]);
    let plan = told.receivers.plan("");
    let file = told.site.hosts.paris.dir().join("bad.toml");
    let refused = |text: &str, said: &str| {
        fs::write(&file, format!("version = 1\n{text}")).unwrap();
        for (args, code) in [(["plan", "check"], 3), (["plan", "apply"], 2)] {
            let args = args.map(std::ffi::OsString::from).into_iter().chain([file.clone().into_os_string()]);
            let output = told.site.paris.output(args).unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(code) && error.contains(said), "{code}, {said}: {output:?}");
        }
    };
    refused(&plan.replace("/privacy\"", "/missing\""), "line 12: the plan's alerts: snmp receiver noc: ");
    refused(&plan.replace("/privacy\"", "/missing\""), "write it there, for root alone");
    refused(&plan.replace("http://", "gopher://"), "is not like https://HOST[:PORT]/PATH");
    let secret = told.site.hosts.paris.dir().join("auth");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    told.apply(&plan).unwrap();
    fs::set_permissions(&secret, mode).unwrap();
    refused(&plan.replace("noc", "other"), "may be read by others; take that away: chmod 600");
    let found = told.site.paris.output(["plan", "check"]).unwrap();
    assert_eq!(found.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&found.stdout).contains("chmod 600"), "{found:?}");
}

#[test]
fn metrics_are_read_where_the_plan_says() {
    let told = Told::new(&["notes"]);
    let place = format!("{}:9127", told.site.hosts.paris.address());
    assert!(read(&told, &place).is_err(), "nobody asked for it");
    told.apply(&format!("\n[metrics]\nlisten = \"{place}\"\n")).unwrap();
    until("they can be read", SOON, || Ok(read(&told, &place).is_ok())).unwrap();
    let page = read(&told, &place).unwrap();
    let state = |state: &str, is: u8| {
        format!("stead_connection_state{{set=\"notes\",source=\"paris\",target=\"lyon\",state=\"{state}\"}} {is}\n")
    };
    assert!(page.contains(&state("replicating", 1)) && page.contains(&state("disconnected", 0)), "{page}");
    objections(&page);
    told.line.flow(Flow::Cut);
    let is_seen = || Ok(read(&told, &place)?.contains(&state("disconnected", 1)));
    until("the cut is seen", SOON, is_seen).unwrap();
    let plan = told.site.paris.cli(["plan", "show"]).unwrap().replace(&format!("listen = \"{place}\""), "");
    let file = told.site.hosts.paris.dir().join("plan.toml");
    fs::write(&file, plan).unwrap();
    told.site.paris.cli(["plan".as_ref(), "apply".as_ref(), file.as_os_str()]).unwrap();
    until("they cannot be read any more", SOON, || Ok(read(&told, &place).is_err())).unwrap();
}

fn read(told: &Told, place: &str) -> Result<String> {
    let ask = || -> Result<String> {
        let mut stream = TcpStream::connect(place)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: paris\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, page) = answer.split_once("\r\n\r\n").unwrap_or_default();
        anyhow::ensure!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        Ok(page.to_owned())
    };
    told.site.hosts.paris.inside(ask)?
}

/// Prometheus's own check finds nothing.
fn objections(page: &str) {
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tool.spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
