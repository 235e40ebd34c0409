//! Four hosts on two switches: a server, the one that stands in for it, a witness and a client; with a service behind an
//! address of the server. Where tests of failover begin.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{text, until};
use crate::host::{Host, Hosts};
use crate::node::Node;
use crate::service::{Client, Commands, one_after_the_other};
use crate::site::{Pairing, Site};

/// The server's address, and the port of its service.
pub const ADDRESS: &str = "10.77.0.100";
const PORT: u16 = 7000;
/// The group and the set.
pub const GROUP: &str = "notes";

/// The hosts with their nodes.
pub struct Town {
    /// The server and its stand-in.
    pub site: Site,
    /// The witness's node.
    pub oslo: Node,
    /// The client's host.
    pub berne: Host,
    /// The protected directory.
    pub notes: Pairing,
    /// How the service is started.
    pub commands: Commands,
}

impl Town {
    /// Nodes that trust each other, and a set that replicates; `program` is `stead-load`.
    ///
    /// # Errors
    /// Where any step of it fails.
    pub fn new(program: &Path) -> Result<Town> {
        let town = Town::unprotected(program, "notes")?;
        town.site.protect(&town.notes, &[])?;
        Ok(town)
    }

    /// The same before anything is protected; the set's directory has that name.
    ///
    /// # Errors
    /// As [`Town::new`].
    pub fn unprotected(program: &Path, directory: &str) -> Result<Town> {
        let (hosts, others) = Hosts::on_switches(&["oslo", "berne"])?;
        let [oslo, berne] = <[Host; 2]>::try_from(others).ok().context("two more hosts were made")?;
        let site = Site::on(hosts)?;
        let oslo = Node::start(&oslo)?;
        oslo.join(&site.paris)?;
        oslo.join(&site.lyon)?;
        let notes = Pairing { set: GROUP.into(), ..site.pairing(directory)? };
        let address = format!("{ADDRESS}:{PORT}").parse()?;
        let commands = Commands::write(site.hosts.run().dir(), program, address, directory)?;
        Ok(Town { site, oslo, berne, notes, commands })
    }

    /// Has lyon watch paris, with the service and its address, and waits until paris serves.
    ///
    /// # Errors
    /// Where it does not.
    pub fn monitor(&self, options: &[&str]) -> Result<()> {
        let mut args: Vec<String> = ["monitor", GROUP, "--set", GROUP, "--address"].map(String::from).into();
        args.push(format!("{ADDRESS}/24"));
        args.extend(self.commands.options());
        args.extend(options.iter().map(|option| option.to_string()));
        self.site.lyon.cli(args)?;
        self.is_served_by("paris")
    }

    /// Waits until that node serves.
    ///
    /// # Errors
    /// After half a minute; says how everything stands.
    pub fn is_served_by(&self, name: &str) -> Result<()> {
        let serves = || Ok(self.monitor_at(self.node(name))?["doing"] == "active");
        until(&format!("{name} serves"), Duration::from_secs(30), serves).with_context(|| self.standing())
    }

    /// Waits until that node does that in the group.
    ///
    /// # Errors
    /// After half a minute; says how everything stands.
    pub fn does(&self, name: &str, what: &str) -> Result<()> {
        let does = || Ok(self.monitor_at(self.node(name))?["doing"] == what);
        until(&format!("{name} is {what}"), Duration::from_secs(30), does).with_context(|| self.standing())
    }

    /// The group as that node itself tells it.
    ///
    /// # Errors
    /// Where it tells nothing.
    pub fn monitor_at(&self, node: &Node) -> Result<Value> {
        self.group_at(GROUP, node)
    }

    /// A group as that node itself tells it.
    ///
    /// # Errors
    /// Where it tells nothing.
    pub fn group_at(&self, group: &str, node: &Node) -> Result<Value> {
        let status = node.json(["status", "--json", "--local"])?;
        let mut all = status["monitors"].as_array().into_iter().flatten();
        all.find(|monitor| monitor["group"] == group)
            .cloned()
            .with_context(|| format!("{} runs no {group}", node.name()))
    }

