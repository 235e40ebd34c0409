//! Two hosts with a Stead node each that trust each other: where most system tests begin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{run, until};
use crate::compare::Compare;
use crate::host::{Host, Hosts};
use crate::node::Node;

/// Two joined nodes.
pub struct Site {
    /// The source's node.
    pub paris: Node,
    /// The target's node.
    pub lyon: Node,
    /// What they run on; dropped last.
    pub hosts: Hosts,
}

/// A protected directory and its replica.
pub struct Pairing {
    /// Name of the set.
    pub set: String,
    /// The directory as applications see it.
    pub source: PathBuf,
    /// The same directory beneath the mount.
    pub beneath: PathBuf,
    /// The copy.
    pub replica: PathBuf,
}

impl Site {
    /// Two joined nodes on new hosts.
    ///
    /// # Errors
    /// Where any step of it fails.
    pub fn new() -> Result<Site> {
        Site::on(Hosts::new()?)
    }

    /// Two joined nodes on those hosts.
    ///
    /// # Errors
    /// Where any step of it fails.
    pub fn on(hosts: Hosts) -> Result<Site> {
        let (paris, lyon) = (Node::start(&hosts.paris)?, Node::start(&hosts.lyon)?);
        paris.join(&lyon)?;
        Ok(Site { paris, lyon, hosts })
    }

    /// The source directory of that name, made if it is not there, and where its replica goes.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn pairing(&self, name: &str) -> Result<Pairing> {
        let source = self.hosts.paris.disk().join(name);
        fs::create_dir_all(&source)?;
        Ok(Pairing {
            set: name.into(),
            beneath: self.hosts.paris.beneath(&source),
            replica: self.hosts.lyon.disk().join(name),
            source,
        })
    }

    /// Protects it and waits until it replicates.
    ///
    /// # Errors
    /// Where it is refused, or does not get there within a minute.
    pub fn protect(&self, pairing: &Pairing, options: &[&str]) -> Result<()> {
        self.paris.protect(&pairing.set, &self.lyon, &[(&pairing.source, &pairing.replica)], options)?;
        self.replicates(&pairing.set)
    }

    /// Waits until the set replicates, and its replica is whole.
    ///
    /// # Errors
    /// After a minute.
    pub fn replicates(&self, set: &str) -> Result<()> {
        until("the set replicates", Duration::from_secs(60), || self.paris.replicates(set)).with_context(|| {
            let status = self.paris.connection(set).map(|value| value.to_string()).unwrap_or_default();
            format!("{status}\nparis: {}\nlyon: {}", self.paris.log(), self.lyon.log())
        })
    }

    /// Waits until everything is applied; then source, what lies beneath it, and replica must be the same.
    ///
    /// # Errors
    /// Lists what differs.
    pub fn settle(&self, pairing: &Pairing) -> Result<()> {
        self.settle_with(pairing, &Compare::default())
    }

    /// The same for a set of that order: in order flush the kernel and the file system beneath may each have a time of the
    /// last write of their own.
    ///
    /// # Errors
    /// Lists what differs.
    pub fn settle_in(&self, order: &str, pairing: &Pairing) -> Result<()> {
        if order != "flush" {
            return self.settle(pairing);
        }
        self.paris.wait(&pairing.set)?;
        Compare::default().same(&pairing.beneath, &pairing.replica).context("what lies beneath, and the replica")?;
        let seen = Compare { holes: false, mtime: false, ..Compare::default() };
        seen.same(&pairing.source, &pairing.beneath).context("the source as applications see it, and beneath")
    }

    /// The same with another comparison.
    ///
    /// # Errors
    /// Lists what differs.
    pub fn settle_with(&self, pairing: &Pairing, compare: &Compare) -> Result<()> {
        self.paris.wait(&pairing.set)?;
        compare.same(&pairing.beneath, &pairing.replica).context("what lies beneath the source, and the replica")?;
        let seen = Compare { holes: false, ..compare.clone() };
        seen.same(&pairing.source, &pairing.beneath).context("the source as applications see it, and beneath")
    }
}

/// Mounts a new file system of that kind on a directory of the host; it goes with the host.
///
/// # Errors
/// Where this machine cannot make one.
pub fn extra_disk(host: &Host, name: &str, kind: &str) -> Result<PathBuf> {
    let mount = host.dir().join(name);
    fs::create_dir(&mount)?;
    if kind == "tmpfs" {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "noatime,size=200m", "tmpfs"]).arg(&mount))?;
        return Ok(mount);
    }
    let image = host.dir().join(format!("{name}.img"));
    fs::File::create(&image)?.set_len(512 << 20)?;
    let quiet: &[&str] = if kind == "ext4" { &["-q", "-F"] } else { &["-q"] };
    run(Command::new(format!("mkfs.{kind}")).args(quiet).arg(&image))?;
    run(Command::new("mount").args(["-o", "loop,noatime"]).arg(&image).arg(&mount))?;
    ensure!(Path::new(&mount).is_dir(), "not mounted");
    Ok(mount)
}
