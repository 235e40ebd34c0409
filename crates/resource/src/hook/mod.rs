//! Hooks: others are told by a request of HTTP or HTTPS, once for each call.

mod https;
mod url;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

pub use url::Url;

use crate::files::secret;
use crate::net::Stream;
use crate::{Failure, Outcome, Stop, Term, http};

/// How often it is looked whether a wait for a name is to end.
const LOOK: Duration = Duration::from_millis(20);

/// A request, as it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where to.
    pub url: Url,
    /// `POST`, mostly.
    pub method: String,
    /// Names and values, each of one line.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: String,
    /// A header whose value is in a file.
    pub secret: Option<(String, PathBuf)>,
    /// Who may vouch for the server, where these are not the machine's own authorities.
    pub ca_file: Option<PathBuf>,
    /// The codes that are a success.
    pub expect: Vec<RangeInclusive<u16>>,
}

impl Hook {
    /// Sends it, and looks at the answer; returns its code.
    pub fn call_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<u16, Failure>> {
        Outcome::of(|| self.call(Term::new(limit, stop)))
    }

    fn call(&self, term: Term) -> Result<u16, Failure> {
        let request = self.request()?;
        let addresses = addresses(&self.url, term).map_err(|e| self.failed(&e, term))?;
        let stream = connect(&addresses, term).map_err(|e| self.failed(&e, term))?;
        let answer = if self.url.is_https {
            self.talk_https(stream, request.as_bytes(), term)?
        } else {
            talk(stream, request.as_bytes()).map_err(|e| self.failed(&e, term))?
        };
        let code = http::code(&answer).ok_or_else(|| {
            Failure::Failed(format!("{} answers {:?}, which is not HTTP", self.url, http::shown(&answer)))
        })?;
        match self.expect.iter().any(|codes| codes.contains(&code)) {
            true => Ok(code),
            false => Err(Failure::Failed(format!("{} answers {code}: {}", self.url, http::shown(&answer)))),
        }
    }

    fn request(&self) -> Result<String, Failure> {
        let Url { host, port, path, .. } = &self.url;
        let mut text = format!("{} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n", self.method);
        text += &format!("Content-Length: {}\r\n", self.body.len());
        let secret = self.secret.as_ref().map(|(name, file)| Ok((name.clone(), secret(file)?))).transpose()?;
        for (name, value) in self.headers.iter().chain(&secret) {
            text += &format!("{name}: {value}\r\n");
        }
        Ok(text + "\r\n" + &self.body)
    }

    fn failed(&self, e: &io::Error, term: Term) -> Failure {
        match e.kind() {
            _ if term.stop.is_called() => Failure::Cancelled,
            ErrorKind::TimedOut => {
                Failure::Failed(format!("{} does not answer within {:.1} s", self.url, term.limit.as_secs_f64()))
            }
            _ => Failure::Failed(format!("{} does not answer: {e}", self.url)),
        }
    }

    fn talk_https(&self, stream: Stream, request: &[u8], term: Term) -> Result<Vec<u8>, Failure> {
        let encrypted = https::Stream::new(&self.url, self.ca_file.as_deref(), stream)?;
        talk(encrypted, request).map_err(|e| self.failed(&e, term))
    }
}

/// Who asks for names waits as long as the machine's resolver does: a thread waits in its place.
fn addresses(url: &Url, term: Term) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = (url.host.trim_matches(['[', ']']).to_owned(), url.port);
    let (sender, receiver) = sync_channel(1);
    let ask = move || drop(sender.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect)));
    thread::Builder::new().name("hook-name".into()).spawn(ask)?;
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(found) => return found,
            Err(RecvTimeoutError::Timeout) if !term.is_over() => {}
            Err(_) => return Err(ErrorKind::TimedOut.into()),
        }
    }
}

fn connect<'a>(addresses: &[SocketAddr], term: Term<'a>) -> io::Result<Stream<'a>> {
    let mut why = io::Error::other("its name has no address");
    for address in addresses {
        match Stream::connect(*address, term) {
            Ok(stream) => return Ok(stream),
            Err(e) => why = e,
        }
    }
    Err(why)
}

fn talk(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    stream.flush()?;
    http::read(&mut stream)
}
