use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use stead_api::{Failure, FailureKind};
use stead_daemon::estimate::{self, Amounts, LineReport, Measured, Options, Slot};
use stead_model::plan::Rate;
use stead_model::status::Timestamp;

use super::{DONE, Ended, print_json};
use crate::args::duration;
use crate::show::{columns, say, seconds, size};

/// Rows of minutes that are shown, before hours are shown instead.
const MINUTES_SHOWN: usize = 60;
/// Busiest minutes that are shown beside hours.
const BUSIEST_SHOWN: usize = 5;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directories and files to watch
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How long, as 30s, 10m, 24h; Ctrl-C ends it early [default: until Ctrl-C]
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    lasts: Option<Duration>,
    /// A line to judge, as 2Mbit, 100Mbit/s, 64KiB/s; may be repeated
    #[arg(long = "line", value_name = "RATE")]
    lines: Vec<Rate>,
    /// A line keeps up while the replica is behind by no more than this
    #[arg(long, value_name = "D", value_parser = duration, default_value = "1s")]
    within: Duration,
    /// Print JSON, with every minute
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Ended {
    let executable = std::env::current_exe().map_err(|e| {
        Failure::new("nothing was watched", format!("this program cannot be found: {e}"), "").kind(FailureKind::Failed)
    })?;
    let lines = args.lines.iter().map(|rate| rate.0).collect();
    let options = Options { paths: args.paths, lasts: args.lasts, lines, within: args.within, executable };
    let is_watched = std::io::stderr().is_terminal();
    let measured = estimate::estimate(&options, |lasted, total| {
        if is_watched {
            eprint!("\r\x1b[K{}", progress(lasted, options.lasts, &total));
        }
    })?;
    if is_watched {
        eprint!("\r\x1b[K");
    }
    if args.json {
        let json = serde_json::to_value(&measured);
        print_json(&json.map_err(|e| Failure::new("the report cannot be printed", e.to_string(), ""))?);
    } else {
        say(report(&measured));
    }
    DONE
}

fn progress(lasted: Duration, lasts: Option<Duration>, total: &Amounts) -> String {
    let of = lasts.map_or(String::new(), |lasts| format!(" of {}", seconds(lasts.as_secs_f64())));
    let (watched, written, sent) = (seconds(lasted.as_secs_f64()), size(total.written_bytes), size(total.sent_bytes));
    format!("watched {watched}{of}: {} changes, {written} written, {sent} to send", total.changes)
}

/// The report in words and tables.
fn report(measured: &Measured) -> String {
    let estimate = &measured.estimate;
    let mut out = String::new();
    for watched in &measured.paths {
        let how = match watched.driver {
            "mount" => "every change, by a capture mount over it",
            _ => "what differed after each change, by watching the file",
        };
        out += &format!("{}: {how}\n", watched.path.display());
    }
    let lasted = seconds(estimate.lasted_seconds);
    out += &format!("watched for {lasted} from {}\n\n", measured.started);
    out += &table(measured);
    let reach = size(estimate.reach_bytes);
    out += &format!(
        "\nwritten    bytes of all writes\n\
         coalesced  each byte once that was written again within {reach}, as a connection sends it that is behind\n\
         to send    compressed, with all headers, as a connection sends it that keeps up\n\
         both       compressed and coalesced\n\n"
    );
    out += &keeps_up(measured);
    out += &lines(&estimate.lines);
    if estimate.lost.records > 0 {
        let (records, bytes) = (estimate.lost.records, size(estimate.lost.bytes));
        out +=
            &format!("not in these figures: {records} changes ({bytes}) that came faster than they could be counted\n");
    }
    measured.notes.iter().for_each(|note| out += &format!("note: {note}\n"));
    out
}

fn table(measured: &Measured) -> String {
    let estimate = &measured.estimate;
    let head = ["", "changes", "written", "coalesced", "to send", "both"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let row = |name: String, amounts: &Amounts| {
        let sizes = [amounts.written_bytes, amounts.coalesced_bytes, amounts.sent_bytes, amounts.sent_coalesced_bytes]
            .map(size);
        [vec![name, amounts.changes.to_string()], sizes.to_vec()].concat()
    };
    let at = |slot: &Slot| Timestamp(measured.started.0 + slot.at_seconds * 1_000_000_000);
    if estimate.minutes.len() <= MINUTES_SHOWN {
        rows.extend(estimate.minutes.iter().map(|slot| row(format!("minute from {}", at(slot)), &slot.amounts)));
    } else {
        rows.extend(estimate.hours.iter().map(|slot| row(format!("hour from {}", at(slot)), &slot.amounts)));
        let mut busiest: Vec<&Slot> = estimate.minutes.iter().collect();
        busiest.sort_by_key(|slot| std::cmp::Reverse(slot.amounts.sent_bytes));
        busiest.truncate(BUSIEST_SHOWN);
        rows.extend(busiest.into_iter().map(|slot| row(format!("busy minute from {}", at(slot)), &slot.amounts)));
    }
    rows.push(row("all".into(), &estimate.total));
    columns(&rows)
}

fn keeps_up(measured: &Measured) -> String {
    let keeps_up = measured.estimate.keeps_up;
    let within = seconds(keeps_up.within_seconds);
    format!(
        "the line that keeps up (the replica is behind by {within} at most): {} for 95 % of the time, {} always\n",
        rate(keeps_up.usually_bytes_per_second),
        rate(keeps_up.always_bytes_per_second)
    )
}

fn lines(lines: &[LineReport]) -> String {
    let row = |line: &LineReport| {
        let left = match line.lag_end_seconds {
            0.0 => String::new(),
            left => format!("; {} behind at the end", seconds(left)),
        };
        vec![
            rate(line.bytes_per_second),
            format!("keeps up {:.0} % of the time,", (line.keeps_up_share * 100.0).floor()),
            format!(
                "behind by {} at most, by {} for 95 %,",
                seconds(line.lag_max_seconds),
                seconds(line.lag_usually_seconds)
            ),
            format!("{} waiting at most{left}", size(line.waiting_bytes_max)),
        ]
    };
    columns(&lines.iter().map(row).collect::<Vec<_>>())
}

/// A line's speed in bits, as lines are sold: `2.0 Mbit/s`.
fn rate(bytes_per_second: u64) -> String {
    let bits = bytes_per_second as f64 * 8.0;
    let (value, unit) = match bits {
        bits if bits >= 1e9 => (bits / 1e9, "Gbit/s"),
        bits if bits >= 1e6 => (bits / 1e6, "Mbit/s"),
        bits => (bits / 1e3, "kbit/s"),
    };
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_in_bits() {
        for (bytes, text) in
            [(0, "0.0 kbit/s"), (250_000, "2.0 Mbit/s"), (125_000_000, "1.0 Gbit/s"), (64, "0.5 kbit/s")]
        {
            assert_eq!(rate(bytes), text);
        }
    }
}
