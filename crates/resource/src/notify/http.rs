//! One message to a web hook.

use std::io::Write;
use std::time::Instant;

use stead_model::plan::WebhookPlan;

use super::line::Line;
use super::secret;
use crate::Failure;

const LINE_BYTES_MAX: usize = 1 << 10;

/// Posts it; only an answer from 200 to 299 counts as received.
pub(super) fn post(plan: &WebhookPlan, body: &str, moment: Instant) -> Result<(), Failure> {
    let unusable = || Failure::Unusable(format!("{:?} is not like https://HOST/PATH", plan.url));
    let (is_tls, host, port, path) = plan.parts().ok_or_else(unusable)?;
    let token = plan.token_file.as_deref().map(|file| secret(Some(file))).transpose()?;
    let mut line = Line::open(host, port, moment)?;
    if is_tls {
        line = line.encrypted(host, plan.ca_file.as_deref())?;
    }
    let head = head(path, &authority(host, port, is_tls), body.len(), token.as_deref());
    let asked = line.write_all(format!("{head}{body}").as_bytes()).and_then(|()| line.flush());
    let answer = asked.and_then(|()| line.read_line(LINE_BYTES_MAX));
    let answer = answer.map_err(|e| Failure::Failed(format!("{} does not answer: {e}", plan.url)))?;
    match answer.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()) {
        Some(200..=299) => Ok(()),
        _ => Err(Failure::Failed(format!("{} answers {answer:?}", plan.url))),
    }
}

fn head(path: &str, host: &str, len: usize, token: Option<&str>) -> String {
    let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stead/{}\r\nContent-Type: application/json\r\n\
         {token}Content-Length: {len}\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn authority(host: &str, port: u16, is_tls: bool) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == if is_tls { 443 } else { 80 } { host } else { format!("{host}:{port}") }
}
