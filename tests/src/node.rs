//! A Stead node on a test host: its daemon, and the command line against it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::clock::Clock;
use crate::command::{output, run, shown, text, until};
use crate::host::Host;
use crate::run::{MARK, kill_marked, marked, signal};

/// Port that a host's first daemon listens on.
pub const PORT: u16 = 7130;
/// Longest time that any one command of a test may take, in seconds.
const COMMAND_SECONDS_MAX: &str = "120";
/// As long for the one that returns when a mirror of a million files is done.
const MIRROR_SECONDS_MAX: &str = "900";

/// A daemon and its state directory.
pub struct Node {
    host: Host,
    name: String,
    port: u16,
    state: PathBuf,
    child: Option<Child>,
    /// More variables for all that it runs.
    environment: Vec<(String, String)>,
}

impl Node {
    /// Starts a daemon named like its host and waits until it answers.
    ///
    /// # Errors
    /// Where it does not answer; what it printed is named.
    pub fn start(host: &Host) -> Result<Node> {
        Node::start_as(host, host.name(), PORT)
    }

    /// Starts a daemon of another name and port, so that a host can have several.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_as(host: &Host, name: &str, port: u16) -> Result<Node> {
        Node::start_with(host, name, port, Vec::new())
    }

    /// Starts a daemon named like its host that runs by that wall clock, as does every command line against it.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_by(host: &Host, clock: &Clock) -> Result<Node> {
        Node::start_with(host, host.name(), PORT, clock.environment())
    }

    fn start_with(host: &Host, name: &str, port: u16, environment: Vec<(String, String)>) -> Result<Node> {
        let state = host.store().join(format!("state-{name}"));
        let mut node = Node { host: host.clone(), name: name.into(), port, state, child: None, environment };
        node.launch()?;
        Ok(node)
    }

    /// Gives a variable to every daemon and command line that is started from now on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Starts the daemon again, after it was killed or stopped.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn launch(&mut self) -> Result<()> {
        self.launch_as(&[], &[])
    }

    /// The same with more variables for this one daemon.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn launch_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        self.launch_as(&[], variables)
    }

    /// The same with more options, too.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn launch_as(&mut self, options: &[&str], variables: &[(&str, &str)]) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.host.command(stead()?);
        // As where nothing is said: on all addresses.
        let everywhere = format!("0.0.0.0:{}", self.port);
        let listen = if self.host.has_network() { everywhere } else { self.listen() };
        command.args(["daemon", "--name", &self.name, "--listen", &listen, "--state"]).arg(&self.state).args(options);
        // The same path on two hosts that share their files: /proc/self/cwd.
        command.current_dir(self.host.dir());
        command.env(MARK, self.mark()).envs(self.environment.clone()).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.child = Some(command.spawn().with_context(|| format!("cannot start {}", shown(&command)))?);
        until("the daemon answers", Duration::from_secs(10), || {
            if let Some(status) = self.child.as_mut().expect("just started").try_wait()? {
                bail!("the daemon of {} ended with {status}: {}", self.name, self.log());
            }
            Ok(self.output(["status", "--json"])?.status.success())
        })
        .with_context(|| format!("log of {}: {}", self.name, self.log()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where others reach it.
    pub fn listen(&self) -> String {
        format!("{}:{}", self.host.address(), self.port)
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Pid of the daemon.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.id() as i32)
    }

    /// Does the daemon run, if it was started and neither killed nor stopped?
    ///
    /// # Errors
    /// Names the status with which it ended, and its log.
    pub fn check(&mut self) -> Result<()> {
        match self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            Some(status) => bail!("the daemon of {} ended with {status}: {}", self.name, self.log()),
            None => Ok(()),
        }
    }

    /// Did the daemon end by itself?
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn has_died(&mut self) -> Result<bool> {
        Ok(self.child.as_mut().map(Child::try_wait).transpose()?.flatten().is_some())
    }

    /// The last of what the daemon printed.
    pub fn log(&self) -> String {
        let log = text(&fs::read(self.log_path()).unwrap_or_default());
        let skip = log.lines().count().saturating_sub(40);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }

    /// A command line against this daemon, run on its host.
    ///
    /// # Errors
    /// Where the binary is missing.
    pub fn command<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Command> {
        self.command_within(COMMAND_SECONDS_MAX, args)
    }

    fn command_within<A: AsRef<std::ffi::OsStr>>(
        &self,
        seconds_max: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Command> {
        let mut command = self.host.command("timeout");
        command.args(["--kill-after=5", seconds_max]).arg(stead()?).args(args).env("STEAD_STATE", &self.state);
        command.envs(self.environment.clone());
        Ok(command)
    }

    /// Runs a command line; only what it prints counts.
    ///
    /// # Errors
    /// Where it exits with anything but 0; the daemon's log is named.
    pub fn cli<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        run(&mut self.command(args)?).with_context(|| format!("log of {}:\n{}\n", self.name, self.log()))
    }

    /// Runs a command line and returns what it printed as a value.
    ///
    /// # Errors
    /// As [`Node::cli`], and where it is no JSON.
    pub fn json<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Value> {
        Ok(serde_json::from_str(&self.cli(args)?)?)
    }

    /// Runs a command line, whatever its exit code.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn output<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Output> {
        output(&mut self.command(args)?)
    }

    /// One line that lets another node join.
    ///
    /// # Errors
    /// Where the daemon refuses, or prints anything but one line.
    pub fn invite(&self) -> Result<String> {
        let line = self.cli(["invite"])?;
        if line.lines().count() != 1 || !line.starts_with("stead1:") {
            bail!("an invitation is one line: {line:?}");
        }
        Ok(line.trim().into())
    }

    /// Makes the two trust each other.
    ///
    /// # Errors
    /// Where either refuses.
    pub fn join(&self, other: &Node) -> Result<()> {
        self.cli(["join", &other.invite()?]).map(drop)
    }

    /// Protects paths on another node; each goes to the mapped directory there. Returns when the mirror is done.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn protect(&self, set: &str, on: &Node, paths: &[(&Path, &Path)], options: &[&str]) -> Result<String> {
        let mut command = self.command_within(MIRROR_SECONDS_MAX, protect_args(set, on, paths, options))?;
        run(&mut command)
            .with_context(|| format!("logs of {}:\n{}\nand {}:\n{}", self.name, self.log(), on.name, on.log()))
    }

    /// Puts these lines into the plan's first connection, and applies it.
    ///
    /// # Errors
    /// Where the plan is refused.
    pub fn set_in_plan(&self, lines: &str) -> Result<()> {
        let plan = self.cli(["plan", "show"])?;
        let path = self.host.dir().join(format!("{}.toml", self.name));
        fs::write(&path, plan.replacen("[[connection]]", &format!("[[connection]]\n{lines}"), 1))?;
        self.cli(["plan".as_ref(), "apply".as_ref(), path.as_os_str()]).map(drop)
    }

    /// Waits until everything written before the call is applied on every target.
    ///
    /// # Errors
    /// After 100 seconds, or where the connection cannot get there.
    pub fn wait(&self, set: &str) -> Result<()> {
        self.cli(["wait", set, "--timeout", "100s"]).map(drop)
    }

    /// The status as JSON.
    ///
    /// # Errors
    /// Where there is none.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.cli(["status", "--json"])?)?)
    }

    /// The set's connection in the status.
    ///
    /// # Errors
    /// Where there is none.
    pub fn connection(&self, set: &str) -> Result<Value> {
        let status = self.status()?;
        let found = find(&status, &|value| value["set"] == set && value.get("state").is_some());
        found.cloned().with_context(|| format!("no connection of set {set} in {status}"))
    }

    /// State of the set's connection.
    ///
    /// # Errors
    /// As [`Node::connection`].
    pub fn state_of(&self, set: &str) -> Result<String> {
        Ok(self.connection(set)?["state"].as_str().unwrap_or("none").to_string())
    }

    /// Does the set replicate, and is the replica known to be whole?
    ///
    /// # Errors
    /// As [`Node::connection`].
    pub fn replicates(&self, set: &str) -> Result<bool> {
        let connection = self.connection(set)?;
        Ok(connection["state"] == "replicating" && !connection["consistent_at"].is_null())
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, what: Signal) {
        if self.pid() != 0 {
            signal(self.pid(), what);
        }
    }

    /// Kills the daemon alone; a capture process of its goes on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends the daemon in order.
    ///
    /// # Errors
    /// Where it does not end within ten seconds.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        until("the daemon ends after SIGTERM", Duration::from_secs(10), || Ok(child.try_wait()?.is_some()))
    }

    /// Kills the daemon and everything else that runs on its host.
    pub fn kill_host(&mut self) {
        kill_marked(self.host.dir());
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Kills everything that the node started, and nothing else on its host.
    pub fn end(&mut self) {
        kill_marked(&self.mark());
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Lets the daemon see that its machine has been started anew since it last ran: test hosts share one kernel, and so
    /// its boot id, which the daemon compares with the one in its state.
    ///
    /// # Errors
    /// Where its state is not what it was when this was written.
    pub fn reboot(&self) -> Result<()> {
        let listed = run(Command::new("find").arg(&self.state).args(["-name", "stream.toml"]))?;
        for path in listed.lines() {
            let text = fs::read_to_string(path)?;
            let lines = text.lines().map(|line| if line.starts_with("boot = ") { "boot = \"another\"" } else { line });
            fs::write(path, lines.collect::<Vec<_>>().join("\n"))?;
        }
        if listed.is_empty() { bail!("no stream.toml beneath {}", self.state.display()) } else { Ok(()) }
    }

    /// Pids of everything that captures for this node.
    pub fn captures(&self) -> Vec<i32> {
        let pids = marked(&self.mark()).into_iter();
        pids.filter(|pid| of_process(*pid, "cmdline").split('\0').any(|word| word == "capture")).collect()
    }

    /// Pids of its watchdog.
    pub fn watchdogs(&self) -> Vec<i32> {
        self.running("watchdog")
    }

    /// Pids of its daemon, whoever started that.
    pub fn daemons(&self) -> Vec<i32> {
        self.running("daemon")
    }

    fn running(&self, subcommand: &str) -> Vec<i32> {
        let pids = marked(&self.mark()).into_iter();
        pids.filter(|pid| of_process(*pid, "cmdline").split('\0').nth(1) == Some(subcommand)).collect()
    }

    /// Those of them that serve mounts, without those that supervise them.
    pub fn capture_servers(&self) -> Vec<i32> {
        let captures = self.captures();
        let parent = |pid: i32| of_process(pid, "stat").rsplit(") ").next()?.split(' ').nth(1)?.parse().ok();
        let is_child = |pid: &i32| parent(*pid).is_some_and(|parent: i32| captures.contains(&parent));
        captures.iter().copied().filter(is_child).collect()
    }

    fn mark(&self) -> PathBuf {
        self.host.dir().join(&self.name)
    }

    /// Where the daemon's log is.
    pub fn log_path(&self) -> PathBuf {
        self.host.dir().join(format!("{}.log", self.name))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.name, self.log());
        }
        self.end();
    }
}

