//! Standing in for a server, with the real address, service, client and witness, each on a host of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use stead_tests::command::until;
use stead_tests::service::{Answered, longest_gap, numbers};
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
/// Seconds within which a takeover with the usual time-outs has to be over.
const SOON: Duration = Duration::from_secs(20);

fn town() -> Town {
    Town::new(Path::new(LOAD)).unwrap()
}

fn holders(answers: &[Answered]) -> Vec<String> {
    let mut holders: Vec<_> = answers.iter().map(|answered| answered.holder.clone()).collect();
    holders.dedup();
    holders
}

/// Acknowledged transactions that a database does not have.
fn lost(answers: &[Answered], database: &Path) -> Result<usize> {
    let there: BTreeSet<_> = numbers(database)?.into_iter().collect();
    Ok(answers.iter().filter(|answered| !there.contains(&answered.number)).count())
}

#[test]
fn lyon_stands_in_for_paris_and_gives_everything_back() {
    let mut town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let client = town.client(100).unwrap();
    let died = Instant::now();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    println!("lyon answered {:?} after paris died", died.elapsed());

    town.paris_returns().unwrap();
    town.does("paris", "restore-required").unwrap();
    assert!(!town.site.hosts.paris.has_address(ADDRESS).unwrap());
    let refused = town.site.lyon.output(["failback", GROUP, "--yes"]).unwrap();
    assert_eq!(refused.status.code(), Some(3), "a failback before the restore is refused");
    town.site.lyon.cli(["restore", GROUP, "--yes"]).unwrap();
    town.does("paris", "standby").unwrap();

    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    let back = || Ok(town.site.paris.state_of(GROUP)? == "replicating");
    until("it is replicated to lyon again", Duration::from_secs(60), back).unwrap();
    let answers = client.stop();
    assert_eq!(holders(&answers), ["paris", "lyon", "paris"]);
    println!("longest gap: {:?}", longest_gap(&answers));
    town.site.paris.cli(["wait", GROUP]).unwrap();
    let since: Vec<_> = answers.iter().skip_while(|answered| answered.holder == "paris").cloned().collect();
    assert_eq!(lost(&since, &town.notes.source.join("notes.db")).unwrap(), 0, "nothing is lost by a failback");
}