    /// Waits until that node has told that of a group. Its log is read: whoever asks for the timeline asks the other nodes,
    /// too, and waits for those that are cut off.
    ///
    /// # Errors
    /// After half a minute; says how everything stands.
    pub fn tells(&self, name: &str, what: &str) -> Result<()> {
        let log = self.node(name).log_path();
        let tells = |line: &str| line.contains(" group ") && line.contains(what);
        let told = || Ok(fs::read_to_string(&log)?.lines().any(tells));
        until(&format!("{name} tells: {what}"), Duration::from_secs(30), told).with_context(|| self.standing())
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> &Node {
        match name {
            "paris" => &self.site.paris,
            "lyon" => &self.site.lyon,
            _ => &self.oslo,
        }
    }

    /// A client on berne.
    ///
    /// # Errors
    /// Where it cannot begin.
    pub fn client(&self, rate: u32) -> Result<Client> {
        self.client_on(&self.berne, rate)
    }

    /// A client on that host.
    ///
    /// # Errors
    /// Where it cannot begin.
    pub fn client_on(&self, host: &Host, rate: u32) -> Result<Client> {
        let client = Client::start(host, format!("{ADDRESS}:{PORT}").parse()?, rate)?;
        until("the client is answered", Duration::from_secs(10), || Ok(client.last().is_some()))
            .with_context(|| self.standing())?;
        Ok(client)
    }

    /// Waits until the client is answered by that node.
    ///
    /// # Errors
    /// After that time; says how everything stands.
    pub fn answers(&self, client: &Client, name: &str, within: Duration) -> Result<()> {
        let answered = || Ok(client.last().is_some_and(|last| last.holder == name));
        until(&format!("{name} answers the client"), within, answered).with_context(|| self.standing())
    }

    /// Waits until the client was answered for twice the usual time-out from now on, by that node and no other.
    ///
    /// # Errors
    /// Where another one answers, or nobody for long.
    pub fn goes_on(&self, client: &Client, name: &str) -> Result<()> {
        let since = Instant::now();
        until(&format!("{name} goes on"), Duration::from_secs(30), || {
            let last = client.last().filter(|last| last.at >= since);
            Ok(last.is_some_and(|last| last.at - since >= Duration::from_secs(6)))
        })
        .with_context(|| self.standing())?;
        let answers = client.answers().into_iter().filter(|answered| answered.at >= since).collect::<Vec<_>>();
        one_after_the_other(&[&answers], &[name]).with_context(|| self.standing())
    }

    /// Waits until that node serves, alone, and its set is replicated to the other one, which is restored for it where it
    /// has to be.
    ///
    /// # Errors
    /// Where it does not come to that; says how everything stands.
    pub fn settles_with(&self, name: &str) -> Result<()> {
        let other = if name == "paris" { "lyon" } else { "paris" };
        self.is_served_by(name)?;
        let at_rest = || Ok(["standby", "restore-required"].map(Value::from).contains(&self.doing(other)?));
        until(&format!("{other} is at rest"), Duration::from_secs(30), at_rest).with_context(|| self.standing())?;
        if self.doing(other)? == "restore-required" {
            self.node(name).cli(["restore", GROUP, "--yes"])?;
        }
        self.does(other, "standby")?;
        let replicates = || self.node(name).replicates(GROUP);
        until("the set replicates", Duration::from_secs(60), replicates).with_context(|| self.standing())?;
        ensure!(self.doing(name)? == "active", "{}", self.standing());
        let has = |name: &str| self.node(name).host().has_address(ADDRESS);
        ensure!(has(name)? && !has(other)?, "the address is elsewhere\n{}", self.standing());
        Ok(())
    }

    fn doing(&self, name: &str) -> Result<Value> {
        Ok(self.monitor_at(self.node(name))?["doing"].take())
    }

    /// Runs a command that has to be refused, with that in its reason.
    ///
    /// # Errors
    /// Where it is not.
    pub fn is_refused(&self, name: &str, args: &[&str], why: &str) -> Result<()> {
        let output = self.node(name).output(args)?;
        let told = text(&output.stderr);
        let fits = output.status.code() == Some(3) && told.contains(why);
        ensure!(fits, "stead {} ended with {}: {told}\n{}", args.join(" "), output.status, self.standing());
        Ok(())
    }

    /// Paris dies: everything on it at once, and its line.
    ///
    /// # Errors
    /// Where its cards cannot be taken down.
    pub fn paris_dies(&mut self) -> Result<()> {
        dies(&mut self.site.paris)
    }

    /// Lyon dies, in the same way.
    ///
    /// # Errors
    /// As [`Town::paris_dies`].
    pub fn lyon_dies(&mut self) -> Result<()> {
        dies(&mut self.site.lyon)
    }

    /// Paris has lost what a machine loses when it goes down. Then its cards are up again, and its daemon.
    ///
    /// # Errors
    /// Where the daemon does not start.
    pub fn paris_returns(&mut self) -> Result<()> {
        returns(&mut self.site.paris)
    }

    /// Lyon does, in the same way.
    ///
    /// # Errors
    /// As [`Town::paris_returns`].
    pub fn lyon_returns(&mut self) -> Result<()> {
        returns(&mut self.site.lyon)
    }

    /// How everything stands, for a person.
    pub fn standing(&self) -> String {
        let tell = |node: &Node| {
            let status = node.cli(["status"]).unwrap_or_else(|e| format!("{e:#}"));
            format!("{}: {status}\n{}", node.name(), node.log())
        };
        [&self.site.paris, &self.site.lyon, &self.oslo].map(tell).join("\n")
    }
}

fn dies(node: &mut Node) -> Result<()> {
    node.kill_host();
    let host = node.host();
    host.card("eth0", false)?;
    host.card("eth1", false)?;
    ensure!(host.pids().is_empty(), "something still runs on {}", host.name());
    Ok(())
}

/// Its addresses are lost.
fn returns(node: &mut Node) -> Result<()> {
    let host = node.host().clone();
    let _ = host.command("ip").args(["addr", "del", &format!("{ADDRESS}/24"), "dev", "eth0"]).output();
    host.card("eth0", true)?;
    host.card("eth1", true)?;
    node.launch()
}
