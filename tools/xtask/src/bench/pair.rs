//! Two hosts with Stead on them, made anew for each measurement.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;
use stead_tests::command::{run, until};
use stead_tests::host::{Disk, Hosts};
use stead_tests::node::Node;
use stead_tests::run::unmount_beneath;

/// Two hosts for a bench: large images with room for many files.
pub fn hosts() -> Result<Hosts> {
    let hosts = Hosts::with(Disk { image_mib: 24 << 10, mkfs: &["-i", "8192", "-J", "size=256"], ..Disk::default() })?;
    hosts.shortcomings.iter().for_each(|line| println!("{line}"));
    Ok(hosts)
}

/// Both nodes, joined; dropped, everything that Stead did on the hosts is gone except for the files.
pub struct Pair<'a> {
    hosts: &'a Hosts,
    /// The source's node.
    pub paris: Node,
    /// The target's node.
    pub lyon: Node,
}

impl<'a> Pair<'a> {
    /// Starts and joins new daemons with empty states.
    pub fn new(hosts: &'a Hosts) -> Result<Pair<'a>> {
        let (paris, lyon) = (Node::start(&hosts.paris)?, Node::start(&hosts.lyon)?);
        paris.join(&lyon)?;
        Ok(Pair { hosts, paris, lyon })
    }

    /// Protects one directory and returns how long it took until the mirror was done.
    pub fn protect(&self, set: &str, source: &Path, replica: &Path, options: &[&str]) -> Result<Duration> {
        let begin = Instant::now();
        self.paris.protect(set, &self.lyon, &[(source, replica)], options)?;
        let took = begin.elapsed();
        until("the set replicates", Duration::from_secs(30), || Ok(self.paris.state_of(set)? == "replicating"))?;
        Ok(took)
    }

    /// Runs something while the daemons stand still, and lets them catch up afterwards.
    pub fn held<T>(&self, set: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.paris.wait(set)?;
        for node in [&self.paris, &self.lyon] {
            node.signal(Signal::STOP);
        }
        let result = work();
        for node in [&self.paris, &self.lyon] {
            node.signal(Signal::CONT);
        }
        self.paris.wait(set)?;
        result
    }
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        self.paris.end();
        self.lyon.end();
        for host in [&self.hosts.paris, &self.hosts.lyon] {
            unmount_beneath(&host.disk());
            for entry in std::fs::read_dir(host.store()).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with("state-") {
                    stead_tests::run::remove_tree(&entry.path());
                }
            }
        }
    }
}

/// A fresh path on a host's disk.
pub fn fresh(disk: &Path, name: &str) -> Result<PathBuf> {
    let path = disk.join(name);
    stead_tests::run::remove_tree(&path);
    sync(disk)?;
    Ok(path)
}

/// Syncs a file system.
pub fn sync(path: &Path) -> Result<()> {
    run(Command::new("sync").arg("-f").arg(path)).map(drop).context("sync")
}

/// Reads a tree once, so that every competitor finds it in the page cache.
pub fn warm(path: &Path) -> Result<()> {
    run(Command::new("sh").args(["-c", "tar -C \"$0\" -cf - . | cat > /dev/null"]).arg(path)).map(drop)
}
