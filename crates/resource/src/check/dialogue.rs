//! What a mail server and a server of mailboxes answer, line by line; a whole dialogue is bounded by one moment.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{connect, left, read};
use crate::Failure;

/// Longest line (RFC 5321, 4.5.3.1.5), and how many an answer may have.
const LINE_BYTES_MAX: usize = 512;
const LINES_MAX: usize = 64;

/// What is said, and how the last line of what is answered to it has to begin.
struct Turn {
    says: &'static str,
    answer: &'static str,
    /// Is that line the last one?
    is_last: fn(&[u8]) -> bool,
}

const SMTP: [Turn; 3] = [
    Turn { says: "", answer: "220", is_last: has_no_dash },
    Turn { says: "EHLO localhost\r\n", answer: "250", is_last: has_no_dash },
    Turn { says: "QUIT\r\n", answer: "221", is_last: has_no_dash },
];
const IMAP: [Turn; 3] = [
    Turn { says: "", answer: "* OK", is_last: |_| true },
    Turn { says: "a CAPABILITY\r\n", answer: "a OK", is_last: |line| line.starts_with(b"a ") },
    Turn { says: "b LOGOUT\r\n", answer: "b OK", is_last: |line| line.starts_with(b"b ") },
];

pub(super) fn smtp(address: SocketAddr, moment: Instant) -> Result<(), Failure> {
    holds(&SMTP, "a mail server", address, moment)
}

pub(super) fn imap(address: SocketAddr, moment: Instant) -> Result<(), Failure> {
    holds(&IMAP, "a server of mailboxes", address, moment)
}

/// Of an answer of several lines, all but the last one have a dash behind their code.
fn has_no_dash(line: &[u8]) -> bool {
    line.get(3).is_none_or(|byte| *byte != b'-')
}

fn holds(turns: &[Turn], what: &str, address: SocketAddr, moment: Instant) -> Result<(), Failure> {
    let mut stream = connect(address, left(moment))?;
    for turn in turns {
        let sent = stream.set_write_timeout(Some(left(moment))).and_then(|()| stream.write_all(turn.says.as_bytes()));
        let line = sent.and_then(|()| last_line(&mut stream, turn, moment));
        let line = line.map_err(|e| Failure::Failed(format!("{address} does not answer as {what}: {e}")))?;
        if !line.starts_with(turn.answer) {
            let asked = if turn.says.is_empty() { "a connection" } else { turn.says.trim_end() };
            return Err(Failure::Failed(format!("{address} answers {asked} with {line:?}")));
        }
    }
    Ok(())
}

fn last_line(stream: &mut TcpStream, turn: &Turn, moment: Instant) -> io::Result<String> {
    let last = |bytes: &[u8]| bytes.rsplit(|byte| *byte == b'\n').next().map(<[u8]>::to_vec).unwrap_or_default();
    let is_whole = |bytes: &[u8]| bytes.strip_suffix(b"\n").is_some_and(|bytes| (turn.is_last)(&last(bytes)));
    let text = read(stream, LINE_BYTES_MAX * LINES_MAX, is_whole, moment)?;
    let text = text.strip_suffix('\n').ok_or(ErrorKind::UnexpectedEof)?;
    Ok(text.rsplit('\n').next().unwrap_or_default().trim_end().to_owned())
}
