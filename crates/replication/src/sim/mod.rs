//! Seeded simulation of a source with its targets on virtual time: the shipped minds and codec between a file system in
//! memory and replicas in memory, with delays, losses, crashes and disconnections.
//!
//! Checkers: at every consistent point the replica is the source at exactly that change; all are equal at rest; every
//! wait ends, and not before what it waits for is applied; a verify of a live set finds nothing, and finds what was
//! changed behind its back; nothing that was acknowledged is lost; watermarks (asserted by the minds themselves).

mod image;
mod operations;
pub mod planted;
mod replica;
mod rng;
mod tree;
mod world;

pub use world::{Report, run};

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn every_seed_comes_to_rest_and_every_consistent_point_is_one() {
        let seeds = std::env::var("STEAD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(5_000);
        let from = std::env::var("STEAD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
        for seed in from..from + seeds {
            if let Err(found) = run(seed) {
                panic!("seed {seed}: {found}");
            }
        }
    }
}
