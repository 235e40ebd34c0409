//! Four hosts on two switches: a server, the one that stands in for it, a witness and a client; with a service behind an
//! address of the server. Where tests of failover begin.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::until;
use crate::host::{Host, Hosts};
use crate::node::Node;
use crate::service::{Client, Commands};
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
        let status = node.json(["status", "--json", "--local"])?;
        status["monitors"].as_array().and_then(|all| all.first().cloned()).context("no monitor")
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
        let client = Client::start(&self.berne, format!("{ADDRESS}:{PORT}").parse()?, rate)?;
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

    /// Paris dies: everything on it at once, and its line.
    ///
    /// # Errors
    /// Where its cards cannot be taken down.
    pub fn paris_dies(&mut self) -> Result<()> {
        self.site.hosts.paris.kill_everything();
        self.site.hosts.paris.card("eth0", false)?;
        self.site.hosts.paris.card("eth1", false)?;
        ensure!(self.site.hosts.paris.pids().is_empty(), "something still runs on paris");
        Ok(())
    }

    /// What a machine loses when it goes down: its addresses and its mounts. Then its cards are up again, and its daemon.
    ///
    /// # Errors
    /// Where the daemon does not start.
    pub fn paris_returns(&mut self) -> Result<()> {
        let host = self.site.hosts.paris.clone();
        let _ = host.command("ip").args(["addr", "del", &format!("{ADDRESS}/24"), "dev", "eth0"]).output();
        host.card("eth0", true)?;
        host.card("eth1", true)?;
        self.site.paris.launch()
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
