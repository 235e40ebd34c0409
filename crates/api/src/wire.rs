//! Lines of JSON over the Unix socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Event, Failure, FailureKind, Request, SOCKET, VERSION};

/// Longest line that is read: a plan, or a verify report, with room to spare.
pub const LINE_BYTES_MAX: u64 = 16 << 20;

/// A request with the version that it is written in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// The request, readable where the version is the reader's own.
    pub request: serde_json::Value,
}

impl Envelope {
    /// That request in this build's version.
    pub fn new(request: &Request) -> Envelope {
        Envelope { version: VERSION, request: serde_json::to_value(request).expect("requests are plain data") }
    }

    /// The request.
    ///
    /// # Errors
    /// Where it is of another version or not a request.
    pub fn open(self) -> Result<Request, Failure> {
        if self.version != VERSION {
            let why = format!("it speaks version {}, and the daemon speaks version {VERSION}", self.version);
            let remedy = "Use the stead command of the same release as the daemon, or restart the daemon";
            return Err(Failure::new("the request was refused", why, remedy));
        }
        serde_json::from_value(self.request)
            .map_err(|e| Failure::new("the request was refused", e.to_string(), "").kind(FailureKind::Usage))
    }
}

/// Writes one value as one line.
///
/// # Errors
/// Those of the writer.
pub fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Reads one value from one line; none at the end of the stream.
///
/// # Errors
/// Those of the reader; `InvalidData` where the line is too long or not such a value.
pub fn read_line<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is cut off or too long"));
    }
    serde_json::from_slice(&line).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// A request that is being answered.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Sends a request to the daemon of that state directory.
    ///
    /// # Errors
    /// [`FailureKind::NoDaemon`] where none listens there.
    pub fn send(state: &Path, request: &Request) -> Result<Client, Failure> {
        let socket = state.join(SOCKET);
        let stream = UnixStream::connect(&socket).map_err(|e| no_daemon(state, &e))?;
        let mut stream = BufReader::new(stream);
        write_line(stream.get_mut(), &Envelope::new(request)).map_err(|e| went_away(&e.to_string()))?;
        Ok(Client { stream })
    }

    /// The next event of the answer.
    ///
    /// # Errors
    /// Where the daemon went away before it had answered.
    pub fn next_event(&mut self) -> Result<Event, Failure> {
        match read_line(&mut self.stream) {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(went_away("it closed the connection")),
            Err(e) => Err(went_away(&e.to_string())),
        }
    }
}

fn no_daemon(state: &Path, error: &io::Error) -> Failure {
    let what = format!("there is no daemon at {}", state.display());
    let (why, remedy) = match error.kind() {
        io::ErrorKind::PermissionDenied => ("this user may not talk to it".to_string(), "Run the command as root"),
        _ => (
            error.to_string(),
            "Start it with: systemctl start stead (or: stead daemon); another state directory: --state or STEAD_STATE",
        ),
    };
    Failure::new(what, why, remedy).kind(FailureKind::NoDaemon)
}

fn went_away(why: &str) -> Failure {
    let remedy = "Look at the daemon's log, and at: stead status";
    Failure::new("the daemon went away before it had answered", why, remedy).kind(FailureKind::NoDaemon)
}
