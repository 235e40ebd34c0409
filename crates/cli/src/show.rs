//! How things look: sizes, times, tables, progress.

use std::io::IsTerminal;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stead_model::status::{ConnectionStatus, MirrorStatus, State, Status, Timestamp};

/// Prints to standard output. Whoever closed it wants no more: the command ends in peace.
pub fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if write!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// How often progress is told where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(3);
const BAR_CELLS: u64 = 16;
const FILE_BYTES: u64 = 4096;

/// `3.1 GiB`
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `2 ms`, `1.5 s`, `21 s`, `4 min`, `3 h`
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", (s * 1000.0).max(0.0)),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

/// `lyon is 2 ms behind`
pub fn behind(connection: &ConnectionStatus) -> String {
    match connection.lag_seconds {
        Some(lag) => format!("{} is {} behind", connection.target, seconds(lag)),
        None => format!("how far {} is behind is not known", connection.target),
    }
}

/// Rows as aligned columns, the last one ragged.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// What `stead status` prints.
pub fn status_text(status: &Status, colours: bool) -> String {
    crate::words::status_text(status, now(), colours)
}

/// The wall clock, for what people read.
pub fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
}

/// How much of a mirror is done.
pub fn percent(connection: &ConnectionStatus) -> u64 {
    let mirror = &connection.mirror;
    let (done, total) = (work(mirror.files_done, mirror.bytes_done), work(mirror.files_total, mirror.bytes_total));
    (u128::from(done) * 100 / u128::from(total.max(1))).min(100) as u64
}

/// `3.1 GiB of 7.5 GiB`; of small files: `41200 of 1000000 files`.
pub fn portion(mirror: &MirrorStatus) -> String {
    if is_of_small_files(mirror) {
        return format!("{} of {} files", mirror.files_done, mirror.files_total);
    }
    format!("{} of {}", size(mirror.bytes_done), size(mirror.bytes_total))
}

/// What takes the time of a mirror, in bytes: a file without content takes as long as that much of it.
fn work(files: u64, bytes: u64) -> u64 {
    bytes.saturating_add(files.saturating_mul(FILE_BYTES))
}

fn is_of_small_files(mirror: &MirrorStatus) -> bool {
    mirror.bytes_total < mirror.files_total.saturating_mul(FILE_BYTES)
}

/// Progress on standard error: drawn on a terminal, a line every few seconds elsewhere.
pub struct Progress {
    verb: &'static str,
    bar: ProgressBar,
    drawn: bool,
    told: Instant,
    rate: Rate,
}

impl Progress {
    /// Progress of something that is called `verb`.
    pub fn new(verb: &'static str) -> Progress {
        let drawn = std::io::stderr().is_terminal();
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { verb, bar, drawn, told: Instant::now(), rate: Rate::default() }
    }

    /// Shows where it stands.
    pub fn show(&mut self, status: &Status) {
        let mirrors = status.connections.iter().map(|connection| &connection.mirror);
        let done = mirrors.fold((0, 0), |(files, bytes), m| (files + m.files_done, bytes + m.bytes_done));
        self.rate.add(Instant::now(), done);
        let lines: Vec<_> = status.connections.iter().map(|c| self.line(c)).collect();
        if self.drawn {
            self.bar.set_message(lines.join("\n"));
            self.bar.tick();
        } else if self.told.elapsed() >= PLAIN_EVERY {
            self.told = Instant::now();
            lines.iter().for_each(|line| eprintln!("{line}"));
        }
    }

