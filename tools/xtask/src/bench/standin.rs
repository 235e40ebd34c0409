//! Standing in, as a client sees it, beside keepalived.

use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use stead_tests::command::{run as run_command, until};
use stead_tests::host::Host;
use stead_tests::service::{longest_gap, numbers};
use stead_tests::town::{ADDRESS, GROUP, Town};

use super::Size;
use super::table::{Line, median, percentile, short};

/// Port on which every host says who it is.
const ECHO: u16 = 9000;
const LIMIT: Duration = Duration::from_secs(20);
const CUTS: usize = 20;
/// Transactions each second while the power is cut.
const RATE: u32 = 300;

/// All rows of standing in.
pub fn run(size: Size) -> Result<Vec<Line>> {
    Ok(vec![slow(size)?, fast(size)?, service(size)?, switchover(size)?, lost()?])
}

/// Nothing fails, and both processors are busy: how often does lyon take over, with the shortest time-outs and the usual ones?
pub fn calm(size: Size) -> Result<Vec<Line>> {
    let fast = ["--heartbeat", "20ms", "--timeout", "60ms", "--unsafe-two-node", "--take"];
    let mut lines = Vec::new();
    for (options, how) in
        [(&fast[..], "heartbeat 20 ms, time-out 60 ms"), (&["--unsafe-two-node"][..], "the usual time-outs")]
    {
        let town = watched(options)?;
        let _burners = Burners::start()?;
        thread::sleep(Duration::from_secs(60 * size.minutes));
        lines.push(Line {
            work: format!("takeovers in {} minutes of busy processors, {how}", size.minutes),
            stead: format!("{} times late", count(&town, "the other node is late")?),
            others: String::new(),
            figure: count(&town, "the point of no return")? as f64,
            unit: "takeovers",
            aim: Some(0.0),
        });
    }
    Ok(lines)
}

/// How often lyon's timeline says that.
fn count(town: &Town, what: &str) -> Result<usize> {
    Ok(timeline(town)?.iter().filter(|entry| says(entry, what)).count())
}

/// As many programs that do nothing but compute as there are processors, twice.
struct Burners(Vec<Child>);

impl Burners {
    fn start() -> Result<Burners> {
        let many = 2 * thread::available_parallelism()?.get();
        let burner = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        Ok(Burners((0..many).map(|_| burner()).collect::<std::io::Result<_>>()?))
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for burner in &mut self.0 {
            let _ = burner.kill();
            let _ = burner.wait();
        }
    }
}

/// The link of the source is cut: heartbeat 1 s, time-out 3 s. As keepalived does, the address is taken without asking whether
/// somebody has it: the question takes 90 ms.
fn slow(size: Size) -> Result<Line> {
    let stead = rounds(size, || cut(&["--heartbeat", "1s", "--timeout", "3s", "--unsafe-two-node", "--take"]))?;
    let other = rounds(size, || keepalived("1"))?;
    Ok(line("link of the source cut, heartbeat 1 s, time-out 3 s", &stead, Some((&other, "advert_int 1")), 3050.0))
}

/// The same as fast as it is wanted.
fn fast(size: Size) -> Result<Line> {
    let options = ["--heartbeat", "20ms", "--timeout", "60ms", "--unsafe-two-node", "--take"];
    let stead = rounds(size, || cut(&options))?;
    let other = rounds(size, || keepalived("0.02"))?;
    Ok(line(
        "link of the source cut, heartbeat 20 ms, time-out 60 ms",
        &stead,
        Some((&other, "advert_int 0.02")),
        100.0,
    ))
}

/// Address and service with the usual time-outs: from red to the first answer.
fn service(size: Size) -> Result<Line> {
    let taken = rounds(size, || {
        let mut town = town()?;
        town.monitor(&["--witness", "oslo"])?;
        let client = town.client(100)?;
        town.paris_dies()?;
        town.answers(&client, "lyon", LIMIT)?;
        let answers = client.stop();
        let first = answers.iter().find(|answered| answered.holder == "lyon").context("lyon answered")?;
        let red = red_ns(&town)?;
        let answered = wall_ns()? - i128::try_from(first.at.elapsed().as_nanos())?;
        Ok((answered - red) as f64 / 1e6)
    })?;
    Ok(line("takeover of address and SQLite service with a witness, from red to the first answer", &taken, None, 300.0))
}

