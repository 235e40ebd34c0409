//! Checks beside the heartbeat: while the service of a source fails them, its stand-in asks it to hand over.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use stead_model::plan::{CheckPlan, GroupPlan, Takeover};
use stead_model::{GroupName, plan};
use stead_resource::command::Command;
use tracing::warn;

use super::Node;
use crate::failover::{Order, Reply};
use crate::job::{self, JobDone};

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);
const FAILURES: u32 = 3;
/// How long a request that came of a check may take to be begun.
const EXPIRES: Duration = Duration::from_secs(10);
/// What of an answer is read.
const HEAD_BYTES: usize = 64;

/// How the checks of this node's groups went.
#[derive(Default)]
pub(super) struct Checks(BTreeMap<(GroupName, usize), Checked>);

struct Checked {
    next: Instant,
    running: bool,
    failed: u32,
    why: Option<String>,
}

impl Checks {
    /// Why a group's service fails, where it does so for long enough.
    pub(super) fn failing(&self, group: &GroupPlan) -> Option<&str> {
        let failing = |(at, check): (usize, &CheckPlan)| {
            let checked = self.0.get(&(group.name.clone(), at))?;
            checked.why.as_deref().filter(|_| checked.failed >= check.failures.unwrap_or(FAILURES))
        };
        group.checks.iter().enumerate().find_map(failing)
    }

    fn forget(&mut self, group: &GroupName) {
        self.0.retain(|(known, _), _| known != group);
    }
}

impl Node {
    /// Begins the checks that are due. Only who stands by checks, and only while the other node is there.
    pub(super) fn check_services(&mut self) {
        for group in self.own_groups().into_iter().filter(|group| !group.checks.is_empty()) {
            let monitor = self.monitor_of(&group.name);
            let stands_by = monitor.is_some_and(|monitor| monitor.doing == "standby" && monitor.state == "online");
            if !stands_by {
                self.groups.checks.forget(&group.name);
                continue;
            }
            for (at, check) in group.checks.iter().enumerate() {
                self.check_service(&group.name, at, check);
            }
        }
    }

    fn check_service(&mut self, group: &GroupName, at: usize, check: &CheckPlan) {
        let now = Instant::now();
        let key = (group.clone(), at);
        let fresh = || Checked { next: now, running: false, failed: 0, why: None };
        let checked = self.groups.checks.0.entry(key).or_insert_with(fresh);
        if checked.running || now < checked.next {
            return;
        }
        let span = |span: Option<plan::Span>, usual| span.map_or(usual, |span| span.0);
        (checked.running, checked.next) = (true, now + span(check.interval, INTERVAL));
        let (group, check, timeout) = (group.clone(), check.clone(), span(check.timeout, TIMEOUT));
        job::spawn(&self.events, move || Some(JobDone::Checked { group, at, failed: run(&check, timeout).err() }));
    }

    /// A check ended.
    pub(in super::super) fn checked(&mut self, group: &GroupName, at: usize, failed: Option<String>) {
        let Some(checked) = self.groups.checks.0.get_mut(&(group.clone(), at)) else { return };
        checked.running = false;
        checked.failed = if failed.is_some() { checked.failed.saturating_add(1) } else { 0 };
        checked.why = failed;
        let Some(plan) = self.plan.group(group).cloned() else { return };
        let limit = plan.checks.get(at).and_then(|check| check.failures).unwrap_or(FAILURES);
        let just = self.groups.checks.0.get(&(group.clone(), at)).is_some_and(|checked| checked.failed == limit);
        if let Some(why) = self.groups.checks.failing(&plan).filter(|_| just) {
            warn!("group {group}: the service fails its check: {why}");
            if plan.takeover != Takeover::Approve {
                self.ask_for(group, stead_failover::machine::Want::Switchover);
            }
        }
    }

    /// Asks for a move that no person asked for.
    pub(super) fn ask_for(&mut self, group: &GroupName, want: stead_failover::machine::Want) {
        let name = group.clone();
        let answer = move |reply| {
            if let Reply::Failed(failure) = reply {
                warn!("group {name}: {failure}");
            }
        };
        self.groups.failover.give(Order::Request {
            group: group.clone(),
            want,
            expires: EXPIRES,
            answer: Box::new(answer),
        });
    }
}

/// Runs a check; what speaks against the service.
fn run(check: &CheckPlan, timeout: Duration) -> Result<(), String> {
    if let Some(address) = check.tcp {
        return connect(address, timeout).map(drop);
    }
    match &check.http {
        Some(url) => http(url, timeout),
        None => {
            let ran = Command::new(&check.command).run(timeout);
            if ran.end.is_success() { Ok(()) } else { Err(format!("{} {}", check.command.join(" "), ran.end)) }
        }
    }
}

fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, String> {
    TcpStream::connect_timeout(&address, timeout).map_err(|e| format!("{address} takes no connection: {e}"))
}

/// Asks for a page; any code from 200 to 399 is well.
fn http(url: &str, timeout: Duration) -> Result<(), String> {
    let (host, path) = parts(url).ok_or_else(|| format!("{url} is not like http://ADDRESS:PORT/PATH"))?;
    let address: SocketAddr = host.parse().map_err(|_| format!("{host} is not like ADDRESS:PORT"))?;
    let mut stream = connect(address, timeout)?;
    let failed = |e: std::io::Error| format!("{url} does not answer: {e}");
    stream.set_read_timeout(Some(timeout)).and_then(|()| stream.set_write_timeout(Some(timeout))).map_err(failed)?;
    let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).map_err(failed)?;
    let mut head = Vec::new();
    stream.take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(failed)?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let code = head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    match code {
        Some(200..=399) => Ok(()),
        _ => Err(format!("{url} answers {:?}", head.lines().next().unwrap_or_default())),
    }
}

fn parts(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    Some((host, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten().take(2) {
                let mut question = [0; 256];
                let _ = stream.read(&mut question);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    }

    fn check(text: &str) -> CheckPlan {
        let http = Some(text.to_string());
        CheckPlan { http, ..CheckPlan::default() }
    }

    #[test]
    fn pages_are_judged_by_their_code() {
        let good = server("HTTP/1.1 204 No Content\r\n\r\n");
        let bad = server("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        let asked = |address: SocketAddr| run(&check(&format!("http://{address}/health")), TIMEOUT);
        assert_eq!(asked(good), Ok(()));
        assert!(asked(bad).unwrap_err().contains("503"));
        assert!(run(&check("https://x/"), TIMEOUT).is_err());
    }

    #[test]
    fn commands_and_connections_say_why_they_fail() {
        let command = |argv: &[&str]| CheckPlan {
            command: argv.iter().map(|word| word.to_string()).collect(),
            ..CheckPlan::default()
        };
        assert_eq!(run(&command(&["/bin/true"]), TIMEOUT), Ok(()));
        assert!(run(&command(&["/bin/sh", "-c", "exit 3"]), TIMEOUT).unwrap_err().contains("code 3"));
        assert!(run(&command(&["/bin/sleep", "9"]), Duration::from_millis(100)).is_err());
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let tcp = CheckPlan { tcp: Some(closed), ..CheckPlan::default() };
        assert!(run(&tcp, TIMEOUT).unwrap_err().contains("takes no connection"));
    }
}
