//! A chain: the replica on a middle node is itself the source of the next connection.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stead_tests::command::until;
use stead_tests::compare::{Compare, same};
use stead_tests::load::{Journal, Load, Options, acknowledged, examine_copy};
use stead_tests::node::{Node, protect_args};
use stead_tests::random::Workload;
use stead_tests::relay::{Flow, Relay};
use stead_tests::rng::Rng;
use stead_tests::site::{Pairing, Site};
use stead_tests::tree;

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const HANDED_ON: &str = "notes-c";

/// Paris is the source, lyon keeps its replica, and metz keeps that of lyon.
struct Chain {
    metz: Node,
    site: Site,
    notes: Pairing,
    /// What metz keeps.
    end: PathBuf,
    near: Relay,
    far: Relay,
}

impl Chain {
    /// A chain whose source holds something already.
    fn new() -> Chain {
        let site = Site::new().unwrap();
        let notes = site.pairing("notes").unwrap();
        tree::plain(&notes.source, 300, 8 << 20, 3).unwrap();
        tree::odd(&notes.source).unwrap();
        let near = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
        site.protect(&notes, &["--route", &near.address()]).unwrap();
        let metz = Node::start_as(&site.hosts.paris, "metz", 7131).unwrap();
        site.lyon.join(&metz).unwrap();
        let far = Relay::start(&site.hosts.paris, 7141, &metz.listen()).unwrap();
        let end = site.hosts.paris.disk().join("end");
        let chain = Chain { metz, site, notes, end, near, far };
        chain.hand_on(&[]);
        chain
    }

    fn hand_on(&self, options: &[&str]) {
        let route = self.far.address();
        let options: Vec<_> = ["--route", &route].iter().chain(options).copied().collect();
        let lyon = &self.site.lyon;
        lyon.protect(HANDED_ON, &self.metz, &[(&self.notes.replica, &self.end)], &options).unwrap();
    }

    fn state(&self) -> String {
        self.site.lyon.state_of(HANDED_ON).unwrap()
    }

    fn replicates(&self) {
        let both = || Ok(self.site.paris.state_of("notes")? == "replicating" && self.state() == "replicating");
        until("both connections replicate", Duration::from_secs(60), both)
            .unwrap_or_else(|e| panic!("{e}: {}", self.site.lyon.status().unwrap()));
    }

    /// Waits along the chain; then all three trees are the same.
    fn settle(&self) {
        self.site.paris.wait("notes").unwrap();
        self.site.lyon.wait(HANDED_ON).unwrap();
        same(&self.notes.beneath, &self.notes.replica).unwrap_or_else(|e| panic!("paris and lyon: {e:#}"));
        same(&self.notes.replica, &self.end).unwrap_or_else(|e| panic!("lyon and metz: {e:#}"));
    }

    fn work(&self, seed: u64, operations: u64) {
        Workload { seed, workers: 2, operations }.run(Path::new(LOAD), &self.notes.source).unwrap();
    }

    fn load(&self) -> (Options, Load) {
        let options = Options {
            database: self.notes.source.join("db"),
            acknowledgements: self.site.hosts.paris.dir().join("acknowledged"),
            journal: Journal::Wal,
            rate: 100,
            seconds: 0,
        };
        let load = Load::start(Path::new(LOAD), &self.site.hosts.paris, &options).unwrap();
        (options, load)
    }
}

#[test]
fn a_replica_is_handed_on() {
    let chain = Chain::new();
    same(&chain.notes.beneath, &chain.end).unwrap();
    let told = chain.site.lyon.connection(HANDED_ON).unwrap();
    assert_eq!((told["capture"].as_str(), told["state"].as_str()), (Some("relay"), Some("replicating")), "{told}");
    fs::write(chain.notes.source.join("later"), "later").unwrap();
    chain.settle();
    assert_eq!(fs::read_to_string(chain.end.join("later")).unwrap(), "later");
}
