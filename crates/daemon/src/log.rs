//! Diagnostics: to the journal where systemd runs the daemon, else to standard error; and the last lines kept for
//! `stead support`.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::journal::Journal;

/// Lines that are kept.
const LINES_MAX: usize = 2_000;
/// Longest line that is kept whole.
const LINE_BYTES_MAX: usize = 4 << 10;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Logs from now on; `STEAD_LOG` is `info`, `debug` or `trace`.
pub(crate) fn begin() {
    let level = match std::env::var("STEAD_LOG").as_deref() {
        Ok("debug") => LevelFilter::DEBUG,
        Ok("trace") => LevelFilter::TRACE,
        _ => LevelFilter::INFO,
    };
    let journal = Journal::of_this_service();
    let to = To { is_shown: journal.is_none() };
    let lines = fmt::layer().with_ansi(to.is_shown && io::stderr().is_terminal()).with_writer(to);
    // What it says of a receiver is told by who asked it.
    let levels = Targets::new().with_default(level).with_target("async_snmp", LevelFilter::OFF);
    let _ = tracing_subscriber::registry().with(levels).with(lines).with(journal).try_init();
}

/// The last lines, the newest last.
pub(crate) fn last_lines() -> Vec<String> {
    lines().iter().cloned().collect()
}

#[derive(Clone, Copy)]
struct To {
    /// On standard error, too.
    is_shown: bool,
}

/// One line, as the subscriber writes it: in one piece.
struct Line(To);

impl<'a> MakeWriter<'a> for To {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line(*self)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        keep(bytes);
        if self.0.is_shown {
            io::stderr().write_all(bytes)?;
        }
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
