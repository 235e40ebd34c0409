//! A source's daemon is started again and nothing has changed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use stead_tests::command::until;
use stead_tests::node::Node;
use stead_tests::tree;

use super::Size;
use super::pair::{Pair, hosts};
use super::table::{Line, short};

const SET: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(300);

/// What a process read so far.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    bytes: u64,
    calls: u64,
}

/// Ended in order, and killed.
pub fn run(size: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let source = hosts.paris.disk().join("source");
    tree::even(&source, size.files, 0, 1)?;
    let mut pair = Pair::new(&hosts)?;
    pair.protect(SET, &source, &hosts.lyon.disk().join("target"), &[])?;
    pair.paris.wait(SET)?;
    let ended = measure("ended in order", size, &mut pair.paris, Node::stop)?;
    let killed = measure("killed", size, &mut pair.paris, |node| {
        node.kill();
        Ok(())
    })?;
    Ok(vec![ended, killed])
}

fn measure(how: &str, size: Size, node: &mut Node, end: impl FnOnce(&mut Node) -> Result<()>) -> Result<Line> {
    end(node)?;
    let begin = Instant::now();
    node.launch()?;
    let answers = begin.elapsed().as_secs_f64();
    until("the set replicates", PATIENCE, || Ok(node.state_of(SET)? == "replicating"))?;
    let ready = begin.elapsed().as_secs_f64();
    let read = read_by(node.pid());
    Ok(Line {
        work: format!("daemon {how} and started again, nothing changed, {} files: until it replicates", size.files),
        stead: format!(
            "answers after {} s; read {} MiB in {} calls",
            short(answers),
            short(read.bytes as f64 / f64::from(1 << 20)),
            read.calls
        ),
        others: String::new(),
        figure: ready,
        unit: "s",
        aim: Some(5.0),
    })
}

/// As /proc counts it; listing directories and looking at attributes is not in it.
fn read_by(pid: i32) -> Read {
    // The pid is that of nsenter, which has become the daemon.
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok()).unwrap_or(0)
    };
    Read { bytes: field("rchar"), calls: field("syscr") }
}
