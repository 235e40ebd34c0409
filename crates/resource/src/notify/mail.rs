//! One mail, handed to a mail server (RFC 5321).

use std::io::Write;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use stead_model::NodeName;
use stead_model::delivery::Message;
use stead_model::plan::{Encryption, MailPlan};
use stead_model::status::Timestamp;

use super::encode::{base64, base64_lines, date, subject};
use super::line::Line;
use super::secret;
use crate::Failure;

/// Longest line of an answer (RFC 5321, 4.5.3.1.5), and most of them.
const LINE_BYTES_MAX: usize = 512;
const LINES_MAX: usize = 100;

/// Hands it over; the server answers for it from then on.
pub(super) fn send(plan: &MailPlan, message: &Message, node: &NodeName, moment: Instant) -> Result<(), Failure> {
    let unusable = || Failure::Unusable(format!("{:?} is not like HOST:PORT", plan.server));
    let (host, port) = plan.host_and_port().ok_or_else(unusable)?;
    let mut server = Server::greeted(plan, host, port, node, moment)?;
    if let Some(user) = &plan.user {
        server.log_in(user, &secret(plan.password_file.as_deref())?)?;
    }
    server.ask(&format!("MAIL FROM:<{}>", plan.from), 250)?;
    plan.to.iter().try_for_each(|to| server.ask(&format!("RCPT TO:<{to}>"), 250).map(drop))?;
    server.ask("DATA", 354)?;
    server.ask(&format!("{}\r\n.", mail(plan, message, node)), 250)?;
    // It has the mail, however it takes the farewell.
    let _ = server.ask("QUIT", 221);
    Ok(())
}

/// A mail server that said what it can.
struct Server<'a> {
    name: &'a str,
    line: Line,
    can: Vec<String>,
}

impl<'a> Server<'a> {
    fn greeted(
        plan: &'a MailPlan,
        host: &str,
        port: u16,
        node: &NodeName,
        moment: Instant,
    ) -> Result<Server<'a>, Failure> {
        let mut line = Line::open(host, port, moment)?;
        if plan.encryption == Encryption::Tls {
            line = line.encrypted(host, plan.ca_file.as_deref())?;
        }
        let mut server = Server { name: &plan.server, line, can: Vec::new() };
        server.answer("its greeting", 220)?;
        server.hello(node)?;
        if plan.encryption != Encryption::Starttls {
            return Ok(server);
        }
        server.ask("STARTTLS", 220)?;
        server.line = server.line.encrypted(host, plan.ca_file.as_deref())?;
        server.hello(node)?;
        Ok(server)
    }

    fn hello(&mut self, node: &NodeName) -> Result<(), Failure> {
        self.can = self.ask(&format!("EHLO {node}"), 250)?;
        Ok(())
    }

    fn log_in(&mut self, user: &str, password: &str) -> Result<(), Failure> {
        let ways = self.can.iter().find(|can| can.to_ascii_uppercase().starts_with("AUTH "));
        let is_plain = ways.is_none_or(|ways| ways.to_ascii_uppercase().split(' ').any(|way| way == "PLAIN"));
        if is_plain {
            let both = base64(format!("\0{user}\0{password}").as_bytes());
            return self.ask_secretly("AUTH PLAIN", &format!("AUTH PLAIN {both}"), 235);
        }
        self.ask("AUTH LOGIN", 334)?;
        self.ask_secretly("the user", &base64(user.as_bytes()), 334)?;
        self.ask_secretly("the password", &base64(password.as_bytes()), 235)
    }

    fn ask(&mut self, command: &str, code: u16) -> Result<Vec<String>, Failure> {
        self.say(command)?;
        self.answer(command.lines().next().unwrap_or_default(), code)
    }

    fn ask_secretly(&mut self, shown: &str, command: &str, code: u16) -> Result<(), Failure> {
        self.say(command)?;
        self.answer(shown, code).map(drop)
    }

    fn say(&mut self, command: &str) -> Result<(), Failure> {
        let said = self.line.write_all(format!("{command}\r\n").as_bytes()).and_then(|()| self.line.flush());
        said.map_err(|e| Failure::Failed(format!("{} does not listen: {e}", self.name)))
    }

    /// What it says line by line, without the codes.
    fn answer(&mut self, to: &str, code: u16) -> Result<Vec<String>, Failure> {
        let mut lines = Vec::new();
        while lines.len() < LINES_MAX {
            let line = self.line.read_line(LINE_BYTES_MAX);
            let line = line.map_err(|e| Failure::Failed(format!("{} does not answer {to}: {e}", self.name)))?;
            if line.get(..3).and_then(|said| said.parse().ok()) != Some(code) {
                return Err(Failure::Failed(format!("{} answers {line:?} to {to}", self.name)));
            }
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(lines);
            }
        }
        Err(Failure::Failed(format!("{} does not end its answer to {to}", self.name)))
    }
}

fn mail(plan: &MailPlan, message: &Message, node: &NodeName) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let host = plan.from.rsplit('@').next().unwrap_or_default();
    let fields = [
        ("From", format!("<{}>", plan.from)),
        ("To", plan.to.iter().map(|to| format!("<{to}>")).collect::<Vec<_>>().join(",\r\n ")),
        ("Subject", subject(&message.subject(node))),
        ("Date", date(Timestamp(now))),
        ("Message-ID", format!("<stead.{node}.{now}@{host}>")),
        ("Auto-Submitted", "auto-generated".into()),
        ("MIME-Version", "1.0".into()),
        ("Content-Type", "text/plain; charset=utf-8".into()),
        ("Content-Transfer-Encoding", "base64".into()),
    ];
    let head: String = fields.into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{head}\r\n{}", base64_lines(message.text().as_bytes()).trim_end())
}
