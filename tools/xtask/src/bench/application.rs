//! What the mount driver costs an application, beside the bare file system and libfuse's passthrough_ll.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::micro::{BUFFERED, DURABLE, LOOKS, Loop, NAMES};
use super::pair::{Pair, hosts, sync};
use super::table::{Line, median, short};
use super::{Size, peers};

/// Alternating runs: even a figure that the machine disturbs for a while keeps its median.
const TURNS_PER_ROUND: usize = 3;

/// The places where a loop is run.
struct Places {
    bare: PathBuf,
    passthrough: PathBuf,
    strict: PathBuf,
    flush: PathBuf,
}

/// What an aim compares Stead with.
enum Against {
    Bare(f64),
    Passthrough,
}

/// All loops, in both orders, held and live.
pub fn run(size: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let disk = hosts.paris.disk();
    let places = Places {
        bare: disk.join("bare"),
        passthrough: hosts.paris.dir().join("passthrough"),
        strict: disk.join("strict"),
        flush: disk.join("flush"),
    };
    let beneath = disk.join("beneath");
    for dir in [&places.bare, &places.strict, &places.flush, &beneath] {
        fs::create_dir(dir)?;
    }
    let _peer = peers::passthrough(&hosts.paris, &beneath, &places.passthrough)?;
    let pair = Pair::new(&hosts)?;
    pair.protect("strict", &places.strict, &hosts.lyon.disk().join("strict"), &["--order", "strict"])?;
    pair.protect("flush", &places.flush, &hosts.lyon.disk().join("flush"), &["--order", "flush"])?;
    let bench = Bench { pair, places, turns: size.rounds * TURNS_PER_ROUND };

    let mut lines = Vec::new();
    for (cost, aim) in DURABLE.iter().zip([1.1, 1.1, 1.25]) {
        lines.extend(bench.lines(cost, Order::Strict, Against::Bare(aim))?);
    }
    for cost in BUFFERED.iter().chain(NAMES) {
        lines.extend(bench.lines(cost, Order::Strict, Against::Passthrough)?);
    }
    for (cost, aim) in BUFFERED.iter().zip([1.3, 4.0]) {
        lines.extend(bench.lines(cost, Order::Flush, Against::Bare(aim))?);
    }
    for cost in LOOKS {
        lines.extend(bench.lines(cost, Order::Strict, Against::Bare(1.1))?);
    }
    Ok(lines)
}

#[derive(Clone, Copy)]
enum Order {
    Strict,
    Flush,
}

struct Bench<'a> {
    pair: Pair<'a>,
    places: Places,
    turns: usize,
}

impl Bench<'_> {
    fn lines(&self, cost: &Loop, order: Order, against: Against) -> Result<[Line; 2]> {
        let (set, dir) = match order {
            Order::Strict => ("strict", &self.places.strict),
            Order::Flush => ("flush", &self.places.flush),
        };
        let (mut bare, mut peer, mut held, mut live) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // The first turn makes the files and is not counted.
        for turn in 0..=self.turns {
            for place in 0..4 {
                // Another order each time, each begun with nothing left to write on either disk.
                let place = (place + turn) % 4;
                self.quiet()?;
                let sample = match place {
                    0 => (cost.run)(&self.places.bare)?,
                    1 => self.pair.held(set, || (cost.run)(dir))?,
                    2 => (cost.run)(&self.places.passthrough)?,
                    _ => (cost.run)(dir)?,
                };
                self.pair.paris.wait(set)?;
                if turn > 0 {
                    [&mut bare, &mut held, &mut peer, &mut live][place].push(sample);
                }
            }
        }
        let (bare, peer, held, live) = (median(&bare), median(&peer), median(&held), median(&live));
        let name = format!("{}, order {set}", cost.name);
        let others = format!("bare {} µs, passthrough_ll {} µs ({} ×)", short(bare), short(peer), short(peer / bare));
        let line = |how: &str, time: f64, with_aim: bool| {
            let (figure, what, aim) = match against {
                Against::Bare(aim) => (time / bare, "bare", aim),
                Against::Passthrough => (time / peer, "passthrough_ll", 1.0),
            };
            Line {
                work: format!("{name}, {how}, against {what}"),
                stead: format!("{} µs", short(time)),
                others: others.clone(),
                figure,
                unit: "×",
                aim: with_aim.then_some(aim),
            }
        };
        Ok([line("held", held, true), line("live", live, false)])
    }

    fn quiet(&self) -> Result<()> {
        sync(&self.places.bare)?;
        sync(&self.pair.lyon.host().disk())
    }
}
