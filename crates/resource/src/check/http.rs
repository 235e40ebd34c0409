//! A page.

use std::io::Write;
use std::time::Instant;

use super::{connect, left, read};
use crate::{Failure, http};

/// What of an answer is read, where its first line says all.
const HEAD_BYTES_MAX: usize = 64;
/// What of a page is read, where it has to hold something.
const PAGE_BYTES_MAX: usize = 256 << 10;

pub(super) fn look(url: &str, expect: Option<&str>, moment: Instant) -> Result<(), Failure> {
    let unusable = || Failure::Unusable(format!("{url} is not like http://ADDRESS:PORT/PATH"));
    let (host, path) = parts(url).ok_or_else(unusable)?;
    let mut stream = connect(host.parse().map_err(|_| unusable())?, left(moment))?;
    let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let asked = stream.set_write_timeout(Some(left(moment))).and_then(|()| stream.write_all(question.as_bytes()));
    let most = if expect.is_some() { PAGE_BYTES_MAX } else { HEAD_BYTES_MAX };
    let text = asked.and_then(|()| read(&mut stream, most, |bytes| expect.is_none() && bytes.contains(&b'\n'), moment));
    let text = text.map_err(|e| Failure::Failed(format!("{url} does not answer: {e}")))?;
    let holds = |expect: &str| http::body(&text).is_some_and(|body| body.contains(expect));
    match http::code(text.as_bytes()) {
        Some(200..=399) if expect.is_none_or(holds) => Ok(()),
        Some(200..=399) => {
            Err(Failure::Failed(format!("{url} answers, and not with {:?}", expect.unwrap_or_default())))
        }
        _ => Err(Failure::Failed(format!("{url} answers {:?}", text.lines().next().unwrap_or_default()))),
    }
}

fn parts(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Some((host, if path.is_empty() { "/" } else { path }))
}
