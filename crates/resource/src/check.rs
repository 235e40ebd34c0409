//! Looks from outside whether a service answers: beside its node's heartbeat, which says only that the node lives.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::{Failure, Outcome};

/// What of an answer is read: its first line says all.
const HEAD_BYTES_MAX: usize = 64;

/// What a service has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It takes a connection.
    Tcp(SocketAddr),
    /// `http://ADDRESS:PORT/PATH` answers with a code from 200 to 399.
    Http(String),
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
            Check::Http(url) => http(url, Instant::now() + limit),
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

fn http(url: &str, moment: Instant) -> Result<(), Failure> {
    let unusable = || Failure::Unusable(format!("{url} is not like http://ADDRESS:PORT/PATH"));
    let (host, path) = parts(url).ok_or_else(unusable)?;
    let mut stream = connect(host.parse().map_err(|_| unusable())?, left(moment))?;
    let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let asked = stream.set_write_timeout(Some(left(moment))).and_then(|()| stream.write_all(question.as_bytes()));
    let line = asked.and_then(|()| first_line(&mut stream, moment));
    let line = line.map_err(|e| Failure::Failed(format!("{url} does not answer: {e}")))?;
    match line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()) {
        Some(200..=399) => Ok(()),
        _ => Err(Failure::Failed(format!("{url} answers {line:?}"))),
    }
}

/// However slowly it comes.
fn first_line(stream: &mut TcpStream, moment: Instant) -> io::Result<String> {
    let mut head = Vec::new();
    while head.len() < HEAD_BYTES_MAX && !head.contains(&b'\n') {
        let mut bytes = [0; HEAD_BYTES_MAX];
        stream.set_read_timeout(Some(left(moment)))?;
        match stream.read(&mut bytes)? {
            0 => break,
            len => head.extend_from_slice(&bytes[..len]),
        }
        if Instant::now() >= moment {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned())
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
        Check::Http(format!("http://{address}/health")).run(limit).value
    }

    #[test]
    fn pages_are_judged_by_their_code() {
        assert_eq!(asked(server("HTTP/1.1 204 No Content\r\n\r\n", Duration::ZERO), LIMIT), Ok(()));
        let refused = asked(server("HTTP/1.1 503 Service Unavailable\r\n\r\n", Duration::ZERO), LIMIT).unwrap_err();
        assert!(refused.to_string().contains("503"), "{refused}");
        assert!(matches!(Check::Http("https://x/".into()).run(LIMIT).value, Err(Failure::Unusable(_))));
    }

    #[test]
    fn a_server_that_drips_is_given_up_in_time() {
        let drips = server("HTTP/1.1 200 OK                                        \r\n", Duration::from_millis(100));
        let looked = Check::Http(format!("http://{drips}/")).run(Duration::from_millis(300));
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
