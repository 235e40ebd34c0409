//! Records at real servers: BIND 9 with a primary and a secondary.

mod bind;
mod common;

use std::env;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bind::{Bind, KEY, LIMIT};
use common::{Host, wait_for};
use stead_resource::check::Check;
use stead_resource::dns::{Kind, Question, Record};
use stead_resource::{Call, Done, Failure, Stop};

const PRIMARY: &str = "127.0.0.11";
const SECONDARY: &str = "127.0.0.12";
/// Tell a process of a test where its key is, and whom it asks.
const KEY_FILE: &str = "STEAD_TEST_KEY_FILE";
const SERVERS: &str = "STEAD_TEST_SERVERS";

fn set(host: &Host, record: &Record, new: &str, old: &str) -> Result<Done, Failure> {
    host.inside(|| record.set_until(new, &[old.to_string()], LIMIT, &Stop::never()).value)
}

fn why(host: &Host, record: &Record) -> String {
    set(host, record, "10.0.1.1", "10.0.0.1").unwrap_err().to_string()
}

#[test]
fn records_of_each_kind_are_changed_once_and_reach_the_secondary() {
    let host = Host::new("dns");
    let primary = Bind::primary(&host, PRIMARY, SECONDARY);
    let secondary = Bind::secondary(&host, SECONDARY, PRIMARY);
    for (name, kind, old, new) in [
        ("www", Kind::A, "10.0.0.1", "10.0.1.1"),
        ("www", Kind::Aaaa, "fd00::1", "fd00::2"),
        ("mail", Kind::Cname, "paris.example.test", "lyon.example.test."),
        ("100.0", Kind::Ptr, "paris.example.test", "lyon.example.test."),
    ] {
        let record = primary.record(name, kind, KEY);
        wait_for("the secondary", || secondary.dig(&record.name, &kind.to_string()).contains(old));
        assert_eq!(set(&host, &record, new, old), Ok(Done::Changed));
        assert_eq!(set(&host, &record, new, old), Ok(Done::Already));
        wait_for("the secondary", || secondary.dig(&record.name, &kind.to_string()) == new);
        let seen = host.inside(|| record.look_until(LIMIT, &Stop::never()).value).unwrap();
        assert_eq!((seen.values, seen.ttl_s, seen.clock_ahead_s.abs() < 2), (vec![new.to_string()], Some(30), true));
    }
}

#[test]
fn a_name_server_has_to_answer_what_is_expected() {
    let host = Host::new("dns");
    let primary = Bind::primary(&host, PRIMARY, SECONDARY);
    let asked = |name: &str, kind: &str, expect: Option<&str>| {
        let server = format!("{PRIMARY}:53").parse().unwrap();
        let question = Question { server, name: name.into(), kind: kind.into(), expect: expect.map(Into::into) };
        host.inside(|| Check::Dns(question.clone()).run(LIMIT).value)
    };
    wait_for("the primary", || primary.dig("www.example.test", "A") == "10.0.0.1");
    assert_eq!(asked("www.example.test", "A", Some("10.0.0.1")), Ok(()));
    assert_eq!(asked("www.example.test", "A", None), Ok(()));
    assert_eq!(asked("example.test", "SOA", None), Ok(()));
    let why = |name, kind, expect| asked(name, kind, expect).unwrap_err().to_string();
    assert!(why("www.example.test", "A", Some("10.9.9.9")).contains("answers www.example.test A with [\"10.0.0.1\"]"));
    assert!(why("nobody.example.test", "A", None).contains("Non-Existent Domain"));
    assert!(why("www.example.test", "TXT", None).contains("with []"));
}

#[test]
fn what_somebody_else_put_there_stays_and_is_told() {
    let host = Host::new("dns");
    let primary = Bind::primary(&host, PRIMARY, SECONDARY);
    let (www, two) = (primary.record("www", Kind::A, KEY), primary.record("two", Kind::A, KEY));
    primary.change("update delete www.example.test A\nupdate add www.example.test 60 A 10.0.7.7");
    let told = why(&host, &www);
    assert!(told.contains("www.example.test A is 10.0.7.7, and not 10.0.0.1 (NXRRSET)"), "{told}");
    assert_eq!(primary.dig("www.example.test", "A"), "10.0.7.7");
    let told = why(&host, &two);
    assert!(told.contains("10.0.0.1, 10.0.0.9") || told.contains("10.0.0.9, 10.0.0.1"), "{told}");
    let none = why(&host, &primary.record("none", Kind::A, KEY));
    assert!(none.contains("none.example.test A is not there"), "{none}");
}

#[test]
fn what_a_server_says_against_a_change_is_told_with_what_to_do() {
    let host = Host::new("dns");
    let primary = Bind::primary(&host, PRIMARY, SECONDARY);
    let closed = Bind::start(&host, "127.0.0.15", "type primary;");
    let a = |bind: &Bind, key: &str| why(&host, &bind.record("www", Kind::A, key));
    let said = a(&primary, &KEY.replace("stead", "other"));
    assert!(said.contains("does not know key other. (BADKEY)"), "{said}");
    let said = a(&primary, &KEY.replace("c2Vj", "c2Vk"));
    assert!(said.contains("(BADSIG)"), "{said}");
    let said = a(&closed, KEY);
    assert!(said.contains("127.0.0.15:53 refuses (REFUSED)"), "{said}");
    let tried = host.inside(|| closed.record("www", Kind::A, KEY).try_until(LIMIT, &Stop::never()).value);
    assert!(tried.unwrap_err().to_string().contains("(REFUSED)"), "a trial finds it too");
    let elsewhere =
        Record { zone: "other.test".into(), name: "www.other.test".into(), ..primary.record("www", Kind::A, KEY) };
    let said = why(&host, &elsewhere);
    assert!(said.contains("REFUSED") || said.contains("NOTAUTH"), "{said}");
    assert_eq!(primary.dig("www.example.test", "A"), "10.0.0.1");
}

