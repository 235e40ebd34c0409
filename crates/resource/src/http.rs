//! Answers of HTTP/1, as far as they are looked at.

use std::io::{self, Read};

/// What of an answer is read.
const BYTES_MAX: usize = 8 << 10;
/// What of its body is told.
const SHOWN_CHARS_MAX: usize = 200;

/// The head of an answer, and what came with it of the body.
pub fn read(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let (mut answer, mut bytes) = (Vec::new(), [0; 1024]);
    while answer.len() < BYTES_MAX {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&bytes[..len]),
            // The code is there; what happens to the rest of the body does not matter, nor how the connection ends.
            Err(_) if has_head(&answer) => break,
            Err(e) => return Err(e),
        }
        if is_whole(&answer) {
            break;
        }
    }
    Ok(answer)
}

fn has_head(answer: &[u8]) -> bool {
    answer.windows(4).any(|four| four == b"\r\n\r\n")
}

/// Is the head there, and the body as far as the head says how long it is?
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let header = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok();
    head.lines().find_map(header).is_some_and(|len| body.len() >= len)
}

/// The code of the first line.
pub fn code(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    let mut words = text.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

/// What follows the head, where that is there.
pub fn body(answer: &str) -> Option<&str> {
    answer.split_once("\r\n\r\n").map(|(_, body)| body)
}

/// The beginning of the body, for people.
pub fn shown(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let said = body(&text).unwrap_or(&text);
    said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_far_as_it_says() {
        let mut stream = &b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno\n such\r\nmore"[..];
        let answer = read(&mut stream).unwrap();
        assert_eq!((code(&answer), shown(&answer).as_str()), (Some(404), "no such more"));
        assert_eq!(code(b"SSH-2.0 200"), None);
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\n\r\n") && is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    }
}