/// A planned move with the load running.
fn switchover(size: Size) -> Result<Line> {
    let gaps = rounds(size, || {
        let town = town()?;
        town.monitor(&["--witness", "oslo"])?;
        let client = town.client(100)?;
        town.site.lyon.cli(["switchover", GROUP, "--yes"])?;
        town.answers(&client, "lyon", LIMIT)?;
        let answers = client.stop();
        let there = numbers(&town.notes.replica.join("notes.db"))?;
        let lost = answers.iter().filter(|answered| there.binary_search(&answered.number).is_err()).count();
        ensure!(lost == 0, "{lost} acknowledged transactions are lost");
        let (gap, ..) = longest_gap(&answers).context("the client was answered")?;
        Ok(gap.as_secs_f64() * 1e3)
    })?;
    Ok(line("planned switchover with the load running, nothing lost: outage of the client", &gaps, None, 500.0))
}

/// What was acknowledged and is not there after a power cut of the source.
fn lost() -> Result<Line> {
    let mut lost = Vec::new();
    for _ in 0..CUTS {
        let mut town = town()?;
        town.monitor(&["--unsafe-two-node", "--heartbeat", "100ms", "--timeout", "300ms"])?;
        let client = town.client(RATE)?;
        thread::sleep(Duration::from_millis(500));
        town.paris_dies()?;
        town.answers(&client, "lyon", LIMIT)?;
        let answers = client.stop();
        let there = numbers(&town.notes.replica.join("notes.db"))?;
        let by_paris = answers.iter().filter(|answered| answered.holder == "paris");
        lost.push(by_paris.filter(|answered| there.binary_search(&answered.number).is_err()).count() as f64);
    }
    Ok(Line {
        work: format!(
            "transactions acknowledged and lost by a power cut at {RATE} each second, asynchronous, {CUTS} cuts"
        ),
        stead: format!("median {}, most {}", short(median(&lost)), short(percentile(&lost, 100))),
        others: String::new(),
        figure: median(&lost),
        unit: "transactions",
        aim: Some(2.0),
    })
}

/// Three hosts and a set; this program serves.
pub fn town() -> Result<Town> {
    Town::new(&std::env::current_exe()?)
}

fn rounds(size: Size, one: impl Fn() -> Result<f64>) -> Result<Vec<f64>> {
    (0..size.rounds).map(|_| one()).collect()
}

fn line(work: &str, stead: &[f64], other: Option<(&[f64], &str)>, aim: f64) -> Line {
    let told = |figures: &[f64]| {
        format!(
            "{} ms ({} to {})",
            short(median(figures)),
            short(percentile(figures, 0)),
            short(percentile(figures, 100))
        )
    };
    Line {
        work: work.into(),
        stead: told(stead),
        others: other.map_or(String::new(), |(figures, how)| format!("keepalived, {how}: {}", told(figures))),
        figure: median(stead),
        unit: "ms",
        aim: Some(aim),
    }
}

/// Milliseconds until lyon answers under the address, after paris lost its line.
fn cut(options: &[&str]) -> Result<f64> {
    until_lyon_answers(&watched(options)?, ADDRESS)
}

/// Lyon watches paris, which has the address.
fn watched(options: &[&str]) -> Result<Town> {
    let town = town()?;
    let address = format!("{ADDRESS}/24");
    let mut args = vec!["monitor", GROUP, "--source", "paris", "--address", &address];
    args.extend(options);
    town.site.lyon.cli(args)?;
    town.is_served_by("paris")?;
    Ok(town)
}

/// The same with keepalived, which has the address instead.
fn keepalived(interval: &str) -> Result<f64> {
    let town = town()?;
    let (address, hosts) = ("10.77.0.101", [&town.site.hosts.paris, &town.site.hosts.lyon]);
    let _running =
        hosts.into_iter().zip([150, 100]).map(|(host, priority)| Keepalived::start(host, priority, interval, address));
    let _running = _running.collect::<Result<Vec<_>>>()?;
    until("paris has keepalived's address", LIMIT, || town.site.hosts.paris.has_address(address))?;
    until_lyon_answers(&town, address)
}

