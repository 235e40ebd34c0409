//! Looks from outside whether a service answers: beside its node's heartbeat, which says only that the node lives.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::{Failure, Outcome};

/// What of an answer is read, where its first line says all.
const HEAD_BYTES_MAX: usize = 64;
/// What of a page is read, where it has to hold something.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// Longest answer of a mail server (RFC 5321, 4.5.3.1.5), and how many lines one may have.
const REPLY_BYTES_MAX: usize = 512;
const REPLY_LINES_MAX: usize = 64;

/// What a service has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It takes a connection.
    Tcp(SocketAddr),
    /// `http://ADDRESS:PORT/PATH` answers with a code from 200 to 399.
    Http {
        /// Where.
        url: String,
        /// What the page has to hold within its first 256 KiB.
        expect: Option<String>,
    },
    /// A mail server greets, answers `EHLO` and `QUIT` (RFC 5321).
    Smtp(SocketAddr),
    /// The program ends with 0.
    Command(Command),
}

impl Check {
    /// Looks once, for no longer than that.
    ///
    /// # Errors
    /// In the outcome: what speaks against it.
    pub fn run(&self, limit: Duration) -> Outcome<Result<(), Failure>> {
        Outcome::with_output(|output| match self {
            Check::Tcp(address) => connect(*address, limit).map(drop),
            Check::Http { url, expect } => http(url, expect.as_deref(), Instant::now() + limit),
            Check::Smtp(address) => smtp(*address, Instant::now() + limit),
            Check::Command(command) => {
                let ran = command.run(limit);
                output.append(ran.output);
                let failed = || Failure::Failed(format!("the check command {}", ran.end));
                if ran.end.is_success() { Ok(()) } else { Err(failed()) }
            }
        })
    }
}

fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, Failure> {
    TcpStream::connect_timeout(&address, limit.max(Duration::from_millis(1)))
        .map_err(|e| Failure::Failed(format!("{address} takes no connection: {e}")))
}

fn http(url: &str, expect: Option<&str>, moment: Instant) -> Result<(), Failure> {
    let unusable = || Failure::Unusable(format!("{url} is not like http://ADDRESS:PORT/PATH"));
    let (host, path) = parts(url).ok_or_else(unusable)?;
    let mut stream = connect(host.parse().map_err(|_| unusable())?, left(moment))?;
    let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let asked = stream.set_write_timeout(Some(left(moment))).and_then(|()| stream.write_all(question.as_bytes()));
    let most = if expect.is_some() { PAGE_BYTES_MAX } else { HEAD_BYTES_MAX };
    let text = asked.and_then(|()| read(&mut stream, most, |bytes| expect.is_none() && bytes.contains(&b'\n'), moment));
    let text = text.map_err(|e| Failure::Failed(format!("{url} does not answer: {e}")))?;
    let line = text.lines().next().unwrap_or_default();
    match line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()) {
        Some(200..=399) if expect.is_none_or(|expect| body(&text).contains(expect)) => Ok(()),
        Some(200..=399) => {
            Err(Failure::Failed(format!("{url} answers, and not with {:?}", expect.unwrap_or_default())))
        }
        _ => Err(Failure::Failed(format!("{url} answers {line:?}"))),
    }
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// The whole dialogue is bounded by that moment.
fn smtp(address: SocketAddr, moment: Instant) -> Result<(), Failure> {
    let mut stream = connect(address, left(moment))?;
    for (command, code) in [("", "220"), ("EHLO localhost\r\n", "250"), ("QUIT\r\n", "221")] {
        let sent = stream.set_write_timeout(Some(left(moment))).and_then(|()| stream.write_all(command.as_bytes()));
        let reply = sent.and_then(|()| reply(&mut stream, moment));
        let reply = reply.map_err(|e| Failure::Failed(format!("{address} does not answer as a mail server: {e}")))?;
        if !reply.starts_with(code) {
            let asked = if command.is_empty() { "a connection" } else { command.trim_end() };
            return Err(Failure::Failed(format!("{address} answers {asked} with {:?}", reply.trim_end())));
        }
    }
    Ok(())
}

