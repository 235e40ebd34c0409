//! The greeting at the start of every connection: versions, then what the connection is for.
//!
//! ```text
//!   client: "STEAD" · zero u8 · oldest u16 · newest u16 (little-endian) · frame: Purpose
//!   server: "STEAD" · zero u8 · oldest u16 · newest u16                 · frame: "ok", or a Failure
//! ```
//! Both sides speak the newest version that both know; where there is none, the connection ends with that reason.
//! A frame is a u32 length and as many bytes of JSON: these messages are few, and a reader of another version skips the
//! fields that it does not know.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_model::SetName;

/// Oldest and newest version that this build speaks. Version 2 added the questions `Forget` and `NewKey`, version 3 those
/// about groups.
pub(crate) const VERSIONS: (u16, u16) = (1, 3);

/// Longest frame of a trusted peer.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 20;
/// Longest frame of anyone else, and of the greeting.
pub(crate) const HELLO_BYTES_MAX: usize = 16 << 10;

const MAGIC: &[u8; 6] = b"STEAD\0";

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To become a trusted peer by an invitation; all that a stranger may.
    Join,
    /// One question and its answer.
    Prepare,
    /// The stream of a set: the data path takes over after the greeting.
    Data {
        /// The set.
        set: SetName,
    },
}

/// Why a greeting failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    #[error("it does not speak Stead's protocol")]
    Magic,
    #[error("it speaks protocol versions {0} to {1}, and this build speaks {first} to {last}", first = VERSIONS.0,
        last = VERSIONS.1)]
    Version(u16, u16),
    #[error("{0}")]
    Refused(Failure),
}

/// Greets a server; returns the version that both speak from now on.
pub(crate) fn greet(stream: &mut (impl Read + Write), purpose: &Purpose) -> Result<u16, HelloError> {
    let mut opening = opening();
    append_frame(&mut opening, purpose)?;
    stream.write_all(&opening)?;
    let version = read_opening(stream)?;
    read_frame::<Result<(), Failure>>(stream, HELLO_BYTES_MAX)?.map_err(HelloError::Refused)?;
    Ok(version)
}

/// Reads a client's greeting: what it is for, and the version that both speak from now on. The answer is [`admit`].
pub(crate) fn receive(stream: &mut (impl Read + Write)) -> Result<(Purpose, u16), HelloError> {
    let version = read_opening(stream);
    stream.write_all(&opening())?;
    let version = version?;
    Ok((read_frame(stream, HELLO_BYTES_MAX)?, version))
}

/// Lets the client in, or says why not.
pub(crate) fn admit(stream: &mut impl Write, verdict: &Result<(), Failure>) -> io::Result<()> {
    write_frame(stream, verdict)
}

/// Writes a value as a frame.
pub(crate) fn write_frame(stream: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, value)?;
    stream.write_all(&bytes)
}

/// Reads a value from a frame of at most `max` bytes.
pub(crate) fn read_frame<T: DeserializeOwned>(stream: &mut impl Read, max: usize) -> io::Result<T> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

fn append_frame(out: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
    Ok(())
}

fn opening() -> Vec<u8> {
    [MAGIC.as_slice(), &VERSIONS.0.to_le_bytes(), &VERSIONS.1.to_le_bytes()].concat()
}

fn read_opening(stream: &mut impl Read) -> Result<u16, HelloError> {
    let mut bytes = [0; 10];
    stream.read_exact(&mut bytes)?;
    if !bytes.starts_with(MAGIC) {
        return Err(HelloError::Magic);
    }
    let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let (oldest, newest) = (number(6), number(8));
    let common = newest.min(VERSIONS.1);
    if common < oldest.max(VERSIONS.0) { Err(HelloError::Version(oldest, newest)) } else { Ok(common) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_has_these_bytes() {
        let mut bytes = opening();
        append_frame(&mut bytes, &Purpose::Data { set: "notes".parse().unwrap() }).unwrap();
        assert_eq!(bytes, b"STEAD\0\x01\0\x03\0\x18\0\0\0{\"Data\":{\"set\":\"notes\"}}");
    }

    /// What a node of version 1 sends and expects, byte by byte.
    #[test]
    fn a_greeting_of_version_1_is_understood() {
        let sent = b"STEAD\0\x01\0\x01\0\x18\0\0\0{\"Data\":{\"set\":\"notes\"}}";
        let mut line = Line { incoming: &sent[..], outgoing: Vec::new() };
        let (purpose, version) = receive(&mut line).unwrap();
        admit(&mut line, &Ok(())).unwrap();
        assert_eq!((purpose, version), (Purpose::Data { set: "notes".parse().unwrap() }, 1));
        assert_eq!(line.outgoing, b"STEAD\0\x01\0\x03\0\x0b\0\0\0{\"Ok\":null}");

        let answer = b"STEAD\0\x01\0\x01\0\x0b\0\0\0{\"Ok\":null}";
        let mut line = Line { incoming: &answer[..], outgoing: Vec::new() };
        assert_eq!(greet(&mut line, &Purpose::Prepare).unwrap(), 1);
        assert_eq!(line.outgoing, b"STEAD\0\x01\0\x03\0\x09\0\0\0\"Prepare\"");
    }

    struct Line<'a> {
        incoming: &'a [u8],
        outgoing: Vec<u8>,
    }

    impl Read for Line<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.incoming.read(buffer)
        }
    }

    impl Write for Line<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.outgoing.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn another_version_is_refused_with_both_numbers() {
        let bytes = b"STEAD\0\x04\0\x05\0";
        let error = read_opening(&mut bytes.as_slice()).unwrap_err().to_string();
        assert_eq!(error, "it speaks protocol versions 4 to 5, and this build speaks 1 to 3");
        assert_eq!(read_opening(&mut b"STEAD\0\x01\0\x09\0".as_slice()).unwrap(), 3);
        assert!(matches!(read_opening(&mut b"HTTP/1.1 2".as_slice()), Err(HelloError::Magic)));
    }

    #[test]
    fn long_frames_are_refused_before_they_are_allocated() {
        let bytes = u32::MAX.to_le_bytes();
        let error = read_frame::<Purpose>(&mut bytes.as_slice(), HELLO_BYTES_MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
