//! Seeded simulation of a group on two nodes and a witness, on virtual time: the shipped minds and codec, with clocks that
//! are up to 1 % wrong, stand still or sleep; lines that lose, delay, double and reorder; crashes at any step.
//!
//! Checkers: never two serve in a group with a witness (a machine whose clock had stood still is counted apart); none
//! serves under an older epoch after a newer one served; whoever is handed over to has all that was written; no epoch is
//! durable twice; what a node says of its epoch, and a vote, is durable; nothing that is unknown leads to a takeover; a
//! restarted witness grants nothing for a full wait; one action at a time, each with an end; every request is answered
//! once; after a single fault nobody serves for a bounded time only; when all is put right, one serves with all
//! its resources and the other stands by within a bound.
//!
//! Some seeds have resources that depend on each other, kept by the shipped engine and worked by agents that fail in every way
//! the standard knows and in some that it does not. Checkers, by what the agents' answers prove: all up or down is told only
//! where it is proven; each starts after what it requires and stops before it; whatever is up beside one that is given up goes
//! down; nothing follows from what is not known, or from a warning; what does not do here is not restarted here, and nobody is
//! asked where it would do nowhere; restarts and moves are bounded; each start, stop and look has an end; never does one node
//! have any of them while another has, unless its agent lied or what it has cannot be ended.

mod agent;
mod checker;
mod clock;
mod faults;
mod hands;
mod keeper;
mod net;
mod node;
mod power;
mod programs;
mod proofs;
mod rng;
#[cfg(test)]
mod scenarios;
mod setup;
mod world;

pub use crate::planted::{Planted, plant};
pub use checker::Report;

pub(crate) use rng::Rng;
use setup::Setup;
use world::{Event, MS, World};

/// How long faults go on, in microseconds.
const FAULTS: (u64, u64) = (10_000 * MS, 60_000 * MS);
/// How long it may take until all is well again.
const HEALED_WITHIN: u64 = 60_000 * MS;

/// Runs one seed.
///
/// # Errors
/// What a checker found; with `STEAD_TRACE=1` after all that happened.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut rng = Rng::new(seed);
    let setup = Setup::random(seed, &mut rng);
    let until = rng.range(FAULTS.0, FAULTS.1);
    let mut world = World::new(setup, rng, std::env::var_os("STEAD_TRACE").is_some());
    world.faults_until = until;
    world.at(3_500 * MS, Event::Fault);
    world.at(until, Event::Heal);
    let ended = live(&mut world, until);
    let trace = world.trace.take().unwrap_or_default();
    ended.and_then(|()| world.end()).map_err(|wrong| format!("{trace}{wrong}"))
}

fn live(world: &mut World, until: u64) -> Result<(), String> {
    world.run_until(until)?;
    let limit = until + HEALED_WITHIN;
    while world.now < limit {
        world.run_until(world.now + 500 * MS)?;
        if world.is_settled() {
            return Ok(());
        }
    }
    let states: Vec<_> = world.nodes.iter().map(|node| node.machine().map(|machine| *machine.state())).collect();
    Err(format!("all is put right, and yet: {states:?}"))
}

#[cfg(test)]
mod tests;
