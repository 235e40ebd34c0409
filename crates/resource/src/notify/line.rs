//! A connection to a server, plain or encrypted, on which everything ends at one moment.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use crate::{Failure, tls};

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// The connection.
pub(super) struct Line {
    stream: Stream,
    moment: Instant,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    /// Connects to the first address of the host that answers.
    pub(super) fn open(host: &str, port: u16, moment: Instant) -> Result<Line, Failure> {
        let addresses = addresses(host, port, moment)?;
        let mut last = Failure::Failed(format!("{host} has no address"));
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            match TcpStream::connect_timeout(&address, left(moment)) {
                Ok(stream) => return Ok(Line { stream: Stream::Plain(stream), moment }),
                Err(e) => last = Failure::Failed(format!("{host} at {address} takes no connection: {e}")),
            }
        }
        Err(last)
    }

    /// Encrypts all that follows, once the server has shown that it is that host.
    pub(super) fn encrypted(self, host: &str, ca: Option<&Path>) -> Result<Line, Failure> {
        let Stream::Plain(stream) = self.stream else { return Ok(self) };
        let stream = Stream::Tls(Box::new(StreamOwned::new(tls::client(host, ca)?, stream)));
        let mut line = Line { stream, moment: self.moment };
        line.flush().map_err(Failure::at(format_args!("trust {host}")))?;
        Ok(line)
    }

    /// The next line, without its end.
    pub(super) fn read_line(&mut self, bytes_max: usize) -> io::Result<String> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while line.len() < bytes_max {
            if self.read(&mut byte)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            match byte[0] {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Nothing on this line waits beyond the moment.
    fn limited(&self) -> io::Result<()> {
        if Instant::now() >= self.moment {
            return Err(ErrorKind::TimedOut.into());
        }
        let stream = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        };
        stream.set_read_timeout(Some(left(self.moment)))?;
        stream.set_write_timeout(Some(left(self.moment)))
    }
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.limited()?;
        match &mut self.stream {
            Stream::Plain(stream) => stream.read(bytes),
            Stream::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.limited()?;
        match &mut self.stream {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.limited()?;
        match &mut self.stream {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

/// What is left until then; the kernel takes none for no limit.
pub(super) fn left(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// The system's resolver knows no limit, so it is asked on a thread of its own.
fn addresses(host: &str, port: u16, moment: Instant) -> Result<Vec<SocketAddr>, Failure> {
    let (send, found) = sync_channel(1);
    let place = (host.to_owned(), port);
    let ask = move || _ = send.send(place.to_socket_addrs().map(Iterator::collect));
    thread::Builder::new().name("stead-resolve".into()).spawn(ask).map_err(Failure::at("ask for a name"))?;
    let found =
        found.recv_timeout(left(moment)).map_err(|_| Failure::Failed(format!("nobody knows {host} in time")))?;
    found.map_err(|e| Failure::Failed(format!("nobody knows {host}: {e}")))
}