#[test]
fn a_trial_changes_nothing() {
    let host = Host::new("dns");
    let primary = Bind::primary(&host, PRIMARY, SECONDARY);
    let serial = primary.dig("example.test", "SOA");
    let record = primary.record("www", Kind::A, KEY);
    let seen = host.inside(|| record.try_until(LIMIT, &Stop::never()).value).unwrap();
    assert_eq!((seen.values, seen.ttl_s), (vec!["10.0.0.1".to_string()], Some(300)));
    assert_eq!(primary.dig("example.test", "SOA"), serial);
}

#[test]
fn a_secondary_is_not_taken_for_the_primary_and_the_next_server_is_asked() {
    let host = Host::new("dns");
    let primary = Bind::primary(&host, PRIMARY, SECONDARY);
    let secondary = Bind::secondary(&host, SECONDARY, PRIMARY);
    wait_for("the secondary", || secondary.dig("www.example.test", "A") == "10.0.0.1");
    let mut record = secondary.record("www", Kind::A, KEY);
    let said = why(&host, &record);
    assert!(said.contains("127.0.0.12:53 refuses (REFUSED): it is not the primary"), "{said}");
    record.servers.extend(primary.record("www", Kind::A, KEY).servers);
    record.servers.insert(0, "127.0.0.99:53".parse().unwrap());
    assert_eq!(set(&host, &record, "10.0.1.1", "10.0.0.1"), Ok(Done::Changed));
}

#[test]
fn a_server_that_is_silent_is_given_up_in_time_or_when_called_off() {
    let host = Host::new("dns");
    let listener = host.inside(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), KEY).unwrap();
    let record = Record {
        zone: "example.test".into(),
        name: "www.example.test".into(),
        kind: Kind::A,
        ttl_s: 30,
        servers: vec![listener.local_addr().unwrap()],
        key_file: key.path().into(),
    };
    let look = |limit, stop: Stop| host.inside(|| record.look_until(limit, &stop));
    let looked = look(Duration::from_millis(300), Stop::never());
    assert!(looked.value.unwrap_err().to_string().contains("does not answer within 0.3 s"));
    let call = Call::new().unwrap();
    let stop = call.stop();
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(100));
            call.off();
        });
        assert_eq!(look(LIMIT, stop).value, Err(Failure::Cancelled));
    });
    assert!(began.elapsed() < LIMIT / 2);
}

/// What comes of a change by a process of its own, which `sh` starts with these words before it.
fn apart(host: &Host, record: &Record, script: &str) -> String {
    let servers: Vec<_> = record.servers.iter().map(ToString::to_string).collect();
    let mut sh = Command::new("unshare");
    let script = format!("{script} exec \"$0\" --exact --ignored --nocapture by_a_process_of_its_own");
    sh.args(["--mount", "sh", "-c", &script]).arg(env::current_exe().unwrap());
    sh.env(KEY_FILE, &record.key_file).env(SERVERS, servers.join(" "));
    String::from_utf8(host.inside(|| sh.output().unwrap()).stdout).unwrap()
}

#[test]
#[ignore = "a part of other tests"]
fn by_a_process_of_its_own() {
    let (zone, name) = ("example.test".into(), "www.example.test".into());
    let key_file = env::var_os(KEY_FILE).unwrap().into();
    let servers = env::var(SERVERS).unwrap().split_whitespace().map(|server| server.parse().unwrap()).collect();
    let record = Record { zone, name, kind: Kind::A, ttl_s: 30, servers, key_file };
    println!("{:?}", record.set_until("10.0.1.1", &["10.0.0.1".into()], LIMIT, &Stop::never()).value);
}

#[test]
fn without_given_servers_the_primary_is_the_one_that_the_zone_names() {
    let host = Host::new("dns");
    let primary = Bind::primary(&host, PRIMARY, SECONDARY);
    let resolv = primary.dir.path().join("resolv.conf");
    fs::write(&resolv, format!("nameserver 127.0.0.99\nnameserver {PRIMARY}\n")).unwrap();
    let record = Record { servers: Vec::new(), ..primary.record("www", Kind::A, KEY) };
    let said = apart(&host, &record, &format!("mount --bind {} /etc/resolv.conf;", resolv.display()));
    assert!(said.contains("Ok(Changed)"), "{said}");
    assert_eq!(primary.dig("www.example.test", "A"), "10.0.1.1");
}

#[test]
fn a_clock_that_is_wrong_is_told_with_by_how_much() {
    let host = Host::new("dns");
    let primary = Bind::primary(&host, PRIMARY, SECONDARY);
    let record = primary.record("www", Kind::A, KEY);
    for (clock, expected) in
        [("-600", ["600 s ahead (BADTIME)", "601 s ahead"]), ("+900", ["900 s behind (BADTIME)", "899 s"])]
    {
        let library = "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1";
        let script = format!(
            "export FAKETIME={clock} DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD={library};"
        );
        let said = apart(&host, &record, &script);
        assert!(expected.iter().any(|expected| said.contains(expected)), "{said}");
    }
    assert_eq!(primary.dig("www.example.test", "A"), "10.0.0.1");
}
