//! Many seeds, and bugs that have to be found.

use super::{Planted, Report, plant, run};

/// Some seed finds it, most often one of the first hundred, and none of them finds anything without it.
fn is_caught(planted: Planted) {
    plant(Some(planted));
    let caught = (0..3_000).find_map(|seed| run(seed).err().map(|why| (seed, why)));
    plant(None);
    let (seed, why) = caught.unwrap_or_else(|| panic!("{planted:?} was not caught"));
    println!("{planted:?}: seed {seed}: {why}");
}

#[test]
fn every_planted_bug_is_caught() {
    use Planted::*;
    let all = [
        LeaseTooLong,
        CountFromArrival,
        VoteNotDurable,
        GrantAtOnce,
        NoWait,
        EpochNotDurable,
        UnknownActs,
        YieldEarly,
        ServeAtBoot,
        FailsForEver,
        OfflineIsTaken,
        FilesTooLate,
        FilesStay,
        StartTooEarly,
        StopTooEarly,
        MovesInVain,
        ResourcesStay,
        NotUndone,
        RestartsMaintained,
        MovesForEver,
        EndlessRestarts,
        RestartsInVain,
        NoLimit,
        UpTooEarly,
        DownAnyway,
        UnknownIsBad,
        DegradedIsBad,
    ];
    all.into_iter().for_each(is_caught);
}

/// Beyond those that every test runs: nobody served for too long, and two did.
#[test]
fn seeds_that_found_something_stay_found() {
    for seed in [5_169_934, 5_979_792] {
        run(seed).unwrap_or_else(|found| panic!("seed {seed}: {found}"));
    }
}

/// `STEAD_SEED` and `STEAD_SEEDS` choose others; `STEAD_TRACE=1` prints what happened. More: `tools/sim`.
#[test]
fn every_seed_has_one_that_serves_in_the_end_and_never_two() {
    let number = |name: &str, usual| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let (from, seeds): (u64, u64) = (number("STEAD_SEED", 0), number("STEAD_SEEDS", 10_000));
    let check = |first: u64| {
        let seeds = (first..from + seeds).step_by(2);
        seeds
            .map(|seed| run(seed).unwrap_or_else(|found| panic!("seed {seed}: {found}")))
            .fold(Report::default(), |sum, report| sum + report)
    };
    let sum = std::thread::scope(|scope| {
        let other = scope.spawn(|| check(from + 1));
        check(from) + other.join().expect("its seed is printed above")
    });
    println!("{sum:?}");
    if seeds >= 1_000 {
        assert!(sum.epochs > seeds / 2 && sum.planned > seeds / 10 && sum.restores > seeds / 100, "{sum:?}");
        assert_eq!(sum.answers, u64::MAX, "each action of an agent ended in each way");
        assert!(sum.restarts > seeds / 10 && sum.given_up > seeds / 10, "{sum:?}");
        assert!(sum.frozen_forks > 0, "the checker never saw what only fencing excludes");
    }
}