fn of_process(pid: i32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// Arguments of `stead protect` for [`Node::protect`].
pub fn protect_args(set: &str, on: &Node, paths: &[(&Path, &Path)], options: &[&str]) -> Vec<String> {
    let mut args = vec!["protect".to_string()];
    args.extend(paths.iter().map(|(source, _)| source.display().to_string()));
    args.extend(["--on", on.name(), "--set", set].map(String::from));
    for (source, replica) in paths {
        args.extend(["--map".into(), format!("{}={}", source.display(), replica.display())]);
    }
    args.extend(options.iter().map(|option| option.to_string()));
    args
}

static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();

/// Uses that binary in this process, unless one is in use already.
pub fn choose_binary(path: &Path) {
    let _ = BINARY.set(Ok(path.into()));
}

/// Path of the `stead` binary: `STEAD_BIN`, or built from this workspace with the tests' profile.
///
/// # Errors
/// Where it cannot be built.
pub fn stead() -> Result<PathBuf> {
    BINARY.get_or_init(|| find_binary().map_err(|e| format!("{e:#}"))).clone().map_err(anyhow::Error::msg)
}

fn find_binary() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("STEAD_BIN") {
        return Ok(chosen.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo).args(["build", "--quiet", "--package", "stead", "--profile", "test"]))?;
    let here = std::env::current_exe()?;
    let mut places = here.ancestors().skip(1).take(3).map(|dir| dir.join("stead"));
    places.find(|path| path.is_file()).context("no stead binary beside this one; set STEAD_BIN")
}

fn find<'a>(value: &'a Value, wanted: &dyn Fn(&Value) -> bool) -> Option<&'a Value> {
    match value {
        Value::Object(fields) if !wanted(value) => fields.values().find_map(|value| find(value, wanted)),
        Value::Array(items) => items.iter().find_map(|value| find(value, wanted)),
        Value::Object(_) => Some(value),
        _ => None,
    }
}