fn until_lyon_answers(town: &Town, address: &str) -> Result<f64> {
    let hosts = &town.site.hosts;
    let _echoes = [Echo::start(&hosts.paris), Echo::start(&hosts.lyon)];
    let ask = |holder: &str, since: Instant| town.berne.inside(|| first_answer(address, holder, since))?;
    ask("paris", Instant::now())?;
    hosts.paris.card("eth1", false)?;
    let since = Instant::now();
    hosts.paris.card("eth0", false)?;
    Ok(ask("lyon", since)?.as_secs_f64() * 1e3)
}

/// Asks every other millisecond who is there.
fn first_answer(address: &str, holder: &str, since: Instant) -> Result<Duration> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(2)))?;
    let mut answer = [0; 32];
    while since.elapsed() < LIMIT {
        let _ = socket.send_to(b"?", (address, ECHO));
        if let Ok((len, _)) = socket.recv_from(&mut answer)
            && &answer[..len] == holder.as_bytes()
        {
            return Ok(since.elapsed());
        }
    }
    bail!("{holder} did not answer under {address}")
}

/// Says on a host who it is.
struct Echo {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(host: &Host) -> Echo {
        let ends = Arc::<AtomicBool>::default();
        let (ended, host) = (ends.clone(), host.clone());
        let work = move || _ = host.inside(|| answer(host.name(), &ended));
        Echo { ends, thread: Some(thread::spawn(work)) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(name: &str, ends: &AtomicBool) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", ECHO))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut question = [0; 8];
    while !ends.load(Relaxed) {
        if let Ok((_, from)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(name.as_bytes(), from);
        }
    }
    Ok(())
}

/// One keepalived on a host; killed when dropped.
struct Keepalived(Child);

impl Keepalived {
    fn start(host: &Host, priority: u8, interval: &str, address: &str) -> Result<Keepalived> {
        let dir = host.dir();
        let file = |name: &str| dir.join(name).display().to_string();
        let text = format!(
            "global_defs {{\n vrrp_version 3\n}}\nvrrp_instance bench {{\n state BACKUP\n interface eth0\n \
             virtual_router_id 51\n priority {priority}\n advert_int {interval}\n \
             virtual_ipaddress {{\n  {address}/24 dev eth0\n }}\n}}\n"
        );
        fs::write(dir.join("keepalived.conf"), text)?;
        let mut command = host.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file", &file("keepalived.conf")]);
        command.args(["--pid", &file("keepalived.pid"), "--vrrp_pid", &file("vrrp.pid")]);
        let log = fs::File::create(dir.join("keepalived.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Keepalived(command.spawn().context("keepalived cannot be started")?))
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When lyon noted that paris is silent, by the wall clock.
fn red_ns(town: &Town) -> Result<i128> {
    let entries = timeline(town)?;
    let entry = entries.iter().rfind(|entry| says(entry, "is silent on every path"));
    ns_of(entry.context("paris was never silent")?["at"].as_str().context("no time")?)
}

/// What lyon tells of the group.
fn timeline(town: &Town) -> Result<Vec<Value>> {
    let told = town.site.lyon.json(["explain", GROUP, "--json"])?;
    let own = told.as_array().and_then(|all| all.iter().find(|timeline| timeline["node"] == "lyon"));
    own.and_then(|own| own["entries"].as_array().cloned()).context("no timeline of lyon")
}

fn says(entry: &Value, what: &str) -> bool {
    entry["text"].as_str().is_some_and(|text| text.contains(what))
}

/// Nanoseconds since 1970 of a time like `2026-11-20T07:15:00.000Z`.
fn ns_of(text: &str) -> Result<i128> {
    Ok(run_command(Command::new("date").args(["+%s%N", "-d", text]))?.trim().parse()?)
}

fn wall_ns() -> Result<i128> {
    Ok(i128::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}