    /// Takes it from the screen.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, connection: &ConnectionStatus) -> String {
        let head = format!("{} {} → {}", self.verb, connection.set, connection.target);
        if matches!(connection.state, State::Disconnected | State::Halted | State::Paused) {
            let reason = connection.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            return format!("{head}  {}{reason}", connection.state);
        }
        let percent = percent(connection);
        let filled = percent * BAR_CELLS / 100;
        let bar = "▓".repeat(filled as usize) + &"░".repeat((BAR_CELLS - filled) as usize);
        format!("{head}  {percent:2} % {bar}  {}{}", portion(&connection.mirror), self.pace(&connection.mirror))
    }

    fn pace(&self, mirror: &MirrorStatus) -> String {
        let Some((files, bytes)) = self.rate.each_second() else { return String::new() };
        let each_second = work(1, 0) as f64 * files + bytes;
        if each_second < 1.0 {
            return String::new();
        }
        let (done, total) = (work(mirror.files_done, mirror.bytes_done), work(mirror.files_total, mirror.bytes_total));
        let left = seconds((total.saturating_sub(done) as f64 / each_second).round().max(1.0));
        match is_of_small_files(mirror) {
            true => format!("  {files:.0} files/s  {left} left"),
            false => format!("  {}/s  {left} left", size(bytes as u64)),
        }
    }
}

/// Files and bytes each second over the last few seconds.
#[derive(Default)]
struct Rate {
    seen: std::collections::VecDeque<(Instant, (u64, u64))>,
}

impl Rate {
    fn add(&mut self, now: Instant, done: (u64, u64)) {
        if self.seen.back().is_some_and(|(_, (files, bytes))| *files > done.0 || *bytes > done.1) {
            self.seen.clear();
        }
        self.seen.push_back((now, done));
        while self.seen.len() > 2 && now - self.seen[0].0 > Duration::from_secs(5) {
            self.seen.pop_front();
        }
    }

    fn each_second(&self) -> Option<(f64, f64)> {
        let ((from, first), (to, last)) = (self.seen.front()?, self.seen.back()?);
        let seconds = (*to - *from).as_secs_f64();
        let each_second = |first: u64, last: u64| (last - first) as f64 / seconds;
        (seconds > 0.2).then(|| (each_second(first.0, last.0), each_second(first.1, last.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(state: &str, lag_seconds: Option<f64>) -> ConnectionStatus {
        let json = serde_json::json!({
            "set": "notes", "source": "paris", "target": "lyon", "state": state, "since": "2026-11-20T07:15:00.000Z",
            "mirror": {"files_done": 1, "files_total": 4, "bytes_done": 3_328_599_654u64, "bytes_total": 8_053_063_680u64},
            "queue": {"changes": 0, "bytes": 0}, "lag_seconds": lag_seconds,
            "consistent_at": "2026-11-20T07:14:00.500Z", "capture": "mount", "epoch": 1
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn progress_reads_like_this() {
        let mut progress = Progress::new("mirroring");
        let start = Instant::now();
        progress.rate.add(start, (0, 0));
        progress.rate.add(start + Duration::from_secs(1), (0, 222_298_112));
        let line = progress.line(&connection("mirroring", None));
        assert_eq!(line, "mirroring notes → lyon  41 % ▓▓▓▓▓▓░░░░░░░░░░  3.1 GiB of 7.5 GiB  212.0 MiB/s  21 s left");
    }

    #[test]
    fn progress_of_small_files_counts_files() {
        let mut progress = Progress::new("mirroring");
        let start = Instant::now();
        progress.rate.add(start, (0, 0));
        progress.rate.add(start + Duration::from_secs(2), (40_000, 400_000));
        let mut small = connection("mirroring", None);
        small.mirror = MirrorStatus {
            files_done: 400_000,
            files_total: 1_000_000,
            bytes_done: 10_000_000,
            bytes_total: 10_000_000,
        };
        let line = progress.line(&small);
        assert_eq!(
            line,
            "mirroring notes → lyon  40 % ▓▓▓▓▓▓░░░░░░░░░░  400000 of 1000000 files  20000 files/s  30 s left"
        );
    }

    #[test]
    fn times_are_short() {
        let cases =
            [(0.0021, "2 ms"), (1.54, "1.5 s"), (21.4, "21 s"), (300.0, "5 min"), (9000.0, "2 h"), (-1.0, "0 ms")];
        for (value, text) in cases {
            assert_eq!(seconds(value), text);
        }
        assert_eq!((size(0), size(1023), size(1536)), ("0 B".into(), "1023 B".into(), "1.5 KiB".into()));
    }
}
