//! Diagnostics: to standard error, and the last lines kept for `stead support`.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that are kept.
const LINES_MAX: usize = 2_000;
/// Longest line that is kept whole.
const LINE_BYTES_MAX: usize = 4 << 10;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Logs from now on; `STEAD_LOG` is `info`, `debug` or `trace`.
pub(crate) fn begin() {
    let level = match std::env::var("STEAD_LOG").as_deref() {
        Ok("debug") => tracing::Level::DEBUG,
        Ok("trace") => tracing::Level::TRACE,
        _ => tracing::Level::INFO,
    };
    let ansi = io::stderr().is_terminal();
    let _ = tracing_subscriber::fmt().with_max_level(level).with_ansi(ansi).with_writer(Both).try_init();
}

/// The last lines, the newest last.
pub(crate) fn last_lines() -> Vec<String> {
    lines().iter().cloned().collect()
}

struct Both;

/// One line, as the subscriber writes it: in one piece.
struct Line;

impl<'a> MakeWriter<'a> for Both {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        keep(bytes);
        io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn keep(bytes: &[u8]) {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LINE_BYTES_MAX)]);
    let mut lines = lines();
    if lines.len() >= LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(text.trim_end().to_string());
}

fn lines() -> MutexGuard<'static, VecDeque<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        (0..LINES_MAX + 5).for_each(|n| keep(format!("line {n}\n").as_bytes()));
        keep(&[b'x'; 2 * LINE_BYTES_MAX]);
        let kept = last_lines();
        assert_eq!(kept.len(), LINES_MAX);
        assert_eq!(kept.last().unwrap().len(), LINE_BYTES_MAX);
        assert_eq!(kept[kept.len() - 2], format!("line {}", LINES_MAX + 4));
    }
}
