//! What it costs a write that capture looks at the lease of its group.

use anyhow::Result;

use super::Size;
use super::micro::{BUFFERED, NAMES};
use super::standin::town;
use super::table::{Line, median, short};

const TURNS_PER_ROUND: usize = 5;

/// Two sets beside each other, one of them in a group with a witness: alternating, with replication going on.
pub fn run(size: Size) -> Result<Vec<Line>> {
    let town = town()?;
    let free = town.site.pairing("free")?;
    town.site.protect(&free, &[])?;
    town.monitor(&["--witness", "oslo"])?;
    let mut lines = Vec::new();
    for cost in BUFFERED[..1].iter().chain(&NAMES[..1]) {
        let mut times = [Vec::new(), Vec::new()];
        // The first turn makes the files and is not counted.
        for turn in 0..=size.rounds * TURNS_PER_ROUND {
            for place in [turn % 2, (turn + 1) % 2] {
                let pairing = [&town.notes, &free][place];
                let time = (cost.run)(&pairing.source)?;
                town.site.paris.wait(&pairing.set)?;
                if turn > 0 {
                    times[place].push(time);
                }
            }
        }
        let [leased, free] = times.map(|times| median(&times));
        lines.push(Line {
            work: format!("{}, live, in a group that holds a lease, against a set in none", cost.name),
            stead: format!("{} µs, {} µs without", short(leased), short(free)),
            others: String::new(),
            figure: leased / free,
            unit: "×",
            aim: None,
        });
    }
    Ok(lines)
}