/// All lines of a reply; the last one has a space behind its code.
fn reply(stream: &mut TcpStream, moment: Instant) -> io::Result<String> {
    let is_whole = |bytes: &[u8]| {
        let last = bytes.strip_suffix(b"\n").map(|bytes| bytes.rsplit(|byte| *byte == b'\n').next().unwrap_or(bytes));
        last.is_some_and(|line| line.get(3).is_none_or(|byte| *byte != b'-'))
    };
    let text = read(stream, REPLY_BYTES_MAX * REPLY_LINES_MAX, is_whole, moment)?;
    if text.ends_with('\n') { Ok(text) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// Reads until it is enough, or nothing more comes; however slowly it comes.
fn read(stream: &mut TcpStream, most: usize, enough: impl Fn(&[u8]) -> bool, moment: Instant) -> io::Result<String> {
    let (mut all, mut bytes) = (Vec::new(), vec![0; most.min(16 << 10)]);
    while all.len() < most && !enough(&all) {
        stream.set_read_timeout(Some(left(moment)))?;
        match stream.read(&mut bytes)? {
            0 => break,
            len => all.extend_from_slice(&bytes[..len]),
        }
        if Instant::now() >= moment {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// What is left until then; the kernel takes none for no limit.
fn left(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn parts(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Some((host, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Answers once, byte by byte with that pause.
    fn server(answer: &'static str, pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 256]);
            for byte in answer.as_bytes() {
                let _ = stream.write_all(&[*byte]);
                thread::sleep(pause);
            }
        });
        address
    }

    fn asked(address: SocketAddr, limit: Duration) -> Result<(), Failure> {
        Check::Http { url: format!("http://{address}/health"), expect: None }.run(limit).value
    }

    #[test]
    fn a_page_has_to_hold_what_is_expected() {
        let page = "HTTP/1.1 200 OK\r\nX-Word: head\r\n\r\nall is well";
        let asked = |expect: &str| {
            let url = format!("http://{}/", server(page, Duration::ZERO));
            Check::Http { url, expect: Some(expect.into()) }.run(LIMIT).value
        };
        assert_eq!(asked("is well"), Ok(()));
        for missing in ["is ill", "head"] {
            assert!(asked(missing).unwrap_err().to_string().contains(missing));
        }
    }

    /// Answers each line with the next of these.
    fn mail(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            for answer in answers {
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.read(&mut [0; 256]);
            }
        });
        address
    }

    #[test]
    fn a_mail_server_has_to_speak() {
        let asked = |answers| Check::Smtp(mail(answers)).run(LIMIT).value;
        assert_eq!(asked(&["220-hello\r\n220 there\r\n", "250-SIZE\r\n250 HELP\r\n", "221 bye\r\n"]), Ok(()));
        let refused = |answers| asked(answers).unwrap_err().to_string();
        assert!(refused(&["421 too busy\r\n"]).contains("answers a connection with \"421 too busy\""));
        assert!(refused(&["220 hello\r\n", "502 no\r\n"]).contains("answers EHLO localhost with \"502 no\""));
        assert!(refused(&["220 hello\r\n", "250-more"]).contains("does not answer as a mail server"));
    }

    #[test]
    fn pages_are_judged_by_their_code() {
        assert_eq!(asked(server("HTTP/1.1 204 No Content\r\n\r\n", Duration::ZERO), LIMIT), Ok(()));
        let refused = asked(server("HTTP/1.1 503 Service Unavailable\r\n\r\n", Duration::ZERO), LIMIT).unwrap_err();
        assert!(refused.to_string().contains("503"), "{refused}");
        let secure = Check::Http { url: "https://x/".into(), expect: None };
        assert!(matches!(secure.run(LIMIT).value, Err(Failure::Unusable(_))));
    }

    #[test]
    fn a_server_that_drips_is_given_up_in_time() {
        let drips = server("HTTP/1.1 200 OK                                        \r\n", Duration::from_millis(100));
        let looked = Check::Http { url: format!("http://{drips}/"), expect: None }.run(Duration::from_millis(300));
        assert!(looked.value.is_err() && looked.took < Duration::from_secs(3), "{looked:?}");
    }

    #[test]
    fn commands_and_connections_say_why_they_fail() {
        let command = |argv: &[&str], limit| Check::Command(Command::new(argv)).run(limit).value;
        assert_eq!(command(&["/bin/true"], LIMIT), Ok(()));
        assert!(command(&["/bin/sh", "-c", "exit 3"], LIMIT).unwrap_err().to_string().contains("code 3"));
        assert!(command(&["/bin/sleep", "9"], Duration::from_millis(100)).is_err());
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(Check::Tcp(closed).run(LIMIT).value.unwrap_err().to_string().contains("takes no connection"));
    }
}
